"""The producers of the core's server, in a process of their own.

Each run is written by the real producer's core, appends as soon as it may
(`min_interval=0`), and the calls of all runs share one connection.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
from collections.abc import Sequence
from typing import Any, cast

import uvloop

from bench.rivals.servers.lines import Lines, Message
from bench.rivals.work import Job, control, pace, starts
from tailrace.adapters.calls import local_clock
from tailrace.errors import Unavailable, from_dict
from tailrace.producer.core import Core, Pace
from tailrace.producer.opening import Opening
from tailrace.writers import Answer, Transport

PACE = Pace(min_interval=0)


class Pipeline:
    """A transport whose calls return futures, all over one connection."""

    def __init__(self) -> None:
        self._line: Lines | None = None
        self._waiting: dict[int, tuple[str, asyncio.Future[Answer]]] = {}
        self._calls = 0

    async def connect(self) -> None:
        loop = asyncio.get_running_loop()
        _, self._line = await loop.create_connection(
            lambda: Lines(self._answered, lost=self._lost),
            "127.0.0.1",
            int(os.environ["PRODUCER_PORT"]),
        )

    def clock(self) -> int:
        return local_clock()

    def open(
        self, stream: str, run: str, writer: str, **options: Any
    ) -> asyncio.Future[Answer]:
        return self._call("open", stream, run, writer, **options)

    def append(
        self, stream: str, run: str, writer: str, seq: int, texts: Sequence[str]
    ) -> asyncio.Future[Answer]:
        return self._call("append", stream, run, writer, texts, seq=seq)

    def end(
        self,
        stream: str,
        run: str,
        writer: str,
        seq: int,
        reason: str,
        message: str | None,
    ) -> asyncio.Future[Answer]:
        return self._call(
            "end", stream, run, writer, seq=seq, reason=reason, message=message
        )

    def renew(
        self, stream: str, run: str, writer: str, **options: Any
    ) -> asyncio.Future[Answer]:
        raise NotImplementedError("no run of the bench is silent for so long")

    def _call(
        self,
        operation: str,
        stream: str,
        run: str,
        writer: str,
        texts: Sequence[str] = (),
        **options: Any,
    ) -> asyncio.Future[Answer]:
        self._calls += 1
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[self._calls] = run, future
        if self._line is None:
            self._lost()
        else:
            call = {"id": self._calls, "operation": operation, "stream": stream}
            self._line.send(call | {"run": run, "writer": writer} | options, texts)
        return future

    def _answered(self, line: Lines, answer: Message, chunks: list[str]) -> None:
        run, future = self._waiting.pop(answer["id"])
        if "error" in answer:
            future.set_exception(from_dict(answer["error"]))
        else:
            future.set_result(Answer(run, answer["next"], already=answer["already"]))

    def _lost(self) -> None:
        self._line = None
        while self._waiting:
            _, future = self._waiting.popitem()[1]
            future.set_exception(Unavailable("the server is gone"))


class Writer:
    """Drives one run's core: makes the call that is due, whenever something happens."""

    def __init__(self, stream: str, pipeline: Pipeline) -> None:
        opening = Opening(
            stream,
            secrets.token_hex(10),
            lease=PACE.lease,
            randomness=secrets.token_bytes(10),
        )
        self._core = Core(opening, PACE)
        self._pipeline = pipeline
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self.closed: asyncio.Future[None] = self._loop.create_future()

    def write(self, number: int, text: str) -> None:
        self._core.write(text)
        if self._core.waiting == 1:
            self.advance()

    def end(self) -> None:
        self._core.end("completed")
        self.advance()

    def advance(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = self._loop.time()
        call = self._core.step(now)
        if call is not None:
            # What a call returns is a future here: nothing waits in a thread.
            made = call.send(cast(Transport, self._pipeline))
            cast("asyncio.Future[Answer]", made).add_done_callback(self._made)
        elif self._core.state == "closed":
            if not self.closed.done():
                self.closed.set_result(None)
        elif (due := self._core.due(now)) is not None:
            self._timer = self._loop.call_at(due, self.advance)

    def _made(self, made: asyncio.Future[Answer]) -> None:
        now, error = self._loop.time(), made.exception()
        if error is None:
            self._core.answered(made.result(), now)
        else:
            self._core.failed(error, now, random.random())
            if self._core.error is not None and not self.closed.done():
                self.closed.set_exception(self._core.error)
        self.advance()


async def main() -> None:
    pipeline = Pipeline()
    await pipeline.connect()

    async def produce(job: Job) -> None:
        async def one(sid: str, at: int) -> None:
            writer = Writer(sid, pipeline)
            writer.advance()
            await pace(job["n"], job["rate"], at, writer.write)
            writer.end()
            await writer.closed

        await asyncio.gather(*(one(sid, at) for sid, at in starts(job)))

    await control({"produce": produce})


if __name__ == "__main__":
    uvloop.run(main())
