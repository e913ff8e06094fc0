"""On the deployed stack: every consumer gets every chunk, once and in order."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from tailrace.audience import SHARE
from tests.support.deployed import Deployed
from tests.support.runs import (
    BATCH,
    Run,
    ended,
    every_kind_of_consumer_has_all,
    together,
)
from tests.support.socket import TIMEOUT, Socket, Watcher, open_socket


async def test_a_thousand_chunks_reach_every_kind_of_consumer(
    deployed: Deployed,
) -> None:
    await every_kind_of_consumer_has_all(deployed)


async def test_a_large_audience_is_served_by_several_invocations_at_once(
    deployed: Deployed,
) -> None:
    """Most of it is dead. Each batch drops those rows, so they are put before each."""
    run = Run(deployed, deployed.new_stream(), 3 * BATCH)
    url, token = deployed.stack.socket_url, deployed.token(run.stream)
    watchers = [Watcher(url, token, run.stream) for _ in range(12)]
    later = {"N": str(int(time.time()) + 600)}

    def crowd() -> None:
        for number in range(2 * SHARE):
            key = {"pk": {"S": f"stream#{run.stream}"}, "sk": {"S": f"{number:04}"}}
            deployed.stack.dynamodb.put_item(
                TableName=deployed.stack.state_table,
                Item={**key, "n": {"N": "1"}, "exp": later, "expires_at": later},
            )

    async def write() -> None:
        await asyncio.gather(*(one.has(0) for one in watchers))
        for _ in range(3):
            await asyncio.to_thread(crowd)
            await asyncio.to_thread(run.write)
        await asyncio.to_thread(run.end)

    def handed_over() -> int:
        return sum("SharesHandedOver" in line for line in deployed.stack.logs("fanout"))

    before = handed_over()
    await together(*(one.watch(ended) for one in watchers), write())
    for one in watchers:
        assert one.chunks == {run.run: run.chunks}
        assert one.ends == {run.run: "completed"}
    assert handed_over() > before


async def test_one_connection_carries_twenty_streams(deployed: Deployed) -> None:
    runs = [Run(deployed, deployed.new_stream(), 40) for _ in range(20)]
    token = deployed.token(*(run.stream for run in runs))
    async with open_socket(deployed.stack.socket_url, token) as socket:
        await socket.send("sync", streams={run.stream: None for run in runs})
        await socket.until("synced")
        await together(*(run.write_all() for run in runs), _all_ended(socket, runs))
    for run in runs:
        assert received(socket, run) == run.chunks


async def test_one_stream_reaches_twenty_connections(deployed: Deployed) -> None:
    run = Run(deployed, deployed.new_stream(), 100)
    watchers = [
        Watcher(deployed.stack.socket_url, deployed.token(run.stream), run.stream)
        for _ in range(20)
    ]
    await together(*(one.watch(ended) for one in watchers), run.write_all())
    assert [one.chunks for one in watchers] == [{run.run: run.chunks}] * 20


async def test_a_run_followed_at_once_by_another_is_shown_to_its_end(
    deployed: Deployed,
) -> None:
    """§3.3: the last slices of the first were lost; the cursor brings them, then the
    next run."""
    stream = deployed.new_stream()
    first = Run(deployed, stream, 30)
    watcher = Watcher(deployed.stack.socket_url, deployed.token(stream), stream)
    watching = asyncio.create_task(watcher.watch(ended))
    first.write()
    await watcher.has(10)
    watching.cancel()
    await asyncio.wait([watching])
    await first.write_all()
    second = Run(deployed, stream, 10)
    await second.write_all()
    await asyncio.wait_for(watcher.watch(lambda one: len(one.ends) == 2), TIMEOUT)
    assert watcher.chunks == {first.run: first.chunks, second.run: second.chunks}
    assert watcher.ends == {first.run: "completed", second.run: "completed"}


async def test_cancel_over_a_socket_stops_the_job_and_every_tab_sees_it(
    deployed: Deployed,
) -> None:
    run = Run(deployed, deployed.new_stream())
    url, token = deployed.stack.socket_url, deployed.token(run.stream)
    tabs = [Watcher(url, token, run.stream) for _ in range(2)]
    watching = [asyncio.create_task(tab.watch(ended)) for tab in tabs]
    run.write()
    await tabs[0].has(10)
    async with open_socket(url, token) as socket:
        answer = await socket.ask("cancel", "cancelled", stream=run.stream, run=run.run)
        assert answer["reason"] == "cancelled"
    told = deployed.call(
        operation="append",
        stream=run.stream,
        run=run.run,
        writer="job",
        seq=run.next,
        chunks=["too late"],
    )
    assert told["error"]["code"] == "cancelled"
    await asyncio.wait_for(asyncio.gather(*watching), TIMEOUT)
    for tab in tabs:
        assert tab.ends == {run.run: "cancelled"}
        assert tab.chunks == {run.run: run.chunks[:10]}


async def test_a_cancel_of_a_run_that_ended_harms_no_later_run(
    deployed: Deployed,
) -> None:
    stream = deployed.new_stream()
    first = Run(deployed, stream, 10)
    await first.write_all()
    second = Run(deployed, stream, 10)
    token = deployed.token(stream)
    async with open_socket(deployed.stack.socket_url, token) as socket:
        answer = await socket.ask("cancel", "cancelled", stream=stream, run=first.run)
    assert answer["reason"] == "completed"
    await second.write_all()
    assert deployed.ask("tail", stream)["reason"] == "completed"


async def test_a_silent_job_is_lost_for_everyone_who_watches_and_can_be_claimed(
    deployed: Deployed,
) -> None:
    """A job that was killed says nothing; whoever looks after its lease ends it."""
    stream = deployed.new_stream()
    opened = deployed.ask("open", stream, writer="job", lease=1)
    token = deployed.token(stream)
    async with (
        open_socket(deployed.stack.socket_url, token) as one,
        open_socket(deployed.stack.socket_url, token) as other,
    ):
        for socket in (one, other):
            await socket.ask("subscribe", "subscribed", stream=stream)

        async def look_until_lost() -> None:
            while not any("end" in frame for frame in one.frames):
                await one.ask(
                    "sync", "synced", streams={stream: [opened["run"], opened["seq"]]}
                )

        await asyncio.wait_for(look_until_lost(), TIMEOUT)
        lost = await other.until(lambda frame: "end" in frame)
        assert lost["end"] == {"reason": "producer_lost"}
        claimed = deployed.ask("claim", stream, run=opened["run"], writer="next")
        live = await other.until(lambda frame: "claim" in frame)
        assert (live["claim"], live["seq"]) == ({"epoch": 1}, claimed["seq"])


async def _all_ended(socket: Socket, runs: list[Run]) -> None:
    open_runs = {run.run for run in runs}
    while open_runs:
        frame = await socket.receive()
        if "end" in frame:
            open_runs.discard(frame["run"])


def received(socket: Socket, run: Run) -> list[Any]:
    """Return the chunks of a run that a socket got, by their seqs."""
    by_seq: dict[int, Any] = {}
    for frame in socket.frames:
        if frame.get("run") == run.run and frame["type"] == "slice":
            at = frame["seq"] + ("open" in frame)
            by_seq.update(enumerate(frame.get("chunks", []), at))
    assert sorted(by_seq) == list(range(2, 2 + len(by_seq))), "a chunk is missing"
    return [by_seq[seq] for seq in sorted(by_seq)]


async def test_more_streams_than_a_connection_carries_are_refused(
    deployed: Deployed,
) -> None:
    names = {deployed.new_stream(): None for _ in range(51)}
    async with open_socket(deployed.stack.socket_url, deployed.token()) as socket:
        answer = await socket.ask("sync", "synced", streams=names)
    assert (answer["code"], answer["limit"]) == ("too_many", 50)
