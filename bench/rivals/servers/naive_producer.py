"""Producers of naive.py: a put for each chunk, in order within a stream."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
from botocore.config import Config

from bench.rivals.work import Job, control, pace, starts

THREADS = 8

dynamodb: Any = boto3.client("dynamodb", config=Config(max_pool_connections=THREADS))
pool = ThreadPoolExecutor(THREADS)


def put(sid: str, number: int, text: str) -> None:
    item = {"pk": {"S": sid}, "sk": {"N": str(number)}, "chunk": {"S": text}}
    dynamodb.put_item(TableName="chunks", Item=item)


async def produce(job: Job) -> None:
    loop = asyncio.get_running_loop()

    async def one(sid: str, at: int) -> None:
        waiting: asyncio.Queue[tuple[int, str]] = asyncio.Queue()

        async def write() -> None:
            for _ in range(job["n"]):
                number, text = await waiting.get()
                await loop.run_in_executor(pool, put, sid, number, text)

        writing = asyncio.create_task(write())
        await pace(
            job["n"],
            job["rate"],
            at,
            lambda number, text: waiting.put_nowait((number, text)),
        )
        await writing

    await asyncio.gather(*(one(sid, at) for sid, at in starts(job)))


if __name__ == "__main__":
    asyncio.run(control({"produce": produce}))
