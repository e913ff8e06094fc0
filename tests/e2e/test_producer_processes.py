"""Producers as processes that are killed, frozen and cancelled, on the real stack."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from demo.stack import LocalStack
from tailrace import ids
from tests.support.deployed import Deployed
from tests.support.jobs import Jobs
from tests.support.socket import Watcher

ALL = 100
TRANSPORTS = ["function", "in-process"]


@pytest.fixture
def jobs(stack: LocalStack) -> Iterator[Jobs]:
    with Jobs(stack).all() as jobs:
        yield jobs


@pytest.fixture(params=TRANSPORTS)
def options(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Arguments of a job that a queue delivers until it succeeds."""
    return {
        "run": new_run(),
        "resume": "continue",
        "lease": 2,
        "wait": 30,
        "transport": request.param,
    }


def new_run() -> str:
    return ids.new_run(time.time_ns() // 1_000_000, bytes(10))


@asynccontextmanager
async def watching(deployed: Deployed, stream: str) -> AsyncIterator[Watcher]:
    """Watch a stream from now until its run has `completed`."""
    watcher = Watcher(deployed.stack.socket_url, deployed.token(), stream)
    task = asyncio.create_task(
        watcher.watch(lambda seen: "completed" in seen.ends.values())
    )
    try:
        yield watcher
        await asyncio.wait_for(task, 60)
    finally:
        task.cancel()


def chunks_of(deployed: Deployed, stream: str) -> list[Any]:
    """Return the chunks of a stream."""
    answer = deployed.ask("read", stream, after=0)
    assert not answer["more"]
    slices = map(json.loads, answer["slices"])
    return [chunk for piece in slices for chunk in piece.get("chunks", [])]


def log_of(deployed: Deployed, stream: str) -> list[str]:
    """Return the kinds of the records of a stream, in order."""
    pages = deployed.stack.dynamodb.get_paginator("query").paginate(
        TableName=deployed.stack.log_table,
        KeyConditionExpression="#stream = :stream",
        ExpressionAttributeNames={"#stream": "stream"},
        ExpressionAttributeValues={":stream": {"S": stream}},
    )
    return [item["kind"]["S"] for page in pages for item in page["Items"]]


async def test_a_killed_job_is_continued_before_anybody_noticed(
    deployed: Deployed, jobs: Jobs, options: dict[str, Any]
) -> None:
    stream = deployed.new_stream()
    async with watching(deployed, stream) as watcher:
        first = await asyncio.to_thread(jobs.start, stream, **options)
        first.tell(f"pour {ALL}")
        await asyncio.to_thread(first.expect, "poured")
        await watcher.has(5)
        first.kill()
        second = jobs.start(stream, **options)
        already = int(await asyncio.to_thread(second.expect, "open"))
        assert 5 <= already < ALL
        second.tell(f"pour {ALL}")
        await asyncio.to_thread(second.ask, "end", "ended")
    assert watcher.chunks == {options["run"]: list(range(ALL))}
    assert watcher.ends == {options["run"]: "completed"}
    kinds = log_of(deployed, stream)
    assert (kinds.count("claim"), kinds.count("end")) == (1, 1)


async def test_a_killed_job_is_continued_after_it_was_given_up(
    deployed: Deployed, jobs: Jobs, options: dict[str, Any]
) -> None:
    stream = deployed.new_stream()
    async with watching(deployed, stream) as watcher:
        first = await asyncio.to_thread(jobs.start, stream, **options)
        first.tell(f"pour {ALL}")
        await watcher.has(5)
        first.kill()
        while deployed.ask("tail", stream)["active"]:  # somebody looks
            await asyncio.sleep(0.2)
        while watcher.ends.get(options["run"]) != "producer_lost":
            async with watcher.progress:
                await watcher.progress.wait()
        second = jobs.start(stream, **options)
        await asyncio.to_thread(second.expect, "open")
        second.tell(f"pour {ALL}")
        await asyncio.to_thread(second.ask, "end", "ended")
    assert watcher.chunks == {options["run"]: list(range(ALL))}
    assert watcher.ends == {options["run"]: "completed"}
    kinds = log_of(deployed, stream)
    assert (kinds.count("claim"), kinds.count("end")) == (1, 2)


def test_a_frozen_job_is_fenced_before_its_successor_wrote_anything(
    deployed: Deployed, jobs: Jobs, options: dict[str, Any]
) -> None:
    stream = deployed.new_stream()
    first = jobs.start(stream, **options)
    first.ask("write 3", "written")
    first.ask("flush", "flushed")
    first.stop()
    second = jobs.start(stream, **options)
    assert second.expect("open") == "3"
    first.go_on()
    first.tell("write 3")
    first.tell("flush")
    assert json.loads(first.expect("Fenced")) == {"run": options["run"], "epoch": 1}
    second.ask("write 2", "written")
    second.ask("end", "ended")
    assert chunks_of(deployed, stream) == [0, 1, 2, 3, 4]
    assert log_of(deployed, stream)[-2:] == ["data", "end"]


def test_a_job_frozen_in_the_middle_of_its_appends_is_fenced(
    deployed: Deployed, jobs: Jobs, options: dict[str, Any]
) -> None:
    stream = deployed.new_stream()
    first = jobs.start(stream, **{**options, "min_interval": 0})
    first.expect("open")
    first.ask("flood", "flooding")
    while deployed.ask("tail", stream)["index"] < 100:
        pass
    first.stop()
    second = jobs.start(stream, **options)
    already = int(second.expect("open"))
    first.go_on()
    first.expect("Fenced")
    second.ask("write 2", "written")
    second.ask("end", "ended")
    tail = deployed.ask("tail", stream)
    assert (tail["kind"], tail["index"]) == ("end", already + 2)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("pace", ["flood", "pour 100000", "silent"])
def test_a_cancel_reaches_the_job(
    deployed: Deployed, jobs: Jobs, transport: str, pace: str
) -> None:
    """How soon, `bench/producer.py` says."""
    stream = deployed.new_stream()
    job = jobs.start(stream, transport=transport, min_interval=0, tell_stop=True)
    job.expect("open")
    if pace != "silent":
        job.tell(pace)
        while deployed.ask("tail", stream)["index"] < 10:
            pass
    assert deployed.ask("cancel", stream)["reason"] == "cancelled"
    assert job.expect("stopped") == "Cancelled"
    assert log_of(deployed, stream)[-1] == "end"


def test_a_run_is_handed_over_once_though_its_successor_begins_twice(
    deployed: Deployed, jobs: Jobs, options: dict[str, Any]
) -> None:
    stream = deployed.new_stream()
    first = jobs.start(stream, **options)
    first.ask("write 3", "written")
    handed = json.loads(first.ask("hand_over", "handed"))
    later = {"transport": options["transport"], **handed}
    second = jobs.start(stream, **later)
    assert second.expect("open") == "3"
    again = jobs.start(stream, **later)
    assert json.loads(again.expect("Busy"))["run"] == options["run"]
    second.ask("write 2", "written")
    second.ask("end", "ended")
    late = jobs.start(stream, **later)
    assert json.loads(late.expect("StreamEnded"))["reason"] == "completed"
    assert log_of(deployed, stream)[-1] == "end"
