"""`useChat` of the AI SDK's three majors over Tailrace: the real packages, in Chromium,
in StrictMode, against the deployed stack, with API Gateway's limits between them.

Each test is a story that happens at the same time in all majors, which post their
turns, and in one that sends them by the socket. `also_stock`: and in a page without a
package of ours, whose other stories are those of test_ai_sdk_stock.py."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.browser import Visitor
from tests.support.chats import (
    COUNTED,
    Chat,
    Chats,
    Way,
    ends,
    ends_whole,
    everywhere,
    half,
    opened,
    regenerated,
    send,
    until,
)
from tests.support.chatting import Site
from tests.support.deployed import Deployed

pytest_plugins = ["tests.support.browser_fixtures"]
pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

OURS = [Way(5, "post"), Way(6, "post"), Way(7, "post"), Way(7, "socket")]
STOCK = [Way(7, "stock")]
also_stock = pytest.mark.parametrize(
    "chats", [OURS, STOCK], indirect=True, ids=["ours", "stock"]
)


@pytest_asyncio.fixture(loop_scope="session")
async def chats(
    request: pytest.FixtureRequest, site: Site, visitor: Visitor, deployed: Deployed
) -> AsyncIterator[Chats]:
    ways = getattr(request, "param", OURS)
    async with opened(ways, site, visitor, deployed) as chats:
        yield chats


@everywhere
async def test_send_and_stream(chat: Chat) -> None:
    page = await chat.tab()
    await send(page, "count 20")
    seen = await ends(page)
    assert seen["texts"] == [COUNTED]
    assert seen["error"] is None


@everywhere
async def test_a_reload_and_a_second_tab_in_mid_answer(chat: Chat) -> None:
    page = await chat.tab()
    await send(page, "wait")
    await half(page)
    second = await chat.tab()
    await half(second)
    await chat.reload(page)
    await half(page)
    chat.backend.go.set()
    await ends_whole(page)
    await ends_whole(second)
    assert await page.evaluate("seen.texts") == await second.evaluate("seen.texts")


@everywhere
async def test_a_remount_in_mid_answer_cancels_nothing(chat: Chat) -> None:
    page = await chat.tab()
    await send(page, "wait")
    await half(page)
    await page.evaluate("mount(false)")
    await page.evaluate("globalThis.seen = null; mount(true)")
    await page.wait_for_function("seen?.texts[0]?.includes('half')")
    chat.backend.go.set()
    await ends_whole(page)
    assert chat.backend.stopped == []


@everywhere
async def test_stop_after_resume_looks_away_and_cancel_stops_the_job(
    chat: Chat,
) -> None:
    page = await chat.tab()
    await send(page, "wait")
    await half(page)
    await chat.reload(page)
    await half(page)
    await page.evaluate("stop()")
    await ends(page)
    assert chat.backend.stopped == []
    assert await page.evaluate("cancel()") == {"reason": "cancelled"}
    await chat.jobs_end()
    assert chat.backend.stopped == ["cancelled"]


@everywhere
async def test_regenerate(chat: Chat) -> None:
    page = await chat.tab()
    await send(page, "count 5")
    seen = await regenerated(page, await ends(page))
    assert seen["texts"] == ["0 1 2 3 4 "]
    assert [turn["trigger"] for turn in chat.backend.turns] == [
        "submit-message",
        "regenerate-message",
    ]


@also_stock
@everywhere
async def test_a_tool_call(chat: Chat) -> None:
    page = await chat.tab()
    await send(page, "tool")
    seen = await ends(page)
    (answer,) = seen["answers"]
    tool = next(part for part in answer["parts"] if part["type"] == "tool-weather")
    assert tool["state"] == "output-available"
    assert (tool["input"], tool["output"]) == ({"city": "Kiel"}, {"sky": "grey"})


@also_stock
@everywhere
async def test_a_job_that_fails_and_one_that_dies_are_errors(chat: Chat) -> None:
    page = await chat.tab()
    await send(page, "fail")
    seen = await ends(page, "error")
    assert seen["error"] == "Too long a question."
    assert seen["texts"][0].startswith("0 1 2")
    await send(page, "die")
    await until(page, "status === 'streaming' && texts[1]?.includes('9')")
    # The page itself looks every 25 s.
    await chat.is_looked_at()
    seen = await until(page, "status === 'error' && texts.length > 1")
    assert seen["error"] == "The answer broke off."


@also_stock
@everywhere
async def test_an_answer_of_more_than_128_kb_also_after_a_reload(chat: Chat) -> None:
    whole = "".join(f"{n:07} " * 100 for n in range(400))
    page = await chat.tab()
    await send(page, "long 400")
    await until(page, f"texts[0]?.length === {len(whole)}")
    await chat.reload(page)
    await until(page, f"texts[0]?.length === {len(whole)}")
    chat.backend.go.set()
    assert (await ends(page))["texts"] == [whole]


@everywhere
async def test_ten_seconds_offline_with_the_page_visible(chat: Chat) -> None:
    chat.visitor.network_fails = True
    page = await chat.tab()
    await send(page, "wait")
    await half(page)
    with chat.proxy.outage():
        await asyncio.sleep(10)
        assert (await page.evaluate("seen"))["status"] == "streaming"
    chat.backend.go.set()
    await ends_whole(page)


@everywhere
async def test_a_token_that_expires_in_mid_answer(chat: Chat) -> None:
    chat.token_seconds = 4
    page = await chat.tab()
    await send(page, "wait")
    await half(page)
    await chat.proxy.until(lambda proxy: len(proxy.sent("auth")) >= 2)
    chat.backend.go.set()
    await ends_whole(page)
