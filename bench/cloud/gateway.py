"""API Gateway: sockets, what passes through them, and for how long."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from .tally import FRAME_STEP, units

if TYPE_CHECKING:
    from .cloud import Cloud
    from .people import Seat, Watcher

MINUTE = 60_000_000


class Connection:
    """One socket of a watcher; `number` is the watcher's name for it."""

    def __init__(self, id: str, watcher: Watcher | Seat, number: int, now: int) -> None:
        self.id = id
        self.watcher = watcher
        self.number = number
        self.opened_at = now
        self.open = False
        self.arrives_at = 0
        # Whoever pushes waits in vain.
        self.slow = False


class Gateway:
    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._connections: dict[str, Connection] = {}

    # ---- what a client does ----------------------------------------------------------

    def connect(self, watcher: Watcher, number: int, token: str) -> None:
        cloud = self._cloud
        # As long as AWS's ids are.
        id = f"TkQ2mfSeo{len(self._connections):06x}="
        connection = Connection(id, watcher, number, cloud.kernel.now)
        self._connections[id] = connection
        event = self._event(
            connection,
            "CONNECT",
            headers={"Sec-WebSocket-Protocol": f"tailrace.v1, bearer.{token}"},
        )

        def done(answer: dict[str, Any]) -> None:
            if answer["statusCode"] != 200:
                raise RuntimeError(f"the handshake was refused: {answer}")
            connection.open = True
            connection.opened_at = cloud.kernel.now
            cloud.kernel.after(cloud.draw("socket"), watcher.opened, connection, number)

        def arrive() -> None:
            if not cloud.limits.admit_handshake(cloud.kernel.now):
                cloud.kernel.after(cloud.draw("socket"), watcher.lost, number)
                return
            cloud.tally["gateway.handshakes"] += 1
            cloud.functions.invoke("websocket", event, done)

        cloud.kernel.after(cloud.draw("socket"), arrive)

    def seat(self, seat: Seat) -> Connection:
        """Return a socket that is open, without a handshake."""
        id = f"TkQ2mfSeo{len(self._connections):06x}="
        connection = Connection(id, seat, 0, self._cloud.kernel.now)
        connection.open = True
        self._connections[id] = connection
        return connection

    def send(self, connection: Connection, text: str) -> None:
        cloud = self._cloud
        cloud.tally["gateway.frames_up"] += 1
        cloud.tally["gateway.messages_up"] += units(len(text.encode()), FRAME_STEP)
        event = self._event(connection, "MESSAGE", body=text)

        def arrive() -> None:
            cloud.functions.invoke("websocket", event, lambda answer: None)

        cloud.kernel.after(cloud.draw("socket"), arrive)

    def close(self, connection: Connection) -> None:
        cloud = self._cloud
        if not connection.open:
            return
        connection.open = False
        lived = cloud.kernel.now - connection.opened_at
        cloud.tally["gateway.minutes"] += units(lived, MINUTE)
        cloud.tally["gateway.closes"] += 1
        cloud.functions.invoke(
            "websocket", self._event(connection, "DISCONNECT"), lambda answer: None
        )

    # ---- what a function does --------------------------------------------------------

    def post(self, path: str, body: bytes, patience: float) -> int | None:
        """Take a push; return its HTTP status, or None if that takes longer than so
        many seconds."""
        cloud = self._cloud
        cloud.compute(cloud.cpu.push)
        connection = self._at(path)
        if connection.slow:
            cloud.kernel.wait(round(patience * 1_000_000))
            return None
        us = cloud.draw("post")
        cloud.kernel.wait(us // 2)
        if not cloud.limits.admit_post(cloud.kernel.now):
            status = 429
        elif not connection.open:
            status = 410
        else:
            status = 200
            self._deliver(connection, body.decode())
        cloud.kernel.wait(us - us // 2)
        return status

    def end(self, path: str) -> int:
        """Close a connection, as a function asks; return the HTTP status."""
        cloud, connection = self._cloud, self._at(path)
        cloud.compute(cloud.cpu.push)
        cloud.kernel.wait(cloud.draw("post"))
        if not connection.open:
            return 410
        self.close(connection)
        cloud.kernel.after(
            cloud.draw("socket"), connection.watcher.lost, connection.number
        )
        return 204

    def _at(self, path: str) -> Connection:
        return self._connections[unquote(path.rsplit("/", 1)[1])]

    def _deliver(self, connection: Connection, frame: str) -> None:
        cloud, size = self._cloud, len(frame.encode())
        cloud.tally["gateway.frames_down"] += 1
        cloud.tally["gateway.messages_down"] += units(size, FRAME_STEP)
        cloud.tally["gateway.bytes_down"] += size
        # TCP: what was taken first arrives first.
        at = max(cloud.kernel.now + cloud.draw("socket"), connection.arrives_at)
        connection.arrives_at = at
        cloud.kernel.after(
            at - cloud.kernel.now,
            connection.watcher.received,
            connection.number,
            frame,
        )

    def _event(self, connection: Connection, kind: str, **parts: Any) -> dict[str, Any]:
        about = {
            "routeKey": "$default" if kind == "MESSAGE" else f"${kind.lower()}",
            "eventType": kind,
            "connectionId": connection.id,
            "stage": "v1",
            "apiId": "abcdef1234",
            "domainName": "abcdef1234.execute-api.us-east-1.amazonaws.com",
        }
        event: dict[str, Any] = json.loads(json.dumps({"requestContext": about}))
        return {**event, **parts, "isBase64Encoded": False}
