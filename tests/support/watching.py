"""Tabs that watch a stream with the browser client, and what they saw of it."""

from __future__ import annotations

from typing import Any

from playwright.async_api import Page

from tests.support.browser import Visitor
from tests.support.deployed import Deployed

Seen = dict[str, Any]
PATIENCE_MS = 60_000


class Watching:
    """Opens tabs of one visitor, and mints their tokens."""

    def __init__(self, visitor: Visitor, deployed: Deployed, url: str) -> None:
        self.visitor = visitor
        self.deployed = deployed
        self.url = url
        self.token_seconds = 900
        self.minted = 0
        self.failures = 0

    async def start(self) -> None:
        await self.visitor.context.expose_function("mint", self.mint)

    def mint(self) -> str:
        """Return a token; `failures` times, after the first, fail like a backend."""
        if self.minted and self.failures:
            self.failures -= 1
            raise OSError("the backend is out of order")
        self.minted += 1
        return self.deployed.token(expires_in=self.token_seconds)

    async def tab(self, socket_url: str, **options: Any) -> Page:
        """Open a tab with a client for `socket_url`."""
        page = await self.visitor.open(self.url)
        await connect(page, socket_url, **options)
        return page


async def connect(page: Page, socket_url: str, **options: Any) -> None:
    """Make the client of a tab, also after a reload."""
    await page.wait_for_function("globalThis.ready")
    await page.evaluate("options => connect(options)", {"url": socket_url, **options})


async def watch(page: Page, stream: str, **options: Any) -> None:
    await page.evaluate(
        "([stream, options]) => void watch(stream, options)", [stream, options]
    )


async def has(page: Page, stream: str, chunks: int) -> None:
    """Wait until the tab has got so many chunks of a stream."""
    await page.wait_for_function(
        "([stream, least]) => seen[stream].chunks.length >= least",
        arg=[stream, chunks],
        timeout=PATIENCE_MS,
    )


async def what(page: Page, stream: str) -> Seen:
    seen: Seen = await page.evaluate("stream => seen[stream]", stream)
    return seen


async def all_of(page: Page, stream: str) -> Seen:
    """Wait until the tab is through with a stream; return what it saw."""
    await page.wait_for_function(
        "stream => seen[stream].over", arg=stream, timeout=PATIENCE_MS
    )
    return await what(page, stream)


async def saw(page: Page, stream: str, chunks: list[str]) -> Seen:
    """Wait for the end; the tab must have got these chunks, each once and in order."""
    seen = await all_of(page, stream)
    assert seen["error"] is None
    assert seen["chunks"] == chunks
    assert seen["seqs"] == list(range(2, len(chunks) + 2))
    assert seen["ends"] == ["completed"]
    return seen
