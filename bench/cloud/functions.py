"""The functions: real handlers in containers that are cold, idle or busy."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

from greenlet import getcurrent

from tests.simulation.kernel import Process

from .cpu import slowness
from .tally import LOG_EVENT_OVERHEAD
from .template import ROOT, memory

if TYPE_CHECKING:
    from .cloud import Cloud

MS = 1_000
TIMEOUT_MS = 30_000


class Invocation(Process):
    """One invocation; its `name` is the function's."""


class Context:
    """What Lambda tells a handler."""

    aws_request_id = "8e7a1b5c-0000-4000-8000-000000000000"
    function_name = "tailrace"

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._ends_at = cloud.kernel.now + TIMEOUT_MS * MS

    def get_remaining_time_in_millis(self) -> int:
        return (self._ends_at - self._cloud.kernel.now) // MS


class Container:
    """A function's environment: its module, as loaded when it was cold."""

    def __init__(self, function: str) -> None:
        self.busy = False
        path = ROOT / "functions" / function / "app.py"
        spec = importlib.util.spec_from_file_location(f"bench_{function}", path)
        assert spec is not None and spec.loader is not None
        self.module: ModuleType = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.module)


class Functions:
    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._containers: dict[str, list[Container]] = {}

    def invoke(self, function: str, event: Any, done: Callable[[Any], None]) -> None:
        """Invoke; `done` gets the answer."""
        cloud = self._cloud
        pool = self._containers.setdefault(function, [])
        container = next((one for one in pool if not one.busy), None)
        cold = container is None
        if container is None:
            container = Container(function)
            pool.append(container)
        container.busy = True
        invocation = Invocation(cloud.kernel, function)
        answers: list[Any] = []

        def play() -> None:
            if cold:
                self._start(function)
            began = cloud.kernel.now
            cloud.compute(cloud.cpu.invocation[function])
            context = Context(cloud)
            answers.append(container.module.handler(event, context))
            took = math.ceil((cloud.kernel.now - began) / MS)
            cloud.tally[f"lambda.{function}.requests"] += 1
            cloud.tally[f"lambda.{function}.ms"] += took

        def finished(error: BaseException | None) -> None:
            container.busy = False
            if error is not None:
                raise error
            done(answers[0])

        cloud.kernel.start(invocation, play, finished)

    def _start(self, function: str) -> None:
        """A cold start; since 2025 it is billed as any other time."""
        began = self._cloud.kernel.now
        self._cloud.compute(self._cloud.cpu.start[function])
        took = math.ceil((self._cloud.kernel.now - began) / MS)
        self._cloud.tally[f"lambda.{function}.starts"] += 1
        self._cloud.tally[f"lambda.{function}.start_ms"] += took

    def slowness(self, process: Process) -> float:
        """Return how much slower than here a process computes."""
        if isinstance(process, Invocation):
            return slowness(memory(process.name))
        return 1.0

    def running(self) -> Invocation | None:
        """Return the invocation whose code is running, if one's is."""
        process = getattr(getcurrent(), "process", None)
        return process if isinstance(process, Invocation) else None

    def printed(self, invocation: Invocation, text: str) -> None:
        """Its log takes what it prints, line by line."""
        lines = text.count("\n")
        size = len(text.encode()) - lines
        self._cloud.tally[f"logs.{invocation.name}.lines"] += lines
        self._cloud.tally[f"logs.{invocation.name}.logged_bytes"] += (
            size + lines * LOG_EVENT_OVERHEAD
        )
