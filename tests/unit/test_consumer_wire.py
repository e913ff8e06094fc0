"""Frames as a client reads and writes them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace import rules
from tailrace.consumer.wire import GATEWAY, decode, encode
from tailrace.errors import TooLarge
from tailrace.slices import merge
from tests.support.strategies import JSON
from tests.support.worlds import data, opened, stamp

SLICE = {"type": "slice", "stream": "s", "run": "r", "seq": 1, "next": 3, "at": 1}
TAIL = {"run": None, "tail": 0, "from": 0, "active": False, "more": False}


def test_what_the_server_merges_is_what_a_client_reads() -> None:
    run = opened(meta='{"m":1}')
    chunks = data(run, '"a"', '"\\ud83d"', "null")
    end = rules.end_after(chunks, "error", stamp(), "sorry")
    (piece,) = merge([run, chunks, end])
    frame = decode(piece.frame(replay=True))
    assert frame is not None
    assert (frame["seq"], frame["next"], frame["replay"]) == (1, 6, True)
    assert frame["chunks"] == ["a", "\ud83d", None]
    assert frame["end"] == {"reason": "error", "message": "sorry"}


@pytest.mark.parametrize(
    "frame",
    [
        {**SLICE, "open": {}, "chunks": [1]},
        {**SLICE, "claim": {"epoch": 1}, "end": {"reason": "completed"}},
        {"type": "subscribed", "stream": "s", "n": 1, **TAIL},
        {"type": "synced", "n": 1, "time": 1, "tails": {"s": TAIL}},
        {"type": "synced", "n": 1, "time": 1, "tails": {"s": {"error": {}}}},
        {"type": "unsubscribed", "stream": "s", "reason": "forbidden"},
        {"type": "cancelled", "stream": "s", "run": "r", "reason": None, "n": 1},
        {"type": "authorized", "expires_at": 1, "n": 1},
        {"type": "error", "code": "invalid"},
        {"type": "error", "code": "unheard of", "new": "field"},
    ],
)
def test_a_frame_is_read_with_all_its_fields(frame: dict[str, Any]) -> None:
    read = decode(json.dumps(frame))
    assert read is not None
    read.pop("size", None)
    assert read == frame


@pytest.mark.parametrize("frame", [{"message": "Internal server error"}])
def test_a_frame_of_the_gateway_has_no_type(frame: dict[str, Any]) -> None:
    assert decode(json.dumps({**frame, "requestId": "r"})) == {"type": GATEWAY}


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "null", '"slice"', "[" * 100_000, "{}",
        json.dumps({"type": "news"}),
        json.dumps({"type": ["slice"]}),
        json.dumps({"type": "gateway"}),
        json.dumps(SLICE),
        json.dumps({**SLICE, "chunks": [1, 2, 3]}),
        json.dumps({**SLICE, "chunks": "ab"}),
        json.dumps({**SLICE, "chunks": [1], "open": 1}),
        json.dumps({**SLICE, "seq": 0, "next": 2, "chunks": [1, 2]}),
        json.dumps({**SLICE, "seq": True, "chunks": [1, 2]}),
        json.dumps({**SLICE, "run": None, "chunks": [1, 2]}),
        json.dumps({"type": "subscribed", "stream": "s", "n": 1}),
        json.dumps({"type": "synced", "n": 1, "time": 1, "tails": {"s": {}}}),
        json.dumps({"type": "synced", "n": 1, "time": 1, "tails": {"s": 1}}),
        json.dumps({"type": "error"}),
    ],
)  # fmt: skip
def test_what_cannot_be_right_is_nothing(text: str) -> None:
    assert decode(text) is None


@given(st.text() | st.binary())
def test_anything_can_be_read(text: Any) -> None:
    decode(text)


NAMES = ["type", *SLICE, "chunks", "open", "end", "tails", "n", "time", *TAIL, "code"]


@given(
    st.dictionaries(
        st.sampled_from(NAMES),
        JSON | st.sampled_from(["slice", "synced", "subscribed", "error"]),
    )
)
def test_any_object_can_be_read(frame: dict[str, Any]) -> None:
    decode(json.dumps(frame))


def test_a_frame_that_would_cost_the_connection_is_refused() -> None:
    frame = {"type": "sync", "streams": {"ü" * 15_000: None}, "n": 1}
    assert len(encode(frame).encode()) < 32_000
    with pytest.raises(TooLarge) as refused:
        encode({"type": "sync", "streams": {"ü" * 16_000: None}, "n": 1})
    assert refused.value.limit == 32_000
