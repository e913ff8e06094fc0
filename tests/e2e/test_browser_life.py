"""The browser client through the life of a page: reloads, tabs, sleep, limits, tokens.

Chromium, the deployed stack, and between them a proxy with API Gateway's limits.
"""

from __future__ import annotations

import asyncio

import pytest

from demo.stack import LocalStack
from tests.support.deployed import Deployed
from tests.support.proxy import Proxy
from tests.support.watching import Watching, connect, has, saw, watch, what
from tests.support.writing import writing

pytest_plugins = ["tests.support.browser_fixtures"]
pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

RUNS = 100
SYNC_MS = 25_000


async def test_a_reload_in_mid_answer_shows_it_from_its_open(
    stack: LocalStack, deployed: Deployed, proxy: Proxy, watching: Watching
) -> None:
    stream = deployed.new_stream()
    page = await watching.tab(proxy.url)
    async with writing(stack, stream) as job:
        await watch(page, stream)
        await has(page, stream, 30)
        await page.reload()
        await connect(page, proxy.url)
        await watch(page, stream)
        await has(page, stream, 60)
    seen = await saw(page, stream, job.chunks)
    assert {"replay", "live"} <= set(seen["ways"])


async def test_a_reload_with_a_kept_cursor_reads_only_what_is_missing(
    stack: LocalStack, deployed: Deployed, proxy: Proxy, watching: Watching
) -> None:
    stream = deployed.new_stream()
    page = await watching.tab(proxy.url)
    async with writing(stack, stream) as job:
        await watch(page, stream, kept=True)
        for _ in range(3):
            before = len((await what(page, stream))["chunks"])
            await has(page, stream, before + 30)
            await page.reload()
            await connect(page, proxy.url)
            await watch(page, stream, kept=True)
    await saw(page, stream, job.chunks)
    # A chunk's seq is its number and two: it begins behind the run's open.
    firsts = [
        next(frame["seq"] for frame in link.received if frame["type"] == "slice")
        for link in proxy.links
    ]
    assert len(firsts) == 4
    assert firsts == sorted(set(firsts))


async def test_five_tabs_see_the_same(
    stack: LocalStack, deployed: Deployed, proxy: Proxy, watching: Watching
) -> None:
    stream = deployed.new_stream()
    tabs = []
    async with writing(stack, stream) as job:
        for number in range(5):
            tabs.append(await watching.tab(proxy.url))
            await watch(tabs[-1], stream)
            await has(tabs[-1], stream, 10 * number)
    for tab in tabs:
        await saw(tab, stream, job.chunks)


async def test_a_tab_whose_timers_were_frozen(
    stack: LocalStack, deployed: Deployed, proxy: Proxy, watching: Watching
) -> None:
    stream = deployed.new_stream()
    page = await watching.tab(proxy.url)
    devtools = await watching.visitor.context.new_cdp_session(page)
    async with writing(stack, stream) as job:
        await watch(page, stream)
        await has(page, stream, 20)
        await devtools.send("Page.setWebLifecycleState", {"state": "frozen"})
        written = len(job.chunks)
        await proxy.close(1001)
        await asyncio.to_thread(job.has, written + 50)
        await devtools.send("Page.setWebLifecycleState", {"state": "active"})
        await has(page, stream, written + 50)
    await saw(page, stream, job.chunks)


async def test_a_laptop_that_slept_for_an_hour_with_its_token(
    stack: LocalStack, deployed: Deployed, proxy: Proxy, watching: Watching
) -> None:
    stream = deployed.new_stream()
    watching.token_seconds = 2
    page = await watching.tab(proxy.url)
    await page.clock.install()
    async with writing(stack, stream) as job:
        await watch(page, stream)
        await has(page, stream, 10)
        with proxy.silence():
            await asyncio.to_thread(job.has, len(job.chunks) + 100)
        watching.token_seconds = 7_200
        await page.clock.fast_forward(3_600_000)
        await has(page, stream, len(job.chunks))
    await saw(page, stream, job.chunks)
    assert watching.minted >= 2


async def test_a_token_that_is_renewed_in_mid_answer_costs_no_connection(
    stack: LocalStack, deployed: Deployed, proxy: Proxy, watching: Watching
) -> None:
    stream = deployed.new_stream()
    watching.token_seconds = 4
    page = await watching.tab(proxy.url)
    async with writing(stack, stream) as job:
        await watch(page, stream)
        await proxy.until(lambda proxy: len(proxy.sent("auth")) >= 2)
        await has(page, stream, len(job.chunks))
    await saw(page, stream, job.chunks)
    assert len(proxy.links) == 1


async def test_a_token_that_expires_unnoticed_in_mid_answer(
    stack: LocalStack, deployed: Deployed, proxy: Proxy, watching: Watching
) -> None:
    """The backend hands out a token of a second, then fails for a while."""
    stream = deployed.new_stream()
    page = await watching.tab(proxy.url)
    await page.clock.install()
    async with writing(stack, stream) as job:
        watching.token_seconds = 1
        watching.failures = 3
        await watch(page, stream)
        await has(page, stream, 1)
        await asyncio.to_thread(job.has, len(job.chunks) + 100)
        watching.token_seconds = 900
        await page.clock.fast_forward(SYNC_MS)
        await has(page, stream, len(job.chunks))
    await saw(page, stream, job.chunks)
    (warning,) = watching.visitor.problems
    assert warning == "console.warning: no token: OSError: the backend is out of order"
    watching.visitor.problems.clear()


async def test_the_token_travels_as_a_subprotocol_too(
    stack: LocalStack, deployed: Deployed, proxy: Proxy, watching: Watching
) -> None:
    stream = deployed.new_stream()
    page = await watching.tab(proxy.url, handshake="subprotocol")
    async with writing(stack, stream) as job:
        await watch(page, stream)
        await has(page, stream, 10)
    await saw(page, stream, job.chunks)


async def test_a_connection_that_is_closed_for_being_idle_is_made_again(
    stack: LocalStack, deployed: Deployed, proxy: Proxy, watching: Watching
) -> None:
    stream = deployed.new_stream()
    proxy.idle = 1
    page = await watching.tab(proxy.url)
    await watch(page, stream)
    await proxy.until(lambda proxy: len(proxy.links) >= 3)
    async with writing(stack, stream, per_second=1.5) as job:
        await has(page, stream, 3)
    await saw(page, stream, job.chunks)


async def test_connections_that_live_a_second(
    stack: LocalStack, deployed: Deployed, proxy: Proxy, watching: Watching
) -> None:
    stream = deployed.new_stream()
    proxy.life = 1
    page = await watching.tab(proxy.url)
    async with writing(stack, stream) as job:
        await watch(page, stream)
        await proxy.until(lambda proxy: len(proxy.links) >= 3)
    proxy.life = 60
    await saw(page, stream, job.chunks)


async def test_the_two_hour_limit_is_forestalled_without_a_gap(
    stack: LocalStack, deployed: Deployed, proxy: Proxy, watching: Watching
) -> None:
    watching.token_seconds = 10_000
    stream = deployed.new_stream()
    page = await watching.tab(proxy.url)
    await page.clock.install()
    async with writing(stack, stream) as job:
        await watch(page, stream)
        await has(page, stream, 20)
        # A renewed token first: two hours are longer than it lives.
        await page.clock.fast_forward(116 * 60_000)
        await proxy.until(lambda proxy: len(proxy.links) == 2)
        await proxy.until(lambda proxy: len(proxy.living) == 1)
        await has(page, stream, len(job.chunks) + 20)
    await saw(page, stream, job.chunks)
    assert proxy.most_at_once == 2, "the next connection is made before the old ends"
    old, new = proxy.links
    assert any(frame["type"] == "synced" for frame in new.received)
    assert old not in proxy.living


async def test_a_subscription_that_the_server_lost_is_put_again(
    stack: LocalStack, deployed: Deployed, proxy: Proxy, watching: Watching
) -> None:
    """A wrong 410 makes the fan-out delete the row of a connection that lives."""
    stream = deployed.new_stream()
    page = await watching.tab(proxy.url)
    await page.clock.install()
    async with writing(stack, stream) as job:
        await watch(page, stream)
        await has(page, stream, 10)
        assert await asyncio.to_thread(forget_subscribers, stack, stream) == 1
        await asyncio.to_thread(job.has, len(job.chunks) + 50)
        await page.clock.fast_forward(SYNC_MS)
        await has(page, stream, len(job.chunks) + 20)
    seen = await saw(page, stream, job.chunks)
    assert seen["ways"][-1] == "live"
    assert len(proxy.links) == 1


def forget_subscribers(stack: LocalStack, stream: str) -> int:
    """Delete a stream's subscriptions; return how many there were."""
    rows = stack.dynamodb.query(
        TableName=stack.state_table,
        KeyConditionExpression="#pk = :pk",
        ExpressionAttributeNames={"#pk": "pk"},
        ExpressionAttributeValues={":pk": {"S": f"stream#{stream}"}},
        ConsistentRead=True,
    )["Items"]
    for row in rows:
        stack.dynamodb.delete_item(
            TableName=stack.state_table, Key={"pk": row["pk"], "sk": row["sk"]}
        )
    return len(rows)


async def test_fifty_streams_with_the_longest_names_fit_one_connection(
    deployed: Deployed, proxy: Proxy, watching: Watching
) -> None:
    streams = [deployed.new_stream("s" * 150).ljust(200, "x") for _ in range(50)]
    page = await watching.tab(proxy.url)
    for stream in streams:
        await watch(page, stream)
    await proxy.until(lambda proxy: bool(proxy.links and proxy.links[0].received))
    calls = [
        asyncio.to_thread(deployed.call, stream=stream, chunks=[stream], end=True)
        for stream in (streams[0], streams[25], streams[49])
    ]
    await asyncio.gather(*calls)
    for stream in (streams[0], streams[25], streams[49]):
        await saw(page, stream, [stream])
    # After a cut, all of them are asked for in one frame.
    await proxy.close(1001)
    await proxy.until(lambda proxy: len(proxy.links) == 2 and bool(proxy.links[1].sent))
    first = proxy.links[1].sent[0]
    assert first["type"] == "sync"
    assert len(first["streams"]) == 47
    assert proxy.largest_up > 47 * 200


async def test_a_hundred_runs_leave_nothing_behind(
    deployed: Deployed, proxy: Proxy, watching: Watching
) -> None:
    stream = deployed.new_stream()
    page = await watching.tab(proxy.url)
    devtools = await watching.visitor.context.new_cdp_session(page)
    await watch(page, stream, follow=True, forgetful=True)
    await proxy.until(lambda proxy: bool(proxy.links and proxy.links[0].received))
    # Half a megabyte of text in each half: what is kept of it would show.
    chunks = ["x" * 1_000] * 10

    async def heap() -> int:
        await devtools.send("HeapProfiler.collectGarbage")
        used: int = (await devtools.send("Runtime.getHeapUsage"))["usedSize"]
        return used

    async def ended(runs: int) -> None:
        await page.wait_for_function(
            "([stream, runs]) => seen[stream].count === runs", arg=[stream, runs]
        )

    sizes = {}
    for number in range(1, RUNS + 1):
        await asyncio.to_thread(deployed.call, stream=stream, chunks=chunks, end=True)
        if number in (RUNS // 2, RUNS):
            await ended(number)
            sizes[number] = await heap()
    assert sizes[RUNS] - sizes[RUNS // 2] < 100_000, sizes
