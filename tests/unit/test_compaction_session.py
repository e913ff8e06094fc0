"""A consumer that asks for compaction gets its replay so, and live slices as ever."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.stage import R1, Stage
from tests.support.worlds import STREAM


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
