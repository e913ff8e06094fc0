"""One-call publish: for callers that keep no state."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tailrace import chunks, onecall
from tailrace.errors import (
    Busy,
    Cancelled,
    Invalid,
    StreamEnded,
    Superseded,
    TooLarge,
    Unavailable,
)
from tailrace.records import Record
from tests.support.invariants import check_log
from tests.support.worlds import STREAM, World, run_id

R1, R2 = run_id(1), run_id(2)


def publish(world: World, *values: Any, **options: Any) -> Record:
    """Call as another container each time."""
    texts = [chunks.encode(value) for value in values]
    record = onecall.publish(world.new_log(), STREAM, texts, **options)
    check_log(world.records())
    return record


def text(world: World) -> list[Any]:
    return [value for one in world.records() for value in chunks.decode(one.chunks)]


def test_calls_follow_each_other_in_one_run(world: World) -> None:
    publish(world, "a", "b")
    publish(world, "c")
    end = publish(world, "d", end="completed")
    assert text(world) == ["a", "b", "c", "d"]
    assert world.kinds() == ["open", "data", "data", "data", "end"]
    assert (end.reason, end.next) == ("completed", 7)


def test_after_the_end_the_next_call_opens_a_run(world: World) -> None:
    first = publish(world, "a", end="error", message="sorry").run
    assert publish(world, "b").run > first
    assert world.records()[2].message == "sorry"


def test_a_repeat_with_a_key_changes_nothing(world: World) -> None:
    first = publish(world, "a", "b", key="k", end="completed")
    publish(world, "other", key="k2", end="completed")
    before = world.records()
    assert publish(world, "a", "b", key="k", end="completed").run >= first.run
    assert world.records() == before


def test_a_repeat_without_a_key_appends_again(world: World) -> None:
    publish(world, "a")
    publish(world, "a")
    assert text(world) == ["a", "a"]


@pytest.mark.parametrize("dies_at", range(12))
@pytest.mark.parametrize("applied", [True, False])
def test_a_call_that_died_anywhere_is_finished_by_its_repeat(
    world: World, dies_at: int, *, applied: bool
) -> None:
    class Dying:
        """The process dies at one of its puts."""

        puts = 0

        def __getattr__(self, name: str) -> Any:
            return getattr(world.store, name)

        def put(self, record: Record) -> Record | None:
            self.puts += 1
            if self.puts <= dies_at:
                return world.store.put(record)
            if applied:
                world.store.put(record)
            raise Unavailable("the process died")

    long = ["x" * 20_000, "y" * 20_000, "z" * 20_000]
    texts = [chunks.encode(one) for one in long]
    dying = world.new_log()
    dying.store = Dying()
    try:
        onecall.publish(dying, STREAM, texts, key="k", end="completed")
    except Unavailable:
        publish(world, "between", key="other")
    end = publish(world, *long, key="k", end="completed")
    assert [one[0] for one in text(world) if one != "between"] == ["x", "y", "z"]
    assert end.kind == "end"
    assert [one.kind for one in world.records()].count("end") == 1


def test_a_producers_run_is_not_touched(world: World) -> None:
    world.log.open(STREAM, "w", R1)
    with pytest.raises(Busy) as told:
        publish(world, "a")
    assert told.value.run == R1
    assert world.kinds() == ["open"]


def test_a_run_that_was_believed_dead_goes_on(world: World) -> None:
    run = publish(world, "a", lease=5).run
    world.clock.advance(6)
    assert not world.log.look(STREAM).active
    assert publish(world, "b").run == run
    assert world.kinds() == ["open", "data", "end", "claim", "data"]


def test_a_named_run_that_was_cancelled_is_not_opened_again(world: World) -> None:
    publish(world, "a", run=R1)
    world.log.cancel(STREAM, R1)
    with pytest.raises(Cancelled):
        publish(world, "b", run=R1)
    assert world.kinds() == ["open", "data", "end"]


def test_a_named_run_writes_into_no_other(world: World) -> None:
    publish(world, "a", run=R1)
    publish(world, "b", run=R2)
    assert [one.run for one in world.records()] == [R1, R1, R2, R2]
    with pytest.raises(Superseded):
        publish(world, "c", run=R1)
    assert text(world) == ["a", "b"]


class Meddling:
    """A store where something happens just before a call's put number `at`."""

    def __init__(self, world: World, at: int, meddle: Callable[[], Any]) -> None:
        self._store = world.store
        self._at = at
        self._meddle = meddle

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def put(self, record: Record) -> Record | None:
        self._at -= 1
        if self._at == 0:
            self._meddle()
        put: Record | None = self._store.put(record)
        return put


@pytest.mark.parametrize("at", [3, 4])
def test_a_call_goes_on_in_no_other_run(world: World, at: int) -> None:
    """Between two of its puts its run is cancelled, and another call opens the next:
    that one gets neither the rest of the chunks nor the end."""

    def meddle() -> None:
        world.log.cancel(STREAM)
        onecall.publish(world.log, STREAM, ['"other"'])

    log = world.new_log()
    log.store = Meddling(world, at, meddle)
    texts = [chunks.encode("x" * 20_000), chunks.encode("y" * 20_000)]
    with pytest.raises(Superseded):
        onecall.publish(log, STREAM, texts, end="completed")
    assert world.kinds()[-2:] == ["open", "data"]
    assert text(world)[-1] == "other"
    assert world.log.look(STREAM).active


def test_a_repeat_with_a_key_answers_with_the_run_it_wrote(world: World) -> None:
    first = publish(world, "a", key="k")
    world.log.cancel(STREAM)
    publish(world, "b")
    again = publish(world, "a", key="k")
    assert (again.run, again.next) == (first.run, first.next)


def test_a_call_without_a_lease_keeps_the_runs(world: World) -> None:
    publish(world, "a", lease=600)
    publish(world, "b")
    world.clock.advance(599)
    assert world.log.look(STREAM).active


def test_a_named_run_that_expired_is_over(world: World) -> None:
    publish(world, "a", run=R1)
    world.clock.advance(world.log.retention + 1)
    with pytest.raises(StreamEnded) as told:
        publish(world, "b", run=R1)
    assert told.value.reason == "expired"


def test_an_end_alone_ends_what_is_active(world: World) -> None:
    with pytest.raises(Invalid, match="no run is active"):
        publish(world, end="completed")
    publish(world, "a")
    assert publish(world, end="completed").reason == "completed"


def test_a_chunk_that_is_too_large_is_refused_before_anything_is_in(
    world: World,
) -> None:
    with pytest.raises(TooLarge):
        publish(world, "a", "x" * 28_000)
    assert world.records() == []


def test_many_chunks_take_as_few_records_as_fit(world: World) -> None:
    publish(world, *["x" * 10_000] * 9)
    sizes = [len(one.chunks) for one in world.records() if one.kind == "data"]
    assert len(sizes) == 5
    assert all(json.loads(f"[{one.chunks}]") for one in world.records()[1:])
