"""Starts `job.py`, tells it what to do, and waits for what it says."""

from __future__ import annotations

import contextlib
import json
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from demo.stack import STACK_NAME, LocalStack

SCRIPT = Path(__file__).with_name("job.py")
PATIENCE = 60


class Job:
    """A running job."""

    def __init__(self, stack: LocalStack, stream: str, **options: Any) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-P", str(SCRIPT), stream, json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            env={**stack.environment, "TAILRACE_STACK": STACK_NAME},
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def tell(self, command: str) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(command + "\n")

    def expect(self, word: str) -> str:
        """Wait for a line that begins with the word; return the rest of it."""
        seen: list[str] = []
        while True:
            line = self._lines.get(timeout=PATIENCE)
            assert line is not None, f"it ended, having said {seen}"
            seen.append(line)
            first, _, rest = line.partition(" ")
            if first == word:
                return rest

    def ask(self, command: str, word: str) -> str:
        self.tell(command)
        return self.expect(word)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)

    def stop(self) -> None:
        """Freeze it, as a sandbox between two invocations, or a laptop."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.strip())
        self._lines.put(None)


class Jobs:
    """Starts jobs, and ends all that are left."""

    def __init__(self, stack: LocalStack) -> None:
        self._stack = stack
        self._started: list[Job] = []

    def start(self, stream: str, **options: Any) -> Job:
        job = Job(self._stack, stream, **options)
        self._started.append(job)
        return job

    @contextlib.contextmanager
    def all(self) -> Iterator[Jobs]:
        try:
            yield self
        finally:
            for job in self._started:
                job.process.kill()
                job.process.wait(PATIENCE)
                for pipe in (job.process.stdin, job.process.stdout):
                    if pipe is not None:
                        with contextlib.suppress(OSError):
                            pipe.close()
