"""One stack, with its functions, its change feed and its gateway, in virtual time.

A function is its real handler, loaded as Lambda loads it, with the environment of the
template; what it prints is what is logged. The kernel's unit is a microsecond here.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakKeyDictionary

from tailrace import tokens
from tailrace.deployment import find_transport
from tailrace.writers import Transport
from tests.simulation.kernel import START, Kernel, Process

from . import wire
from .cpu import Cpu
from .delays import DELAYS, Delay
from .feed import Feed
from .functions import Functions
from .gateway import Gateway
from .limits import Limits
from .patches import ENVIRONMENT, KEY_RING, RING, patched
from .tally import Tally
from .wire import Answer

MS = 1_000


class Cloud:
    """A world to run in: `with Cloud(1, cpu=…).open() as cloud: …; cloud.run(done)`.

    `lanes`: how many fan-outs may run side by side (shards times parallelization); None
    gives every stream a shard of its own, the dearest that can happen.
    """

    def __init__(
        self,
        seed: int,
        *,
        cpu: Cpu,
        delays: dict[str, Delay] = DELAYS,
        lanes: int | None = None,
        limits: Limits | None = None,
        environment: dict[str, str] | None = None,
    ) -> None:
        self.kernel = Kernel(seed)
        self.kernel.now = START * MS
        self.tally = Tally()
        self.cpu = cpu
        self.delays = delays
        self.limits = limits or Limits()
        self.environment = {**ENVIRONMENT, **(environment or {})}
        self._computes: WeakKeyDictionary[Process, int] = WeakKeyDictionary()
        self.put_at: dict[tuple[str, int], int] = {}
        """When each record was in the log (µs)."""

        self.functions = Functions(self)
        self.feed = Feed(self, lanes)
        self.gateway = Gateway(self)

    @contextlib.contextmanager
    def open(self) -> Iterator[Cloud]:
        with patched(self), wire.wired(self):
            yield self

    def run(self, done: Callable[[], bool]) -> None:
        """Let things happen until it is so."""
        while not done():
            if not self.kernel.step():
                raise RuntimeError("nothing more happens, and it is not done")

    def run_for(self, ms: float) -> None:
        until = self.kernel.now + round(ms * MS)
        self.kernel.after(until - self.kernel.now, lambda: None)
        self.run(lambda: self.kernel.now >= until)

    def transport(self, kind: str) -> Transport:
        """Return how a producer publishes: "in-process" or "function"."""
        return find_transport(kind, environ=self.environment)

    def token(self, sub: str, stream: str) -> tuple[str, int]:
        now = self.kernel.now // (1_000 * MS)
        token = tokens.mint(RING, sub=sub, now=now, expires_in=900, read=[stream])
        return token, now + 900

    # ---- time ------------------------------------------------------------------------

    def clock(self) -> int:
        """Return ms."""
        return self.kernel.now // MS

    def draw(self, hop: str) -> int:
        """Return how long a hop takes this time, in µs."""
        return self.delays[hop].draw(self.kernel.dice(f"delay {hop}").random())

    def compute(self, us: float) -> None:
        """Let the running process use its CPU, which it has one of."""
        process = self.kernel.process()
        start = max(self.kernel.now, self._computes.get(process, 0))
        self._computes[process] = start + round(us * self.functions.slowness(process))
        self.kernel.wait(self._computes[process] - self.kernel.now)

    def travel(self, hop: str, work: Callable[[], Answer]) -> Answer:
        self.compute(self.cpu.call)
        us = self.draw(hop)
        self.kernel.wait(us // 2)
        answer = work()
        self.kernel.wait(us - us // 2)
        return answer

    # ---- the wire --------------------------------------------------------------------

    def admit_write(self, table: str, partition: str, amount: int) -> bool:
        return self.limits.admit_write(self.kernel.now, table, partition, amount)

    def inserted(self, item: dict[str, Any]) -> None:
        place = item["stream"]["S"], int(item["seq"]["N"])
        self.put_at[place] = self.kernel.now
        self.feed.inserted(item)

    def call(self, service: str, operation: str, url: str, body: bytes) -> Answer:
        if operation == "Invoke":
            name = url.split("/functions/")[1].split("/", maxsplit=1)[0]
            return self._invoke(name.removeprefix("tailrace-"), json.loads(body))
        if operation == "GetSecretValue":
            self.tally["secrets.calls"] += 1
            secret = json.dumps({"ARN": KEY_RING, "SecretString": json.dumps(RING)})
            return self.travel("secret", lambda: (200, secret.encode()))
        raise RuntimeError(f"{service}.{operation} is not there")

    def _invoke(self, function: str, payload: Any) -> Answer:
        answers: list[Any] = []

        def begin(wake: Callable[[], None]) -> None:
            def done(answer: Any) -> None:
                answers.append(answer)
                wake()

            self.functions.invoke(function, payload, done)

        def work() -> Answer:
            self.kernel.park(begin)
            return 200, json.dumps(answers[0]).encode()

        return self.travel("invoke", work)


class Printed(io.TextIOBase):
    """Standard output, where a function's lines are its log."""

    def __init__(self, cloud: Cloud, real: Any) -> None:
        self._cloud = cloud
        self._real = real

    def write(self, text: str) -> int:
        process = self._cloud.functions.running()
        if process is None:
            written: int = self._real.write(text)
            return written
        self._cloud.functions.printed(process, text)
        return len(text)

    def flush(self) -> None:
        self._real.flush()
