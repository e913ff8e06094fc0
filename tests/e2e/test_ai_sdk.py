"""`useChat` of the AI SDK's three majors over Tailrace: the real packages, in Chromium,
in StrictMode, against the deployed stack, with API Gateway's limits between them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import pytest_asyncio
from playwright.async_api import Page

from demo.stack import LocalStack
from tests.support.browser import Visitor
from tests.support.chatting import Backend, bundle, serving
from tests.support.deployed import Deployed
from tests.support.proxy import Proxy

pytest_plugins = ["tests.support.browser_fixtures"]
pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

COUNTED = "".join(f"{n} " for n in range(20))


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chat")
    for major in (5, 6, 7):
        bundle(major, folder)
    return folder


@pytest.fixture
def backend(stack: LocalStack, bundles: Path) -> Backend:
    return Backend(stack, bundles)


@pytest.fixture
def url(backend: Backend) -> Iterator[str]:
    with serving(backend) as url:
        yield url


class Chat:
    """Tabs of one visitor that show one chat."""

    def __init__(self, visitor: Visitor, url: str, query: dict[str, Any]) -> None:
        self.visitor = visitor
        self.address = f"{url}?{urlencode(query)}"
        self.token_seconds = 900

    async def tab(self) -> Page:
        page = await self.visitor.open(self.address)
        await page.wait_for_function("globalThis.seen")
        return page


@pytest_asyncio.fixture(loop_scope="session", params=[5, 6, 7], ids=lambda n: f"ai{n}")
async def chat(
    request: pytest.FixtureRequest,
    visitor: Visitor,
    deployed: Deployed,
    proxy: Proxy,
    url: str,
) -> Chat:
    name = deployed.new_stream("c")
    query = {"major": request.param, "chat": name, "socket": proxy.url}
    chat = Chat(visitor, url, query)
    await visitor.context.expose_function(
        "mint", lambda: deployed.token("chat:*", expires_in=chat.token_seconds)
    )
    return chat


async def send(page: Page, text: str) -> None:
    await page.evaluate("text => void send(text)", text)


async def until(page: Page, what: str) -> dict[str, Any]:
    """Wait until it is so; return what the page shows."""
    await page.wait_for_function(f"(({{status, texts, error}}) => {what})(seen)")
    seen: dict[str, Any] = await page.evaluate("seen")
    return seen


async def ends(page: Page, status: str = "ready") -> dict[str, Any]:
    return await until(page, f"status === '{status}' && texts.length > 0")


async def test_send_and_stream(chat: Chat) -> None:
    page = await chat.tab()
    await send(page, "count 20")
    seen = await ends(page)
    assert seen["texts"] == [COUNTED]
    assert seen["error"] is None


async def test_a_reload_and_a_second_tab_in_mid_answer(
    chat: Chat, backend: Backend
) -> None:
    page = await chat.tab()
    await send(page, "wait")
    await until(page, "texts[0]?.includes('half')")
    second = await chat.tab()
    await until(second, "texts[0]?.includes('half') && status === 'streaming'")
    await page.reload()
    await page.wait_for_function("globalThis.seen")
    await until(page, "texts[0]?.includes('half') && status === 'streaming'")
    backend.go.set()
    seen = [await ends(tab) for tab in (page, second)]
    assert seen[0]["texts"] == seen[1]["texts"]
    (text,) = seen[0]["texts"]
    assert text.replace("half ", "").replace(". ", "") == COUNTED


async def test_a_remount_in_mid_answer_cancels_nothing(
    chat: Chat, backend: Backend
) -> None:
    page = await chat.tab()
    await send(page, "wait")
    await until(page, "texts[0]?.includes('half')")
    await page.evaluate("mount(false)")
    await page.evaluate("globalThis.seen = null; mount(true)")
    await page.wait_for_function("seen?.texts[0]?.includes('half')")
    backend.go.set()
    seen = await ends(page)
    (text,) = seen["texts"]
    assert text.replace("half ", "").replace(". ", "") == COUNTED
    assert backend.stopped == []


async def test_stop_after_resume_looks_away_and_cancel_stops_the_job(
    chat: Chat, backend: Backend
) -> None:
    page = await chat.tab()
    await send(page, "wait")
    await until(page, "texts[0]?.includes('half')")
    await page.reload()
    await page.wait_for_function("globalThis.seen")
    await until(page, "texts[0]?.includes('half') && status === 'streaming'")
    await page.evaluate("stop()")
    await ends(page)
    assert backend.stopped == []
    assert await page.evaluate("cancel()") == {"reason": "cancelled"}
    for job in backend.threads:
        job.join()
    assert backend.stopped == ["cancelled"]


async def test_regenerate(chat: Chat, backend: Backend) -> None:
    page = await chat.tab()
    await send(page, "count 5")
    await ends(page)
    await page.evaluate("void regenerate()")
    await until(page, "status !== 'ready'")
    seen = await ends(page)
    assert seen["texts"] == ["0 1 2 3 4 "]
    assert [turn["trigger"] for turn in backend.turns] == [
        "submit-message",
        "regenerate-message",
    ]


async def test_a_tool_call(chat: Chat) -> None:
    page = await chat.tab()
    await send(page, "tool")
    seen = await ends(page)
    (answer,) = seen["answers"]
    tool = next(part for part in answer["parts"] if part["type"] == "tool-weather")
    assert tool["state"] == "output-available"
    assert (tool["input"], tool["output"]) == ({"city": "Kiel"}, {"sky": "grey"})


async def test_a_job_that_fails_and_one_that_dies_are_errors(chat: Chat) -> None:
    page = await chat.tab()
    await send(page, "fail")
    seen = await ends(page, "error")
    assert seen["error"] == "Too long a question."
    assert seen["texts"][0].startswith("0 1 2")
    await send(page, "die")
    seen = await until(page, "status === 'error' && texts.length > 1")
    assert seen["error"] == "The answer broke off."


async def test_an_answer_of_more_than_128_kb_also_after_a_reload(
    chat: Chat, backend: Backend
) -> None:
    whole = "".join(f"{n:07} " * 100 for n in range(400))
    page = await chat.tab()
    await send(page, "long 400")
    await until(page, f"texts[0]?.length === {len(whole)}")
    await page.reload()
    await page.wait_for_function("globalThis.seen")
    await until(page, f"texts[0]?.length === {len(whole)}")
    backend.go.set()
    assert (await ends(page))["texts"] == [whole]


async def test_ten_seconds_offline_with_the_page_visible(
    chat: Chat, backend: Backend, proxy: Proxy, visitor: Visitor
) -> None:
    visitor.network_fails = True
    page = await chat.tab()
    await send(page, "wait")
    await until(page, "texts[0]?.includes('half')")
    with proxy.outage():
        proxy.cut()
        await page.wait_for_timeout(10_000)
        assert (await page.evaluate("seen"))["status"] == "streaming"
    backend.go.set()
    seen = await ends(page)
    (text,) = seen["texts"]
    assert text.replace("half ", "").replace(". ", "") == COUNTED


async def test_a_token_that_expires_in_mid_answer(
    chat: Chat, backend: Backend, proxy: Proxy
) -> None:
    chat.token_seconds = 4
    page = await chat.tab()
    await send(page, "wait")
    await until(page, "texts[0]?.includes('half')")
    await proxy.until(lambda proxy: len(proxy.sent("auth")) >= 2)
    backend.go.set()
    seen = await ends(page)
    (text,) = seen["texts"]
    assert text.replace("half ", "").replace(". ", "") == COUNTED
