"""A bare WebSocket, and a consumer small enough to be believed.

`Watcher` follows PROTOCOL.md §3.5 in the plainest way: it asks again whenever anything
is missing, and keeps every record's place, so that what it has can be compared with the
log. It shares no code with the real clients.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

Frame = dict[str, Any]
TIMEOUT = 60


class Socket:
    """A connection that remembers every frame it got."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.frames: list[Frame] = []
        self._n = 0

    async def send(self, type: str, **fields: Any) -> int:
        """Send a frame; return its `n`."""
        self._n += 1
        frame = {"type": type, "n": self._n, **fields}
        await self.connection.send(json.dumps(frame))
        return self._n

    async def receive(self) -> Frame:
        async with asyncio.timeout(TIMEOUT):
            frame: Frame = json.loads(await self.connection.recv())
        self.frames.append(frame)
        return frame

    async def until(self, wanted: Callable[[Frame], bool] | str) -> Frame:
        """Receive until a frame of that type, or one that fits."""
        while True:
            frame = await self.receive()
            if frame.get("type") == wanted or (callable(wanted) and wanted(frame)):
                return frame

    async def ask(self, type: str, answer: str, **fields: Any) -> Frame:
        """Send a frame; return the frame that answers it."""
        n = await self.send(type, **fields)
        return await self.until(
            lambda frame: frame.get("n") == n and frame["type"] in (answer, "error")
        )

    async def closed(self) -> int:
        """Wait until the server has closed it; return the code."""
        async with asyncio.timeout(TIMEOUT):
            await self.connection.wait_closed()
        assert self.connection.close_code is not None
        return self.connection.close_code


@asynccontextmanager
async def open_socket(
    url: str, token: str | None, **options: Any
) -> AsyncIterator[Socket]:
    """Open a connection with the token in the query."""
    target = url if token is None else f"{url}?token={token}"
    async with connect(target, proxy=None, max_size=None, **options) as connection:
        yield Socket(connection)


class Watcher:
    """Watches one stream until a run has ended, over as many sockets as it takes."""

    def __init__(self, url: str, token: str, stream: str) -> None:
        self.url, self.token, self.stream = url, token, stream
        self.run: str | None = None
        self.seq: int | None = None
        self.chunks: dict[str, list[Any]] = {}
        self.ends: dict[str, str] = {}
        self.progress = asyncio.Condition()

    async def watch(self, until: Callable[[Watcher], bool]) -> None:
        """Watch over one socket, until so much is there; may be cancelled, and called
        again to go on behind what is there."""
        async with open_socket(self.url, self.token) as socket:
            await self._ask(socket)
            while not until(self):
                frame = await socket.receive()
                kind = frame.get("type")
                if kind == "slice" and frame["stream"] == self.stream:
                    if not self._take(frame):
                        await self._ask(socket)
                    async with self.progress:
                        self.progress.notify_all()
                elif kind == "subscribed":
                    if self.seq is None:
                        self.seq = frame["from"]
                    async with self.progress:
                        self.progress.notify_all()
                    if frame["more"] or self.seq < frame["tail"]:
                        await self._ask(socket)
                else:
                    assert kind != "error", frame

    async def has(self, chunks: int) -> None:
        """Wait until it is subscribed, and has so many chunks, of whatever runs."""
        async with asyncio.timeout(TIMEOUT), self.progress:
            await self.progress.wait_for(
                lambda: self.seq is not None and self.count >= chunks
            )

    @property
    def count(self) -> int:
        return sum(map(len, self.chunks.values()))

    async def _ask(self, socket: Socket) -> None:
        position: Frame = {}
        if self.seq is not None:
            position["after"] = self.seq
            if self.run is not None:
                position["run"] = self.run
        await socket.send("subscribe", stream=self.stream, **position)

    def _take(self, frame: Frame) -> bool:
        """Take a slice; False if something is missing before it."""
        if self.seq is None:
            if "open" not in frame:
                return True
            self.seq = frame["seq"] - 1
        if frame["next"] <= self.seq + 1:
            return True
        if frame["seq"] > self.seq + 1:
            return False
        self.run = frame["run"]
        at = frame["seq"] + (1 if "open" in frame or "claim" in frame else 0)
        chunks = frame.get("chunks", [])
        assert at + len(chunks) + ("end" in frame) == frame["next"], frame
        has = self.chunks.setdefault(frame["run"], [])
        has.extend(chunks[max(0, self.seq + 1 - at) :])
        if "end" in frame:
            self.ends[frame["run"]] = frame["end"]["reason"]
        self.seq = frame["next"] - 1
        return True
