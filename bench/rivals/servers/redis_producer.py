"""The producers of the Redis server: XADD, all that was written since the last round
trip in one pipeline."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import redis.asyncio as redis
import uvloop

from bench.rivals.work import Job, control, pace, starts

AT_ONCE = 500


async def main() -> None:
    store: Any = redis.Redis.from_url(os.environ["REDIS_URL"])
    await store.ping()

    async def produce(job: Job) -> None:
        waiting: list[tuple[str, dict[str, str]]] = []
        woken, over = asyncio.Event(), False

        async def put() -> None:
            nonlocal waiting
            while waiting or not over:
                await woken.wait()
                woken.clear()
                while waiting:
                    batch, waiting = waiting[:AT_ONCE], waiting[AT_ONCE:]
                    pipeline = store.pipeline(transaction=False)
                    for key, entry in batch:
                        pipeline.xadd(key, entry)
                    await pipeline.execute()

        async def one(sid: str, at: int) -> None:
            def emit(number: int, text: str) -> None:
                write({"d": text})

            def write(entry: dict[str, str]) -> None:
                waiting.append((f"s:{sid}", entry))
                woken.set()

            await pace(job["n"], job["rate"], at, emit)
            write({"end": "1"})

        putting = asyncio.create_task(put())
        await asyncio.gather(*(one(sid, at) for sid, at in starts(job)))
        over = True
        woken.set()
        await putting

    await control({"produce": produce})


if __name__ == "__main__":
    uvloop.run(main())
