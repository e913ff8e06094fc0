"""The deployed stack on a local AWS, and the same architecture written the obvious way
beside it. Both are as fast as that emulator is: what counts is the ratio. It would
compress messages, which API Gateway does not: so nobody offers to take such.
"""

from __future__ import annotations

import json
from typing import ClassVar
from urllib.parse import urlsplit

from bench.rivals.peers import DurableFile, Peer, last
from bench.rivals.readers import CHUNK, Reader, SliceReader, SocketReader


class OnLocalAws(Peer):
    module: ClassVar[str]

    async def start(self) -> None:
        self.server = await self.start_python(self.module)
        self.reach(self.server.ready["url"])
        environment = self.server.ready["environment"]
        self.producer = await self.start_python(
            f"{self.module}_producer", **environment
        )

    def reach(self, address: str) -> None:
        """Learn where its sockets are."""
        url = urlsplit(address)
        assert url.port is not None
        self.port, self.path = url.port, url.path


class Deployed(OnLocalAws):
    name = "tailrace deployed"
    label = "template.yaml on the local AWS; producers put into the table"
    module = "deployed"
    most = 20_000

    async def open(self, sid: str, n: int, place: int = 0) -> Reader:
        return await self._read(sid, n, None)

    async def resume(self, before: Reader, sid: str, n: int) -> Reader:
        assert isinstance(before, SliceReader)
        return await self._read(sid, n, before.cursor)

    async def _read(self, sid: str, n: int, cursor: tuple[str, int] | None) -> Reader:
        path = f"{self.path}?token={self.server.ready['token']}"
        reader = SliceReader(self.port, path, sid, cursor, last(n), plain=True)
        return await reader.open()


class Naive(OnLocalAws):
    name = "aws-naive"
    label = "an item a chunk, a push an item, on the same local AWS"
    module = "naive"
    most = 10_000
    most_in_a_burst = 2_000
    most_a_second = 1_000

    async def open(self, sid: str, n: int, place: int = 0) -> Reader:
        return await self._reader(sid, n).open()

    async def late(self, sid: str, n: int) -> Reader:
        return await self._behind(sid, n, -1)

    async def resume(self, before: Reader, sid: str, n: int) -> Reader:
        had = [int(i) for _, text in before.records for i, _ in CHUNK.findall(text)]
        return await self._behind(sid, n, max(had, default=-1))

    async def _behind(self, sid: str, n: int, after: int) -> Reader:
        reader = await self._reader(sid, n).open()
        reader.send(json.dumps({"action": "resume", "sid": sid, "after": after}))
        return reader

    def _reader(self, sid: str, n: int) -> SocketReader:
        path = f"{self.path}?sid={sid}"
        return SocketReader(self.port, path, last(n), plain=True)


DEPLOYED: dict[str, type[Peer]] = {
    peer.name: peer for peer in (Deployed, Naive, DurableFile)
}
