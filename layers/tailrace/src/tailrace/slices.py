"""Slices: the wire frames that carry the log, made from records without parsing chunks.

Pure. Used by the replay (records of one answer) and the fan-out (records of a batch).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from . import chunks as chunk_texts
from .compaction import Compacted, Mode
from .records import Record

MAX_FRAME_BYTES = 32_000
"""Limit of one frame, each way. API Gateway closes the connection on a frame of more
than 32 KB, and meters messages in steps of 32 KB."""

# What `Slice.frame` adds to a slice's own parts: names, numbers of at most 16 digits,
# the stream, the run, `replay`. A test holds it to the longest frame.
_ENVELOPE_BYTES = 500


@dataclass(slots=True)
class Slice:
    """A contiguous piece of one run: the seqs `seq` to `next` − 1."""

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
    size: int = _ENVELOPE_BYTES

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

    def takes(self, record: Record, need: int) -> bool:
        """Whether the record, of `need` bytes, can be added behind what is in."""
        return (
            record.run == self.run
            and record.seq == self.next
            and self.end is None
            and record.kind in ("data", "end")
            and self.size + need <= MAX_FRAME_BYTES
        )

    def add(self, record: Record, need: int) -> None:
        """Add a record behind what is in."""
        if record.kind == "open":
            self.open = _open(record)
        elif record.kind == "claim":
            self.claim = record.epoch
        elif record.kind == "data":
            if record.chunks:  # compaction may have left all of them out
                self.chunks.append(record.chunks)
            if isinstance(record, Compacted):
                self.compact = record.mode
                self.counts += record.counts
        else:
            self.end = _end(record)
        self.next = record.next
        self.at = max(self.at, record.at)
        self.size += need


def merge(records: Iterable[Record]) -> Iterator[Slice]:
    """Merge records, given in order, into as few slices as fit."""
    current: Slice | None = None
    for record in records:
        need = _bytes_of(record)
        if current is None or not current.takes(record, need):
            if current is not None:
                yield current
            current = Slice(
                record.stream, record.run, record.seq, record.seq, record.at
            )
        current.add(record, need)
    if current is not None:
        yield current


def _bytes_of(record: Record) -> int:
    if record.kind == "data":
        beside = 8 * len(record.counts) + 40 if isinstance(record, Compacted) else 0
        return chunk_texts.size(record.chunks) + 1 + beside
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
