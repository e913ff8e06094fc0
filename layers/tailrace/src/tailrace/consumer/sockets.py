"""One WebSocket, from its handshake to its end (PROTOCOL.md §3.1)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import (
    ConnectionClosed,
    InvalidStatus,
    WebSocketException,
)
from websockets.typing import Subprotocol

from ..errors import Invalid
from ..frames import SUBPROTOCOL
from .wire import Frame, decode

CLOSE_SECONDS = 1


class Socket:
    """A connection, or one in the making. `by_query`: how the token travels."""

    def __init__(self, url: str, token: str, *, by_query: bool) -> None:
        self._url = url
        self._options: dict[str, Any] = {}
        if by_query:
            self._url = f"{url}{'&' if '?' in url else '?'}token={token}"
        else:
            offered = (SUBPROTOCOL, f"bearer.{token}")
            self._options["subprotocols"] = [Subprotocol(name) for name in offered]
        self._outbox: asyncio.Queue[str | None] = asyncio.Queue()
        self._handshake: asyncio.Task[Any] | None = None
        self.problem: Exception | None = None
        """Why there was no connection, or why it broke."""

    def send(self, text: str) -> None:
        """Send a frame; it is dropped if the socket is closing."""
        self._outbox.put_nowait(text)

    def close(self) -> None:
        self._outbox.put_nowait(None)
        if self._handshake is not None:
            self._handshake.cancel()

    async def run(
        self, opened: Callable[[], None], received: Callable[[Frame], None]
    ) -> bool:
        """Be connected until it is closed; return whether there was a server, which
        refused the handshake."""
        self._handshake = asyncio.current_task()
        try:
            async with connect(
                self._url,
                open_timeout=None,  # the machine's to decide
                ping_interval=None,  # `sync` tells more
                close_timeout=CLOSE_SECONDS,
                max_size=None,
                **self._options,
            ) as connection:
                self._handshake = None
                opened()
                await self._exchange(connection, received)
        except InvalidStatus as refused:
            self.problem = refused
            return refused.response.status_code in (401, 403)
        except (OSError, WebSocketException) as error:
            self.problem = error
            return False
        except ImportError as missing:  # of a SOCKS proxy
            raise Invalid(f"proxy: {missing}") from missing
        finally:
            self._handshake = None
        return False

    async def _exchange(
        self, connection: ClientConnection, received: Callable[[Frame], None]
    ) -> None:
        """Read, and send what is put into the outbox, until either comes to its end."""
        reading = asyncio.create_task(_read(connection, received))
        try:
            while (text := await self._next(reading)) is not None:
                await connection.send(text)
        finally:
            reading.cancel()

    async def _next(self, reading: asyncio.Task[None]) -> str | None:
        """Return the next text to send; None when the socket is closed, or is to be."""
        taking = asyncio.create_task(self._outbox.get())
        try:
            await asyncio.wait((taking, reading), return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                reading.result()
            return taking.result() if taking.done() else None
        finally:
            taking.cancel()


async def _read(
    connection: ClientConnection, received: Callable[[Frame], None]
) -> None:
    with contextlib.suppress(ConnectionClosed):
        async for message in connection:
            frame = decode(message)
            if frame is not None:
                received(frame)
