"""Replay: what a consumer at some position has missed, read from the log.

Knows PROTOCOL.md §3.2 (positions) and §3.4 (`from`). It does not know connections:
whoever asks takes slices until a budget is used up.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from .compaction import READ_BYTES, Mode, compact
from .log import Log
from .positions import Position
from .records import Record
from .slices import Slice, merge


class Replay:
    """One answer: iterate over its slices, as many as are wanted, then read the facts.

    `tail`, `active` and `run` say what the stream is, `at` when its tail was appended;
    `start` is the seq behind which the slices begin; `reached` where they ended.
    `more` is true until the slices have been taken to the end. `ahead`: they will be,
    so that what lies behind a cursor may be read to see whether it goes on there.
    """

    def __init__(
        self,
        log: Log,
        stream: str,
        position: Position,
        compact: Mode | None = None,
        *,
        ahead: bool = True,
    ) -> None:
        look = log.look(stream)
        self._log = log
        self._stream = stream
        self._compact = compact
        self._look = look
        self._now = log.clock()
        tail = look.tail
        self.active = look.active
        self.tail = tail.last if tail else 0
        self.at = tail.at if tail else 0
        self.run = tail.run if tail and not tail.expired(self._now) else None
        # The key of the record from which to read, where looking at the position has
        # told it: of a run's `open`, and of what holds a cursor.
        self._key: int | None = None
        # The records from there on, where looking has begun to read them.
        self._found: Iterator[Record] | None = None
        self._ahead = ahead
        self.start = self._begin(position)
        self.reached = self.start
        self.more = self.start < self.tail

    def slices(self) -> Iterator[Slice]:
        """Yield the slices from `start` to the tail that was found, in order."""
        if self.start >= self.tail:
            return
        for piece in merge(self._compacted(self.start, self._key)):
            yield piece
            self.reached = piece.next - 1
        if self.reached < self.tail:
            yield from self._anew()
        self.more = False

    def _anew(self) -> Iterator[Slice]:
        """The log has a hole (records expire in any order): begin where it is whole."""
        base = self._base()
        if base - 1 > self.reached:
            self.start = self.reached = base - 1
            for piece in merge(self._compacted(self.start, base)):
                yield piece
                self.reached = piece.next - 1
        if self.reached < self.tail:
            self.run, self.active = None, False
            self.start = self.reached = self.tail

    def _compacted(self, after: int, key: int | None) -> Iterator[Record]:
        records = self._records(after, key)
        if self._compact is None:
            return records
        return compact(records, self._compact, READ_BYTES)

    def _records(self, after: int, key: int | None) -> Iterator[Record]:
        """Yield what lies behind `after`, as long as it is dense, up to the tail.
        `key`: of the record that holds the first of it."""
        if key is None:
            held = self._log.store.last(self._stream, after + 1)
            if held is None or held.last <= after:
                return
            key = held.seq
        expected, now, tail = after + 1, self._now, self.tail
        found = self._found or self._log.store.range(self._stream, key)
        self._found = None
        for record in found:
            if record.seq > expected or record.expired(now):
                return
            if record.seq < expected:
                record = record.behind(after)
            yield record
            expected = record.seq + record.count
            if expected > tail:
                return

    def _begin(self, position: Position) -> int:
        tail = self._look.tail
        if tail is None:
            return 0
        if self.run is None:
            return tail.last
        run, after = position.run, position.after
        if after is not None and self._continues(run, after):
            return after
        self._key = self._base()
        if after is None and run is not None and run != tail.run:
            if run > tail.run:
                return tail.last
            earlier = self._log.last_of(self._stream, run, tail)
            if earlier is not None and not earlier.expired(self._now):
                self._key = earlier.base
        return self._key - 1

    def _continues(self, run: str | None, after: int) -> bool:
        """Whether the log goes on behind the cursor `(run, after)`."""
        tail = self._look.tail
        assert tail is not None
        if after > tail.last:
            return False
        if after == tail.last:
            return run is None or run == tail.run
        if run is None or (self._ahead and self._goes_on(run, after)):
            return True
        held = self._log.store.last(self._stream, after) if after else None
        if (
            held is None
            or held.run != run
            or held.last < after
            or held.expired(self._now)
        ):
            return False
        self._key = held.seq if held.last > after else held.next
        return True

    def _goes_on(self, run: str, after: int) -> bool:
        """Whether the cursor lies between two records of the current run: the usual
        case, in which one read does for two. Of another run it may well be wrong, and
        reading on costs up to 1 MB."""
        tail = self._look.tail
        assert tail is not None
        if run != tail.run or after < tail.base:
            return False
        found = self._log.store.range(self._stream, after + 1)
        first = next(found, None)
        if first is None or first.seq != after + 1:
            return False
        self._key, self._found = first.seq, chain((first,), found)
        return True

    def _base(self) -> int:
        tail = self._look.tail
        return tail.base if tail else 1
