"""A real browser, and the demo that it looks at; test modules name this one in
`pytest_plugins`.

All of it is in one event loop, that of the session: a browser is too slow to be started
for each test.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright, expect

from demo import chat
from demo.local_aws import ROOT
from demo.server import Server, serving
from demo.stack import LocalStack
from tests.support.browser import Visitor
from tests.support.chatting import Site, bundle
from tests.support.deployed import Deployed
from tests.support.proxy import MAX_UP, Proxy
from tests.support.watching import Watching

# The local AWS runs a function's process for each call, on whatever is left of the
# machine.
expect.set_options(timeout=30_000)

OUTPUT = ROOT / "tests" / "output"
# No sandbox: tests may run as root in a container. The rest is what phones home.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """Chromium, without a window."""
    executable = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if not executable:
        pytest.fail("No Chromium: `make test` installs one, or set CHROMIUM.")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=executable, args=ARGUMENTS
        )
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="session")
async def visitor(browser: Browser) -> AsyncIterator[Visitor]:
    """A visitor whose tabs must all be without an error when the test ends."""
    context = await browser.new_context(viewport={"width": 1280, "height": 860})
    visitor = Visitor(context)
    yield visitor
    await context.close()
    assert visitor.problems == []


@pytest.fixture(scope="session")
def demo_url(stack: LocalStack) -> Iterator[str]:
    """The demo's page, served for the deployed stack, at the pace of a model."""
    with serving(Server(), stack) as url:
        yield url


@pytest.fixture(scope="session")
def fast_demo_url(stack: LocalStack) -> Iterator[str]:
    """The page with a model in a hurry, where nothing is to be done meanwhile."""
    with serving(Server(), stack, tokens_per_second=150) as url:
        yield url


@pytest.fixture(scope="session")
def output() -> Path:
    """Where screenshots are kept; git ignores it."""
    OUTPUT.mkdir(exist_ok=True)
    return OUTPUT


class _Files(SimpleHTTPRequestHandler):
    """The bare page that watches, and the client that it imports."""

    def translate_path(self, path: str) -> str:
        folder = ROOT / "tests" / "support" / "page"
        if path.startswith("/tailrace/"):
            folder = ROOT / "clients" / "js" / "src"
        return str(folder / Path(path).name)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="session")
def watch_url() -> Iterator[str]:
    """A page that does nothing but watch what a test tells it to."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Files) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/watch.html"
        server.shutdown()
        thread.join()


@pytest_asyncio.fixture(loop_scope="session")
async def proxy(stack: LocalStack) -> AsyncIterator[Proxy]:
    """A network that can be broken, between the browser and the stack.

    Whatever the test does, no frame is longer than what API Gateway carries, and none
    of ours is charged as more than one.
    """
    async with Proxy(stack.socket_url) as proxy:
        yield proxy
    assert proxy.largest_up <= MAX_UP
    assert proxy.largest_down <= MAX_UP


@pytest_asyncio.fixture(loop_scope="session")
async def watching(visitor: Visitor, deployed: Deployed, watch_url: str) -> Watching:
    """Tabs of one visitor."""
    watching = Watching(visitor, deployed, watch_url)
    await watching.start()
    return watching


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Pages with `useChat` of each major, and their backends."""
    folder = tmp_path_factory.mktemp("chat")
    for major in (5, 6, 7):
        bundle(major, folder)
    with Site(folder).serving() as site:
        yield site


@pytest.fixture(scope="session")
def chat_url(demo_url: str) -> str:
    """The chat of the examples, as the demo serves it."""
    chat.build_page()
    return f"{demo_url}/chat/"
