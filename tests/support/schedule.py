"""Runs real, synchronous code step by step, in whatever order a test decides.

An actor is a function in a greenlet. It stops before each call to its store; the test
says which actor goes on, and what happens to its call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

from greenlet import getcurrent, greenlet

from tailrace.errors import Unavailable
from tailrace.ports import LogStore
from tailrace.records import Record

Fate = Literal["ok", "never", "lost", "late", "twice"]
FATES: tuple[Fate, ...] = ("ok", "never", "lost", "late", "twice")
"""What becomes of a put: applied and answered; not applied; applied, the answer lost;
applied later, the answer lost; applied twice, the second answered. A read fails where
its fate is not `ok` or `twice`."""


class Actor:
    """A function that is run step by step; `error` is what it raised."""

    def __init__(self, name: str, play: Callable[[], None]) -> None:
        self.name = name
        self.error: BaseException | None = None
        self._play = play
        self._greenlet = greenlet(self._run)
        self._greenlet.switch()

    @property
    def done(self) -> bool:
        return bool(self._greenlet.dead)

    def step(self, fate: Fate = "ok") -> None:
        """Let it make its pending call, and go on to the next."""
        if not self.done:
            self._greenlet.switch(fate)

    def _run(self) -> None:
        try:
            self._play()
        except Exception as error:  # noqa: BLE001 - it is what the test looks at
            self.error = error


class FaultyStore:
    """A `LogStore` whose every call waits for the test, and may go wrong."""

    def __init__(self, store: LogStore) -> None:
        self.store = store
        self.late: list[Record] = []

    def put(self, record: Record) -> Record | None:
        fate = _wait()
        if fate == "never":
            raise Unavailable("the put was lost")
        if fate == "late":
            self.late.append(record)
            raise Unavailable("the put is late")
        winner = self.store.put(record)
        if fate == "twice":
            winner = self.store.put(record)
        if fate == "lost":
            raise Unavailable("the answer was lost")
        return winner

    def arrive(self, which: int) -> None:
        """Apply a late put."""
        if self.late:
            self.store.put(self.late.pop(which % len(self.late)))

    def last(self, stream: str, at_most: int | None = None) -> Record | None:
        self._read()
        return self.store.last(stream, at_most)

    def range(self, stream: str, start: int) -> Iterator[Record]:
        self._read()
        return self.store.range(stream, start)

    def remove(self, stream: str, seq: int) -> None:
        self._read()
        self.store.remove(stream, seq)

    def _read(self) -> None:
        if _wait() not in ("ok", "twice"):
            raise Unavailable("the read was lost")


def _wait() -> Any:
    parent = getcurrent().parent
    return "ok" if parent is None else parent.switch()
