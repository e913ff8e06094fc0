"""Frames: any bytes give a frame or a typed error."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace import frames
from tailrace.errors import Invalid, TooLarge, TooMany
from tailrace.positions import Position
from tests.support.strategies import ANY_TEXT, JSON
from tests.support.worlds import STREAM, run_id

RUN = run_id(1)


def decode(**frame: Any) -> frames.ClientFrame:
    return frames.decode(json.dumps(frame))


def test_good_frames() -> None:
    assert decode(type="subscribe", stream=STREAM, n=1) == frames.Subscribe(
        STREAM, 1, Position()
    )
    assert decode(
        type="subscribe", stream=STREAM, n=1, run=RUN, after=7
    ) == frames.Subscribe(STREAM, 1, Position(RUN, 7))
    assert decode(type="unsubscribe", stream=STREAM, n=2) == frames.Unsubscribe(
        STREAM, 2
    )
    assert decode(type="cancel", stream=STREAM, run=RUN, n=3) == frames.Cancel(
        STREAM, RUN, 3
    )
    assert decode(type="auth", token="t", n=4) == frames.Auth("t", 4)
    assert decode(
        type="sync",
        n=5,
        streams={"a": None, "b": [RUN], "c": [RUN, 7], "d": [None, 7], "e": []},
    ) == frames.Sync(
        {
            "a": Position(),
            "b": Position(RUN),
            "c": Position(RUN, 7),
            "d": Position(None, 7),
            "e": Position(),
        },
        {},
        5,
    )


@pytest.mark.parametrize("number", ["NaN", "1e999", "-Infinity"])
def test_what_no_job_can_be_told_is_no_frame(number: str) -> None:
    """It would begin a run, and so end the answer that is under way, for nobody."""
    body = '{"type": "send", "id": "42", "requestId": "r", "body": {"x": %s}}'
    assert frames.decode(body % "1")
    with pytest.raises(Invalid):
        frames.decode(body % number)


def test_unknown_fields_are_ignored() -> None:
    assert decode(type="unsubscribe", stream=STREAM, n=2, extra=1)


@pytest.mark.parametrize(
    ("why", "frame"),
    [
        ("must be an object", []),
        ("must be an object", None),
        ("has no type", {}),
        ("has no type", {"type": 7}),
        ("unknown type", {"type": "shout", "n": 1}),
        ("unknown type", {"type": "$disconnect", "n": 1}),
        ("n: must", {"type": "subscribe", "stream": STREAM}),
        ("n: must", {"type": "subscribe", "stream": STREAM, "n": 0}),
        ("n: must", {"type": "subscribe", "stream": STREAM, "n": 1.5}),
        ("n: must", {"type": "subscribe", "stream": STREAM, "n": True}),
        ("n: must", {"type": "subscribe", "stream": STREAM, "n": 2**53}),
        ("stream: must", {"type": "subscribe", "stream": "a b", "n": 1}),
        ("stream: must", {"type": "unsubscribe", "n": 1}),
        ("run: must", {"type": "subscribe", "stream": STREAM, "run": "x", "n": 1}),
        ("after: must", {"type": "subscribe", "stream": STREAM, "after": -1, "n": 1}),
        ("run: must", {"type": "cancel", "stream": STREAM, "n": 1}),
        ("token: must", {"type": "auth", "token": 7, "n": 1}),
        ("streams: must", {"type": "sync", "n": 1}),
        ("streams: must", {"type": "sync", "streams": [STREAM], "n": 1}),
    ],
)
def test_bad_frames_are_told_what_is_wrong(why: str, frame: Any) -> None:
    with pytest.raises(Invalid, match=why):
        frames.decode(json.dumps(frame))


def test_what_is_no_json_is_told_so() -> None:
    for body in ("", "{", "{'type':1}", "[" * 10_000, '{"type":"sync"} x'):
        with pytest.raises(Invalid, match="not JSON"):
            frames.decode(body)
    with pytest.raises(Invalid, match="must be text"):
        frames.decode(None)


def test_a_frame_over_the_limit_is_too_large_in_bytes() -> None:
    with pytest.raises(TooLarge):
        frames.decode(" " * 32_001)
    with pytest.raises(TooLarge):
        frames.decode('"' + "é" * 16_000 + '"')


def test_more_than_50_streams_are_too_many() -> None:
    streams = {f"s{number}": None for number in range(51)}
    with pytest.raises(TooMany) as told:
        decode(type="sync", streams=streams, n=1)
    assert told.value.limit == 50


def test_a_bad_name_or_position_spoils_no_other_of_a_sync() -> None:
    sync = decode(
        type="sync",
        n=1,
        streams={"good": None, "a b": None, "b": [1], "c": [RUN, 1, 2], "d": 7},
    )
    assert isinstance(sync, frames.Sync)
    assert sync.streams == {"good": Position()}
    assert set(sync.refused) == {"a b", "b", "c", "d"}


@given(JSON | st.fixed_dictionaries({"type": st.just("sync"), "streams": JSON}))
def test_any_json_gives_a_frame_or_an_error(value: Any) -> None:
    body = json.dumps(value)
    try:
        frames.decode(body)
    except (Invalid, TooLarge, TooMany) as problem:
        text = frames.error(problem, frames.echo(body))
        assert len(text.encode()) < 2_000
        assert json.loads(text)["type"] == "error"


@given(ANY_TEXT)
def test_any_text_gives_a_frame_or_an_error(body: str) -> None:
    with pytest.raises((Invalid, TooLarge)):
        frames.decode(body)
    frames.echo(body).keys()


def test_an_error_names_the_frame_that_it_answers() -> None:
    body = json.dumps({"type": "subscribe", "stream": STREAM, "n": 7, "after": "x"})
    assert frames.echo(body) == {"stream": STREAM, "n": 7}
    assert frames.echo('{"stream":"a b","n":-1}') == {}


@pytest.mark.parametrize("letter", ["é", "\U0001f600", "\x01"])
def test_the_fullest_answer_to_a_sync_fits_one_frame(letter: str) -> None:
    names = [f"{number:02}" + letter * 98 for number in range(50)]
    body = frames.encode({"type": "sync", "n": 1, "streams": dict.fromkeys(names)})
    sync = frames.decode(body)
    assert isinstance(sync, frames.Sync)
    tails: dict[str, Any] = {
        name: {"error": why.as_dict()} for name, why in sync.refused.items()
    }
    assert len(frames.synced(1, 10**13, tails).encode()) <= 32_000
    facts = {"run": RUN, "tail": 2**52, "from": 2**52, "active": True, "more": False}
    tails = {f"{number:02}" + "s" * 198: facts for number in range(50)}
    assert len(frames.synced(1, 10**13, tails).encode()) <= 32_000
