"""The wire as a client sees it (PROTOCOL.md §3.3 and §3.4): frames to text and back.

Knows the shape of every frame and the size limit; nothing of order, time or sockets.
"""

from __future__ import annotations

import json
from typing import Any

from .. import chunks
from ..errors import TooLarge
from ..slices import MAX_FRAME_BYTES

GATEWAY = "gateway"
"""The `type` that `decode` gives to a frame of API Gateway itself, which has none."""

Frame = dict[str, Any]

_TAIL = {"run": (str, type(None)), "tail": (int,), "from": (int,)}
_SHAPES: dict[str, dict[str, tuple[type, ...]]] = {
    "slice": {"stream": (str,), "run": (str,), "seq": (int,), "next": (int,)},
    "subscribed": {"stream": (str,), "n": (int,), **_TAIL},
    "synced": {"n": (int,), "time": (int,), "tails": (dict,)},
    "unsubscribed": {"stream": (str,)},
    "cancelled": {"stream": (str,), "n": (int,)},
    "authorized": {"n": (int,), "expires_at": (int,)},
    "error": {"code": (str,)},
}


def encode(frame: Frame) -> str:
    """Return the text of a frame; `TooLarge` where it would cost the connection."""
    text = chunks.encode(frame, "frame")
    if chunks.size(text) > MAX_FRAME_BYTES:
        raise TooLarge(
            f"frame: more than {MAX_FRAME_BYTES} bytes", limit=MAX_FRAME_BYTES
        )
    return text


def decode(text: str | bytes) -> Frame | None:
    """Return the frame in a message; None if there is nothing for this client in it: an
    unknown type, or a frame that cannot be right."""
    try:
        frame = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(frame, dict):
        return None
    kind = frame.get("type")
    if kind is None:
        return {"type": GATEWAY} if "message" in frame else None
    shape = _SHAPES.get(kind) if isinstance(kind, str) else None
    if shape is None or not _fits(frame, shape):
        return None
    if kind == "synced" and not all(map(_sane, frame["tails"].values())):
        return None
    if kind == "slice":
        if not _dense(frame):
            return None
        frame["size"] = len(text)
    return frame


def _fits(frame: Frame, shape: dict[str, tuple[type, ...]]) -> bool:
    return all(type(frame.get(name)) in kinds for name, kinds in shape.items())


def _sane(tail: Any) -> bool:
    return isinstance(tail, dict) and (
        isinstance(tail.get("error"), dict) or _fits(tail, _TAIL)
    )


def _dense(piece: Frame) -> bool:
    """Whether a slice covers exactly the seqs that it says. One that does not would put
    chunks under wrong seqs: it counts as lost, and is asked for again."""
    values = piece.get("chunks", [])
    if not isinstance(values, list):
        return False
    parts = (piece.get("open"), piece.get("claim"), piece.get("end"))
    if not all(part is None or isinstance(part, dict) for part in parts):
        return False
    opened, claimed, ended = (part is not None for part in parts)
    count = len(values) + (opened or claimed) + ended
    seq = piece["seq"]
    return bool(seq > 0 and count > 0 and seq + count == piece["next"])
