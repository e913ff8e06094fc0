"""Who is measured: how each is started, written to, read and resumed.

Each is used as its makers say. One that keeps what was said serves readers that come
late (`keeps`); one that does not serves them while the stream is being written.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from bench.rivals.children import Child, free_port
from bench.rivals.readers import (
    HOST,
    EventReader,
    Reader,
    SliceReader,
    SocketReader,
)

SERVERS = Path(__file__).parent / "servers"
MODULE = "bench.rivals.servers"


class Peer:
    """One rival, or ourselves. `scratch` is a directory of its own."""

    name: ClassVar[str]
    label: ClassVar[str]
    keeps: ClassVar[bool] = True
    # How the scenarios that it is given begin.
    given: ClassVar[tuple[str, ...]] = ("live", "max", "replay", "cut", "all")
    unasked: ClassVar[bool] = True  # measured unless others are named
    # What it stands in a burst, or in all: more would measure its backlog.
    most: ClassVar[int] = 1_000_000
    most_in_a_burst: ClassVar[int] = 1_000_000
    most_a_second: ClassVar[int] = 1_000_000

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.port = free_port()
        self.children: list[Child] = []
        self.server: Child
        self.producer: Child

    async def start(self) -> None:
        """Start its processes."""
        raise NotImplementedError

    async def stop(self) -> None:
        for child in reversed(self.children):
            await child.stop()

    async def restart(self) -> None:
        """Kill the server, not what it stores to, and start it again."""
        await self.server.kill()
        self.children.remove(self.server)
        await self.serve()

    async def serve(self) -> None:
        """Start its server."""
        raise NotImplementedError

    @property
    def pids(self) -> list[int]:
        """The processes of which a server consists."""
        return [child.pid for child in self.children if child is not self.producer]

    # ---- what it is given to do ------------------------------------------------------

    async def prepare(self, sids: Sequence[str]) -> None:
        """Make the streams, where they must exist before they are read."""

    async def produce(
        self, sids: Sequence[str], n: int, rate: float, start_at: int, *, hold: bool
    ) -> None:
        """Write `n` chunks into each stream; `hold`: where only a stream that goes on
        can be read, it goes on until `release`."""
        await self.producer.call(
            "produce", sids=sids, n=n, rate=rate, start_at=start_at, hold=hold
        )

    async def release(self, sids: Sequence[str]) -> None:
        """Let streams end that were held."""

    async def open(self, sid: str, n: int, place: int = 0) -> Reader:
        """Connect reader number `place` of a stream of `n` chunks."""
        raise NotImplementedError

    async def late(self, sid: str, n: int) -> Reader:
        """Connect a reader that was never there, for all of the stream."""
        return await self.open(sid, n, 1)

    async def resume(self, before: Reader, sid: str, n: int) -> Reader:
        """Connect again a reader that was cut."""
        raise NotImplementedError

    # ---- parts -----------------------------------------------------------------------

    async def start_child(
        self,
        name: str,
        argv: Sequence[str | Path],
        environment: Mapping[str, str] | None = None,
        *,
        told: bool = True,
    ) -> Child:
        log = self.scratch / f"{name}.log"
        child = await Child(argv, log, environment, told=told).start()
        self.children.append(child)
        return child

    async def start_python(self, module: str, **environment: str) -> Child:
        argv = [sys.executable, "-m", f"{MODULE}.{module}"]
        return await self.start_child(module, argv, environment)

    async def start_node(self, script: str, **environment: str) -> Child:
        environment = {"PORT": str(self.port), **environment}
        argv: list[str | Path] = ["node", SERVERS / f"{script}.mjs"]
        return await self.start_child(script, argv, environment)

    async def start_redis(self, *options: str) -> str:
        """Start a Redis of its own; return its URL."""
        port = str(free_port())
        argv = ["redis-server", "--port", port, "--bind", HOST, "--save", ""]
        argv += ["--dir", str(self.scratch), *options]
        await self.start_child("redis", argv, told=False)
        for _ in range(250):
            try:
                _, writer = await asyncio.open_connection(HOST, int(port))
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return f"redis://{HOST}:{port}/0"
        raise RuntimeError("Redis did not start")


def last(n: int) -> bytes | None:
    """Return the text by which the last of `n` chunks is known."""
    return b'"i":%d,' % (n - 1) if n else None


# Where it makes a difference whether messages are compressed.
COMPRESSIBLE = ("live", "max", "replay 10,000 written at full speed")
# Most WebSocket servers compress what they send to a client that takes it, as all
# browsers do. API Gateway does not.
DEFLATE = {"COMPRESSION": "deflate"}


class Tailrace(Peer):
    name = "tailrace"
    label = "Tailrace's core in one process: its log in memory, beside it a journal"
    compression: ClassVar[Mapping[str, str]] = DEFLATE

    async def start(self) -> None:
        self._producers = str(free_port())
        await self.serve()
        self.producer = await self.start_python(
            "core_producer", PRODUCER_PORT=self._producers
        )

    async def serve(self) -> None:
        self.server = await self.start_python(
            "core_server",
            PORT=str(self.port),
            PRODUCER_PORT=self._producers,
            JOURNAL=str(self.scratch / "journal"),
            **self.compression,
        )
        self._path = f"/?token={self.server.ready['token']}"

    async def open(self, sid: str, n: int, place: int = 0) -> Reader:
        return await SliceReader(self.port, self._path, sid, None, last(n)).open()

    async def resume(self, before: Reader, sid: str, n: int) -> Reader:
        assert isinstance(before, SliceReader)
        reader = SliceReader(self.port, self._path, sid, before.cursor, last(n))
        return await reader.open()


class TailracePlain(Tailrace):
    name = "tailrace-plain"
    label = "the same, its messages not compressed"
    given = COMPRESSIBLE
    compression: ClassVar[Mapping[str, str]] = {}


class RedisSocket(Peer):
    name = "redis-ws"
    label = "Redis Streams behind a WebSocket, in Python; nothing on disk"
    options: ClassVar[tuple[str, ...]] = ("--appendonly", "no")
    compression: ClassVar[Mapping[str, str]] = {}

    async def start(self) -> None:
        self._redis = await self.start_redis(*self.options)
        await self.serve()
        self.producer = await self.start_python("redis_producer", REDIS_URL=self._redis)

    async def serve(self) -> None:
        self.server = await self.start_python(
            "redis_server",
            PORT=str(self.port),
            REDIS_URL=self._redis,
            **self.compression,
        )

    async def open(self, sid: str, n: int, place: int = 0) -> Reader:
        return await SocketReader(self.port, f"/?sid={sid}", last(n)).open()

    async def resume(self, before: Reader, sid: str, n: int) -> Reader:
        ids = re.findall(rb'"id":"([\d-]+)"', before.records[-1][1])
        path = f"/?sid={sid}&from={ids[-1].decode()}"
        return await SocketReader(self.port, path, last(n)).open()


class RedisSocketFsync(RedisSocket):
    name = "redis-ws-fsync"
    label = "the same, each write on disk before it is answered"
    options = ("--appendonly", "yes", "--appendfsync", "always")


class RedisSocketDeflate(RedisSocket):
    name = "redis-ws-deflate"
    label = "redis-ws, its messages compressed"
    given = COMPRESSIBLE
    compression = DEFLATE


class DurableReader(EventReader):
    """Data counts once its control event is in, as for its makers' client."""

    offset = "-1"
    stream_cursor: str | None = None

    def body(self, came: int, text: bytes) -> bytes:
        at = text.rfind(b"event: control\n")
        end = text.find(b"\n\n", at) + 2 if at >= 0 else 1
        if end < 2:
            # The last control event is not whole; one before it may be.
            at = text.rfind(b"event: control\n", 0, max(at, 0))
            end = text.find(b"\n\n", at) + 2 if at >= 0 else 1
            if end < 2:
                return text
        control = text[at:end]
        self.offset = re.findall(rb'"streamNextOffset":"([^"]+)"', control)[0].decode()
        if found := re.findall(rb'"streamCursor":"([^"]+)"', control):
            self.stream_cursor = found[0].decode()
        if b'"i":' in text[:end]:
            self.took(came, text[:end], text.count(b"\n\n", 0, end))
        return text[end:]


class Durable(Peer):
    name = "durable-streams"
    label = "Durable Streams' server for Node, in memory; their client writes"
    unasked = False

    async def start(self) -> None:
        await self.serve()
        self.producer = await self.start_node("durable_producer")

    async def serve(self) -> None:
        self.server = await self.start_node("durable_server", **self.directory())

    def directory(self) -> dict[str, str]:
        return {}

    async def prepare(self, sids: Sequence[str]) -> None:
        await self.producer.call("create", sids=sids)

    async def open(self, sid: str, n: int, place: int = 0) -> Reader:
        return await self._read(sid, n, "offset=-1")

    async def resume(self, before: Reader, sid: str, n: int) -> Reader:
        assert isinstance(before, DurableReader)
        query = f"offset={before.offset}"
        if before.stream_cursor:
            query += f"&cursor={before.stream_cursor}"
        return await self._read(sid, n, query)

    async def _read(self, sid: str, n: int, query: str) -> Reader:
        path = f"/v1/stream/{sid}?live=sse&{query}"
        return await DurableReader(self.port, path, last(n)).open()


class DurableFile(Durable):
    name = "durable-streams-file"
    label = "the same, on disk"
    unasked = True

    def directory(self) -> dict[str, str]:
        where = self.scratch / "streams"
        where.mkdir(exist_ok=True)
        return {"DATA_DIR": str(where)}


class Resumable(Peer):
    name = "resumable-stream"
    label = "Vercel's resumable-stream on Redis; the first reader has the POST itself"
    keeps = False
    unasked = False

    async def start(self) -> None:
        self._redis = await self.start_redis("--appendonly", "no")
        await self.serve()

    async def serve(self) -> None:
        self.server = self.producer = await self.start_node(
            "resumable", REDIS_URL=self._redis
        )

    @property
    def pids(self) -> list[int]:
        return [child.pid for child in self.children]  # it produces in the server

    async def release(self, sids: Sequence[str]) -> None:
        await self.producer.call("release", sids=sids)

    async def open(self, sid: str, n: int, place: int = 0) -> Reader:
        method = "GET" if place else "POST"
        reader = EventReader(self.port, f"/?sid={sid}", last(n), method=method)
        return await reader.open()

    async def resume(self, before: Reader, sid: str, n: int) -> Reader:
        assert isinstance(before, EventReader)
        path = f"/?sid={sid}&resumeAt={before.characters}"
        reader = EventReader(self.port, path, last(n))
        reader.text = before.text
        reader.characters = before.characters
        return await reader.open()


PEERS: dict[str, type[Peer]] = {
    peer.name: peer
    for peer in (
        Tailrace,
        TailracePlain,
        RedisSocket,
        RedisSocketFsync,
        RedisSocketDeflate,
        DurableFile,
        Durable,
        Resumable,
    )
}
