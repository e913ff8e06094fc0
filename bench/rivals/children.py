"""Servers and producers as child processes: started, told what to do, measured, and
stopped, each by its own id."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Child:
    """A process. One that is `told` speaks lines of JSON (`work.control`)."""

    def __init__(
        self,
        argv: Sequence[str | Path],
        log: Path,
        environment: Mapping[str, str] | None = None,
        *,
        told: bool = True,
    ) -> None:
        self.ready: dict[str, Any] = {}
        self._argv = [str(part) for part in argv]
        self._log = log
        self._environment = {**os.environ, **(environment or {})}
        self._told = told
        self._process: asyncio.subprocess.Process | None = None
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._reading: asyncio.Task[None] | None = None
        self._commands = 0

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self, seconds: float = 90) -> Self:
        pipe = asyncio.subprocess.PIPE
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._argv,
                env=self._environment,
                stdin=pipe if self._told else asyncio.subprocess.DEVNULL,
                stdout=pipe if self._told else log,
                stderr=log,
                limit=1 << 24,
                start_new_session=True,
            )
        if self._told:
            ready = self._expect(0)
            self._reading = asyncio.create_task(self._read())
            self.ready = await asyncio.wait_for(ready, seconds)
        return self

    async def call(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Let it do something, and wait until it has."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._commands += 1
        answer = self._expect(self._commands)
        line = json.dumps({"id": self._commands, "cmd": command, **arguments})
        self._process.stdin.write(line.encode() + b"\n")
        return await asyncio.wait_for(answer, 120)

    async def kill(self) -> None:
        """Kill it, and all below it, on the spot."""
        for process in _tree(self.pid):
            with contextlib.suppress(psutil.Error):
                process.kill()
        await self._gone()

    async def stop(self) -> None:
        """Let it end; after five seconds, kill it."""
        below = _tree(self.pid)
        assert self._process is not None
        if self._process.stdin is not None:
            self._process.stdin.close()
        for process in below[:1]:
            with contextlib.suppress(psutil.Error):
                process.terminate()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), 5)
        for process in below:
            with contextlib.suppress(psutil.Error):
                process.kill()
        await self._gone()

    async def _gone(self) -> None:
        assert self._process is not None
        await self._process.wait()
        if self._reading is not None:
            await self._reading

    def _expect(self, number: int) -> asyncio.Future[dict[str, Any]]:
        answer = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        return answer

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            if not line.startswith(b"{"):
                continue  # a rival's own words
            said = json.loads(line)
            answer = self._answers.pop(said.get("id", 0), None)
            if answer is None or answer.done():
                continue
            if "error" in said:
                answer.set_exception(RuntimeError(said["error"]))
            else:
                answer.set_result(said)
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(RuntimeError(f"it ended; {self._log} says why"))


class Meter:
    """What processes, and all below them, use while it is entered: `cpu` in seconds;
    `memory`, the most resident, in MiB; `foreign`, the share of the machine that others
    than the bench had."""

    def __init__(self, pids: Iterable[int]) -> None:
        self._pids = list(pids)
        self.cpu = self.memory = self.foreign = 0.0

    async def __aenter__(self) -> Self:
        self._cpu = _cpu(self._pids)
        self._all = _cpu([os.getpid()])
        self._busy, self._begun = _busy(), time.monotonic()
        # Now, and not while somebody is timed: it takes some milliseconds.
        self.memory = _memory(self._pids)
        self._sampling = asyncio.create_task(self._sample())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._sampling.cancel()
        self.cpu = _cpu(self._pids) - self._cpu
        room = (time.monotonic() - self._begun) * (os.cpu_count() or 1)
        others = _busy() - self._busy - (_cpu([os.getpid()]) - self._all)
        # The machine's counters have steps of 10 ms: a short time tells nothing.
        self.foreign = max(0.0, others / room) if room > 0.5 else 0.0

    async def _sample(self) -> None:
        while True:
            await asyncio.sleep(0.5)
            self.memory = max(self.memory, _memory(self._pids))


async def until_quiet(pids: Sequence[int], seconds: float = 20) -> None:
    """Wait until processes have next to nothing left to do."""
    end, before = time.monotonic() + seconds, _cpu(pids)
    while time.monotonic() < end:
        await asyncio.sleep(0.3)
        now = _cpu(pids)
        if now - before < 0.05:
            return
        before = now


def _tree(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []


def _cpu(pids: Iterable[int]) -> float:
    total = 0.0
    for process in (one for pid in pids for one in _tree(pid)):
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def _memory(pids: Iterable[int]) -> float:
    total = 0
    for process in (one for pid in pids for one in _tree(pid)):
        with contextlib.suppress(psutil.Error):
            total += process.memory_info().rss
    return total / 2**20


def _busy() -> float:
    times = psutil.cpu_times()
    return sum(times) - times.idle - times.iowait - times.guest - times.guest_nice
