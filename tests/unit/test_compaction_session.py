"""A consumer that asks for compaction gets its replay so, and live slices as ever."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tailrace.compaction import READ_BYTES
from tailrace.quotas import ANSWER_BYTES, Quotas
from tailrace.records import Record
from tests.support.stage import R1, Stage
from tests.support.worlds import STREAM

QUOTAS = Quotas()


@pytest.fixture
def stage() -> Stage:
    stage = Stage()
    stage.connect()
    record = stage.log.open(STREAM, "w", R1)
    for start in range(0, 300, 10):
        texts = [
            json.dumps({"type": "text-delta", "id": "t", "delta": f"{n} "})
            for n in range(start, start + 10)
        ]
        record = stage.log.append(STREAM, R1, "w", record.next, texts)
    return stage


def text_of(slices: list[dict[str, Any]]) -> str:
    return "".join(c["delta"] for piece in slices for c in piece.get("chunks", []))


def whole(start: int = 0) -> str:
    return "".join(f"{n} " for n in range(start, 300))


def test_subscribe_compacts_what_it_replays(stage: Stage) -> None:
    *slices, answer = stage.send(
        type="subscribe", stream=STREAM, n=1, compact="ui-message"
    )
    assert answer["tail"] == 301
    assert [len(piece["chunks"]) for piece in slices] == [1]
    (piece,) = slices
    assert (piece["seq"], piece["next"], piece["counts"]) == (1, 302, [300])
    assert piece["compact"] == "ui-message"
    assert text_of(slices) == whole()


def test_it_compacts_behind_a_cursor_inside_a_record(stage: Stage) -> None:
    *slices, _ = stage.send(
        type="subscribe", stream=STREAM, n=1, run=R1, after=15, compact="ui-message"
    )
    assert slices[0]["seq"] == 16
    assert slices[0]["counts"] == [286]
    assert text_of(slices) == whole(14)


def test_sync_compacts_the_streams_that_it_names(stage: Stage) -> None:
    compact = {STREAM: "ui-message", "chat:other": "ui-message"}
    *slices, _ = stage.send(type="sync", streams={STREAM: None}, n=1, compact=compact)
    assert slices[0]["counts"] == [300]
    *slices, _ = stage.send(type="sync", streams={STREAM: None}, n=2, compact={})
    assert "counts" not in slices[0]
    assert text_of(slices) == whole()


def transient(size: int) -> str:
    return json.dumps({"type": "data-x", "transient": True, "data": "x" * size})


@pytest.mark.parametrize("one", [transient(19_000), transient(100), '"abc"'])
def test_what_is_left_out_or_merged_counts_for_the_budget(
    stage: Stage, one: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading is what costs: else one small question reads a run of gigabytes."""
    tail = stage.log.store.last(STREAM)
    assert tail is not None
    for _ in range(100):
        texts = [one] * (20_000 // len(one))
        tail = stage.log.append(STREAM, R1, "w", tail.next, texts)
    read = 0
    whole = stage.log.store.range

    def counting(stream: str, start: int) -> Iterator[Record]:
        nonlocal read
        for record in whole(stream, start):
            read += len(record.chunks)
            yield record

    monkeypatch.setattr(stage.log.store, "range", counting)
    mode = "text" if one == '"abc"' else "ui-message"
    after, asked = 0, 0
    while True:
        read, asked = 0, asked + 1
        position: dict[str, Any] = {"run": R1, "after": after} if after else {}
        *slices, answer = stage.send(
            type="subscribe", stream=STREAM, n=asked, compact=mode, **position
        )
        assert read <= ANSWER_BYTES + 2 * READ_BYTES
        for piece in slices:
            assert piece["seq"] == after + 1
            after = piece["next"] - 1
        if not answer["more"]:
            break
        assert slices, "else it never comes to an end"
    assert after == answer["tail"] == tail.last
    assert asked <= 12


def test_what_is_left_out_or_merged_is_accounted_to_the_sub(stage: Stage) -> None:
    tail = stage.log.store.last(STREAM)
    assert tail is not None
    for _ in range(20):
        tail = stage.log.append(STREAM, R1, "w", tail.next, [transient(20_000)])
    answers = 0
    while "ReplaysThrottled" not in stage.counted:
        answers += 1
        stage.connect(f"c{answers}")
        stage.send(
            f"c{answers}", type="subscribe", stream=STREAM, n=1, compact="ui-message"
        )
    most = QUOTAS.replay_bytes // READ_BYTES
    assert most // 2 <= answers <= most + 2


def test_an_unknown_way_to_compact_is_refused(stage: Stage) -> None:
    (answer,) = stage.send(type="subscribe", stream=STREAM, n=1, compact="zip")
    assert (answer["type"], answer["code"]) == ("error", "invalid")
    (answer,) = stage.send(type="sync", streams={STREAM: None}, n=2, compact=["zip"])
    assert (answer["type"], answer["code"]) == ("error", "invalid")
    (answer,) = stage.send(
        type="sync", streams={STREAM: None}, n=3, compact={STREAM: "zip"}
    )
    assert answer["tails"][STREAM]["error"]["code"] == "invalid"


def test_a_replay_in_which_nothing_merges_looks_like_any_other(stage: Stage) -> None:
    plain = stage.send(type="subscribe", stream=STREAM, n=1)
    text = stage.send(type="subscribe", stream=STREAM, n=1, compact="text")
    assert text == plain
