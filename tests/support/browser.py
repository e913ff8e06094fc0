"""Somebody with a browser, who notices when anything in a page goes wrong."""

from __future__ import annotations

import asyncio

from playwright.async_api import BrowserContext, ConsoleMessage, Page

TIMEOUT_MS = 30_000


class Visitor:
    """Somebody with a browser of their own, whose tabs share a log-in.

    What goes wrong in any tab is kept in `problems`, and fails the test at its end.
    Chromium itself complains of connections that the test breaks: `network_fails`
    excuses that, and nothing else.
    """

    def __init__(self, context: BrowserContext) -> None:
        self.context = context
        self.problems: list[str] = []
        self.network_fails = False
        context.on("console", self._on_console)
        context.on("weberror", lambda error: self._note(str(error.error)))
        context.set_default_timeout(TIMEOUT_MS)

    async def open(self, url: str) -> Page:
        """Open a tab."""
        page = await self.context.new_page()
        await page.goto(url)
        return page

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type not in ("error", "warning"):
            return
        network = (
            "WebSocket connection to 'ws:",
            "WebSocket is already in CLOSING or CLOSED state.",
            # Of the client's probe: does the server answer at all?
            "Failed to load resource: ",
            "no token: TypeError: Failed to fetch",
        )
        if not (self.network_fails and message.text.startswith(network)):
            self._note(f"console.{message.type}: {message.text}")

    def _note(self, problem: str) -> None:
        self.problems.append(problem)


async def scroll_up_slowly(page: Page) -> None:
    """Scroll up by 100 pixels within a second, so that text comes in between."""
    await page.mouse.move(200, 200)
    for _ in range(5):
        await page.mouse.wheel(0, -20)
        await asyncio.sleep(0.2)
