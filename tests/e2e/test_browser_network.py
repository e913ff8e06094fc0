"""The browser client on a network that fails: always the exact answer, once.

Chromium, the deployed stack, and between them a proxy that breaks what it is told to.
"""

from __future__ import annotations

import asyncio

import pytest

from demo.stack import LocalStack
from tests.support.deployed import Deployed
from tests.support.proxy import Proxy, Weather
from tests.support.watching import Watching, has, saw, watch, what
from tests.support.writing import writing

pytest_plugins = ["tests.support.browser_fixtures"]
pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

# The short ones pass unnoticed by the browser; of the others it tells the page.
CUTS_SECONDS = (0.1, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1, 1.5, 2.5)
NOTICED_SECONDS = 0.25


async def test_ten_cuts_in_one_run(
    stack: LocalStack, deployed: Deployed, proxy: Proxy, watching: Watching
) -> None:
    watching.visitor.network_fails = True
    stream = deployed.new_stream()
    page = await watching.tab(proxy.url)
    async with writing(stack, stream) as job:
        await watch(page, stream)
        for seconds in CUTS_SECONDS:
            await proxy.connects()
            await has(page, stream, len((await what(page, stream))["chunks"]) + 1)
            with proxy.outage():
                noticed = seconds > NOTICED_SECONDS
                await watching.visitor.context.set_offline(noticed)
                await asyncio.sleep(seconds)
            await watching.visitor.context.set_offline(False)
    await saw(page, stream, job.chunks)
    assert len(proxy.links) > len(CUTS_SECONDS)


async def test_an_outage_of_a_minute(
    stack: LocalStack, deployed: Deployed, proxy: Proxy, watching: Watching
) -> None:
    watching.visitor.network_fails = True
    stream = deployed.new_stream()
    page = await watching.tab(proxy.url)
    await page.clock.install()
    async with writing(stack, stream) as job:
        await watch(page, stream)
        await has(page, stream, 10)
        with proxy.outage():
            for _ in range(60):
                await page.clock.run_for(1_000)
        admitted = proxy.admitted
        while proxy.admitted == admitted:
            await page.clock.run_for(1_000)
        await proxy.connects()
    await saw(page, stream, job.chunks)
    assert len(proxy.links) > 1


@pytest.mark.parametrize("code", [1001, 1006, 1009, 1011])
async def test_the_server_closes(
    stack: LocalStack,
    deployed: Deployed,
    proxy: Proxy,
    watching: Watching,
    code: int,
) -> None:
    stream = deployed.new_stream()
    page = await watching.tab(proxy.url)
    async with writing(stack, stream) as job:
        await watch(page, stream)
        for _ in range(2):
            await has(page, stream, len((await what(page, stream))["chunks"]) + 20)
            await proxy.close(code)
    await saw(page, stream, job.chunks)
    assert len(proxy.links) == 3


@pytest.mark.parametrize(
    "weather",
    [
        Weather(lost=0.3),
        Weather(doubled=0.5, delay=0.3),
        Weather(lost=0.1, doubled=0.2, delay=0.6, failed=0.2),
    ],
    ids=["lost", "doubled and overtaking", "all of it"],
)
async def test_frames_are_lost_doubled_delayed_and_fail(
    stack: LocalStack,
    deployed: Deployed,
    proxy: Proxy,
    watching: Watching,
    weather: Weather,
) -> None:
    stream = deployed.new_stream()
    page = await watching.tab(proxy.url)
    async with writing(stack, stream) as job:
        await watch(page, stream)
        await has(page, stream, 1)
        proxy.weather = weather
        await has(page, stream, 150)
    seen = await saw(page, stream, job.chunks)
    # Or nothing has befallen it.
    assert not weather.lost or "repair" in seen["ways"]


async def test_frames_without_a_type_and_frames_of_nobody(
    stack: LocalStack, deployed: Deployed, proxy: Proxy, watching: Watching
) -> None:
    stream = deployed.new_stream()
    page = await watching.tab(proxy.url)
    async with writing(stack, stream) as job:
        await watch(page, stream)
        for text in (
            '{"message": "Forbidden", "connectionId": "c", "requestId": "r"}',
            '{"message": "Internal server error", "requestId": "r"}',
            '{"type": "of a later version", "stream": 1}',
            '{"type": "slice", "stream": "' + stream + '", "seq": "no"}',
            "[]",
            "null",
            "no JSON",
            "",
        ):
            await has(page, stream, len((await what(page, stream))["chunks"]) + 5)
            await proxy.inject(text)
    await saw(page, stream, job.chunks)
    assert len(proxy.links) == 1
