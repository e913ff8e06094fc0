"""The AI SDK's dialect, downwards: a run as the frames of one request, in order.

Pure (PROTOCOL.md §3.8). A client of this dialect dies of one gap, and never asks. So
every frame has a fixed place, worked out from the log and the request's row alone:
whoever pushes it, and however often, it is the same frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from . import chunks as chunk_texts
from .compaction import compact
from .frames import encode
from .records import Record
from .rules import CANCELLED
from .watchers import Request

NOTHING = -2
"""`Request.sent` before any frame was accepted."""
START = -1
"""The place of `start`; the first chunk's is 0."""

BROKE_OFF = "The answer broke off."
NO_MESSAGE = "This answer is not made of the AI SDK's chunks."

KEEP_ALIVE = '{"type":"keep-alive","requestId":""}'
"""A frame of a request that no client has; the SDK ignores it."""


@dataclass(frozen=True, slots=True)
class Step:
    """One frame to be pushed. Once it is accepted, the request's row has these `sent`
    and `seq`; after the `last`, no row at all."""

    frame: str
    sent: int
    seq: int
    last: bool = False


def shift_of(records: Iterable[Record]) -> int:
    """Return by how many places compaction moves up what follows these records."""
    merged = whole = 0
    for record in compact(records, "ui-message"):
        if record.kind == "data":
            merged += len(chunk_texts.split(record.chunks))
            whole += record.count
    return whole - merged


def steps(request: Request, records: Iterable[Record]) -> Iterator[Step]:
    """Yield what the request lacks. `records`: the log, from `request.seq` on."""
    sent = request.sent
    if sent < START:
        sent = START
        yield Step(_frame("start", request), sent, request.seq)
    expected = request.seq
    for step in _places(request, records):
        if step.seq != expected:
            yield _broke_off(request, BROKE_OFF)
            return
        expected = step.next
        for place, text in step.chunks:
            if place <= sent:
                continue
            if text is None:
                yield _broke_off(request, NO_MESSAGE)
                return
            sent = place
            through = place == step.chunks[-1][0]
            yield Step(
                _chunk(request, place, text), place, step.next if through else step.seq
            )
        if step.over is not None:
            yield from _end(request, step.over, sent, step.seq)
            return


@dataclass(frozen=True, slots=True)
class _Piece:
    """A record, or the compacted prefix as if it were one, with the places of its
    chunks; the text of one that is no message's is None. `over`: it ends the run."""

    seq: int
    next: int
    chunks: list[tuple[int, str | None]]
    over: Record | None = None


def _places(request: Request, records: Iterable[Record]) -> Iterator[_Piece]:
    rest = iter(records)
    if request.seq < request.prefix:
        head = []
        for record in rest:
            head.append(record)
            if record.next >= request.prefix:
                break
        yield _prefix(request, head)
    for record in rest:
        over = record.run != request.run or record.kind == "end"
        first = record.index - request.shift
        texts = _texts(record) if record.kind == "data" and not over else []
        yield _Piece(
            record.seq,
            record.next,
            list(enumerate(texts, first)),
            record if over else None,
        )


def _prefix(request: Request, head: list[Record]) -> _Piece:
    dense = all(one.next == two.seq for one, two in pairwise(head))
    if not head or not dense or head[-1].next < request.prefix:
        return _Piece(-1, -1, [])  # a part of it has expired
    texts = [
        text
        for record in compact(head, "ui-message")
        if record.kind == "data"
        for text in _texts(record)
    ]
    return _Piece(head[0].seq, request.prefix, list(enumerate(texts)))


def _texts(record: Record) -> Iterator[str | None]:
    for text, chunk in chunk_texts.parsed(record.chunks):
        fits = isinstance(chunk, dict) and isinstance(chunk.get("type"), str)
        yield text if fits else None


def _end(request: Request, over: Record, sent: int, seq: int) -> Iterator[Step]:
    """Yield how it ended. What is added to the run's chunks does not count as sent, so
    that its place is the same whenever it comes again."""
    last: dict[str, str] | None = None
    if over.run != request.run or over.reason == CANCELLED:
        # The SDK's client passes over an `abort`, as if the answer were whole.
        last = {"type": "finish", "finishReason": "interrupted"}
    elif over.reason != "completed":
        yield _broke_off(request, over.message or BROKE_OFF)
        return
    if last is not None:
        yield Step(_chunk(request, sent + 1, encode(last)), sent, seq)
    yield Step(_frame("end", request), sent, seq, last=True)


def _broke_off(request: Request, why: str) -> Step:
    frame = _frame("error", request, errorText=why)
    return Step(frame, request.sent, request.seq, last=True)


def _chunk(request: Request, place: int, text: str) -> str:
    return (
        f'{{"type":"chunk","requestId":"{request.id}","sequence":{place}'
        f',"chunk":{text}}}'
    )


def _frame(kind: str, request: Request, **more: str) -> str:
    return encode({"type": kind, "requestId": request.id, **more})


def answer(kind: str, request: str) -> str:
    """Return a frame that needs no more than the request's name."""
    return encode({"type": kind, "requestId": request})
