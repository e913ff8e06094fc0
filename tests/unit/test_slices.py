"""Slices: the frames that carry the log."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tailrace import chunks, rules
from tailrace.records import Record
from tailrace.slices import MAX_FRAME_BYTES, merge
from tests.support.worlds import NOW, STREAM, data, opened, run_id, stamp


def frames(*records: Record, replay: bool = False) -> list[dict[str, Any]]:
    return [json.loads(piece.frame(replay=replay)) for piece in merge(records)]


def test_a_whole_run_is_one_slice() -> None:
    open_ = opened(meta='{"model":"m"}')
    first = data(open_, '"a"', '"b"')
    second = data(first, "3")
    end = rules.end_after(second, "error", stamp(at=NOW + 7), 'sorry "you"')
    assert frames(open_, first, second, end) == [
        {
            "type": "slice",
            "stream": STREAM,
            "run": run_id(1),
            "seq": 1,
            "next": 6,
            "at": NOW + 7,
            "open": {"meta": {"model": "m"}},
            "chunks": ["a", "b", 3],
            "end": {"reason": "error", "message": 'sorry "you"'},
        }
    ]


def test_a_replayed_slice_says_so() -> None:
    assert frames(opened(), replay=True)[0]["replay"] is True


def test_a_claim_begins_a_slice_so_that_every_chunk_has_one_seq() -> None:
    first = data(opened(), '"a"')
    claim = rules.claim_after(first, stamp("w2"))
    second = data(claim, '"b"', writer="w2")
    assert [
        (one["seq"], one["next"], one.get("claim"), one.get("chunks"))
        for one in frames(opened(), first, claim, second)
    ] == [(1, 3, None, ["a"]), (3, 5, {"epoch": 1}, ["b"])]


def test_a_later_run_begins_a_slice_and_names_the_run_before() -> None:
    first = opened()
    second = rules.open_after(first, STREAM, run_id(2), stamp("w2"))
    one, two = frames(first, second)
    assert (one["run"], two["run"], two["open"]) == (
        run_id(1),
        run_id(2),
        {"prev": run_id(1)},
    )


def test_a_gap_begins_a_slice() -> None:
    first = data(opened(), '"a"')
    behind = replace(data(first, '"c"'), seq=9)
    assert [one["seq"] for one in frames(first, behind)] == [2, 9]


def test_the_largest_record_of_the_longest_names_fits_one_frame() -> None:
    huge = 2**53 - 20_000
    text = chunks.encode("é" * 13_999)
    worst = replace(
        data(opened(), text),
        stream="s" * 200,
        seq=huge,
        at=10**15,
        chunks=text,
    )
    (piece,) = merge([worst])
    assert len(piece.frame(replay=True).encode()) <= MAX_FRAME_BYTES
    meta = json.dumps({"m": "é" * 990}, ensure_ascii=False)
    worst_open = replace(opened(meta=meta), stream="s" * 200, prev=run_id(1))
    (piece,) = merge([worst_open])
    assert len(piece.frame(replay=True).encode()) <= MAX_FRAME_BYTES


@given(st.lists(st.integers(1, 27_000), min_size=1, max_size=30), st.booleans())
def test_slices_fit_their_frame_and_carry_every_seq_once(
    sizes: list[int], wide: bool
) -> None:
    records = [opened()]
    for size in sizes:
        unit = "é" * (size // 2) if wide else "x" * size
        records.append(data(records[-1], chunks.encode(unit)))
    records.append(rules.end_after(records[-1], "completed", stamp()))
    made = list(merge(records))
    expected = 1
    for piece in made:
        text = piece.frame(replay=True)
        assert len(text.encode()) <= piece.size <= MAX_FRAME_BYTES
        frame = json.loads(text)
        assert frame["seq"] == expected
        others = sum(name in frame for name in ("open", "claim", "end"))
        assert piece.count == len(frame.get("chunks", []))
        assert frame["next"] == frame["seq"] + piece.count + others
        expected = frame["next"]
    assert expected == records[-1].next


def test_few_slices_are_made_of_many_records() -> None:
    records = [opened()]
    for _ in range(1000):
        records.append(data(records[-1], '"token"'))
    assert len(list(merge(records))) == 1
