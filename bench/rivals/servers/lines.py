"""How the producer's calls travel to the core's server: length, a line of JSON, and
behind it the chunks, a line each.

A chunk's JSON text has no line break in it, so that neither side parses one.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any, cast

Message = dict[str, Any]
Take = Callable[["Lines", Message, list[str]], None]

_LENGTH = 4


class Lines(asyncio.Protocol):
    """One end of a connection. `take` gets each message; `done`, where given, is
    called when all that came at once has been taken, `lost` when the other end went."""

    def __init__(
        self,
        take: Take,
        *,
        done: Callable[[], None] = lambda: None,
        lost: Callable[[], None] = lambda: None,
    ) -> None:
        self._take = take
        self._done = done
        self._lost = lost
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's is one, but does not derive from it.
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._lost()

    def send(self, message: Message, chunks: Sequence[str] = ()) -> None:
        """Send a message; it is lost if the connection is."""
        body = "\n".join((json.dumps(message), *chunks)).encode()
        if self._transport is not None:
            self._transport.write(len(body).to_bytes(_LENGTH, "big") + body)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        at, end = 0, len(buffer)
        while end - at >= _LENGTH:
            body = at + _LENGTH
            behind = body + int.from_bytes(buffer[at:body], "big")
            if behind > end:
                break
            head, *chunks = buffer[body:behind].decode().split("\n")
            self._take(self, json.loads(head), chunks)
            at = behind
        self._buffer = buffer[at:]
        self._done()
