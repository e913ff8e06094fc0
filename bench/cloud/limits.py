"""AWS's limits: by default there are none, so that what is counted is what was asked.

`bench.limits` sets them, and looks for the knees.
"""

from __future__ import annotations

from dataclasses import dataclass, field

SECOND = 1_000_000


@dataclass
class Bucket:
    """So much a second, and so much at once."""

    rate: float
    burst: float
    _left: float | None = None
    _at: int = 0

    def take(self, now: int, amount: float = 1) -> bool:
        left = self.burst if self._left is None else self._left
        left = min(self.burst, left + (now - self._at) * self.rate / SECOND)
        self._at = now
        took = left >= amount
        self._left = left - amount if took else left
        return took


@dataclass
class Limits:
    """`partition_writes`: the units a second that one partition key of a table takes;
    `posts`: of the account, every call of API Gateway."""

    partition_writes: float | None = None
    posts: Bucket | None = None
    handshakes: Bucket | None = None
    refused: dict[str, int] = field(default_factory=dict)
    _partitions: dict[tuple[str, str], Bucket] = field(default_factory=dict)

    def admit_write(self, now: int, table: str, partition: str, amount: int) -> bool:
        rate = self.partition_writes
        if rate is None:
            return True
        bucket = self._partitions.setdefault((table, partition), Bucket(rate, rate))
        return self._noted(f"{table} write", bucket.take(now, amount))

    def admit_post(self, now: int) -> bool:
        return self.posts is None or self._noted("post", self.posts.take(now))

    def admit_handshake(self, now: int) -> bool:
        if self.handshakes is None:
            return True
        return self._noted("handshake", self.handshakes.take(now))

    def _noted(self, what: str, admitted: bool) -> bool:
        if not admitted:
            self.refused[what] = self.refused.get(what, 0) + 1
        return admitted
