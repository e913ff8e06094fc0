"""How a producer gets its run, against a log in memory."""

from __future__ import annotations

import secrets
from typing import Any

import pytest

from tailrace import ids
from tailrace.errors import (
    Busy,
    Cancelled,
    Fenced,
    Invalid,
    StreamEnded,
    Superseded,
    TailraceError,
    Unavailable,
)
from tailrace.producer.opening import Opening
from tailrace.transports.in_process import InProcess
from tailrace.writers import Answer
from tests.support.worlds import NOW, STREAM, World, run_id

R1, R2 = run_id(1), run_id(2)


class Lossy(InProcess):
    """Loses the answers of the calls whose number is in `lost`; `instead` happens
    while an answer is being lost."""

    lost: frozenset[int] = frozenset()
    calls = 0

    def open(self, *args: Any, **kwargs: Any) -> Answer:
        return self._lose(super().open(*args, **kwargs))

    def claim(self, *args: Any, **kwargs: Any) -> Answer:
        return self._lose(super().claim(*args, **kwargs))

    def _lose(self, answer: Answer) -> Answer:
        self.calls += 1
        if self.calls in self.lost:
            raise Unavailable("the answer was lost")
        return answer


class Skewed(InProcess):
    """A machine whose clock is off, until AWS's first answer sets it."""

    off = 0

    def clock(self) -> int:
        return super().clock() + self.off

    def open(self, *args: Any, **kwargs: Any) -> Answer:
        self.off = 0
        return super().open(*args, **kwargs)


@pytest.fixture
def transport(world: World) -> InProcess:
    return InProcess(world.log)


def opening(writer: str, stream: str = STREAM, **options: Any) -> Opening:
    options = {"lease": 30, "randomness": secrets.token_bytes(10), **options}
    return Opening(stream, writer, **options)


def send(transport: InProcess, writer: str, **options: Any) -> tuple[str, Answer]:
    call = opening(writer, **options)
    answer = call.send(transport)
    assert call.run == answer.run
    return answer.run, answer


# ---- a new run -----------------------------------------------------------------------


def test_a_run_is_minted_where_none_is_given(
    transport: InProcess, world: World
) -> None:
    run, answer = send(transport, "w", meta={"model": "m"}, lease=77)
    assert ids.run_time(ids.check_run(run)) == NOW
    assert (answer.next, answer.already) == (2, 0)
    assert (world.records()[0].lease, world.records()[0].meta) == (77, '{"model":"m"}')


def test_a_minted_run_is_later_than_those_in_the_log(transport: InProcess) -> None:
    ahead = ids.new_run(NOW + 200_000, bytes(10))
    send(transport, "w1", run=ahead)
    run, _ = send(transport, "w2")
    assert run > ahead


def test_a_run_that_was_given_gives_way_to_a_later_one(transport: InProcess) -> None:
    send(transport, "w1", run=R2)
    with pytest.raises(Superseded) as late:
        send(transport, "w2", run=R1)
    assert late.value.run == R2


def test_an_open_whose_answer_was_lost_is_repeated_by_name(world: World) -> None:
    transport = Lossy(world.log)
    transport.lost = frozenset({1})
    call = opening("w")
    with pytest.raises(Unavailable):
        call.send(transport)
    assert call.send(transport).run == call.run
    assert world.kinds() == ["open"]


def test_one_that_was_cancelled_meanwhile_stays_cancelled(world: World) -> None:
    transport = Lossy(world.log)
    transport.lost = frozenset({1})
    call = opening("w")
    with pytest.raises(Unavailable):
        call.send(transport)
    world.log.cancel(STREAM)
    with pytest.raises(Cancelled):
        call.send(transport)
    assert world.kinds() == ["open", "end"]


def test_one_that_was_superseded_meanwhile_does_not_strike_back(world: World) -> None:
    transport = Lossy(world.log)
    transport.lost = frozenset({1})
    call = opening("w")
    with pytest.raises(Unavailable):
        call.send(transport)
    later, _ = send(InProcess(world.log), "w2")
    with pytest.raises(Superseded) as superseded:
        call.send(transport)
    assert superseded.value.run == later


@pytest.mark.parametrize("off", [-3_600_000, 3_600_000])
def test_a_wrong_clock_of_this_machine_does_not_matter(world: World, off: int) -> None:
    send(InProcess(world.log), "w1", run=R1)
    transport = Skewed(world.log)
    transport.off = off
    run, _ = send(transport, "w2")
    assert run > R1
    assert abs(ids.run_time(run) - NOW) < 1_000


def test_fail_leaves_another_run_alone_while_it_is_alive(
    transport: InProcess, world: World
) -> None:
    send(transport, "w1", run=R1)
    with pytest.raises(Busy) as busy:
        send(transport, "w2", run=R2, on_active="fail")
    assert (busy.value.run, busy.value.until) == (R1, NOW + 30_000)
    world.clock.advance(31)
    assert send(transport, "w2", run=R2, on_active="fail")[0] == R2
    assert world.kinds() == ["open", "end", "open"]


def test_a_stop_pressed_before_the_run_was_open_counts(
    transport: InProcess, world: World
) -> None:
    world.log.cancel(STREAM, R1)
    for options in ({}, {"resume": "continue"}, {"resume": "restart"}):
        with pytest.raises(Cancelled):
            send(transport, "w", run=R1, **options)


# ---- continue ------------------------------------------------------------------------


def test_the_first_delivery_opens_the_run(transport: InProcess, world: World) -> None:
    for resume, run in (("continue", R1), ("restart", R2)):
        assert send(transport, "w", run=run, resume=resume)[1].already == 0
    assert world.kinds() == ["open", "open"]


def test_a_redelivery_goes_on_behind_what_is_in(
    transport: InProcess, world: World
) -> None:
    send(transport, "w1", run=R1, resume="continue")
    transport.append(STREAM, R1, "w1", 2, ['"a"', '"b"'])
    with pytest.raises(Busy) as busy:
        send(transport, "w2", run=R1, resume="continue")
    assert busy.value.until == NOW + 30_000
    world.clock.advance(31)
    _, answer = send(transport, "w2", run=R1, resume="continue")
    assert answer == Answer(R1, 5, 1, 2)
    # Nobody was shown an end that was none.
    assert world.kinds() == ["open", "data", "claim"]
    with pytest.raises(Fenced):
        transport.append(STREAM, R1, "w1", 4, ['"c"'])


def test_a_redelivery_goes_on_after_producer_lost_too(
    transport: InProcess, world: World
) -> None:
    send(transport, "w1", run=R1)
    world.clock.advance(31)
    world.log.look(STREAM)
    send(transport, "w2", run=R1, resume="continue")
    assert world.kinds() == ["open", "end", "claim"]


@pytest.mark.parametrize("reason", ["completed", "error"])
def test_a_run_that_has_ended_is_not_continued(
    transport: InProcess, reason: Any
) -> None:
    send(transport, "w1", run=R1)
    transport.end(STREAM, R1, "w1", 2, reason, None)
    with pytest.raises(StreamEnded) as ended:
        send(transport, "w2", run=R1, resume="continue")
    assert ended.value.reason == reason


def test_a_run_whose_records_are_gone_is_opened_anew(
    transport: InProcess, world: World
) -> None:
    send(transport, "w1", run=R1)
    transport.end(STREAM, R1, "w1", 2, "completed", None)
    world.clock.advance(2 * 3_600)
    with pytest.raises(TailraceError):
        send(transport, "w2", run=R1, resume="continue")
    assert send(transport, "w2", run=R2, resume="continue")[1].next == 4


def test_of_two_first_deliveries_one_gets_the_run(
    transport: InProcess, world: World
) -> None:
    """The second finds nothing to claim, and then that the first was quicker."""

    class Racing(InProcess):
        def claim(self, *args: Any, **kwargs: Any) -> Answer:
            try:
                return super().claim(*args, **kwargs)
            except TailraceError:
                if not world.records():
                    send(transport, "first", run=R1, resume="continue")
                raise

    with pytest.raises(Busy):
        send(Racing(world.log), "second", run=R1, resume="continue")
    assert [record.writer for record in world.records()] == ["first"]


def test_a_hand_over_is_taken_at_its_seq_by_the_first_that_comes(
    transport: InProcess,
) -> None:
    send(transport, "w1", run=R1)
    transport.append(STREAM, R1, "w1", 2, ['"a"'])
    transport.renew(STREAM, R1, "w1", lease=60, handed_over=True)
    handed = {"run": R1, "seq": 3, "resume": "continue"}
    _, answer = send(transport, "w2", **handed)
    assert (answer.next, answer.already) == (4, 1)
    with pytest.raises(Busy):
        send(transport, "w2-again", **handed)
    transport.end(STREAM, R1, "w2", 4, "completed", None)
    with pytest.raises(StreamEnded):
        send(transport, "w2-again", **handed)


# ---- restart -------------------------------------------------------------------------


def test_a_restart_answers_anew_in_a_run_of_its_own(
    transport: InProcess, world: World
) -> None:
    send(transport, "w1", run=R1, resume="restart")
    transport.append(STREAM, R1, "w1", 2, ['"a"'])
    with pytest.raises(Busy):
        send(transport, "w2", run=R1, resume="restart")
    world.clock.advance(31)
    run, answer = send(transport, "w2", run=R1, resume="restart")
    assert run > R1
    assert answer.already == 0
    assert world.kinds() == ["open", "data", "claim", "open"]
    with pytest.raises(Fenced):
        transport.append(STREAM, R1, "w1", 3, ['"b"'])


def test_each_further_redelivery_restarts_the_last_restart(
    transport: InProcess, world: World
) -> None:
    runs = []
    for attempt in range(4):
        runs.append(send(transport, f"w{attempt}", run=R1, resume="restart")[0])
        with pytest.raises(Busy):
            send(transport, f"w{attempt}-again", run=R1, resume="restart")
        world.clock.advance(31)
    assert runs == sorted(set(runs))


def test_a_restart_leaves_a_later_question_alone(transport: InProcess) -> None:
    send(transport, "w1", run=R1)
    asked, _ = send(transport, "w2", run=ids.new_run(NOW + 5, b"another id"))
    with pytest.raises(Superseded) as superseded:
        send(transport, "w3", run=R1, resume="restart")
    assert superseded.value.run == asked


@pytest.mark.parametrize("reason", ["completed", "cancelled"])
def test_a_restart_begins_nothing_anew_that_is_done(
    transport: InProcess, world: World, reason: Any
) -> None:
    send(transport, "w1", run=R1)
    if reason == "cancelled":
        world.log.cancel(STREAM, R1)
    else:
        transport.end(STREAM, R1, "w1", 2, reason, None)
    with pytest.raises((StreamEnded, Cancelled)):
        send(transport, "w2", run=R1, resume="restart")


def test_a_restart_follows_an_attempt_that_failed(
    transport: InProcess, world: World
) -> None:
    send(transport, "w1", run=R1)
    transport.end(STREAM, R1, "w1", 2, "error", None)
    run, _ = send(transport, "w2", run=R1, resume="restart", on_active="fail")
    assert run > R1
    assert world.kinds() == ["open", "end", "open"]


@pytest.mark.parametrize("lost", [{1}, {2}, {1, 2}, {1, 3}])
def test_a_restart_whose_answers_are_lost_happens_once(
    world: World, lost: set[int]
) -> None:
    send(InProcess(world.log), "w1", run=R1)
    world.clock.advance(31)
    transport = Lossy(world.log)
    transport.lost = frozenset(lost)
    call = opening("w2", run=R1, resume="restart")
    for _ in lost:
        with pytest.raises(Unavailable):
            call.send(transport)
    call.send(transport)
    assert world.kinds() == ["open", "claim", "open"]


def test_a_restart_whose_run_was_cancelled_meanwhile_is_not_begun_again(
    world: World,
) -> None:
    send(InProcess(world.log), "w1", run=R1)
    world.clock.advance(31)
    transport = Lossy(world.log)
    transport.lost = frozenset({2})
    call = opening("w2", run=R1, resume="restart")
    with pytest.raises(Unavailable):
        call.send(transport)
    world.log.cancel(STREAM)
    with pytest.raises(Cancelled):
        call.send(transport)


# ---- arguments -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"resume": "again", "run": R1}, "resume"),
        ({"resume": "continue"}, "resume"),
        ({"seq": 3, "run": R1}, "seq"),
        ({"seq": 3, "run": R1, "resume": "restart"}, "seq"),
        ({"on_active": "join"}, "on_active"),
        ({"run": "r1"}, "run"),
        ({"stream": "no spaces"}, "stream"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(
    wrong: dict[str, Any], named: str
) -> None:
    with pytest.raises(Invalid, match=named):
        opening(**{"writer": "w", **wrong})
