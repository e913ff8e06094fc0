"""The rules of the log, one by one (PROTOCOL.md §2.1). Schedules are in
test_log_schedules.py; what is here is what each refusal says, and when."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tailrace import ids, rules
from tailrace.errors import (
    Busy,
    Cancelled,
    Fenced,
    Invalid,
    StreamEnded,
    Superseded,
    TooLarge,
    Unavailable,
)
from tailrace.log import Log
from tailrace.ports import Lease
from tailrace.records import Record
from tests.support.worlds import HOUR_MS, NOW, STREAM, World, data, opened, run_id

R1, R2, R3 = run_id(1), run_id(2), run_id(3)


@pytest.fixture
def log(world: World) -> Log:
    return world.log


# ---- appending -----------------------------------------------------------------------


def test_a_run_is_dense_from_its_open_to_its_end(log: Log, world: World) -> None:
    opened = log.open(STREAM, "w", R1, meta={"model": "m"})
    first = log.append(STREAM, R1, "w", 2, ['"a"', '"b"'])
    second = log.append(STREAM, R1, "w", first.next, ["3"])
    end = log.end(STREAM, R1, "w", second.next, "completed")
    assert world.records() == [opened, first, second, end]
    assert [record.seq for record in world.records()] == [1, 2, 4, 5]
    assert [record.index for record in world.records()] == [0, 0, 2, 3]


def test_an_append_repeated_by_another_container_changes_nothing(
    log: Log, world: World
) -> None:
    log.open(STREAM, "w", R1)
    first = log.append(STREAM, R1, "w", 2, ['"a"'])
    log.append(STREAM, R1, "w", 3, ['"b"'])
    assert world.new_log().append(STREAM, R1, "w", 2, ['"a"']) == first
    assert len(world.records()) == 3


def test_a_batch_that_grew_between_two_tries_goes_on_behind_what_is_in(
    log: Log, world: World
) -> None:
    log.open(STREAM, "w", R1)
    log.append(STREAM, R1, "w", 2, ['"a"'])
    grown = world.new_log().append(STREAM, R1, "w", 2, ['"a"', '"b"', '"c"'])
    assert grown.next == 5
    assert [record.chunks for record in world.records()] == ["", '"a"', '"b","c"']


def test_own_data_that_is_no_prefix_means_a_stolen_name(log: Log, world: World) -> None:
    log.open(STREAM, "w", R1)
    log.append(STREAM, R1, "w", 2, ['"a"'])
    with pytest.raises(Fenced, match="another producer writes as w"):
        world.new_log().append(STREAM, R1, "w", 2, ['"other"'])


def test_an_end_at_an_unresolved_append_goes_behind_it(log: Log, world: World) -> None:
    log.open(STREAM, "w", R1)
    log.append(STREAM, R1, "w", 2, ['"a"'])
    end = world.new_log().end(STREAM, R1, "w", 2, "error", "sorry")
    assert (end.seq, end.message) == (3, "sorry")


def test_a_repeated_end_succeeds_also_when_another_run_followed(
    log: Log, world: World
) -> None:
    seq = log.open(STREAM, "w1", R1).next
    end = log.end(STREAM, R1, "w1", seq, "completed")
    log.open(STREAM, "w2", R2)
    again = world.new_log()
    assert again.end(STREAM, R1, "w1", seq, "completed") == end
    with pytest.raises(Superseded):
        again.end(STREAM, R1, "w1", seq, "error")


def test_a_repeated_end_succeeds_and_another_reason_does_not(log: Log) -> None:
    log.open(STREAM, "w", R1)
    end = log.end(STREAM, R1, "w", 2, "completed")
    assert log.end(STREAM, R1, "w", 2, "completed") == end
    with pytest.raises(StreamEnded) as told:
        log.end(STREAM, R1, "w", 2, "error")
    assert told.value.reason == "completed"


@pytest.mark.parametrize("seq", [1, 3, 1000])
def test_a_seq_that_is_not_the_next_is_refused(
    log: Log, world: World, seq: int
) -> None:
    log.open(STREAM, "w", R1)
    for any_log in (log, world.new_log()):
        with pytest.raises(Invalid, match="the run goes on at 2"):
            any_log.append(STREAM, R1, "w", seq, ['"a"'])
        with pytest.raises(Invalid, match="the run goes on at 2"):
            any_log.end(STREAM, R1, "w", max(seq, 3), "completed")
    assert world.kinds() == ["open"]


def test_appending_to_a_run_that_is_not_open_is_refused(log: Log) -> None:
    with pytest.raises(StreamEnded):
        log.append(STREAM, R1, "w", 1, ['"a"'])
    log.open(STREAM, "w", R1)
    with pytest.raises(Invalid, match="not open"):
        log.append(STREAM, R2, "w", 2, ['"a"'])


def test_more_than_a_record_holds_is_refused_before_anything_is_in(
    log: Log, world: World
) -> None:
    log.open(STREAM, "w", R1)
    with pytest.raises(TooLarge):
        log.append(STREAM, R1, "w", 2, ['"' + "x" * 28_000 + '"'])
    with pytest.raises(Invalid, match="empty"):
        log.append(STREAM, R1, "w", 2, [])
    assert world.kinds() == ["open"]


# ---- opening -------------------------------------------------------------------------


def test_open_repeated_is_success_also_after_data(log: Log, world: World) -> None:
    opened = log.open(STREAM, "w", R1)
    assert world.new_log().open(STREAM, "w", R1) == opened
    data = log.append(STREAM, R1, "w", 2, ['"a"'])
    assert world.new_log().open(STREAM, "w", R1) == data
    assert world.kinds() == ["open", "data"]


def test_open_without_a_run_repeated_by_its_writer_opens_once(
    log: Log, world: World
) -> None:
    opened = log.open(STREAM, "w")
    assert world.new_log().open(STREAM, "w") == opened
    assert ids.run_time(opened.run) == NOW


def test_a_minted_run_is_later_than_the_tails_whatever_the_clock(
    log: Log, world: World
) -> None:
    log.open(STREAM, "w", run_id(60_000))
    minted = log.open(STREAM, "w2").run
    assert ids.run_time(minted) == NOW + 60_001
    world.clock.advance(-60)
    assert log.open(STREAM, "w3").run > minted


def test_an_open_over_an_active_run_supersedes_it_in_one_put(log: Log) -> None:
    log.open(STREAM, "w1", R1)
    opened = log.open(STREAM, "w2", R2)
    assert (opened.seq, opened.prev) == (2, R1)
    with pytest.raises(Superseded) as told:
        log.append(STREAM, R1, "w1", 2, ['"late"'])
    assert told.value.run == R2


def test_a_late_open_of_an_earlier_run_is_harmless(log: Log, world: World) -> None:
    log.open(STREAM, "w2", R2)
    with pytest.raises(Superseded):
        log.open(STREAM, "w1", R1)
    assert world.kinds() == ["open"]


def test_on_active_fail_is_busy_while_the_lease_holds(log: Log, world: World) -> None:
    log.open(STREAM, "w1", R1, lease=60)
    with pytest.raises(Busy) as told:
        log.open(STREAM, "w2", R2, on_active="fail")
    assert (told.value.run, told.value.until) == (R1, NOW + 60_000)
    world.clock.advance(60)
    log.open(STREAM, "w2", R2, on_active="fail")
    assert world.kinds() == ["open", "end", "open"]
    assert world.records()[1].reason == "producer_lost"


def test_another_writer_cannot_open_an_open_run_but_must_claim_it(log: Log) -> None:
    log.open(STREAM, "w1", R1)
    with pytest.raises(Busy, match=r'claim it.*resume="continue"'):
        log.open(STREAM, "w2", R1)


def test_an_open_without_a_run_repeated_after_its_cancel_opens_no_other(
    log: Log, world: World
) -> None:
    """Else the stop that was pressed while the answer was on its way is undone."""
    run = log.open(STREAM, "w1").run
    world.new_log().cancel(STREAM, run)
    with pytest.raises(Cancelled):
        world.new_log().open(STREAM, "w1")
    assert world.kinds() == ["open", "end"]


def test_an_expired_run_cannot_be_opened_again(log: Log, world: World) -> None:
    log.open(STREAM, "w1", R1)
    world.clock.advance(log.retention + 1)
    for writer in ("w1", "w2"):
        with pytest.raises(StreamEnded) as told:
            world.new_log().open(STREAM, writer, R1)
        assert told.value.reason == "expired"


def test_a_run_from_a_clock_that_is_ahead_is_refused(log: Log) -> None:
    with pytest.raises(Invalid, match="5 minutes"):
        log.open(STREAM, "w", run_id(1, NOW + 6 * 60_000))


@pytest.mark.parametrize("lease", [0, -1, 43_201, 1.5, "30", True])
def test_a_lease_out_of_range_is_refused(log: Log, lease: object) -> None:
    with pytest.raises(Invalid, match="lease"):
        log.open(STREAM, "w", R1, lease=lease)  # type: ignore[arg-type]


# ---- claiming ------------------------------------------------------------------------


def test_a_claim_fences_the_old_writer_and_tells_what_is_in(
    log: Log, world: World
) -> None:
    log.open(STREAM, "w1", R1)
    log.append(STREAM, R1, "w1", 2, ['"a"', '"b"'])
    world.clock.advance(31)
    claim = world.new_log().claim(STREAM, R1, "w2")
    assert (claim.seq, claim.epoch, claim.chunks_in) == (4, 1, 2)
    with pytest.raises(Fenced) as told:
        log.append(STREAM, R1, "w1", 4, ['"zombie"'])
    assert told.value.epoch == 1
    data = log.append(STREAM, R1, "w2", 5, ['"c"'])
    assert (data.epoch, data.index) == (1, 2)


def test_a_claim_is_busy_while_another_writer_is_alive(log: Log, world: World) -> None:
    log.open(STREAM, "w1", R1)
    with pytest.raises(Busy):
        log.claim(STREAM, R1, "w2")
    world.clock.advance(29)
    log.renew(STREAM, R1, "w1")
    world.clock.advance(29)
    with pytest.raises(Busy) as told:
        log.claim(STREAM, R1, "w2")
    assert told.value.until == NOW + 59_000


def test_a_run_handed_over_can_be_claimed_at_once(log: Log) -> None:
    log.open(STREAM, "w1", R1)
    log.renew(STREAM, R1, "w1", handed_over=True)
    assert log.claim(STREAM, R1, "w2").epoch == 1


def test_of_two_successors_at_the_seq_handed_over_one_gets_the_run(
    log: Log, world: World
) -> None:
    log.open(STREAM, "w1", R1)
    claim = log.claim(STREAM, R1, "s1", 2)
    assert claim.seq == 2
    with pytest.raises(Busy):
        log.claim(STREAM, R1, "s2", 2)
    assert world.new_log().claim(STREAM, R1, "s1", 2) == claim


def test_a_claim_may_follow_producer_lost_and_no_other_end(
    log: Log, world: World
) -> None:
    log.open(STREAM, "w1", R1)
    world.clock.advance(31)
    assert log.look(STREAM).active is False
    assert log.claim(STREAM, R1, "w2").seq == 3
    log.end(STREAM, R1, "w2", 4, "completed")
    with pytest.raises(StreamEnded):
        log.claim(STREAM, R1, "w3")


def test_a_claim_of_a_cancelled_a_later_or_an_unknown_run_is_told_so(log: Log) -> None:
    with pytest.raises(StreamEnded, match="not in the log"):
        log.claim(STREAM, R1, "w")
    log.open(STREAM, "w", R2)
    with pytest.raises(Superseded):
        log.claim(STREAM, R1, "w")
    with pytest.raises(Invalid, match="not open"):
        log.claim(STREAM, R3, "w")
    log.cancel(STREAM, R2)
    with pytest.raises(Cancelled):
        log.claim(STREAM, R2, "w2")


# ---- cancelling ----------------------------------------------------------------------


def test_a_cancel_is_learnt_at_the_next_append(log: Log) -> None:
    log.open(STREAM, "w", R1)
    end = log.cancel(STREAM, R1)
    assert end is not None and end.reason == "cancelled"
    with pytest.raises(Cancelled):
        log.append(STREAM, R1, "w", 2, ['"a"'])
    with pytest.raises(Cancelled):
        log.end(STREAM, R1, "w", 2, "completed")
    with pytest.raises(Cancelled):
        log.renew(STREAM, R1, "w")


def test_a_cancel_of_a_run_that_ended_harms_no_later_run(
    log: Log, world: World
) -> None:
    log.open(STREAM, "w1", R1)
    log.end(STREAM, R1, "w1", 2, "completed")
    log.open(STREAM, "w2", R2)
    ended = log.cancel(STREAM, R1)
    assert ended is not None and ended.reason == "completed"
    assert world.kinds() == ["open", "end", "open"]


def test_a_cancel_before_the_open_is_found_by_the_open(log: Log, world: World) -> None:
    ended = log.cancel(STREAM, R1)
    assert ended is not None and ended.reason == "cancelled"
    assert world.kinds() == ["open", "end"]
    with pytest.raises(Cancelled):
        log.open(STREAM, "w", R1)


def test_a_cancel_outlasts_a_writer_until_its_pause(log: Log, world: World) -> None:
    """Rule 5: a writer pauses after 500 ms, which is time for 200 quick races."""
    at = log.open(STREAM, "w1", R1).next
    races = 200

    class Quicker:
        def __getattr__(self, name: str) -> Any:
            return getattr(world.store, name)

        def put(self, record: Record) -> Record | None:
            nonlocal at, races
            if races > 0:
                races -= 1
                at = log.append(STREAM, R1, "w1", at, ["1"]).next
            return world.store.put(record)

    canceller = world.new_log()
    canceller.store = Quicker()
    record = canceller.cancel(STREAM, R1)
    assert record is not None and record.reason == "cancelled"


def test_a_cancel_without_a_run_takes_whatever_is_active(log: Log) -> None:
    assert log.cancel(STREAM) is None
    log.open(STREAM, "w", R1)
    ended = log.cancel(STREAM)
    assert ended is not None and (ended.run, ended.reason) == (R1, "cancelled")
    assert log.cancel(STREAM) == ended


# ---- liveness ------------------------------------------------------------------------


def test_whoever_looks_after_the_lease_ends_the_run(log: Log, world: World) -> None:
    log.open(STREAM, "w", R1, lease=10)
    world.clock.advance(9.999)
    assert log.look(STREAM).active
    world.clock.advance(0.001)
    look = log.look(STREAM)
    assert look.tail is not None
    assert (look.active, look.tail.reason) == (False, "producer_lost")
    with pytest.raises(StreamEnded) as told:
        log.append(STREAM, R1, "w", 2, ['"late"'])
    assert told.value.reason == "producer_lost"


def test_a_renewed_lease_keeps_a_silent_run_alive(log: Log, world: World) -> None:
    log.open(STREAM, "w", R1, lease=10)
    for _ in range(5):
        world.clock.advance(8)
        log.renew(STREAM, R1, "w")
    assert log.look(STREAM).active
    world.clock.advance(11)
    assert not log.look(STREAM).active


def test_the_lease_of_a_fenced_writer_keeps_nothing_alive(
    log: Log, world: World
) -> None:
    log.open(STREAM, "w1", R1, lease=10)
    world.state.put_lease(STREAM, R1, "w1", Lease(NOW + 10 * HOUR_MS), 0)
    log.claim(STREAM, R1, "w2", 2)
    world.clock.advance(11)
    assert not log.look(STREAM).active


def test_a_reader_that_froze_before_its_reads_kills_nobody(world: World) -> None:
    """`now` is taken before the reads: what was written meanwhile is from later."""

    class Freezing:
        def __getattr__(self, name: str) -> object:
            if name == "last":
                world.clock.advance(600)
                world.log.append(STREAM, R1, "w", 2, ['"alive"'])
            return getattr(world.store, name)

    log = world.log
    log.open(STREAM, "w", R1)
    reader = Log(Freezing(), world.state, world.clock, retention=3600, lease=30)  # type: ignore[arg-type]
    assert reader.look(STREAM).active
    assert world.kinds() == ["open", "data"]


@pytest.mark.parametrize("ahead", [45, 400])
def test_a_clock_that_the_first_answer_sets_right_kills_nobody(
    world: World, ahead: int
) -> None:
    """In-process, AWS's answers set the clock; what was read of it before the first is
    worth nothing."""

    class Setting:
        def __getattr__(self, name: str) -> object:
            if name == "last":
                world.clock.now = NOW
            return getattr(world.store, name)

    def newcomer() -> Log:
        world.clock.now = NOW + ahead * 1000
        return Log(Setting(), world.state, world.clock, retention=60, lease=30)  # type: ignore[arg-type]

    world.new_log().open(STREAM, "w", R1)
    assert newcomer().look(STREAM).active
    with pytest.raises(Busy):
        newcomer().claim(STREAM, R1, "w2")
    with pytest.raises(Busy):
        newcomer().open(STREAM, "w2", R2, on_active="fail")
    assert world.kinds() == ["open"]
    cancelled = newcomer().cancel(STREAM, R1)
    assert cancelled is not None
    assert cancelled.reason == "cancelled"


# ---- expiry --------------------------------------------------------------------------


def test_an_expired_tail_still_numbers_and_only_an_open_follows(
    log: Log, world: World
) -> None:
    log.open(STREAM, "w", R1)
    log.append(STREAM, R1, "w", 2, ['"a"'])
    world.clock.advance(3601)
    assert log.look(STREAM).active is False
    assert world.kinds() == ["open", "data"], "nobody ends an expired run"
    for refused in (
        lambda: world.new_log().append(STREAM, R1, "w", 3, ['"b"']),
        lambda: world.new_log().end(STREAM, R1, "w", 3, "completed"),
        lambda: log.claim(STREAM, R1, "w2"),
        lambda: log.renew(STREAM, R1, "w"),
    ):
        with pytest.raises(StreamEnded) as told:
            refused()
        assert told.value.reason == "expired"
    assert log.cancel(STREAM, R1) is None
    assert log.open(STREAM, "w", R2).seq == 3


@pytest.mark.parametrize("reason", ["completed", "cancelled"])
def test_a_shorter_retention_takes_no_run_its_end(world: World, reason: str) -> None:
    """Else what is left looks like a run whose producer died, that may be claimed; and
    the run before like the last. A stack may be deployed anew with another retention,
    and a producer that is told of the tables has its own."""
    shorter = Log(world.store, world.state, world.clock, retention=60, lease=30)
    begun = world.log.open(STREAM, "w1", run_id(1))
    if reason == "completed":
        shorter.end(STREAM, begun.run, "w1", begun.next, "completed")
    else:
        shorter.cancel(STREAM, begun.run)
    behind = shorter.open(STREAM, "w2", run_id(2))
    last = shorter.end(STREAM, behind.run, "w2", behind.next, "completed")
    world.clock.advance(61)
    delete_expired(world)
    assert shorter.look(STREAM).tail == last
    with pytest.raises(Superseded):
        shorter.claim(STREAM, begun.run, "w3")
    world.clock.advance(world.log.retention)
    delete_expired(world)
    assert world.records() == []


def delete_expired(world: World) -> None:
    """Do what TTL does."""
    for record in world.records():
        if record.expired(world.clock()):
            world.store.remove(STREAM, record.seq)


def test_a_repeat_with_more_in_it_puts_nothing_behind_what_has_expired(
    log: Log, world: World
) -> None:
    log.open(STREAM, "w", R1)
    log.append(STREAM, R1, "w", 2, ['"a"'])
    world.clock.advance(3601)
    for late in (log, world.new_log()):
        with pytest.raises(StreamEnded) as told:
            late.append(STREAM, R1, "w", 2, ['"a"', '"b"'])
        assert told.value.reason == "expired"
    assert world.kinds() == ["open", "data"]


def test_a_zombie_from_before_the_expiry_reads_before_it_puts(world: World) -> None:
    """Its run is gone, the stream began anew at 1, its old seq is free again."""
    zombie = world.new_log()
    zombie.open(STREAM, "w", R1)
    zombie.append(STREAM, R1, "w", 2, ['"a"'] * 50)
    world.clock.advance(3700)
    for record in world.records():
        world.store.remove(STREAM, record.seq)
    world.log.open(STREAM, "w2", R2)
    with pytest.raises(Superseded):
        zombie.append(STREAM, R1, "w", 52, ['"late"'])
    assert world.kinds() == ["open"]


def test_a_deleted_stream_keeps_its_end_and_its_numbering(
    log: Log, world: World
) -> None:
    log.open(STREAM, "w", R1, meta={"model": "m"})
    log.append(STREAM, R1, "w", 2, ['"secret"'])
    assert log.delete(STREAM) == 2
    assert [(record.kind, record.reason) for record in world.records()] == [
        ("end", "cancelled")
    ]
    assert log.delete(STREAM) == 0
    assert log.open(STREAM, "w", R2).seq == 4


def test_an_expired_stream_can_be_deleted_too(log: Log, world: World) -> None:
    log.open(STREAM, "w", R1)
    log.append(STREAM, R1, "w", 2, ['"secret"'])
    world.clock.advance(3601)
    log.delete(STREAM)
    assert world.kinds() == ["end"]
    assert log.delete("chat:empty") == 0


# ---- the container's memory ----------------------------------------------------------


def test_a_container_appends_behind_its_own_last_append_without_a_read(
    world: World,
) -> None:
    reads: list[str] = []

    class Counting:
        def __getattr__(self, name: str) -> object:
            if name in ("last", "range"):
                reads.append(name)
            return getattr(world.store, name)

    log = Log(Counting(), world.state, world.clock, retention=3600, lease=30)  # type: ignore[arg-type]
    log.open(STREAM, "w", R1)
    reads.clear()
    for seq in range(2, 12):
        log.append(STREAM, R1, "w", seq, ['"a"'])
    log.end(STREAM, R1, "w", 12, "completed")
    assert reads == []


def test_a_log_that_always_loses_gives_up_as_unavailable(world: World) -> None:
    class Racing:
        """Somebody else is always faster."""

        def put(self, record: Record) -> Record:
            return replace(record, writer="faster")

        def last(self, stream: str, at_most: int | None = None) -> None:
            return None

    log = Log(Racing(), world.state, world.clock, retention=3600, lease=30)  # type: ignore[arg-type]
    with pytest.raises(Unavailable, match="faster than"):
        log.open(STREAM, "w")
    with pytest.raises(Unavailable, match="faster than"):
        log.cancel(STREAM, R1)


def test_conflicts_are_told_by_kind(log: Log, world: World) -> None:
    log.open(STREAM, "w1", R1)
    other = world.new_log()
    other.open(STREAM, "w2", R2)
    with pytest.raises(Superseded):
        log.append(STREAM, R1, "w1", 2, ['"a"'])
    assert world.conflicts == ["open"]


def test_end_checks_what_it_is_given(log: Log) -> None:
    log.open(STREAM, "w", R1)
    with pytest.raises(Invalid, match="reason"):
        log.end(STREAM, R1, "w", 2, "bored")  # type: ignore[arg-type]
    with pytest.raises(Invalid, match="message"):
        log.end(STREAM, R1, "w", 2, "error", "x" * 501)


def test_a_met_record_that_is_the_same_is_done() -> None:
    record = data(opened(), '"a"')
    assert rules.meet(record, replace(record, at=record.at + 5)).done
