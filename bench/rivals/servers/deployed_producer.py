"""Producers of the deployed stack: `AsyncProducer`, straight to the tables."""

from __future__ import annotations

import asyncio
import json

import uvloop

from bench.rivals.work import Job, control, pace, starts
from tailrace import AsyncProducer

# The more streams, the wider apart a stream's appends: the local AWS is one process,
# and takes some hundred puts a second.
INTERVAL, PUTS_A_SECOND = 0.05, 100


async def produce(job: Job) -> None:
    interval = max(INTERVAL, len(job["sids"]) / PUTS_A_SECOND)

    async def one(sid: str, at: int) -> None:
        waiting: asyncio.Queue[str | None] = asyncio.Queue()

        async def make() -> None:
            await pace(job["n"], job["rate"], at, lambda _, text: put(text))
            waiting.put_nowait(None)

        def put(text: str) -> None:
            waiting.put_nowait(text)

        making = asyncio.create_task(make())
        async with AsyncProducer(
            sid, transport="in-process", min_interval=interval
        ) as producer:
            while (text := await waiting.get()) is not None:
                await producer.write(json.loads(text))
        await making

    await asyncio.gather(*(one(sid, at) for sid, at in starts(job)))


if __name__ == "__main__":
    uvloop.run(control({"produce": produce}))
