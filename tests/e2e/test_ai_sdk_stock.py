"""The AI SDK's own `WebSocketChatTransport`, with no package of ours in the page: what
is not the same as in test_ai_sdk.py."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.browser import Visitor
from tests.support.chats import (
    COUNTED,
    Chat,
    Way,
    ends,
    ends_whole,
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


@pytest_asyncio.fixture(loop_scope="session")
async def chat(site: Site, visitor: Visitor, deployed: Deployed) -> AsyncIterator[Chat]:
    async with opened([Way(7, "stock")], site, visitor, deployed) as (chat,):
        yield chat


async def test_send_stream_and_regenerate(chat: Chat) -> None:
    page = await chat.tab()
    await send(page, "count 20")
    seen = await ends(page)
    assert (seen["texts"], seen["error"]) == ([COUNTED], None)
    assert (await regenerated(page, seen))["texts"] == [COUNTED]
    assert [turn["trigger"] for turn in chat.backend.turns] == [
        "submit-message",
        "regenerate-message",
    ]


async def test_a_reload_a_second_tab_and_a_remount_in_mid_answer(chat: Chat) -> None:
    page = await chat.tab()
    await send(page, "wait")
    await half(page)
    second = await chat.tab()
    await half(second)
    await chat.reload(page)
    await half(page)
    await page.evaluate("mount(false)")
    await page.evaluate("globalThis.seen = null; mount(true)")
    await page.wait_for_function("seen?.texts[0]?.includes('half')")
    chat.backend.go.set()
    await ends_whole(page)
    await ends_whole(second)
    assert chat.backend.stopped == []


async def test_stop_also_after_resume_looks_away(chat: Chat) -> None:
    page = await chat.tab()
    await send(page, "wait")
    await half(page)
    await page.evaluate("stop()")
    await ends(page)
    await chat.reload(page)
    await half(page)
    await page.evaluate("stop()")
    await ends(page)
    watcher = await chat.tab()
    await half(watcher)
    chat.backend.go.set()
    await ends_whole(watcher)
    assert chat.backend.stopped == []


async def test_a_token_that_expires_in_mid_answer_is_resumed_with_another(
    chat: Chat,
) -> None:
    chat.token_seconds = 4
    chat.visitor.network_fails = True
    page = await chat.tab()
    await send(page, "wait")
    await half(page)
    await until(page, "status === 'error'")
    chat.token_seconds = 900
    await page.evaluate("void resumeStream()")
    await until(page, "status === 'streaming'")
    chat.backend.go.set()
    await ends_whole(page)
