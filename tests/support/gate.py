"""A transport that can be held up, and what a producer has put into the log."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from tailrace import chunks
from tailrace.records import Record
from tailrace.transports.in_process import InProcess
from tailrace.writers import Answer
from tests.support.worlds import STREAM, World

PATIENCE = 30


class Gate(InProcess):
    """A transport whose appends wait until they are let through. `fault` is what they
    raise instead."""

    def __init__(self, world: World) -> None:
        super().__init__(world.log)
        self.open_gate = threading.Event()
        self.open_gate.set()
        self.begun = threading.Semaphore(0)
        self.fault: Exception | None = None

    def append(self, *args: Any, **kwargs: Any) -> Answer:
        self.begun.release()
        assert self.open_gate.wait(PATIENCE)
        if self.fault is not None:
            raise self.fault
        return super().append(*args, **kwargs)

    def wait_for_an_append(self) -> None:
        assert self.begun.acquire(timeout=PATIENCE)

    async def await_an_append(self) -> None:
        await asyncio.to_thread(self.wait_for_an_append)


def answer(world: World, stream: str = STREAM) -> list[Any]:
    """Return the chunks of a stream."""
    texts = (record.chunks for record in world.records(stream))
    return [value for text in texts for value in chunks.decode(text)]


def end(world: World) -> Record:
    last = world.records()[-1]
    assert last.kind == "end", last
    return last
