"""A rival that one could write in an afternoon: Redis Streams behind a WebSocket.

Each reader has a connection to Redis: XRANGE from its cursor, then XREAD BLOCK. A
message carries the entry's id, which the reader gives back when it reconnects.
"""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import parse_qs, urlsplit

import redis.asyncio as redis
import uvloop
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from bench.rivals.servers.compression import extensions
from bench.rivals.work import control

PAGE = 1_000


async def watch(socket: ServerConnection) -> None:
    assert socket.request is not None
    query = parse_qs(urlsplit(socket.request.path).query)
    key, at = f"s:{query['sid'][0]}", query.get("from", ["0-0"])[0]
    store: Any = redis.Redis.from_url(
        os.environ["REDIS_URL"], single_connection_client=True
    )

    async def send(entries: list[Any]) -> bool:
        """Send what entries hold; False behind the end."""
        nonlocal at
        for id, fields in entries:
            at = id.decode()
            if b"end" in fields:
                return False
            await socket.send(f'{{"id":"{at}","d":{fields[b"d"].decode()}}}')
        return True

    try:
        while True:
            page = await store.xrange(key, f"({at}", "+", count=PAGE)
            if not await send(page):
                return
            if len(page) < PAGE:
                break
        while True:
            found = await store.xread({key: at}, block=5_000, count=PAGE)
            for _, entries in found or ():
                if not await send(entries):
                    return
    except ConnectionClosed:
        return
    finally:
        await store.aclose()


async def main() -> None:
    async with serve(
        watch,
        "127.0.0.1",
        int(os.environ["PORT"]),
        compression=None,
        extensions=extensions(),
        max_queue=None,
    ):
        await control({})


if __name__ == "__main__":
    uvloop.run(main())
