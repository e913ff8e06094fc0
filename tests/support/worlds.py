"""A log in memory, and records to put into it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any

from tailrace import ids, rules
from tailrace.adapters.memory import MemoryGateway, MemoryLog, MemoryState
from tailrace.log import Log
from tailrace.records import Record

STREAM = "chat:42"
NOW = 1_764_547_200_000
HOUR_MS = 3_600_000


class Clock:
    """Time that stands until it is told to go on."""

    def __init__(self, now: int = NOW) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += int(seconds * 1000)


class World:
    """A log, its stores, a gateway and a clock; the randomness has a seed."""

    def __init__(
        self,
        seed: int = 0,
        *,
        store: Any = None,
        state: Any = None,
        retention: int = 3600,
        lease: int = 30,
    ) -> None:
        self.clock = Clock()
        self.store = store if store is not None else MemoryLog()
        self.state = state if state is not None else MemoryState()
        self.gateway = MemoryGateway()
        self.conflicts: list[str] = []
        self.log = Log(
            self.store,
            self.state,
            self.clock,
            retention=retention,
            lease=lease,
            randomness=random.Random(seed).randbytes,
            on_conflict=self.conflicts.append,
        )

    def new_log(self) -> Log:
        """Return another container's log: same tables, nothing remembered."""
        return Log(
            self.store,
            self.state,
            self.clock,
            retention=self.log.retention,
            lease=self.log.default_lease,
            on_conflict=self.conflicts.append,
        )

    def records(self, stream: str = STREAM) -> list[Record]:
        return list(self.store.range(stream, 1))

    def kinds(self, stream: str = STREAM) -> list[str]:
        return [record.kind for record in self.records(stream)]


def one_by_one(tasks: Iterable[Callable[[], None]]) -> None:
    """Run a delivery's tasks in the test's own thread."""
    for task in tasks:
        task()


def run_id(number: int, at: int = NOW) -> str:
    """Return a run id; a greater number is a later run."""
    return ids.new_run(at + number, bytes(10))


def stamp(writer: str = "w1", at: int = NOW, lease: int = 30) -> rules.Stamp:
    return rules.Stamp(writer, at, lease, at // 1000 + 3600)


def opened(run: str | None = None, writer: str = "w1", **kwargs: Any) -> Record:
    return rules.open_after(None, STREAM, run or run_id(1), stamp(writer), **kwargs)


def data(behind: Record, *texts: str, writer: str = "w1") -> Record:
    return rules.data_after(behind, ",".join(texts), len(texts), stamp(writer))
