"""Runs on a deployed stack, through the publish function, and who watches them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

from tests.support.deployed import Deployed
from tests.support.socket import TIMEOUT, Watcher

CHUNKS = 1_000
BATCH = 10


class Run:
    """A run of 1,000 chunks, written a batch at a time, as fast as is allowed."""

    def __init__(self, deployed: Deployed, stream: str, chunks: int = CHUNKS) -> None:
        self.deployed = deployed
        self.stream = stream
        self.chunks = [f"{number} " for number in range(chunks)]
        opened = deployed.ask("open", stream, writer="job")
        self.run: str = opened["run"]
        self.next: int = opened["next"]
        self.written = 0

    def write(self, chunks: int = BATCH) -> None:
        batch = self.chunks[self.written : self.written + chunks]
        answer = self.deployed.ask(
            "append",
            self.stream,
            run=self.run,
            writer="job",
            seq=self.next,
            chunks=batch,
        )
        self.next = answer["next"]
        self.written += len(batch)

    def end(self) -> None:
        self.deployed.ask(
            "end",
            self.stream,
            run=self.run,
            writer="job",
            seq=self.next,
            reason="completed",
        )

    async def write_all(self, meanwhile: Callable[[int], None] | None = None) -> None:
        while self.written < len(self.chunks):
            await asyncio.to_thread(self.write)
            if meanwhile:
                meanwhile(self.written)
        await asyncio.to_thread(self.end)


def ended(watcher: Watcher) -> bool:
    return bool(watcher.ends)


async def together(*work: Coroutine[Any, Any, Any]) -> None:
    async with asyncio.timeout(120), asyncio.TaskGroup() as group:
        for one in work:
            group.create_task(one)


async def an_answer_is_pushed(deployed: Deployed) -> None:
    """See it of one who was there before the answer, and so asks for nothing unless it
    sees a gap."""
    stream = deployed.new_stream()
    watcher = Watcher(deployed.stack.socket_url, deployed.token(stream), stream)

    async def write() -> Run:
        await watcher.has(0)
        run = await asyncio.to_thread(Run, deployed, stream, 20)
        await run.write_all()
        return run

    async with asyncio.timeout(TIMEOUT), asyncio.TaskGroup() as group:
        group.create_task(watcher.watch(ended))
        writing = group.create_task(write())
    run = writing.result()
    assert watcher.chunks == {run.run: run.chunks}


async def every_kind_of_consumer_has_all(deployed: Deployed) -> None:
    """See it of one there from the start, two tabs at once, one that joins in the
    middle, one whose socket is cut five times, and one that comes after the end."""
    run = Run(deployed, deployed.new_stream())
    url, token = deployed.stack.socket_url, deployed.token(run.stream)
    first, tab, late, cut, after = (Watcher(url, token, run.stream) for _ in range(5))
    joined = asyncio.Event()
    chance = random.Random(7)

    async def join_in_the_middle() -> None:
        await joined.wait()
        await late.watch(ended)

    async def cut_five_times() -> None:
        for number in range(1, 6):
            watching = asyncio.create_task(cut.watch(ended))
            await cut.has(number * 150 + chance.randrange(20))
            watching.cancel()
            await asyncio.wait([watching])
        await cut.watch(ended)

    def half(written: int) -> None:
        if written == CHUNKS // 2:
            joined.set()

    async def write() -> None:
        await first.has(0)
        await run.write_all(half)

    await together(
        first.watch(ended),
        tab.watch(ended),
        join_in_the_middle(),
        cut_five_times(),
        write(),
    )
    await asyncio.wait_for(after.watch(ended), TIMEOUT)
    for one in (first, tab, late, cut, after):
        assert one.chunks == {run.run: run.chunks}
        assert one.ends == {run.run: "completed"}
