"""Slices: the wire frames that carry the log, made from records without parsing chunks.

Pure. Used by the replay (records of one answer) and the fan-out (records of a batch).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from . import chunks as chunk_texts
from .compaction import READ_BYTES, Compacted, Mode
from .records import Record

MAX_FRAME_BYTES = 32_000
"""Limit of one frame, each way. API Gateway closes the connection on a frame of more
than 32 KB, and meters messages in steps of 32 KB."""

# What `Slice.frame` adds to a slice's own parts: names, numbers of at most 16 digits,
# the stream, the run, `replay`. A test holds it to the longest frame.
_ENVELOPE_BYTES = 500


@dataclass(slots=True)
class Slice:
    """A contiguous piece of one run: the seqs `seq` to `next` − 1. `read`: of how many
    bytes of chunks it was compacted."""

    stream: str
    run: str
    seq: int
    next: int
    at: int
    open: str | None = None
    claim: int | None = None
    chunks: list[str] = field(default_factory=list)
    end: str | None = None
    compact: Mode | None = None
    counts: list[int] = field(default_factory=list)
    read: int = 0
    size: int = _ENVELOPE_BYTES

    @classmethod
    def begin(cls, record: Record) -> Slice:
        """Return the slice of one record; others may follow."""
        seq = record.seq
        piece = cls(record.stream, record.run, seq, seq, record.at)
        piece._add(record, piece.size + _bytes_of(record))
        return piece

    @property
    def count(self) -> int:
        """How many chunks of the log it carries, or stands for."""
        others = (self.open is not None, self.claim is not None, self.end is not None)
        return self.next - self.seq - sum(others)

    def frame(self, *, replay: bool = False) -> str:
        """Return the frame's JSON text."""
        parts = [
            f'{{"type":"slice","stream":{json.dumps(self.stream)},"run":"{self.run}"'
            f',"seq":{self.seq},"next":{self.next},"at":{self.at}'
        ]
        if self.open is not None:
            parts.append(f',"open":{self.open}')
        if self.claim is not None:
            parts.append(f',"claim":{{"epoch":{self.claim}}}')
        if self.chunks:
            parts.append(f',"chunks":[{",".join(self.chunks)}]')
        if self.compact and len(self.counts) != self.count:
            counts = ",".join(map(str, self.counts))
            parts.append(f',"counts":[{counts}],"compact":"{self.compact}"')
        if self.end is not None:
            parts.append(f',"end":{self.end}')
        parts.append(',"replay":true}' if replay else "}")
        return "".join(parts)

    def take(self, record: Record) -> bool:
        """Add a record, if it goes on where this ends, and fits."""
        if record.seq != self.next or record.run != self.run or self.end is not None:
            return False
        if record.kind not in ("data", "end"):
            return False
        if type(record) is Compacted and not self._counts_with(record):
            return False
        size = self.size + _bytes_of(record)
        if size > MAX_FRAME_BYTES:
            return False
        self._add(record, size)
        return True

    def _counts_with(self, record: Compacted) -> bool:
        """Whether one slice may stand for both: where one of them has no chunk, nothing
        would count its seqs."""
        if self.compact is None:
            return True
        counted = bool(self.counts and record.counts)
        return counted and self.read + record.read <= READ_BYTES

    def _add(self, record: Record, size: int) -> None:
        if record.kind == "data":
            if record.chunks:  # compaction may have left all of them out
                self.chunks.append(record.chunks)
            if type(record) is Compacted:
                self.compact = record.mode
                self.counts += record.counts
                self.read += record.read
        elif record.kind == "open":
            self.open = _open(record)
        elif record.kind == "claim":
            self.claim = record.epoch
        else:
            self.end = _end(record)
        self.next = record.seq + record.count
        self.size = size
        if record.at > self.at:  # noqa: PLR1730 - a call costs a third of it all
            self.at = record.at


def merge(records: Iterable[Record]) -> Iterator[Slice]:
    """Merge records, given in order, into as few slices as fit."""
    current: Slice | None = None
    for record in records:
        if current is None or not current.take(record):
            if current is not None:
                yield current
            current = Slice.begin(record)
    if current is not None:
        yield current


def _bytes_of(record: Record) -> int:
    if record.kind == "data":
        # As `chunk_texts.size` has it, which here costs as much as all the rest.
        text = record.chunks
        size = 1 + (len(text) if text.isascii() else len(text.encode()))
        if type(record) is Compacted:
            size += 8 * len(record.counts) + 40
        return size
    if record.kind == "open":
        return chunk_texts.size(_open(record)) + 8
    if record.kind == "end":
        return chunk_texts.size(_end(record)) + 7
    return 40


def _open(record: Record) -> str:
    parts = []
    if record.meta is not None:
        parts.append(f'"meta":{record.meta}')
    if record.prev is not None:
        parts.append(f'"prev":"{record.prev}"')
    return "{" + ",".join(parts) + "}"


def _end(record: Record) -> str:
    end = {"reason": record.reason}
    if record.message is not None:
        end["message"] = record.message
    return chunk_texts.encode(end, "message")
