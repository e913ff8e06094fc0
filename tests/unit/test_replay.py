"""Replay: what lies behind a position (PROTOCOL.md §3.2)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.errors import Invalid
from tailrace.positions import Position, check_position
from tailrace.replay import Replay
from tests.support.worlds import STREAM, World, run_id

R1, R2, R3 = run_id(1), run_id(2), run_id(3)


def three_runs() -> World:
    """R1: 1-5 (open, a b, c, end), R2: 6-9 (open, d e, end), R3: 10-11 (open, f)."""
    world = World()
    log = world.log
    log.open(STREAM, "w", R1)
    log.append(STREAM, R1, "w", 2, ['"a"', '"b"'])
    log.append(STREAM, R1, "w", 4, ['"c"'])
    log.end(STREAM, R1, "w", 5, "completed")
    log.open(STREAM, "w", R2)
    log.append(STREAM, R2, "w", 7, ['"d"', '"e"'])
    log.end(STREAM, R2, "w", 9, "completed")
    log.open(STREAM, "w", R3)
    log.append(STREAM, R3, "w", 11, ['"f"'])
    return world


@pytest.fixture
def world() -> World:
    return three_runs()


def read(world: World, run: str | None = None, after: int | None = None) -> Any:
    replay = Replay(world.log, STREAM, Position(run, after))
    frames = [json.loads(piece.frame()) for piece in replay.slices()]
    expected = replay.start + 1
    for frame in frames:
        assert frame["seq"] == expected, "an answer is dense from `from` on"
        expected = frame["next"]
    text = "".join("".join(frame.get("chunks", [])) for frame in frames)
    return replay.start, text, replay


def test_without_a_position_the_current_run_is_served(world: World) -> None:
    start, text, replay = read(world)
    assert (start, text) == (9, "f")
    assert (replay.run, replay.tail, replay.active, replay.more) == (
        R3,
        11,
        True,
        False,
    )


def test_a_cursor_is_served_across_runs(world: World) -> None:
    assert read(world, R1, 3)[:2] == (3, "cdef")
    assert read(world, R2, 9)[:2] == (9, "f")


def test_a_cursor_inside_a_record_is_served_the_rest_of_it(world: World) -> None:
    assert read(world, R1, 2)[:2] == (2, "bcdef")
    assert read(world, R2, 7)[:2] == (7, "ef")


@pytest.mark.parametrize(
    ("position", "reads"),
    [
        ((None, None), ["last", "range"]),
        ((R3, None), ["last", "range"]),
        ((R1, None), ["last", "last", "last", "range"]),  # walking back, run by run
        ((R1, 3), ["last", "last", "range"]),
        ((R1, 5), ["last", "last", "range"]),  # behind the end of its run
        ((R1, 2), ["last", "last", "range"]),  # inside a record
        ((R3, 10), ["last", "range"]),  # inside the current run
        ((run_id(9), 2), ["last", "last", "range"]),  # made up: nothing is read for it
        ((None, 2), ["last", "last", "range"]),
        ((R3, 11), ["last"]),
    ],
)
def test_nothing_is_read_twice(
    world: World, position: tuple[str | None, int | None], reads: list[str]
) -> None:
    done = watch(world)
    read(world, *position)
    assert done == reads


def watch(world: World) -> list[str]:
    """Return a list in which each read of the log from now on is noted."""
    done: list[str] = []
    for name in ("last", "range"):
        read_it = getattr(world.store, name)

        def counted(*given: Any, name: str = name, read_it: Any = read_it) -> Any:
            done.append(name)
            return read_it(*given)

        setattr(world.store, name, counted)
    return done


def test_whose_slices_are_not_wanted_has_none_read(world: World) -> None:
    done = watch(world)
    replay = Replay(world.log, STREAM, Position(R1, 3), ahead=False)
    assert (replay.start, replay.more, done) == (3, True, ["last", "last"])


def test_a_cursor_at_the_tail_is_served_nothing(world: World) -> None:
    assert read(world, R3, 11)[:2] == (11, "")


@pytest.mark.parametrize(
    ("run", "after"),
    [(R1, 7), (R2, 3), (R3, 9), (R3, 12), (R1, 11), (run_id(9), 2), (R1, 0), (R3, 99)],
)
def test_a_cursor_that_the_log_does_not_know_gets_the_current_run(
    world: World, run: str, after: int
) -> None:
    assert read(world, run, after)[:2] == (9, "f")


def test_a_run_is_served_from_its_open_and_on(world: World) -> None:
    assert read(world, R1)[:2] == (0, "abcdef")
    assert read(world, R2)[:2] == (5, "def")
    assert read(world, R3)[:2] == (9, "f")


def test_a_run_that_is_not_open_yet_is_waited_for_at_the_tail(world: World) -> None:
    assert read(world, run_id(4))[:2] == (11, "")


def test_a_run_that_never_was_gets_the_current_run(world: World) -> None:
    unknown = run_id(1)[:-1] + "1"
    assert R1 < unknown < R2
    assert read(world, unknown)[:2] == (9, "f")


def test_a_bare_seq_is_served_whatever_run_it_is_in(world: World) -> None:
    assert read(world, None, 0)[:2] == (0, "abcdef")
    assert read(world, None, 2)[:2] == (2, "bcdef")
    assert read(world, None, 11)[:2] == (11, "")
    assert read(world, None, 12)[:2] == (9, "f")


def test_an_empty_stream_has_no_run_and_nothing_to_serve() -> None:
    start, text, replay = read(World(), R1, 3)
    assert (start, text, replay.run, replay.tail, replay.more) == (
        0,
        "",
        None,
        0,
        False,
    )


def test_an_expired_stream_has_no_run_but_its_numbering(world: World) -> None:
    world.clock.advance(3601)
    for position in ((None, None), (R1, 3), (R3, 11), (None, 2)):
        start, text, replay = read(world, *position)
        assert (start, text, replay.run, replay.tail) == (11, "", None, 11)
        assert (replay.active, replay.more) == (False, False)


def test_what_has_expired_is_gone_though_its_rows_are_there(world: World) -> None:
    """TTL deletes days later."""
    world.clock.advance(3601)
    world.log.open(STREAM, "w", run_id(4))
    for position in ((R1, None), (R1, 3), (None, 2), (R3, 10)):
        assert read_anew(world, *position) == ("", 11)


def test_a_hole_left_by_expiry_is_jumped_to_the_current_run(world: World) -> None:
    world.store.remove(STREAM, 4)
    assert read_anew(world, R1, 1) == ("abf", 9)
    assert read_anew(world, R1, 3) == ("f", 9)
    world.store.remove(STREAM, 10)
    start, _, replay = read(world)
    assert (start, replay.run, replay.tail, replay.active) == (11, None, 11, False)


def read_anew(world: World, run: str | None, after: int | None) -> tuple[str, int]:
    replay = Replay(world.log, STREAM, Position(run, after))
    frames = [json.loads(piece.frame()) for piece in replay.slices()]
    text = "".join("".join(frame.get("chunks", [])) for frame in frames)
    return text, replay.start


def test_what_is_not_taken_is_more(world: World) -> None:
    replay = Replay(world.log, STREAM, Position(R1, 0))
    assert replay.more
    slices = Replay(world.log, STREAM, Position(None, 0))
    next(slices.slices())
    assert slices.more


def test_a_deleted_stream_has_only_its_end(world: World) -> None:
    world.log.delete(STREAM)
    start, text, replay = read(world)
    assert (text, replay.run, replay.tail) == ("", None, 12)
    assert start == 12
    assert world.log.open(STREAM, "w", run_id(5)).seq == 13
    assert read(world)[0] == 12


@given(
    st.integers(0, 12), st.sampled_from([None, R1, R2, R3, run_id(4)]), st.booleans()
)
def test_any_position_is_answered_densely_up_to_the_tail(
    after: int, run: str | None, bare: bool
) -> None:
    world = three_runs()
    start, _, replay = read(world, run, None if bare else after)
    assert not replay.more
    assert replay.tail in (replay.reached, start)


@pytest.mark.parametrize(
    ("run", "after"), [("x", 1), (R1, -1), (R1, 1.0), (R1, True), (7, None), (R1, "1")]
)
def test_what_is_no_position_is_refused(run: object, after: object) -> None:
    with pytest.raises(Invalid):
        check_position(run, after)
