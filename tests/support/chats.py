"""Chats in tabs of a real browser, and what one does with them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from playwright.async_api import Page

from tests.support.browser import Visitor
from tests.support.chatting import Backend, Site
from tests.support.deployed import Deployed
from tests.support.proxy import MAX_UP, Proxy

COUNTED = "".join(f"{n} " for n in range(20))
"""What a job says to `count 20`, and to `wait` besides what it says in waiting."""


@dataclass(frozen=True)
class Way:
    """A major of the AI SDK, and how it comes to the stack."""

    major: int
    via: str
    """`post`, `socket`, or `stock`: the SDK's own transport."""

    def __str__(self) -> str:
        return f"ai {self.major} by {self.via}"


@dataclass
class Chat:
    """One chat of a visitor, with a backend and a network of its own."""

    name: str
    way: Way
    visitor: Visitor
    backend: Backend
    proxy: Proxy
    deployed: Deployed
    url: str
    token_seconds: int = 900

    @property
    def stream(self) -> str:
        return f"chat:{self.name}"

    async def tab(self) -> Page:
        page = await self.visitor.open(self.url)
        await self._is_there(page)
        return page

    def mint(self) -> str:
        return self.deployed.token(
            self.stream, send=[self.stream], expires_in=self.token_seconds
        )

    async def reload(self, page: Page) -> None:
        await page.reload()
        await self._is_there(page)

    async def _is_there(self, page: Page) -> None:
        """The page has looked for an answer that is going on, as it does at first."""
        await page.wait_for_function("globalThis.seen && globalThis.looked")

    async def is_looked_at(self) -> None:
        """Somebody else looks at the stream, until its run has ended."""
        while (await self._tail())["kind"] != "end":
            await asyncio.sleep(0.2)

    async def _tail(self) -> dict[str, Any]:
        return await asyncio.to_thread(self.deployed.ask, "tail", self.stream)

    async def jobs_end(self) -> None:
        for job in self.backend.threads:
            await asyncio.to_thread(job.join)


Chats = list[Chat]
Story = Callable[[Chat], Awaitable[None]]


def everywhere(story: Story) -> Callable[[Chats], Awaitable[None]]:
    """Make a test of a story: it happens in every chat at the same time."""

    async def happens(chat: Chat) -> None:
        try:
            await story(chat)
        except BaseException as error:
            error.add_note(f"with {chat.way}")
            raise

    async def test(chats: Chats) -> None:
        async with asyncio.TaskGroup() as group:
            for chat in chats:
                group.create_task(happens(chat))

    test.__name__ = story.__name__
    test.__doc__ = story.__doc__
    return test


@asynccontextmanager
async def opened(
    ways: Sequence[Way], site: Site, visitor: Visitor, deployed: Deployed
) -> AsyncIterator[Chats]:
    """A new chat for each way; no frame of theirs is longer than AWS carries."""
    stack = deployed.stack
    chats: dict[str, Chat] = {}
    async with AsyncExitStack() as exits:
        for way in ways:
            proxy = await exits.enter_async_context(Proxy(stack.socket_url))
            name = deployed.new_stream("c").replace(":", "-")
            backend = site.backends[name] = Backend(stack)
            query = {"major": way.major, "via": way.via, "chat": name}
            url = f"{site.url}?{urlencode({**query, 'socket': proxy.url})}"
            chats[name] = Chat(name, way, visitor, backend, proxy, deployed, url)
        await visitor.context.expose_function("mint", lambda name: chats[name].mint())
        yield list(chats.values())
        for chat in chats.values():
            chat.backend.go.set()
            await chat.jobs_end()
    for chat in chats.values():
        assert chat.proxy.largest_up <= MAX_UP
        assert chat.proxy.largest_down <= MAX_UP


async def send(page: Page, text: str) -> None:
    await page.evaluate("text => void send(text)", text)


async def until(page: Page, what: str) -> dict[str, Any]:
    """Wait until it is so; return what the page shows."""
    await page.wait_for_function(
        f"(({{status, texts, answers, error}}) => {what})(seen)"
    )
    seen: dict[str, Any] = await page.evaluate("seen")
    return seen


async def half(page: Page) -> None:
    """Wait until the answer is half there."""
    await until(page, "texts[0]?.includes('half') && status === 'streaming'")


async def ends(page: Page, status: str = "ready") -> dict[str, Any]:
    return await until(page, f"status === '{status}' && texts.length > 0")


async def ends_whole(page: Page) -> None:
    """Wait for the end of an answer to `wait`; nothing is missing, doubled or moved."""
    (text,) = (await ends(page))["texts"]
    assert text.replace("half ", "").replace(". ", "") == COUNTED


async def regenerated(page: Page, seen: dict[str, Any]) -> dict[str, Any]:
    """Ask for another answer instead of the one that is seen; wait for its end."""
    (first,) = seen["answers"]
    await page.evaluate("void regenerate()")
    another = f"answers[0] && answers[0].id !== '{first['id']}'"
    return await until(page, f"status === 'ready' && {another}")
