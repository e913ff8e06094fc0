"""Frames: what a client may send, decoded and checked; what it is answered, encoded.

Pure. Slices have their own module. Any bytes give a frame or an `Invalid`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from . import chunks, ids
from .compaction import Mode, check_mode
from .errors import Invalid, TailraceError, TooLarge, TooMany
from .positions import Position, check_position
from .slices import MAX_FRAME_BYTES

PROTOCOL = 1
SUBPROTOCOL = "tailrace.v1"
MAX_STREAMS = 50
_MAX_N = 1 << 53
# What a `send` has for the job.
_ASKED = (
    "requestId",
    "id",
    "trigger",
    "messageId",
    "messages",
    "headers",
    "body",
    "metadata",
)
# 50 refused names, six bytes a character (a control character's escape), still fit one
# answer.
_SHOWN_NAME = 60


@dataclass(frozen=True, slots=True)
class Subscribe:
    stream: str
    n: int
    position: Position
    compact: Mode | None = None


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    stream: str
    n: int


@dataclass(frozen=True, slots=True)
class Sync:
    """`streams`: a position for each good name; `refused`: what is wrong with others"""

    streams: dict[str, Position]
    refused: dict[str, Invalid]
    n: int
    compact: dict[str, Mode] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Cancel:
    stream: str
    run: str
    n: int


@dataclass(frozen=True, slots=True)
class Auth:
    token: str
    n: int


@dataclass(frozen=True, slots=True)
class Send:
    """`n` is None in the AI SDK's dialect. `asked`: what the frame had for the job."""

    stream: str
    request: str
    n: int | None
    asked: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Resume:
    stream: str
    request: str


@dataclass(frozen=True, slots=True)
class Abort:
    request: str


ClientFrame = Subscribe | Unsubscribe | Sync | Cancel | Auth | Send | Resume | Abort


def decode(body: Any) -> ClientFrame:
    """Return the frame in a message's text; `Invalid`, `TooLarge` or `TooMany` if it
    is none. The error says what is wrong, and never repeats the content."""
    if not isinstance(body, str):
        raise Invalid("frame: must be text")
    if len(body) > MAX_FRAME_BYTES or len(body.encode("utf-8", "replace")) > (
        MAX_FRAME_BYTES
    ):
        raise TooLarge("frame: more than 32,000 bytes", limit=MAX_FRAME_BYTES)
    try:
        frame = json.loads(body)
    except (ValueError, RecursionError):
        raise Invalid("frame: not JSON") from None
    if not isinstance(frame, dict):
        raise Invalid("frame: must be an object")
    kind = frame.get("type")
    if not isinstance(kind, str):
        raise Invalid("frame: has no type")
    if kind == "subscribe":
        compact = check_mode(frame.get("compact"))
        return Subscribe(_stream(frame), _n(frame), _position(frame), compact)
    if kind == "unsubscribe":
        return Unsubscribe(_stream(frame), _n(frame))
    if kind == "sync":
        return _sync(frame)
    if kind == "cancel":
        return Cancel(_stream(frame), ids.check_run(frame.get("run")), _n(frame))
    if kind == "auth":
        token = frame.get("token")
        if not isinstance(token, str):
            raise Invalid("token: must be text")
        return Auth(token, _n(frame))
    if kind == "send":
        n = _n(frame) if "n" in frame else None
        asked = {name: frame[name] for name in _ASKED if name in frame}
        # NaN, or 1e999: what cannot go on to the job must not begin a run.
        chunks.encode({"untrusted": asked}, "frame")
        return Send(_stream_of_chat(frame), _request(frame), n, asked)
    if kind == "resume":
        if frame.get("lastSequence") is not None:
            raise Invalid("lastSequence: only whole replays are served")
        return Resume(_stream_of_chat(frame), _request(frame))
    if kind == "abort":
        return Abort(_request(frame))
    raise Invalid("frame: unknown type")


def echo(body: Any) -> dict[str, Any]:
    """Return `stream`, `n` and `requestId` of a frame, where they can be sent back."""
    try:
        frame = json.loads(body)
        found: dict[str, Any] = {}
        if isinstance(frame, dict):
            for name, check in _ECHOED.items():
                try:
                    found[name] = check(frame.get(name))
                except Invalid:
                    continue
        return found
    except (ValueError, TypeError, RecursionError):
        return {}


def subscribed(stream: str, n: int, facts: dict[str, Any]) -> str:
    """`facts`: run, tail, from, active, more, again (PROTOCOL.md §3.4)."""
    return encode(
        {
            "type": "subscribed",
            "stream": stream,
            "n": n,
            **facts,
            "protocol": PROTOCOL,
        }
    )


def synced(n: int, time: int, tails: dict[str, Any]) -> str:
    """`tails`: facts or an error for each stream; `time`: the server's clock, ms."""
    return encode(
        {
            "type": "synced",
            "n": n,
            "time": time,
            "protocol": PROTOCOL,
            "tails": tails,
        }
    )


def error(problem: TailraceError, about: dict[str, Any]) -> str:
    """`about`: what of the frame that it answers is sent back (`echo`)."""
    # The AI SDK knows one member of an error, and only where it knows the request.
    text = {"errorText": problem.message} if "requestId" in about else {}
    return encode({"type": "error", **problem.as_dict(), **text, **about})


def encode(frame: dict[str, Any]) -> str:
    """Return the JSON text of a frame."""
    return chunks.encode(frame, "frame")


def _sync(frame: dict[str, Any]) -> Sync:
    n = _n(frame)
    streams = frame.get("streams")
    if not isinstance(streams, dict):
        raise Invalid("streams: must be an object")
    if len(streams) > MAX_STREAMS:
        raise TooMany(f"streams: more than {MAX_STREAMS}", limit=MAX_STREAMS)
    modes = frame.get("compact", {})
    if not isinstance(modes, dict):
        raise Invalid("compact: must be an object")
    positions: dict[str, Position] = {}
    compact: dict[str, Mode] = {}
    refused: dict[str, Invalid] = {}
    for name, given in streams.items():
        try:
            ids.check_stream(name)
            if given is None:
                given = []
            if not isinstance(given, list) or len(given) > 2:
                raise Invalid("position: must be null, [run], [run, seq], [null, seq]")
            if mode := check_mode(modes.get(name)):
                compact[name] = mode
            positions[name] = check_position(*given, *[None] * (2 - len(given)))
        except Invalid as problem:
            refused[name[:_SHOWN_NAME]] = problem
    return Sync(positions, refused, n, compact)


def _stream(frame: dict[str, Any]) -> str:
    return ids.check_stream(frame.get("stream"))


def _stream_of_chat(frame: dict[str, Any]) -> str:
    if ("id" in frame) == ("stream" in frame):
        raise Invalid("frame: must name either a stream or, as `id`, a chat")
    if "stream" in frame:
        return _stream(frame)
    if not isinstance(frame["id"], str):
        raise Invalid("id: must be text")
    return ids.check_stream(f"chat:{frame['id']}")


def _request(frame: dict[str, Any]) -> str:
    return ids.check_request(frame.get("requestId"))


def _position(frame: dict[str, Any]) -> Position:
    return check_position(frame.get("run"), frame.get("after"))


def _n(frame: dict[str, Any]) -> int:
    return _check_n(frame.get("n"))


def _check_n(n: Any) -> int:
    if type(n) is not int or not 0 < n < _MAX_N:
        raise Invalid("n: must be a whole number from 1")
    return n


_ECHOED: dict[str, Callable[[Any], Any]] = {
    "stream": ids.check_stream,
    "n": _check_n,
    "requestId": ids.check_request,
}
