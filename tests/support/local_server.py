"""A server on loopback: the real session and fan-out over a log in memory, behind real
sockets. What is put into the log is pushed at once, but for what a test loses.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from tailrace import frames, tokens
from tailrace.adapters.calls import local_clock
from tailrace.adapters.memory import MemoryLog, MemoryState
from tailrace.delivery import Delivery
from tailrace.errors import TailraceError
from tailrace.log import Log
from tailrace.ports import Push
from tailrace.records import Record
from tailrace.session import Session
from tailrace.transports.in_process import InProcess
from tests.support.worlds import one_by_one

RING = {"current": "k1", "k1": "1" * 32}
FOREVER = 1 << 60


class Keys:
    def ring(self) -> tokens.KeyRing:
        return RING

    reread = ring


class FedLog(MemoryLog):
    """Tells of each record that got in."""

    def __init__(self, tell: Callable[[Record], None]) -> None:
        super().__init__()
        self._tell = tell

    def put(self, record: Record) -> Record | None:
        winner = super().put(record)
        if winner is None:
            self._tell(record)
        return winner


class LocalServer:
    """`lose` says of each frame whether its push is lost; `refuse_frames` answers every
    frame; `answered` counts the answers to `sync`. `url` is where it listens. Where the
    log is written from other threads, `in_loop` is the loop that it listens in."""

    def __init__(self) -> None:
        self.state = MemoryState()
        self.log = Log(
            FedLog(self._feed), self.state, local_clock, retention=3_600, lease=30
        )
        self.publish = InProcess(self.log)
        self.lose: Callable[[str], bool] = lambda frame: False
        self.refuse: HTTPStatus | None = None
        self.refuse_frames: TailraceError | None = None
        self.answered = 0
        self.in_loop: asyncio.AbstractEventLoop | None = None
        self.frames: list[str] = []
        self.handshakes: list[Request] = []
        self.url = ""
        self._session = Session(
            self.log, self.state, self, Keys(), local_clock, origins=["*"]
        )
        self._delivery = Delivery(self.state, self, local_clock, one_by_one)
        self._ids = itertools.count(1)
        self._sockets: dict[str, asyncio.Queue[str | None]] = {}
        self._server: Server | None = None

    @property
    def connections(self) -> int:
        return len(self._sockets)

    def cut(self) -> None:
        """Close every connection."""
        for outbox in list(self._sockets.values()):
            self._put(outbox, None)

    def token(self, *, expires_in: int = 900, **grants: Any) -> str:
        grants = grants or {"read": ["*"], "cancel": ["*"]}
        now = int(time.time())
        return tokens.mint(RING, sub="u", now=now, expires_in=expires_in, **grants)

    @contextlib.asynccontextmanager
    async def listening(self, port: int = 0) -> AsyncIterator[LocalServer]:
        async with serve(
            self._handle,
            "127.0.0.1",
            port,
            process_request=self._admit,
            select_subprotocol=lambda _, offered: (
                Subprotocol("tailrace.v1") if "tailrace.v1" in offered else None
            ),
            close_timeout=1,
        ) as server:
            at = next(iter(server.sockets)).getsockname()
            self.url = f"ws://127.0.0.1:{at[1]}/v1"
            yield self

    # ---- the gateway -----------------------------------------------------------------

    def push(self, connection: str, frame: str) -> Push:
        outbox = self._sockets.get(connection)
        if outbox is None:
            return Push.GONE
        self.answered += '"type":"synced"' in frame
        if not self.lose(frame):
            self._put(outbox, frame)
        return Push.DONE

    def disconnect(self, connection: str) -> None:
        if outbox := self._sockets.get(connection):
            self._put(outbox, None)

    def _put(self, outbox: asyncio.Queue[str | None], frame: str | None) -> None:
        if self.in_loop is None:
            outbox.put_nowait(frame)
        else:
            self.in_loop.call_soon_threadsafe(outbox.put_nowait, frame)

    # ---- sockets ---------------------------------------------------------------------

    async def _admit(
        self, socket: ServerConnection, request: Request
    ) -> Response | None:
        self.handshakes.append(request)
        if self.refuse is not None:
            return _refusal(self.refuse)
        offered = request.headers.get("Sec-WebSocket-Protocol", "")
        bearers = [name.strip() for name in offered.split(",") if "bearer." in name]
        token = bearers[0].removeprefix("bearer.") if bearers else None
        if "token=" in request.path:
            token = request.path.split("token=")[1]
        socket.id_ = f"c{next(self._ids)}"  # type: ignore[attr-defined]
        try:
            self._session.connect(socket.id_, token, None)  # type: ignore[attr-defined]
        except TailraceError:
            return _refusal(HTTPStatus.UNAUTHORIZED)
        return None

    async def _handle(self, socket: ServerConnection) -> None:
        id: str = socket.id_  # type: ignore[attr-defined]
        outbox = self._sockets[id] = asyncio.Queue()
        writing = asyncio.create_task(self._write(socket, outbox))
        try:
            with contextlib.suppress(Exception):
                async for message in socket:
                    self.frames.append(str(message))
                    if self.refuse_frames is None:
                        self._session.receive(id, message)
                    else:
                        outbox.put_nowait(frames.error(self.refuse_frames, {}))
                        outbox.put_nowait(None)
        finally:
            self._sockets.pop(id, None)
            self._session.disconnect(id)
            writing.cancel()

    async def _write(
        self, socket: ServerConnection, outbox: asyncio.Queue[str | None]
    ) -> None:
        while (frame := await outbox.get()) is not None:
            await socket.send(frame)
        await socket.close()

    def _feed(self, record: Record) -> None:
        self._delivery.deliver({record.stream: [record]}, FOREVER)


def _refusal(status: HTTPStatus) -> Response:
    return Response(status.value, status.phrase, Headers(), b"")


def losing(share: float, seed: int = 1) -> Callable[[str], bool]:
    """Lose this share of the live slices."""
    chance = random.Random(seed)
    return lambda frame: (
        '"replay"' not in frame
        and ('"type":"slice"' in frame and chance.random() < share)
    )
