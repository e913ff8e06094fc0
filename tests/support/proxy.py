"""A WebSocket proxy before the local AWS that makes the network, and API Gateway, real.

It enforces what the emulator does not: frames of 32,000 bytes up and 128 KB down, the
idle limit, the connection's life, the echo of the subprotocol. And it breaks what it is
asked to. `websockets` does the protocol; here frames are only let through, or not.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.http11 import Request, Response
from websockets.typing import Origin, Subprotocol

MAX_UP = 32_000
MAX_DOWN = 128 * 1024
IDLE_SECONDS = 600.0
LIFE_SECONDS = 7_200.0
CONNECT_SECONDS = 29.0
SUBPROTOCOL = Subprotocol("tailrace.v1")
# What API Gateway says where a frame got no answer of ours.
GATEWAY_FRAME = json.dumps(
    {"message": "Internal server error", "connectionId": "c", "requestId": "r"}
)

Frame = dict[str, Any]


@dataclass(frozen=True)
class Weather:
    """What befalls frames: shares from 0 to 1, and seconds. Frames that are delayed
    differently overtake each other."""

    lost: float = 0.0
    doubled: float = 0.0
    delay: float = 0.0
    failed: float = 0.0
    """Of the client's frames: unanswered but for a frame of API Gateway itself."""


@dataclass(eq=False)
class Link:
    """One connection of a client, and ours to the server."""

    down: ServerConnection
    up: ClientConnection
    sent: list[Frame] = field(default_factory=list)
    received: list[Frame] = field(default_factory=list)
    traffic: asyncio.Event = field(default_factory=asyncio.Event)

    def abort(self) -> None:
        """End it as a broken network does: the browser reports 1006."""
        for connection in (self.down, self.up):
            connection.transport.abort()


class Proxy:
    """Use it as an async context; its tasks end with that."""

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.idle = IDLE_SECONDS
        self.life = LIFE_SECONDS
        self.weather = Weather()
        self.links: list[Link] = []
        self.living: set[Link] = set()
        self.admitted = 0
        self.most_at_once = 0
        self.largest_up = self.largest_down = 0
        self._chance = random.Random(0)
        self._down = False
        self._silent = False
        self._upstreams: dict[ServerConnection, ClientConnection] = {}
        self._opened: list[ClientConnection] = []
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._server: Server | None = None

    @property
    def url(self) -> str:
        assert self._server is not None
        port = next(iter(self._server.sockets)).getsockname()[1]
        return f"ws://127.0.0.1:{port}/v1"

    async def __aenter__(self) -> Proxy:
        self._server = await serve(
            self._relay,
            "127.0.0.1",
            0,
            process_request=self._handshake,
            select_subprotocol=_echo,
            compression=None,
            max_size=None,
            ping_interval=None,
            open_timeout=None,
            close_timeout=1,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for link in list(self.living):
            link.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()
        for connection in self._opened:
            connection.transport.abort()
            await connection.wait_closed()

    # ---- what a test sees --------------------------------------------------------

    async def until(self, reached: Callable[[Proxy], bool]) -> None:
        """Wait until it has carried what `reached` looks for."""
        async with asyncio.timeout(60), self._changed:
            await self._changed.wait_for(lambda: reached(self))

    async def connects(self) -> Link:
        """Wait for a connection to live; return the newest."""
        await self.until(lambda proxy: bool(proxy.living))
        return next(link for link in reversed(self.links) if link in self.living)

    def sent(self, type: str) -> list[Frame]:
        """Return the clients' frames of a type, of all connections."""
        return [
            frame for link in self.links for frame in link.sent if frame["type"] == type
        ]

    # ---- what a test breaks ------------------------------------------------------

    def cut(self) -> None:
        """End every connection as a broken network does."""
        for link in list(self.living):
            link.abort()

    @contextlib.contextmanager
    def outage(self) -> Iterator[None]:
        """No connection lives, and none can be made."""
        self._down = True
        self.cut()
        try:
            yield
        finally:
            self._down = False

    @contextlib.contextmanager
    def silence(self) -> Iterator[None]:
        """Connections live, and nothing gets through."""
        self._silent = True
        try:
            yield
        finally:
            self._silent = False

    async def close(self, code: int) -> None:
        """End every connection as the server does; 1006 as nobody does."""
        for link in list(self.living):
            if code == 1006:
                link.abort()
            else:
                await link.down.close(code)

    async def inject(self, text: str) -> None:
        """Send the clients a frame that the server never sent."""
        for link in list(self.living):
            await link.down.send(text)

    # ---- handshake ---------------------------------------------------------------

    async def _handshake(
        self, connection: ServerConnection, request: Request
    ) -> Response | None:
        if self._down:
            connection.transport.abort()
            return connection.respond(503, "")
        self.admitted += 1
        if request.headers.get("Upgrade", "").lower() != "websocket":
            return connection.respond(426, "")
        offered = request.headers.get("Sec-WebSocket-Protocol")
        query = request.path.partition("?")[2]
        try:
            up = await connect(
                f"{self.upstream}?{query}" if query else self.upstream,
                origin=_origin(request),
                subprotocols=[Subprotocol(name.strip()) for name in offered.split(",")]
                if offered
                else None,
                proxy=None,
                compression=None,
                max_size=None,
                ping_interval=None,
                open_timeout=CONNECT_SECONDS,
                close_timeout=1,
            )
        except InvalidStatus as refusal:
            return connection.respond(refusal.response.status_code, "")
        except TimeoutError:
            return connection.respond(504, "")
        self._opened.append(up)
        if connection.transport.is_closing():  # the client would not wait
            await up.close()
        self._upstreams[connection] = up
        return None

    # ---- frames ------------------------------------------------------------------

    async def _relay(self, connection: ServerConnection) -> None:
        link = Link(connection, self._upstreams.pop(connection))
        self.links.append(link)
        self.living.add(link)
        self.most_at_once = max(self.most_at_once, len(self.living))
        await self._tell()
        ends = [
            self._start(self._pump_up(link)),
            self._start(self._pump_down(link)),
            self._start(self._limit(link)),
        ]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in ends:
                task.cancel()
            self.living.discard(link)
            await link.up.close()
            await link.down.close(link.up.close_code or 1000)
            await self._tell()

    async def _pump_up(self, link: Link) -> None:
        async for text in _frames(link.down):
            link.traffic.set()
            self.largest_up = max(self.largest_up, len(text.encode()))
            if len(text.encode()) > MAX_UP:
                await link.down.close(1009)
                return
            link.sent.append(json.loads(text))
            await self._tell()
            if self._chance.random() < self.weather.failed:
                await link.down.send(GATEWAY_FRAME)
            elif not self._silent:
                await link.up.send(text)

    async def _pump_down(self, link: Link) -> None:
        async for text in _frames(link.up):
            link.traffic.set()
            self.largest_down = max(self.largest_down, len(text.encode()))
            if len(text.encode()) > MAX_DOWN:
                await link.down.close(1009)
                return
            link.received.append(json.loads(text))
            await self._tell()
            if self._silent:
                continue
            for delay in self._befalls():
                if delay:
                    self._start(_late(link.down, text, delay))
                else:
                    await link.down.send(text)

    def _befalls(self) -> list[float]:
        """Return how long each copy of a frame takes; none if it is lost."""
        weather, chance = self.weather, self._chance
        if chance.random() < weather.lost:
            return []
        copies = 2 if chance.random() < weather.doubled else 1
        return [weather.delay * chance.random() for _ in range(copies)]

    async def _limit(self, link: Link) -> None:
        """Close what has been idle, or has lived, too long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.life):
                while True:
                    link.traffic.clear()
                    # No `wait_for`: before Python 3.12 it may swallow a cancellation.
                    async with asyncio.timeout(self.idle):
                        await link.traffic.wait()
        await link.down.close(1001)

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        async def quietly() -> None:
            with contextlib.suppress(ConnectionClosed):
                await work

        task = asyncio.create_task(quietly())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()


async def _frames(
    connection: ServerConnection | ClientConnection,
) -> AsyncIterator[str]:
    async for message in connection:
        assert isinstance(message, str), "API Gateway carries text only"
        yield message


async def _late(connection: ServerConnection, text: str, delay: float) -> None:
    await asyncio.sleep(delay)
    await connection.send(text)


def _origin(request: Request) -> Origin | None:
    origin = request.headers.get("Origin")
    return Origin(origin) if origin else None


def _echo(_: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    return SUBPROTOCOL if SUBPROTOCOL in offered else None
