"""The producer's core: batches, pauses, leases, retries, ends. On its own clock."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from tailrace.chunks import MAX_CHUNKS_BYTES
from tailrace.errors import (
    Busy,
    Cancelled,
    Fenced,
    Invalid,
    StreamEnded,
    TooLarge,
    Unavailable,
)
from tailrace.producer.calls import Append, End, Renew
from tailrace.producer.core import LOOK_EVERY, PAUSE, Pace
from tests.support.producers import Driver, Scripted

LOST = Unavailable("lost")


def write(driver: Driver, *chunks: str) -> None:
    for chunk in chunks:
        driver.core.write(json.dumps(chunk))


def stored(driver: Driver) -> list[str]:
    """Return the chunks in the order in which they were appended, repeats once."""
    by_seq = {
        sent.call.seq: sent.texts
        for sent in driver.appends()
        if isinstance(sent.call, Append)
    }
    return [json.loads(text) for seq in sorted(by_seq) for text in by_seq[seq]]


# ---- batches -------------------------------------------------------------------------


def test_the_first_chunk_leaves_at_once() -> None:
    driver = Driver().open().run(1)
    write(driver, "a")
    driver.run(0)
    assert [(sent.at, sent.texts) for sent in driver.appends()] == [
        (driver.now, ('"a"',))
    ]


def test_chunks_that_come_while_an_append_is_under_way_leave_together() -> None:
    driver = Driver(Pace(min_interval=0), latency=0.2).open()
    began = driver.now
    write(driver, "a")
    for chunk in "bcd":
        driver.run(0.05)
        write(driver, chunk)
    driver.run(0.3)
    assert [(round(sent.at - began, 3), sent.texts) for sent in driver.appends()] == [
        (0.0, ('"a"',)),
        (0.2, ('"b"', '"c"', '"d"')),
    ]


@pytest.mark.parametrize("latency", [0.0, 0.003, 0.02, 0.049, 0.2])
@pytest.mark.parametrize("interval", [0.0, 0.05, 0.1, 1.0])
def test_appends_begin_no_sooner_than_min_interval_after_the_last(
    latency: float, interval: float
) -> None:
    driver = Driver(Pace(min_interval=interval), latency=latency).open()
    for number in range(300):
        write(driver, str(number))
        driver.run(0.007)
    starts = [sent.at for sent in driver.appends()]
    gaps = [after - before for before, after in itertools.pairwise(starts)]
    assert all(gap >= max(interval, latency) - 1e-9 for gap in gaps)


@pytest.mark.parametrize("latency", [0.0, 0.005, 0.02, 0.12])
@pytest.mark.parametrize(("interval", "most"), [(0.05, 410), (0.1, 210)])
def test_records_of_1000_tokens_at_50_a_second(
    interval: float, most: int, latency: float
) -> None:
    driver = Driver(Pace(min_interval=interval), latency=latency).open()
    for number in range(1_000):
        write(driver, str(number))
        driver.run(0.02)
    driver.core.end("completed")
    driver.settle()
    assert 100 < len(driver.transport.calls) <= most
    assert stored(driver) == [str(number) for number in range(1_000)]


def test_a_record_holds_as_much_as_fits_and_no_more() -> None:
    driver = Driver(Pace(min_interval=0), latency=0.01).open()
    sizes = [9_998, 9_000, 9_000, 8_999, 27_998, 1]
    for size in sizes:
        write(driver, "x" * (size - 2 if size > 2 else 0))
    driver.core.end("completed")
    driver.settle()
    records = [len(",".join(sent.texts)) for sent in driver.appends()]
    assert max(records) <= MAX_CHUNKS_BYTES
    assert [len(sent.texts) for sent in driver.appends()] == [3, 1, 1, 1]


def test_a_record_is_measured_in_bytes_of_utf_8() -> None:
    driver = Driver(Pace(min_interval=0)).open()
    for _ in range(3):
        driver.core.write('"' + "ü" * 6_999 + '"')
    driver.core.end("completed")
    driver.settle()
    assert [len(sent.texts) for sent in driver.appends()] == [1, 1, 1]
    with pytest.raises(TooLarge):
        Driver().open().core.write('"' + "ü" * 14_000 + '"')


def test_a_chunk_too_large_for_a_record_is_refused_and_the_run_goes_on() -> None:
    driver = Driver().open()
    with pytest.raises(TooLarge) as refused:
        write(driver, "x" * (MAX_CHUNKS_BYTES - 1))
    assert refused.value.limit == MAX_CHUNKS_BYTES
    write(driver, "x" * (MAX_CHUNKS_BYTES - 2))
    driver.core.end("completed")
    driver.settle()
    assert driver.transport.calls == ["open", "append", "end completed"]


def test_a_flush_does_not_wait_for_min_interval() -> None:
    driver = Driver(Pace(min_interval=10)).open()
    write(driver, "a")
    driver.run(0.02)
    write(driver, "b")
    driver.run(1)
    assert len(driver.appends()) == 1
    upto = driver.core.flush()
    driver.run(0.02)
    assert driver.core.stored == upto == 2
    write(driver, "c")
    driver.run(1)
    assert len(driver.appends()) == 2


def test_the_buffer_pushes_back_until_a_record_is_taken_from_it() -> None:
    driver = Driver(Pace(min_interval=0, buffer=1_000), latency=1).open()
    write(driver, "first")
    driver.run(0.1)
    written = 0
    while not driver.core.full:
        write(driver, "token")
        written += 1
    assert 5 < written < 20
    driver.run(1)
    assert not driver.core.full


def test_many_empty_chunks_fill_the_buffer_too() -> None:
    driver = Driver(Pace(buffer=100_000), latency=1_000)
    written = 0
    while not driver.core.full:
        driver.core.write('""')
        written += 1
    assert written <= 1_000


# ---- rule 5: a cancel gets in --------------------------------------------------------


@pytest.mark.parametrize("latency", [0.001, 0.004, 0.03, 0.3, 2.0])
def test_appends_back_to_back_pause_for_40_ms_every_500(latency: float) -> None:
    driver = Driver(Pace(min_interval=0), latency=latency).open()
    while driver.now < 105:
        write(driver, "x")
        driver.run(0.0005)
    free = [
        (before.at + latency, after.at)
        for before, after in itertools.pairwise(driver.appends())
    ]
    pauses = [at for ended, at in free if at - ended >= PAUSE - 1e-9]
    since = [driver.appends()[0].at, *pauses]
    gaps = [after - before for before, after in itertools.pairwise(since)]
    assert pauses
    assert max(gaps) <= 0.5 + latency + PAUSE + 0.002
    # No more pauses than that: they cost throughput.
    assert min(gaps) >= min(0.5, latency)


def test_a_producer_at_an_llms_pace_never_pauses() -> None:
    driver = Driver(latency=0.005).open()
    for number in range(200):
        write(driver, str(number))
        driver.run(0.05)
    assert len(driver.appends()) == 200


def test_gaps_that_a_cancel_fits_into_are_pauses_enough() -> None:
    driver = Driver(Pace(min_interval=0), latency=0.001).open()
    written = []
    for number in range(200):
        written.append(driver.now)
        write(driver, str(number))
        driver.run(0.02)
    assert [append.at for append in driver.appends()] == written


# ---- rule 6: a silent run ------------------------------------------------------------


@pytest.mark.parametrize(
    ("lease", "every"), [(30, LOOK_EVERY), (600, LOOK_EVERY), (6, 2.0), (1, 1 / 3)]
)
def test_a_silent_producer_looks_well_within_its_lease(
    lease: int, every: float
) -> None:
    driver = Driver(Pace(lease=lease)).open()
    driver.run(60)
    at = [sent.at for sent in driver.renewals()]
    gaps = [after - before for before, after in itertools.pairwise(at)]
    assert gaps
    assert max(gaps) == pytest.approx(every)
    assert {sent.call.lease for sent in driver.renewals()} == {lease}  # type: ignore[attr-defined]


def test_a_producer_that_writes_does_not_renew() -> None:
    driver = Driver().open()
    for _ in range(60):
        write(driver, "x")
        driver.run(1)
    assert driver.renewals() == []


def test_chunks_held_back_by_a_long_interval_do_not_let_the_lease_run_out() -> None:
    driver = Driver(Pace(min_interval=60, lease=6)).open()
    write(driver, "a")
    driver.run(1)
    write(driver, "b")
    driver.run(50)
    assert len(driver.renewals()) >= 20
    driver.run(60)
    assert len(driver.appends()) == 2


def test_a_silent_producer_learns_of_a_cancel_within_5_s() -> None:
    driver = Driver().open()
    driver.transport.faults = [Cancelled("the run was cancelled", run="r")]
    driver.run(5)
    assert isinstance(driver.core.error, Cancelled)
    with pytest.raises(Cancelled):
        write(driver, "x")


def test_what_ended_the_run_takes_no_memory_each_time_that_it_is_raised() -> None:
    """A job may pass it over, and write on for an hour."""
    driver = Driver().open()
    driver.transport.faults = [Cancelled("the run was cancelled", run="r")]
    write(driver, "a")
    driver.settle()
    seen = []
    for _ in range(3):
        with pytest.raises(Cancelled) as cancelled:
            write(driver, "b")
        seen.append([entry.name for entry in cancelled.traceback])
    assert seen[0] == seen[1] == seen[2]
    assert seen[0][-1] == "_answer", "where it came from is still told"


def test_a_renewal_that_fails_does_not_hold_up_chunks() -> None:
    driver = Driver().open()
    driver.transport.faults = [LOST] * 3
    driver.run(4.2)
    assert "renew" in driver.transport.calls
    driver.transport.faults = []
    began = driver.now
    write(driver, "a")
    driver.run(0.05)
    assert driver.appends()[0].at - began <= driver.latency + 1e-9


def test_renewals_that_fail_for_long_end_nothing() -> None:
    driver = Driver(Pace(give_up_after=5)).open()
    driver.transport.faults = [LOST] * 100
    driver.run(60)
    assert driver.core.error is None
    assert len(driver.renewals()) > 14


# ---- rule 1: an append whose outcome is unknown --------------------------------------


def test_an_unresolved_append_is_repeated_unchanged_before_anything_else() -> None:
    driver = Driver(Pace(min_interval=0)).open()
    driver.transport.faults = [LOST] * 4
    write(driver, "a")
    driver.run(0.05)
    write(driver, "b", "c")
    driver.core.end("completed")
    driver.settle()
    calls = [sent.call for sent in driver.sent[1:]]
    assert calls[:5] == [calls[0]] * 5
    assert [type(call) for call in calls[5:]] == [Append, End]
    assert stored(driver) == ["a", "b", "c"]


def test_tries_are_spread_by_full_jitter_with_a_cap() -> None:
    driver = Driver(Pace(give_up_after=1_000), chance=1.0, latency=0).open()
    driver.transport.faults = [LOST] * 12
    write(driver, "a")
    driver.run(60)
    at = [sent.at for sent in driver.appends()]
    gaps = [round(after - before, 3) for before, after in itertools.pairwise(at)]
    assert gaps[:6] == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0]
    assert max(gaps) == 5.0
    driver = Driver(Pace(give_up_after=1_000), chance=0.0, latency=0).open()
    driver.transport.faults = [LOST] * 12
    write(driver, "a")
    assert len(driver.run(0).appends()) == 13


def test_giving_up_says_up_to_which_seq_all_is_safe() -> None:
    driver = Driver(Pace(give_up_after=10)).open()
    write(driver, "a", "b")
    driver.run(0.1)
    driver.transport.faults = [LOST] * 1_000
    write(driver, "c")
    driver.run(0.05)
    began = driver.now
    driver.settle()
    assert 9 < driver.now - began < 10.2
    error = driver.core.error
    assert isinstance(error, Unavailable)
    assert (error.facts["seq"], error.facts["already"]) == (3, 2)
    assert error.facts["run"] == driver.core.run
    assert error.__cause__ is LOST


def test_after_giving_up_nothing_more_is_put() -> None:
    driver = Driver(Pace(give_up_after=1)).open()
    driver.transport.faults = [LOST] * 1_000
    write(driver, "a")
    driver.settle()
    driver.transport.faults = []
    calls = len(driver.transport.calls)
    with pytest.raises(Unavailable):
        driver.core.end("error")
    driver.run(100)
    assert len(driver.transport.calls) == calls


def test_each_success_renews_the_patience() -> None:
    driver = Driver(Pace(give_up_after=2, min_interval=0)).open()
    driver.transport.faults = [LOST, LOST, None] * 5
    for number in range(5):
        write(driver, str(number))
        driver.run(1.5)
    driver.core.end("completed")
    driver.settle()
    assert driver.core.error is None
    assert stored(driver) == list("01234")


def test_what_is_no_passing_failure_is_raised_at_once() -> None:
    driver = Driver().open()
    denied = PermissionError("no")
    driver.transport.faults = [denied]
    write(driver, "a")
    driver.run(0.02)
    assert driver.core.error is denied


def test_a_run_that_was_fenced_keeps_nothing_waiting() -> None:
    driver = Driver().open()
    driver.transport.faults = [Fenced("no", run="r", epoch=1)]
    write(driver, "a")
    driver.run(0.02)
    assert driver.core.waiting == 0
    with pytest.raises(Fenced):
        write(driver, "b")


# ---- opening -------------------------------------------------------------------------


def test_an_open_whose_answer_is_lost_is_repeated() -> None:
    driver = Driver()
    driver.transport.faults = [LOST] * 3
    driver.run(5)
    assert driver.transport.calls[:4] == ["open"] * 4
    assert (driver.core.state, driver.core.seq) == ("writing", 1)


def test_chunks_written_before_the_run_is_open_wait_for_it() -> None:
    driver = Driver(latency=1)
    write(driver, "a")
    driver.run(3)
    assert driver.transport.calls == ["open", "append"]


def test_busy_is_raised_at_once_unless_the_job_has_time() -> None:
    busy = Busy("busy", run="r", until=0)
    impatient = Driver()
    impatient.transport.faults = [busy]
    assert impatient.run(1).core.error is busy
    patient = Driver(Pace(wait=30))
    patient.transport.faults = [busy] * 10
    assert patient.run(20).core.state == "writing"
    hopeless = Driver(Pace(wait=30))
    hopeless.transport.faults = [busy] * 1_000
    assert hopeless.settle().core.error is busy
    assert 129 < hopeless.now < 132


def test_a_run_taken_over_goes_on_behind_what_is_in() -> None:
    transport = Scripted()
    transport.already = 7
    driver = Driver(transport=transport).open()
    assert driver.core.already == 7
    write(driver, "a")
    driver.run(1)
    assert driver.core.already == 8
    assert driver.core.written == 1


# ---- ending --------------------------------------------------------------------------


def test_an_end_comes_behind_all_that_was_written() -> None:
    driver = Driver(Pace(min_interval=0.5)).open()
    write(driver, "a")
    driver.run(0.02)
    write(driver, "b")
    driver.core.end("error", "sorry")
    began = driver.now
    driver.settle()
    assert driver.transport.calls == ["open", "append", "append", "end error"]
    assert driver.now - began == pytest.approx(2 * driver.latency)
    assert driver.core.seq == 4


def test_an_end_asked_for_while_the_run_opens_ends_it() -> None:
    driver = Driver(latency=1)
    driver.run(0.5)
    driver.core.end("error", "interrupted")
    driver.settle()
    assert driver.transport.calls == ["open", "end error"]


def test_nothing_can_be_written_behind_the_end() -> None:
    driver = Driver().open()
    driver.core.end("completed")
    with pytest.raises(StreamEnded) as ended:
        write(driver, "a")
    assert ended.value.reason == "completed"
    driver.settle()
    with pytest.raises(StreamEnded):
        driver.core.end("error")
    with pytest.raises(StreamEnded):
        driver.core.hand_over()
    assert driver.core.due(driver.now) is None


def test_an_end_that_meets_a_cancel_says_so() -> None:
    driver = Driver().open()
    driver.transport.faults = [Cancelled("cancelled", run="r")]
    driver.core.end("completed")
    driver.settle()
    assert isinstance(driver.core.error, Cancelled)


def test_a_hand_over_puts_what_was_written_and_never_renews_again() -> None:
    driver = Driver().open()
    write(driver, "a", "b")
    driver.core.hand_over(120)
    driver.settle()
    assert driver.transport.calls == ["open", "append", "hand over"]
    last = driver.sent[-1].call
    assert isinstance(last, Renew)
    assert (last.lease, last.handed_over) == (120, True)
    assert driver.core.next == 4
    driver.run(100)
    assert len(driver.transport.calls) == 3


def test_a_hand_over_is_repeated_and_given_up_like_an_append() -> None:
    driver = Driver(Pace(give_up_after=5)).open()
    driver.transport.faults = [LOST] * 3
    driver.core.hand_over()
    driver.settle()
    assert driver.core.error is None
    driver = Driver(Pace(give_up_after=5)).open()
    driver.transport.faults = [LOST] * 300
    driver.core.hand_over()
    driver.settle()
    assert isinstance(driver.core.error, Unavailable)


@pytest.mark.parametrize("lease", [0, 43_201, 1.5, "30"])
def test_a_hand_over_refuses_a_lease_that_no_run_may_have(lease: object) -> None:
    driver = Driver().open()
    with pytest.raises(Invalid):
        driver.core.hand_over(lease)  # type: ignore[arg-type]
    write(driver, "a")


def test_a_producer_that_leaves_puts_its_chunks_and_no_end() -> None:
    driver = Driver(Pace(min_interval=5)).open()
    write(driver, "a")
    driver.run(0.02)
    write(driver, "b")
    driver.core.leave()
    driver.settle()
    assert driver.transport.calls == ["open", "append", "append"]
    idle = Driver().open()
    idle.core.leave()
    assert idle.settle().transport.calls == ["open"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_interval": -1},
        {"give_up_after": -1},
        {"wait": float("nan")},
        {"wait": "1"},
        {"buffer": "1"},
        {"lease": 0},
        {"lease": True},
        {"buffer": 0},
    ],
)
def test_a_pace_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(Invalid, match=next(iter(wrong))):
        Pace(**wrong)
