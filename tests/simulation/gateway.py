"""API Gateway: connections, `@connections`, and who is invoked for a frame.

A connection has two ends that may disagree. The server's end answers 410 when it is
closed; the client's end notices when its frames get no answer.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Protocol

from tailrace.errors import Forbidden, Unauthorized
from tailrace.ports import Push
from tailrace.session import Session

if TYPE_CHECKING:
    from .world import World

MAX_FRAME = 32_768
IDLE = 600_000
LIFE = 7_200_000
_BUFFER = 40
_POST_TIMEOUT = 500
ODD = (
    {"type": "novelty", "n": 1 << 40, "stream": "s1"},
    {"type": "novelty"},
    {"message": "Endpoint request timed out", "requestId": "r", "connectionId": "c"},
)
"""What a client need not know (PROTOCOL.md §3), and what it must."""


class Client(Protocol):
    """The other end of a socket."""

    name: str

    def opened(self, connection: Connection) -> None: ...

    def received(self, connection: Connection, frame: dict[str, Any]) -> None: ...

    def closed(self, connection: Connection) -> None: ...


class Connection:
    """One WebSocket. `open`: as the server sees it; `cut`: nothing passes any more."""

    def __init__(self, id: str, client: Client) -> None:
        self.id = id
        self.client = client
        self.open = False
        self.cut = False
        self.done = False
        self.arrives_at = 0
        self.under_way = 0
        self.posts = 0
        self.posted = 0
        # Frames that functions are busy with, and whether two were at a time since
        # there was none.
        self.handling = 0
        self.overlapped = False
        self.active_at = 0
        # What its tokens have granted, as the world knows it.
        self.tokens: list[tuple[int, str, frozenset[str], frozenset[str]]] = []


class Api:
    """The stage. Frames of one client may be handled side by side."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._kernel = world.kernel
        self._dice = world.kernel.dice("api")
        self.connections: dict[str, Connection] = {}

    # ---- what a client does ----------------------------------------------------------

    def connect(
        self, client: Client, token: str | None, origin: str | None = None
    ) -> None:
        id = f"c{len(self.connections) + 1}"
        connection = self.connections[id] = Connection(id, client)
        if token is not None and token in self._world.book.tokens:
            self._world.note_token(connection, token)

        def play(session: Session) -> None:
            session.connect(id, token, origin)

        def done(error: BaseException | None) -> None:
            if isinstance(error, Unauthorized | Forbidden):
                self._world.faults.note("turned-away")
            if error is None:
                self._world.observe("let-in", connection, origin)
            if error is not None or self._world.faults.hit("cut", 0.2):
                self._end(connection)
                return
            connection.open = True
            connection.active_at = self._kernel.now
            self._kernel.after(LIFE, self._end_life, connection)
            self._kernel.after(IDLE, self._check_idle, connection)
            self._kernel.after(self._latency(), client.opened, connection)

        self._kernel.after(self._latency(), self._world.invoke, "websocket", play, done)

    def send(self, connection: Connection, text: str) -> None:
        """A client sends a frame."""
        self._kernel.after(self._latency(), self._take, connection, text)

    def cut(self, connection: Connection, *, half: bool) -> None:
        """The network ends a socket. `half`: for both sides it seems to live."""
        connection.cut = True
        if half:
            self._kernel.after(60_000, self.close, connection)
        else:
            self.close(connection)

    # ---- what the server does --------------------------------------------------------

    def push(self, id: str, frame: str) -> Push:
        """What `Gateway.push` promises, for the process that calls it."""
        world, connection = self._world, self.connections.get(id)
        world.observe("pushing", id, frame)
        try:
            outcome = self._push(connection, frame)
        except BaseException:
            world.observe("pushed", id, frame, None)
            raise
        world.observe("pushed", id, frame, outcome)
        return outcome

    def _push(self, connection: Connection | None, frame: str) -> Push:
        world, faults = self._world, self._world.faults
        post = 0
        if connection is not None:
            post = connection.posts = connection.posts + 1
        world.network("push")
        if connection is None or not connection.open:
            faults.note("gone")
            return Push.GONE
        if faults.hit("wrong-410"):
            self._kernel.wait(self._dice.choice((2, 300)))
            return Push.GONE
        if faults.hit("push-fails"):
            return Push.FAILED
        if faults.hit("throttled") or (
            connection.under_way >= _BUFFER and faults.has("buffer-full")
        ):
            return Push.THROTTLED
        slow = faults.hit("push-slow")
        if not (slow and self._dice.random() < 0.5) and not faults.hit("push-lost"):
            if post < connection.posted:
                faults.note("overtaken")
            connection.posted = max(post, connection.posted)
            self._deliver(connection, json.loads(frame))
            if faults.hit("odd-frames"):
                self._deliver(connection, dict(self._dice.choice(ODD)))
        if slow:
            self._kernel.wait(_POST_TIMEOUT)
            return Push.SLOW
        world.network("push")
        return Push.DONE

    def disconnect(self, id: str) -> None:
        self._world.network("push")
        if id in self.connections:
            self.close(self.connections[id])

    def close(self, connection: Connection) -> None:
        """The server's end is closed; the client's is told, if the network lets it."""
        if not connection.open:
            return
        connection.open = False
        if not connection.cut or not self._world.faults.hit("half-open"):
            self._kernel.after(self._latency(), self._end, connection)
        faults = self._world.faults
        if faults.hit("no-disconnect"):
            return
        late = faults.hit("late-disconnect")
        delay = self._dice.randrange(1_000, 60_000) if late else self._latency()
        self._kernel.after(
            delay,
            self._world.invoke,
            "websocket",
            lambda session: session.disconnect(connection.id),
            lambda error: None,
        )

    # ---- in between ------------------------------------------------------------------

    def _take(self, connection: Connection, text: str) -> None:
        if not connection.open or connection.cut:
            return
        connection.active_at = self._kernel.now
        if len(text.encode("utf-8", "replace")) > MAX_FRAME:
            self._world.faults.note("too-long")
            self.close(connection)
            return
        if self._world.faults.hit("frame-lost"):
            self._apologise(connection)
            return
        self._world.observe("taken", connection, text)
        connection.handling += 1
        if connection.handling > 1:
            connection.overlapped = True

        def done(error: BaseException | None) -> None:
            connection.handling -= 1
            if not connection.handling:
                connection.overlapped = False
            self._world.observe("handled", connection, text, error)
            if error is not None:
                self._apologise(connection)

        def play(session: Session) -> None:
            session.receive(connection.id, text)

        self._world.invoke("websocket", play, done)

    def _apologise(self, connection: Connection) -> None:
        """API Gateway's own frame has no type."""
        if connection.open and not connection.cut:
            frame = {"message": "Internal server error", "requestId": "r"}
            self._deliver(connection, frame)

    def _deliver(self, connection: Connection, frame: dict[str, Any]) -> None:
        connection.active_at = self._kernel.now
        if connection.cut:
            return
        slow = self._world.faults.has("buffer-full")
        delay = self._dice.randrange(200) if slow else self._latency()
        # TCP: what was taken first arrives first.
        at = max(self._kernel.now + delay, connection.arrives_at)
        connection.arrives_at = at
        connection.under_way += 1
        self._kernel.after(at - self._kernel.now, self._arrive, connection, frame)

    def _arrive(self, connection: Connection, frame: dict[str, Any]) -> None:
        connection.under_way -= 1
        if not connection.cut and not connection.done:
            connection.client.received(connection, frame)

    def _end(self, connection: Connection) -> None:
        if not connection.done:
            connection.done = True
            connection.client.closed(connection)

    def _end_life(self, connection: Connection) -> None:
        if connection.open:
            self.close(connection)

    def _check_idle(self, connection: Connection) -> None:
        if not connection.open:
            return
        left = connection.active_at + IDLE - self._kernel.now
        if left <= 0:
            self._world.faults.note("idle")
            self.close(connection)
        else:
            self._kernel.after(left, self._check_idle, connection)

    def _latency(self) -> int:
        return self._dice.choice((1, 2, 5, 10, 40))
