"""Tailrace's core in one process, without AWS: the real log, session, replay and
fan-out, on a log in memory and real sockets.

What stands in for the services is in this file: a journal beside the log, so that what
was acknowledged outlives a killed process; the change feed, which brings what one turn
of the loop has put; the gateway.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import fields
from operator import attrgetter
from pathlib import Path

import uvloop
from websockets.asyncio.server import Server, ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.protocol import State as SocketState

from bench.rivals.servers.compression import extensions
from bench.rivals.servers.lines import Lines, Message
from bench.rivals.work import control
from tailrace import tokens
from tailrace.adapters.calls import local_clock
from tailrace.adapters.memory import MemoryLog, MemoryState
from tailrace.delivery import Delivery
from tailrace.errors import TailraceError
from tailrace.fanout import Change, Fanout
from tailrace.log import Log
from tailrace.ports import Push
from tailrace.quotas import Quotas
from tailrace.records import Record
from tailrace.session import Session

RING = {"current": "k", "k": "no secret, but long enough for one"}
QUOTAS = Quotas(connections=10_000, replay_bytes=10_000_000_000)
"""All readers of the bench are one `sub`."""

FULL = 1_000_000
"""Bytes that may wait for one connection; API Gateway refuses with 429, too."""

_values = attrgetter(*(field.name for field in fields(Record)))


class Journal(MemoryLog):
    """A log in memory that is written to a file before a put is answered, and read
    from there at the start. Nothing is synced: a killed process loses nothing, a
    machine without power may."""

    def __init__(self, path: Path, on_put: Callable[[Record], None]) -> None:
        super().__init__()
        if path.exists():
            for line in path.read_text().splitlines():
                super().put(Record(*json.loads(line)))
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._on_put = on_put

    def put(self, record: Record) -> Record | None:
        winner = super().put(record)
        if winner is None:
            os.write(self._file, json.dumps(_values(record)).encode() + b"\n")
            self._on_put(record)
        return winner


class Sockets:
    """The `Gateway` of the connections of this process."""

    def __init__(self) -> None:
        self.open: dict[str, ServerConnection] = {}

    def push(self, connection: str, frame: str) -> Push:
        socket = self.open.get(connection)
        if socket is None or socket.state is not SocketState.OPEN:
            return Push.GONE
        if socket.transport.get_write_buffer_size() > FULL:
            return Push.THROTTLED
        broadcast((socket,), frame)
        return Push.DONE

    def disconnect(self, connection: str) -> None:
        socket = self.open.pop(connection, None)
        if socket is not None:
            socket.transport.close()


class Keys:
    def ring(self) -> tokens.KeyRing:
        return RING

    def reread(self) -> tokens.KeyRing:
        return RING


class Core:
    """All parts, put together as `tailrace.wiring` does it."""

    def __init__(self, journal: Path) -> None:
        state, self._sockets = MemoryState(), Sockets()
        self._feed: list[Change] = []
        self._answers: list[tuple[Lines, Message]] = []
        store = Journal(journal, self._changed)
        self._log = Log(store, state, local_clock, retention=3_600, lease=30)
        self._session = Session(
            self._log,
            state,
            self._sockets,
            Keys(),
            local_clock,
            origins=["*"],
            quotas=QUOTAS,
        )
        delivery = Delivery(state, self._sockets, local_clock, _one_by_one)
        self._fanout = Fanout(delivery, local_clock)

    # ---- the producers' side ---------------------------------------------------------

    def lines(self) -> Lines:
        return Lines(self._called, done=self._turned)

    def _called(self, line: Lines, call: Message, chunks: list[str]) -> None:
        number = call.pop("id")
        try:
            record, behind = self._perform(call, chunks)
        except TailraceError as error:
            answer = {"id": number, "error": error.as_dict()}
        else:
            answer = {"id": number, "next": record.next, "already": behind}
        self._answers.append((line, answer))

    def _perform(self, call: Message, chunks: list[str]) -> tuple[Record, int]:
        operation = call.pop("operation")
        if operation == "append":
            record = self._log.append(**call, texts=chunks)
        else:
            record = getattr(self._log, operation)(**call)
        return record, record.chunks_in

    def _turned(self) -> None:
        # What is in the log is shown before its writer is told so: the readers wait.
        self.bring()
        answers, self._answers = self._answers, []
        for line, answer in answers:
            line.send(answer)

    # ---- the change feed -------------------------------------------------------------

    def _changed(self, record: Record) -> None:
        self._feed.append(Change(str(record.seq), record))

    def bring(self) -> None:
        """Push what was put since the last time."""
        if self._feed:
            batch, self._feed = self._feed, []
            self._fanout.push(batch, local_clock() + 10_000)

    # ---- the readers' side -----------------------------------------------------------

    def admit(self, socket: ServerConnection, request: Request) -> Response | None:
        token = request.path.partition("token=")[2]
        try:
            self._session.connect(str(socket.id), token, None)
        except TailraceError as error:
            return socket.respond(401, f"{error}\n")
        return None

    async def serve(self, socket: ServerConnection) -> None:
        id = str(socket.id)
        self._sockets.open[id] = socket
        try:
            while True:
                self._session.receive(id, await socket.recv())
                self.bring()
        except ConnectionClosed:
            pass
        finally:
            self._sockets.open.pop(id, None)
            self._session.disconnect(id)


def _one_by_one(tasks: Sequence[Callable[[], None]]) -> None:
    for task in tasks:
        task()


async def main() -> None:
    loop = asyncio.get_running_loop()
    core = Core(Path(os.environ["JOURNAL"]))
    token = tokens.mint(
        RING, sub="reader", read=["*"], now=int(time.time()), expires_in=86_400
    )
    producers = await loop.create_server(
        core.lines, "127.0.0.1", int(os.environ["PRODUCER_PORT"])
    )
    sockets: Server = await serve(
        core.serve,
        "127.0.0.1",
        int(os.environ["PORT"]),
        process_request=core.admit,
        compression=None,
        extensions=extensions(),
    )
    async with producers, sockets:
        await control({}, token=token)


if __name__ == "__main__":
    # Each record lives as long as the process: to look at all of them again and again
    # for cycles finds none.
    gc.set_threshold(100_000)
    uvloop.run(main())
