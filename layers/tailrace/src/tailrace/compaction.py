"""Compaction: fewer chunks that mean the same, for a consumer who catches up.

Pure. Consecutive deltas of one part become one delta, and what was only for those who
watched then is left out; all other chunks stay as they are, in their order. What a
reader makes of the compacted chunks is what it makes of all. It holds from any cursor,
also one inside a part: nothing is assumed of what lies before.

`counts` keeps the seqs: how many each chunk stands for. What is left out is counted
with the chunk before it, or, where none is, with the one behind.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from . import chunks
from .errors import Invalid, Unavailable
from .records import Record

Mode = Literal["ui-message", "text"]
"""`ui-message`: chunks of the AI SDK. `text`: chunks that are texts, or objects of
nothing but a `text` or a `delta`."""

DELTAS = {
    "text-delta": ("delta", "id"),
    "reasoning-delta": ("delta", "id"),
    "tool-input-delta": ("inputTextDelta", "toolCallId"),
}
"""Of the AI SDK's chunks that let something grow: the member with the text, and the one
that says of what."""

READ_BYTES = 128_000
"""What one slice may stand for, however little is left of it: reading is what a replay
costs. Two such fill an answer's budget (`quotas`)."""

# What a chunk costs in a frame beyond its text: commas, and its count.
_BESIDE = 8


@dataclass(frozen=True, slots=True)
class Compacted(Record):
    """A piece of a run, as a data record would be whose chunks stand for several.
    `read`: the bytes of those."""

    mode: Mode = "ui-message"
    counts: tuple[int, ...] = ()
    read: int = 0


def check_mode(mode: Any) -> Mode | None:
    """Return the mode that a frame names, or None where it names none."""
    if mode is None or mode in get_args(Mode):
        return mode  # type: ignore[no-any-return]
    raise Invalid('compact: must be "ui-message" or "text"')


def compact(
    records: Iterable[Record], mode: Mode, most: float = math.inf
) -> Iterator[Record]:
    """Compact records, given in order and without a hole. `most`: bytes of chunks, for
    which one that is yielded stands. `Unavailable` if their chunks are none that can be
    written."""
    try:
        yield from _compact(records, mode, most)
    except (Invalid, ValueError, RecursionError):
        raise Unavailable("the log: chunks are not JSON") from None


def _compact(records: Iterable[Record], mode: Mode, most: float) -> Iterator[Record]:
    group: _Group | None = None
    for record in records:
        if group and (record.kind != "data" or record.run != group.run):
            yield from group.close()
            group = None
        if record.kind != "data":
            yield record
            continue
        group = group or _Group(record, mode, most)
        yield from group.add(record)
    if group:
        yield from group.close()


class _Group:
    """Chunks on their way into one compacted record, the last of them still growing."""

    def __init__(self, first: Record, mode: Mode, most: float) -> None:
        self.run = first.run
        self._mode = mode
        self._most = most
        self._from = first
        self._seq = first.seq
        self._index = first.index
        self._at = first.at
        self._begin()

    def _begin(self) -> None:
        self._texts: list[str] = []
        self._counts: list[int] = []
        self._size = 0
        self._read = 0
        self._left_out = 0
        self._growing: tuple[str, dict[str, Any] | None, str | None] | None = None
        self._pieces: list[str] = []

    def add(self, record: Record) -> Iterator[Record]:
        """Take a record's chunks; yield what is full."""
        size = chunks.size(record.chunks)
        if self._read and self._read + size > self._most:
            yield from self.close()
        self._read += size
        self._at = record.at
        texts = chunks.split(record.chunks)
        for text, value in zip(texts, chunks.decode(record.chunks), strict=True):
            if self._mode == "ui-message" and _is_transient(value):
                self._leave_out()
                continue
            piece, what = _delta(value, self._mode)
            if piece is None:
                need = chunks.size(text)
            elif self._growing and what == self._growing:
                need = chunks.size(chunks.encode(piece)) - 2 - _BESIDE
            else:
                need = chunks.size(chunks.encode(value))
            if self._size + need + _BESIDE > chunks.MAX_CHUNKS_BYTES and self._counts:
                yield from self.close()
            self._take(text, piece, what)
            self._size += need + _BESIDE

    def close(self) -> Iterator[Record]:
        """Yield what was taken, as one record, and begin anew behind it."""
        self._settle()
        count = sum(self._counts) + self._left_out
        if not count:
            return
        names = (field.name for field in fields(Record))
        common = {name: getattr(self._from, name) for name in names}
        yield Compacted(
            **{
                **common,
                "seq": self._seq,
                "count": count,
                "index": self._index,
                "at": self._at,
                "chunks": ",".join(self._texts),
            },
            mode=self._mode,
            counts=tuple(self._counts),
            read=self._read,
        )
        self._seq += count
        self._index += count
        self._begin()

    def _leave_out(self) -> None:
        if self._counts:
            self._counts[-1] += 1
        else:
            self._left_out += 1

    def _take(self, text: str, piece: str | None, what: Any) -> None:
        if piece is not None and what == self._growing:
            self._pieces.append(piece)
            self._counts[-1] += 1
            return
        self._settle()
        self._texts.append(text)
        self._counts.append(1 + self._left_out)
        self._left_out = 0
        if piece is not None:
            self._growing, self._pieces = what, [piece]

    def _settle(self) -> None:
        """Write the chunk that was growing."""
        if self._growing and len(self._pieces) > 1:
            name, rest = self._growing[0], self._growing[1]
            whole = "".join(self._pieces)
            value = whole if rest is None else {**rest, name: whole}
            self._texts[-1] = chunks.encode(value)
        self._growing, self._pieces = None, []


def _is_transient(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.get("transient") is True
        and isinstance(value.get("type"), str)
        and value["type"].startswith("data-")
    )


def _delta(value: Any, mode: Mode) -> tuple[str | None, Any]:
    """Return the text by which a chunk lets something grow, and what that is: the name
    of the text, the chunk's other members, and those as JSON, to be compared (to
    Python, 1 is True). None where it is no delta."""
    if mode == "text":
        if isinstance(value, str):
            return value, ("", None, None)
        if isinstance(value, dict) and len(value) == 1:
            ((name, piece),) = value.items()
            if name in ("text", "delta") and isinstance(piece, str):
                return piece, (name, {}, None)
        return None, None
    if not isinstance(value, dict) or not isinstance(value.get("type"), str):
        return None, None
    name, of = DELTAS.get(value["type"], ("", ""))
    piece = value.get(name)
    if not isinstance(piece, str) or not isinstance(value.get(of), str):
        return None, None
    rest = {key: item for key, item in value.items() if key != name}
    return piece, (name, rest, chunks.encode(rest) if len(rest) > 2 else None)
