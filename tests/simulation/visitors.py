"""Who else is at the chats: a client of ours, which also speaks the SDK's dialect.

It sends and repeats, resumes, aborts, changes its tokens, asks for too much and for
what is not its own, and its socket comes and goes. It writes streams of its own only.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from .gateway import Connection

if TYPE_CHECKING:
    from .chats import ChatWorld

STREAMS = ("v:0", "v:1", "v:2")
GRANTS = ("v:*", "chat:*")
CROWD = 60
# How long what a courier had begun to push may take.
UNDER_WAY_MS = 12_000
ACTS = (
    *("send", "ask", "ask", "repeat", "repeat", "resume", "resume", "abort", "hasty"),
    *("auth", "narrow", "subscribe", "crowd", "stranger", "cut"),
)


class Visitor:
    name = "visitor"

    def __init__(self, world: ChatWorld) -> None:
        self.world = world
        self.dice = world.kernel.dice("visitor")
        self.n = 0
        self.asked = 0
        self.connection: Connection | None = None
        # Requests of this connection, with the last place that each has; the run that
        # each `send` was answered.
        self.places: dict[str, int] = {}
        self.sent: dict[str, str] = {}
        # When requests of this connection ended, and where they were.
        self.ended: dict[str, tuple[int, int]] = {}
        self.behind: str | None = None
        self.gap: str | None = None
        self.twice: str | None = None

    def start(self) -> None:
        life = self.dice.choice([20, 600, 600])
        exp = self.world.kernel.now // 1000 + life
        self.world.api.connect(self, self.world.mint(self.name, exp, GRANTS))

    def opened(self, connection: Connection) -> None:
        self.connection = connection
        self.places, self.ended = {}, {}
        self._act()

    def closed(self, connection: Connection) -> None:
        self.connection = None
        if not self.world.tab.done:
            self.world.kernel.after(1_000, self.start)

    def received(self, connection: Connection, frame: dict[str, Any]) -> None:
        if connection is not self.connection:
            return
        request = frame.get("requestId")
        match frame.get("type"):
            case "sent":
                before = self.sent.setdefault(str(request), frame["run"])
                if before != frame["run"]:
                    self.twice = f"{request} is {before}, and then {frame['run']}"
            case "chunk" if request in self.places:
                due = self.places[request] + 1
                if frame["sequence"] > due:
                    self.gap = f"{request} gets {frame['sequence']}, {due} is next"
                self.places[request] = max(due - 1, frame["sequence"])
            case "chunk" if request in self.ended:
                when, place = self.ended[request]
                late = self.world.kernel.now - when
                if frame["sequence"] > place and late > UNDER_WAY_MS:
                    self.behind = f"{request} goes on {late} ms behind its end"
            case "end" | "no-active":
                place = self.places.pop(str(request), -1)
                self.ended.setdefault(str(request), (self.world.kernel.now, place))
            case "error":
                self.places.pop(str(request), None)
                self.world.faults.note(f"told-{frame.get('code', 'broke-off')}")

    def _act(self) -> None:
        if self.connection is None or self.world.tab.done:
            return
        dice, stream = self.dice, self.dice.choice(STREAMS)
        act = dice.choice(ACTS)
        self.world.faults.note(act)
        match act:
            case "send":
                self._send("send", stream=stream, requestId=self._name(), n=True)
            case "ask":
                request = self._new_request()
                for _ in range(dice.choice((1, 1, 2))):
                    self._send("send", stream=stream, requestId=request, messages=[])
            case "resume":
                whose = dice.choice((stream, "chat:1", "chat:2"))
                self._send("resume", stream=whose, requestId=self._new_request())
            case "hasty":
                request = self._new_request()
                kind = dice.choice(("send", "resume"))
                self._send(kind, stream=stream, requestId=request, messages=[])
                self._send("abort", requestId=request)
            case "abort":
                known = [*self.places, "nobody's"]
                self._send("abort", requestId=dice.choice(known))
            case "auth" | "narrow":
                exp = self.world.kernel.now // 1000 + dice.choice([20, 600])
                grants = GRANTS if act == "auth" else GRANTS[:1]
                token = self.world.mint(self.name, exp, grants)
                self._send("auth", token=token, n=True)
            case "subscribe":
                self._send("subscribe", stream=stream, n=True)
            case "crowd":
                for _ in range(CROWD):
                    self._send("resume", stream=stream, requestId=self._new_request())
            case "stranger":
                secret: dict[str, Any] = {
                    "stream": "secret:1",
                    "requestId": self._name(),
                }
                self._send(dice.choice(("send", "resume")), **secret)
                odd: dict[str, Any] = dice.choice(
                    ({"id": 7}, {"id": "1", "stream": "v:1"}, {})
                )
                self._send("resume", requestId=self._name(), **odd)
                part: dict[str, Any] = {"lastSequence": 4, "stream": stream}
                self._send("resume", requestId=self._name(), **part)
            case "cut":
                self.world.api.cut(self.connection, half=dice.random() < 0.5)
                if not self.connection.done:
                    self.connection.done = True
                    self.closed(self.connection)
                return
            case "repeat":
                # Nobody else writes that stream, so that no later run begins.
                request = self._name()
                for ms in (0, 500, 4_000, 60_000):
                    self.world.kernel.after(ms, self._repeat, request)
        self.world.kernel.after(dice.choice((300, 2_000, 9_000)), self._act)

    def _repeat(self, request: str) -> None:
        """Send again, whether it was answered or not, also on another connection."""
        self._send("send", stream=f"v:{request}", requestId=request, n=True)

    def _name(self) -> str:
        self.asked += 1
        return f"v{self.asked}"

    def _new_request(self) -> str:
        request = self._name()
        self.places[request] = -1
        return request

    def _send(self, kind: str, *, n: bool = False, **frame: Any) -> None:
        self.n += 1
        told = {"type": kind, **frame, **({"n": self.n} if n else {})}
        if self.connection is not None:
            self.world.api.send(self.connection, json.dumps(told))
