"""What a consumer tells the application: events, and what a run's end raises."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import Cancelled, Invalid, StreamEnded, TailraceError
from ..rules import CANCELLED
from .cursor import Concluded, Cursor, Output, Piece, Via


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in a run.

    `open` has `meta` and `prev`, `claim` has `epoch`, `chunk` has `chunk`, `end` has
    `reason` and `message`. `at`: when it was appended, or the last of what came in the
    same slice, which may be a whole run where it was not `live`; `received`: when it
    came here; both ms in AWS time, as far as that is known here. An end that was
    concluded and not read (`superseded`, `expired`) has no `seq`, `at` and `via`.
    """

    type: Literal["open", "claim", "chunk", "end"]
    run: str
    seq: int | None
    at: int | None
    via: Via | None
    received: int
    chunk: Any = None
    meta: dict[str, Any] | None = None
    prev: str | None = None
    epoch: int | None = None
    reason: str | None = None
    message: str | None = None


def expand(output: Output, received: int) -> Iterator[Event]:
    """Yield the events in what the machine tells a reader."""
    if isinstance(output, Concluded):
        run, reason = output.run, output.reason
        yield Event("end", run, None, None, None, received, reason=reason)
    else:
        yield from _events(output.piece, received)


def _events(piece: Piece, received: int) -> Iterator[Event]:
    seq = piece.seq

    def event(type: Any, **facts: Any) -> Event:
        nonlocal seq
        seq += 1
        at, via = piece.at, piece.via
        return Event(type, piece.run, seq - 1, at, via, received, **facts)

    if piece.open is not None:
        meta, prev = piece.open.get("meta"), piece.open.get("prev")
        yield event("open", meta=meta, prev=prev)
    if piece.claim is not None:
        yield event("claim", epoch=piece.claim.get("epoch"))
    for chunk in piece.chunks:
        yield event("chunk", chunk=chunk)
    if piece.end is not None:
        reason, message = piece.end.get("reason"), piece.end.get("message")
        yield event("end", reason=reason, message=message)


def failure(event: Event) -> TailraceError:
    """Return what a run that ended is to who iterates its chunks."""
    if event.reason == CANCELLED:
        return Cancelled("the run was cancelled", run=event.run)
    text = event.message or f"the run has ended: {event.reason}"
    return StreamEnded(text, run=event.run, reason=event.reason)


def kept_cursor(cursor: Cursor | None) -> dict[str, Any] | None:
    """Return a cursor as plain JSON."""
    if cursor is None:
        return None
    how = {"ended": cursor.ended, "lost": cursor.lost}
    marks = {mark: True for mark, is_so in how.items() if is_so}
    return {"run": cursor.run, "seq": cursor.seq, **marks}


def read_cursor(kept: Mapping[str, Any]) -> Cursor:
    """Return the cursor that was kept."""
    if isinstance(kept, Mapping):
        run, seq = kept.get("run"), kept.get("seq")
        if isinstance(run, str) and type(seq) is int:
            ended, lost = bool(kept.get("ended")), bool(kept.get("lost"))
            return Cursor(run, seq, ended, lost=lost)
    raise Invalid("after: must be the cursor of an earlier consumption, no JSON text")
