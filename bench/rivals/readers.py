"""Readers of event streams and WebSockets: one time stamp for each TCP segment, chunks
looked at only when all is over. All peers are read by these, which cost nearly nothing.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import struct
import zlib
from typing import Any, Literal, Self, cast

from bench.rivals.work import now_us

HOST = "127.0.0.1"
CHUNK = re.compile(rb'"i":(\d+),"t":(\d+)')
_TEXT, _CLOSE, _PING, _PONG = 1, 8, 9, 10
_DEFLATED, _FLUSHED = 0x40, b"\x00\x00\xff\xff"

Seen = tuple[int, int, int]
"""A chunk's number, when it was made, when it came (µs)."""


class Reader(asyncio.Protocol):
    """`records`: what came, in order, with its time. `last` is the text of the chunk
    after which there is nothing to wait for."""

    def __init__(self, port: int, last: bytes | None) -> None:
        loop = asyncio.get_running_loop()
        self.port = port
        self.records: list[tuple[int, bytes]] = []
        self.bytes = self.messages = self.count = 0
        self.opened: asyncio.Future[None] = loop.create_future()
        self.done: asyncio.Future[Literal["last", "closed", "refused"]] = (
            loop.create_future()
        )
        self._last = last
        self._target: tuple[int, asyncio.Future[None]] | None = None
        self._transport: asyncio.Transport | None = None
        self._buffer = b""

    async def open(self) -> Self:
        """Connect, and wait for the end of the handshake."""
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: self, HOST, self.port)
        await asyncio.wait_for(asyncio.shield(self.opened), 20)
        return self

    def cut(self) -> None:
        """Be gone without a goodbye, as when a lid is closed."""
        if self._transport is not None:
            self._transport.abort()

    async def until_done(self, seconds: float) -> None:
        await asyncio.wait([self.done], timeout=seconds)

    async def until_count(self, count: int, seconds: float) -> None:
        """Wait for that many chunks."""
        if self.count < count:
            reached = asyncio.get_running_loop().create_future()
            self._target = count, reached
            first = asyncio.FIRST_COMPLETED
            await asyncio.wait([reached, self.done], timeout=seconds, return_when=first)

    @property
    def alive(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def chunks(self) -> list[Seen]:
        return [
            (int(i), int(t), came)
            for came, payload in self.records
            for i, t in CHUNK.findall(payload)
        ]

    # ---- for those who derive from it ------------------------------------------------

    def took(self, came: int, payload: bytes, messages: int) -> None:
        """Keep what the application would be given."""
        self.records.append((came, payload))
        self.messages += messages
        self.count += payload.count(b'"i":')
        if self._target is not None:
            count, reached = self._target
            if self.count >= count and not reached.done():
                reached.set_result(None)
        if self._last is not None and self._last in payload:
            self.finish("last")

    def finish(self, why: Literal["last", "closed", "refused"]) -> None:
        if not self.opened.done():
            self.opened.set_result(None)
        if not self.done.done():
            self.done.set_result(why)

    def write(self, data: bytes) -> None:
        # A reader that was cut may still have been about to ask for something.
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.finish("closed")

    def _head(self, data: bytes) -> tuple[int, bytes, bytes] | None:
        """Return the answer's status, its head and what came behind it, once it is
        whole."""
        self._buffer += data
        head, end, rest = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return None
        self._buffer = b""
        return int(head.split(b" ", 2)[1]), head, rest


class EventReader(Reader):
    """An HTTP response of server-sent events."""

    def __init__(
        self, port: int, path: str, last: bytes | None, *, method: str = "GET"
    ) -> None:
        super().__init__(port, last)
        self._request = f"{method} {path} HTTP/1.1\r\nHost: {HOST}:{port}\r\n"
        self._request += "Accept: text/event-stream\r\nContent-Length: 0\r\n\r\n"
        self._chunked: bool | None = None
        self._left = 0  # of the HTTP chunk that is coming, its CRLF included
        self._raw = b""
        self.text = b""  # of the event that is coming
        self.characters = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.write(self._request.encode())

    def data_received(self, data: bytes) -> None:
        came = now_us()
        self.bytes += len(data)
        if self._chunked is None:
            found = self._head(data)
            if found is None:
                return
            status, head, data = found
            self._chunked = b"chunked" in head.lower()
            if status != 200:
                self.finish("refused")
                return
            self.opened.set_result(None)
        body = self._unchunk(data) if self._chunked else data
        if body:
            self.characters += len(body)
            self.text = self.body(came, self.text + body if self.text else body)

    def body(self, came: int, text: bytes) -> bytes:
        """Take the whole events; return the rest."""
        whole = text.rfind(b"\n\n") + 2
        if whole > 1:
            self.took(came, text[:whole], text.count(b"\n\n"))
            return text[whole:]
        return text

    def _unchunk(self, data: bytes) -> bytes:
        data = self._raw + data if self._raw else data
        self._raw = b""
        parts, at, end = [], 0, len(data)
        while at < end:
            if self._left:
                part = data[at : at + self._left]
                at += len(part)
                self._left -= len(part)
                if self._left < 2:
                    part = part[: len(part) + self._left - 2]
                parts.append(part)
                continue
            line = data.find(b"\r\n", at)
            if line < 0:
                self._raw = data[at:]
                break
            size = int(data[at:line], 16)
            at = line + 2
            if not size:
                self.finish("closed")
                break
            self._left = size + 2
        return b"".join(parts)


class SocketReader(Reader):
    """A WebSocket. As browsers do, it offers to take compressed messages, unless it is
    `plain`."""

    def __init__(
        self, port: int, path: str, last: bytes | None, *, plain: bool = False
    ) -> None:
        super().__init__(port, last)
        self._path = path
        self._offers = (
            "" if plain else "Sec-WebSocket-Extensions: permessage-deflate\r\n"
        )
        self._shaken = False
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        key = base64.b64encode(os.urandom(16)).decode()
        self.write(
            f"GET {self._path} HTTP/1.1\r\nHost: {HOST}:{self.port}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
            f"{self._offers}\r\n".encode()
        )

    def send(self, text: str, kind: int = _TEXT) -> None:
        self._send(text.encode(), kind)

    def _send(self, body: bytes, kind: int) -> None:
        size = len(body)
        if size < 126:
            head = struct.pack("!BB", 0x80 | kind, 0x80 | size)
        else:
            head = struct.pack("!BBH", 0x80 | kind, 0x80 | 126, size)
        self.write(head + b"\0\0\0\0" + body)  # a mask of zeros masks nothing

    def data_received(self, data: bytes) -> None:
        came = now_us()
        self.bytes += len(data)
        if not self._shaken:
            found = self._head(data)
            if found is None:
                return
            status, _, data = found
            if status != 101:
                self.finish("refused")
                return
            self._shaken = True
            self.opened.set_result(None)
            self.shaken()
        buffer = self._buffer + data if self._buffer else data
        at, texts = 0, []
        while (frame := _frame(buffer, at)) is not None:
            kind, body, at = frame
            if kind == _TEXT:
                texts.append(body)
            elif kind == _TEXT | _DEFLATED:
                texts.append(self._inflate.decompress(body + _FLUSHED))
            elif kind == _PING:
                self._send(body, _PONG)
            elif kind == _CLOSE:
                self.cut()
        self._buffer = buffer[at:]
        if texts:
            self.texts(came, texts)

    def shaken(self) -> None:
        """Say what there is to say first."""

    def texts(self, came: int, texts: list[bytes]) -> None:
        self.took(came, b"\n".join(texts), len(texts))


def _frame(buffer: bytes, at: int) -> tuple[int, bytes, int] | None:
    """Return the kind and body of the frame at `at`, and where it ends. The kind has
    `_DEFLATED` in it where the body is compressed (RFC 7692)."""
    if len(buffer) - at < 2:
        return None
    size, body = buffer[at + 1] & 0x7F, at + 2
    if size > 125:
        wide = 2 if size == 126 else 8
        size = int.from_bytes(buffer[body : body + wide], "big")
        body += wide
    end = body + size
    if len(buffer) < end or len(buffer) < body:
        return None
    assert buffer[at] & 0x80, "no server here sends a message in parts"
    return buffer[at] & (_DEFLATED | 0x0F), buffer[body:end], end


class SliceReader(SocketReader):
    """Tailrace's: asks with `sync`, keeps a cursor, takes what continues it, and asks
    again where something is missing (PROTOCOL.md §3.5)."""

    _HEAD = re.compile(rb'"run":"([^"]+)","seq":(\d+),"next":(\d+)')
    _AHEAD = 0.3

    def __init__(
        self,
        port: int,
        path: str,
        stream: str,
        cursor: tuple[str, int] | None,
        last: bytes | None,
        *,
        plain: bool = False,
    ) -> None:
        super().__init__(port, path, last, plain=plain)
        self.cursor = cursor
        self._stream = stream
        self._n = 0
        self._asking = False

    def shaken(self) -> None:
        at = None if self.cursor is None else list(self.cursor)
        self._ask(type="sync", streams={self._stream: at})

    def texts(self, came: int, texts: list[bytes]) -> None:
        news = []
        for text in texts:
            if not text.startswith(b'{"type":"slice"'):
                self._answered(json.loads(text))
            elif (piece := self._continuing(text)) is not None:
                news.append(piece)
        if news:
            self.took(came, b"\n".join(news), len(news))

    def _continuing(self, text: bytes) -> bytes | None:
        """Return what of a slice continues the cursor."""
        head = self._HEAD.search(text, 0, 500)
        assert head is not None
        run, seq, next = head[1].decode(), int(head[2]), int(head[3])
        if self.cursor is not None:
            due = self.cursor[1] + 1
        else:
            due = seq if b'"open":' in text[:500] else 0
        if next <= due:
            return None
        if seq > due:
            self._missing()
            return None
        if seq < due:
            text = json.dumps(json.loads(text)["chunks"][due - seq :]).encode()
            text = text.replace(b": ", b":").replace(b", ", b",")
        self.cursor = run, next - 1
        return text

    def _missing(self) -> None:
        if not self._asking:
            self._asking = True
            asyncio.get_running_loop().call_later(self._AHEAD, self._again)

    def _again(self) -> None:
        self._asking = False
        about: dict[str, Any] = {"type": "subscribe", "stream": self._stream}
        if self.cursor is not None:
            about["run"], about["after"] = self.cursor
        self._ask(**about)

    def _ask(self, **frame: Any) -> None:
        self._n += 1
        self.send(json.dumps(frame | {"n": self._n}))

    def _answered(self, answer: dict[str, Any]) -> None:
        facts = answer
        if answer["type"] == "synced":
            facts = answer["tails"][self._stream]
        if answer["type"] == "error" or "error" in facts:
            self.finish("refused")
        elif facts.get("more"):
            self._again()
