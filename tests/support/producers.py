"""Drives a producer's core on a clock of its own: no threads, no waiting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tailrace.producer.calls import Append, Call, Renew
from tailrace.producer.core import Core, Pace
from tailrace.producer.opening import Opening
from tailrace.rules import OnActive, Reason
from tailrace.writers import Answer
from tests.support.worlds import NOW, STREAM, run_id


class Scripted:
    """A transport without a log: it answers what a log with one producer would, but for
    the faults that a test puts into `faults`: one for each call to come, None for none.
    """

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.faults: list[BaseException | None] = []
        self.already = 0

    def clock(self) -> int:
        return NOW

    def open(
        self,
        stream: str,
        run: str,
        writer: str,
        *,
        on_active: OnActive,
        lease: int,
        meta: dict[str, Any] | None,
    ) -> Answer:
        return self._answer("open", run, 2)

    def claim(
        self, stream: str, run: str, writer: str, *, seq: int | None, lease: int
    ) -> Answer:
        return self._answer("claim", run, 2 + self.already + 1, epoch=1)

    def append(
        self, stream: str, run: str, writer: str, seq: int, texts: Sequence[str]
    ) -> Answer:
        return self._answer("append", run, seq + len(texts))

    def end(
        self,
        stream: str,
        run: str,
        writer: str,
        seq: int,
        reason: Reason,
        message: str | None,
    ) -> Answer:
        return self._answer(f"end {reason}", run, seq + 1)

    def renew(
        self, stream: str, run: str, writer: str, *, lease: int, handed_over: bool
    ) -> Answer:
        return self._answer("hand over" if handed_over else "renew", run, 0)

    def ask(self, payload: dict[str, Any]) -> dict[str, Any]:
        return {"watchers": 2}

    def _answer(self, call: str, run: str, next: int, epoch: int = 0) -> Answer:
        self.calls.append(call)
        fault = self.faults.pop(0) if self.faults else None
        if fault is not None:
            raise fault
        return Answer(run, next, epoch, self.already)


@dataclass
class Sent:
    """A call that was sent, and when."""

    at: float
    call: Call

    @property
    def texts(self) -> tuple[str, ...]:
        assert isinstance(self.call, Append)
        return self.call.texts


@dataclass
class Driver:
    """A core, its time, and what it sent. Each call takes `latency` seconds."""

    pace: Pace = field(default_factory=Pace)
    latency: float = 0.01
    transport: Any = field(default_factory=Scripted)
    opening: Opening | None = None
    chance: float = 1.0
    now: float = 100.0

    def __post_init__(self) -> None:
        opening = self.opening or Opening(
            STREAM, "w", run=run_id(1), lease=self.pace.lease, randomness=bytes(10)
        )
        self.core = Core(opening, self.pace)
        self.sent: list[Sent] = []
        self._under_way: tuple[float, Call] | None = None

    def run(self, seconds: float) -> Driver:
        """Let time pass."""
        self._run_to(self.now + seconds)
        return self

    def open(self) -> Driver:
        self.run(self.latency)
        assert self.core.state == "writing"
        return self

    def settle(self, limit: float = 600.0) -> Driver:
        """Let time pass until the core is closed."""
        end = self.now + limit
        while self.core.state != "closed":
            following = self._next()
            assert following is not None, "nothing will happen any more"
            assert following <= end, "it does not come to an end"
            self._run_to(following)
        return self

    def appends(self) -> list[Sent]:
        return [sent for sent in self.sent if isinstance(sent.call, Append)]

    def renewals(self) -> list[Sent]:
        return [sent for sent in self.sent if isinstance(sent.call, Renew)]

    def _next(self) -> float | None:
        self._start()
        if self._under_way is not None:
            return self._under_way[0]
        due = self.core.due(self.now)
        return None if due is None else max(due, self.now)

    def _run_to(self, end: float) -> None:
        while (following := self._next()) is not None and following <= end:
            self.now = following
            if self._under_way is not None:
                self._finish()
        self.now = end
        self._start()

    def _start(self) -> None:
        if self._under_way is None and (call := self.core.step(self.now)) is not None:
            self.sent.append(Sent(self.now, call))
            self._under_way = self.now + self.latency, call

    def _finish(self) -> None:
        assert self._under_way is not None
        call, self._under_way = self._under_way[1], None
        try:
            answer = call.send(self.transport)
        except Exception as error:  # noqa: BLE001 - the core is told of it
            self.core.failed(error, self.now, self.chance)
        else:
            self.core.answered(answer, self.now)
