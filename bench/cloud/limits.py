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
    """`partition`: write units a second that one key of the log takes; `posts`: of
    the account, every call of API Gateway; `concurrency`: invocations at one time."""

    partition_writes: float | None = None
    partition_reads: float | None = None
    posts: Bucket | None = None
    handshakes: Bucket | None = None
    concurrency: int | None = None
    refused: dict[str, int] = field(default_factory=dict)
    _partitions: dict[tuple[str, str], Bucket] = field(default_factory=dict)

    def admit_table(
        self, now: int, table: str, key: str, unit: str, amount: int
    ) -> bool:
        rate = self.partition_writes if unit == "write" else self.partition_reads
        if rate is None:
            return True
        bucket = self._partitions.setdefault((table, unit), Bucket(rate, rate))
        return self._noted(f"{table} {unit}", bucket.take(now, amount))

    def admit_post(self, now: int) -> bool:
        return self.posts is None or self._noted("post", self.posts.take(now))

    def admit_handshake(self, now: int) -> bool:
        if self.handshakes is None:
            return True
        return self._noted("handshake", self.handshakes.take(now))

    def admit_invocation(self, running: int) -> bool:
        if self.concurrency is None:
            return True
        return self._noted("invocation", running < self.concurrency)

    def _noted(self, what: str, admitted: bool) -> bool:
        if not admitted:
            self.refused[what] = self.refused.get(what, 0) + 1
        return admitted
