"""Quotas: what one client may cost (PROTOCOL.md §8).

Pure, and kept in the memory of one process: that costs no write, and bounds a client
per process. What bounds all of them together is the stage's `FramesPerSecond`.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from . import chunks

ANSWER_BYTES = 256_000
ANSWER_MS = 10_000


@dataclass(frozen=True, slots=True)
class Quotas:
    """`frames`: of a connection, at once; then `frames_a_second`. `connections`: of a
    `sub`. `replay_bytes`: for a `sub`, in a minute, over all its connections."""

    frames: int = 200
    frames_a_second: int = 10
    connections: int = 200
    replay_bytes: int = 25_000_000


class Rate:
    """Whether a connection sends too much: a bucket for each, which drains."""

    # Of connections that sent something lately; the others' buckets have drained.
    _KEPT = 2_000

    def __init__(self, at_once: int, a_second: int) -> None:
        self._room = at_once * 1000 // a_second
        self._cost = 1000 // a_second
        # When each bucket will have drained (ms).
        self._drained: OrderedDict[str, int] = OrderedDict()

    def over(self, id: str, now: int) -> bool:
        """Count a frame, now (ms); say whether it is one too many."""
        drained = max(self._drained.pop(id, 0), now) + self._cost
        self._drained[id] = drained
        if len(self._drained) > self._KEPT:
            self._drained.popitem(last=False)
        return drained - now > self._room


class Spent:
    """Which subs may have no more replays in this minute, as far as is known here."""

    # What is not worth a write of its own waits here until it is, of so many subs.
    _WORTH_A_WRITE = 64_000
    _KEPT = 2_000

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._until: dict[str, int] = {}
        self._owed: OrderedDict[str, tuple[int, int]] = OrderedDict()

    def owe(self, sub: str, minute: int, amount: int) -> int:
        """Add what an answer cost a sub; return what is to be written for it now."""
        then, owed = self._owed.pop(sub, (minute, 0))
        owed = amount + (owed if then == minute else 0)
        if owed >= self._WORTH_A_WRITE:
            return owed
        self._owed[sub] = minute, owed
        if len(self._owed) > self._KEPT:
            self._owed.popitem(last=False)
        return 0

    def over(self, sub: str, minute: int) -> bool:
        return self._until.get(sub, -1) >= minute

    def learn(self, sub: str, minute: int, spent: int) -> None:
        """Take what a sub has spent, as the table tells it."""
        if spent >= self._limit:
            self._until = {
                name: until for name, until in self._until.items() if until >= minute
            } | {sub: minute}


class Budget:
    """What one answer may still spend (§3.4, `more`)."""

    def __init__(self, now: int) -> None:
        self._deadline = now + ANSWER_MS
        self.bytes = 0
        self.chunks = 0
        self.stopped = False
        self.failed = False
        self.gone = False
        # A stream by which the connection is said to be slow.
        self.slow: str | None = None

    def take(self, frame: str, now: int, read: int = 0) -> bool:
        """Whether the frame may still be sent; if not, the answer has stopped. `read`:
        what it was made of, where that is more."""
        size = max(chunks.size(frame), read)
        if self.bytes + size > ANSWER_BYTES or self.late(now):
            self.stopped = True
        else:
            self.bytes += size
        return not self.stopped

    def late(self, now: int) -> bool:
        """Whether its time is up; the function's own is not far behind."""
        return now >= self._deadline
