"""What the local AWS takes by itself, of which nothing can be saved: a handshake, a
frame that is answered by one post, a put, an invocation."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable
from typing import Any

import boto3
from botocore.config import Config

from bench.rivals.deployed import OnLocalAws
from bench.rivals.readers import SocketReader
from bench.rivals.scenarios import Row
from bench.rivals.work import now_us
from demo.local_aws import REGION

TIMES = 15
ANSWER = b"answered"


class Floor(OnLocalAws):
    name = "the local AWS"
    label = "handlers that do nothing, called by nobody else"
    module = "floor"
    given = ("floor",)

    async def start(self) -> None:
        self.server = await self.start_python(self.module)
        self.reach(self.server.ready["url"])

    @property
    def pids(self) -> list[int]:
        return [self.server.pid]


async def floor(peer: Floor) -> Row:
    """Return medians, in ms."""
    url = f"http://127.0.0.1:{peer.port}"
    session = boto3.Session("test", "test", region_name=REGION)
    settings = Config(retries={"total_max_attempts": 1})
    table: Any = session.client("dynamodb", endpoint_url=url, config=settings)
    functions: Any = session.client("lambda", endpoint_url=url, config=settings)
    item = {"pk": {"S": "floor"}, "sk": {"S": "1"}}
    handshakes, answers, puts, invocations = [], [], [], []
    for _ in range(TIMES):
        reader = SocketReader(peer.port, f"{peer.path}?sid=floor", ANSWER, plain=True)
        begun = now_us()
        await reader.open()
        handshakes.append(now_us() - begun)
        begun = now_us()
        reader.send(f'{{"action":"{ANSWER.decode()}"}}')
        await reader.until_done(5)
        answers.append(reader.records[0][0] - begun)
        reader.cut()
        puts.append(await _timed(lambda: table.put_item(TableName="subs", Item=item)))
        invocations.append(
            await _timed(lambda: functions.invoke(FunctionName="fanout", Payload=b"{}"))
        )
    taken = {
        "handshake_ms": handshakes,
        "answer_ms": answers,
        "put_ms": puts,
        "invoke_ms": invocations,
    }
    return {name: statistics.median(times) / 1000 for name, times in taken.items()}


async def _timed(call: Callable[[], object]) -> int:
    begun = now_us()
    await asyncio.to_thread(call)
    return now_us() - begun
