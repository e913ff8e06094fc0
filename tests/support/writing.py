"""A job that writes numbered chunks until it is told to finish."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
from collections.abc import AsyncIterator

from demo.stack import LocalStack
from tailrace import Producer
from tailrace.transports.function import PublishFunction


class Writing:
    """A run in the making. `chunks` grows; what a consumer has is a prefix of it."""

    def __init__(self, stack: LocalStack, stream: str, per_second: float) -> None:
        self.stream = stream
        self.chunks: list[str] = []
        self._stack = stack
        self._pause = 1 / per_second
        self._finished = threading.Event()
        self._grown = threading.Condition()

    def has(self, chunks: int) -> None:
        """Wait until it has written so many."""
        with self._grown:
            grown = self._grown.wait_for(lambda: len(self.chunks) >= chunks, 30)
        assert grown, "the job does not write"

    def _write(self) -> None:
        function = PublishFunction(self._stack.lambda_, self._stack.function("publish"))
        with Producer(self.stream, transport=function) as producer:
            for number in itertools.count():
                if self._finished.wait(self._pause):
                    break
                chunk = f"{number} "
                producer.write(chunk)
                with self._grown:
                    self.chunks.append(chunk)
                    self._grown.notify_all()


@contextlib.asynccontextmanager
async def writing(
    stack: LocalStack, stream: str, *, per_second: float = 50
) -> AsyncIterator[Writing]:
    """Write into a stream for as long as the context lasts; then end the run."""
    job = Writing(stack, stream, per_second)
    thread = asyncio.create_task(asyncio.to_thread(job._write))
    try:
        yield job
    finally:
        job._finished.set()
        await thread
