"""The work that every server is given, and the one clock of all processes.

A chunk is `{"i":<number>,"t":<µs>}`, stamped when it is made, before anything is
published. The pace is open: a chunk that is due is made even while earlier ones wait,
so that waiting counts as latency. `servers/work.mjs` does the same for Node.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

BASE = "BENCH_BASE_NS"
# CLOCK_MONOTONIC, which Node's process.hrtime reads too.
_base = int(os.environ.setdefault(BASE, str(time.monotonic_ns())))

YIELD_EVERY = 50

Job = dict[str, Any]
"""`sids`, `n` chunks for each, `rate` a second (0: as fast as can be), `start_at` µs"""

Emit = Callable[[int, str], None]


def now_us() -> int:
    """Return microseconds since the bench began; the same in every process of it."""
    return (time.monotonic_ns() - _base) // 1000


def chunk(number: int) -> str:
    return f'{{"i":{number},"t":{now_us()}}}'


def starts(job: Job) -> Iterator[tuple[str, int]]:
    """Yield each stream, and when it begins: spread over one period."""
    sids, rate = job["sids"], job["rate"]
    for place, sid in enumerate(sids):
        late = int(place / len(sids) * 1e6 / rate) if rate else 0
        yield sid, job["start_at"] + late


async def pace(n: int, rate: float, start_at: int, emit: Emit) -> None:
    """Emit `n` chunks at their pace."""
    wait = (start_at - now_us()) / 1e6
    if wait > 0:
        await asyncio.sleep(wait)
    if not rate:
        for number in range(n):
            emit(number, chunk(number))
            if number % YIELD_EVERY == YIELD_EVERY - 1:
                await asyncio.sleep(0)
        return
    number = 0
    while number < n:
        due = min(n, int((now_us() - start_at) * rate // 1_000_000) + 1)
        while number < due:
            emit(number, chunk(number))
            number += 1
        if number < n:
            at = start_at + number * 1e6 / rate
            await asyncio.sleep(max(0.0, (at - now_us()) / 1e6))


Handler = Callable[[Job], Awaitable[dict[str, Any] | None]]


async def control(handlers: Mapping[str, Handler], **ready: Any) -> None:
    """Take commands as lines of JSON, until the input ends: `{"id", "cmd", …}` is
    answered by `{"id", …}`, with `error` where it failed."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=1 << 24)
    await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )

    def say(answer: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()

    async def handle(command: Job) -> None:
        try:
            answer = await handlers[command["cmd"]](command)
            say({"id": command["id"], **(answer or {})})
        except Exception as error:  # noqa: BLE001 - told to who asked
            traceback.print_exc()
            say({"id": command["id"], "error": repr(error)})

    say({"ready": True, **ready})
    tasks = set()
    while line := await reader.readline():
        task = asyncio.create_task(handle(json.loads(line)))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
