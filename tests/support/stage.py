"""A browser that talks to a session, over a log in memory."""

from __future__ import annotations

import json
from typing import Any

from tailrace import tokens
from tailrace.errors import TailraceError
from tailrace.session import Session
from tests.support.worlds import STREAM, World, run_id

R1 = run_id(1)
RING = {"current": "k1", "k1": "k1-secret-of-more-than-thirty-two-bytes"}
ORIGIN = "https://app.example.com"


class Keys:
    def __init__(self) -> None:
        self.known: tokens.KeyRing = RING
        self.stored: tokens.KeyRing = RING

    def ring(self) -> tokens.KeyRing:
        return self.known

    def reread(self) -> tokens.KeyRing:
        self.known = self.stored
        return self.known


class Stage(World):
    """A world with a session, and a browser that talks to it."""

    def __init__(self, *, direct: bool = False) -> None:
        super().__init__()
        self.keys = Keys()
        self.counted: dict[str, int] = {}
        self.refusals: list[TailraceError] = []
        self.session = Session(
            self.log,
            self.state,
            self.gateway,
            self.keys,
            self.clock,
            origins=[ORIGIN],
            direct=direct,
            count=lambda name, value: self.counted.__setitem__(
                name, self.counted.get(name, 0) + value
            ),
            on_refusal=self.refusals.append,
        )

    def token(self, **claims: Any) -> str:
        claims = {"sub": "u7", "read": ["chat:*"], "cancel": ["chat:42"], **claims}
        return tokens.mint(self.keys.stored, now=self.clock() // 1000, **claims)

    def connect(self, id: str = "c1", **claims: Any) -> None:
        self.session.connect(id, self.token(**claims), ORIGIN)

    def send(self, id: str = "c1", **frame: Any) -> list[dict[str, Any]]:
        """Send a frame; return what was pushed to that connection meanwhile."""
        return self.send_text(json.dumps(frame), id)

    def send_text(self, body: Any, id: str = "c1") -> list[dict[str, Any]]:
        before = len(self.gateway.sent[id])
        self.session.receive(id, body)
        return [json.loads(frame) for frame in self.gateway.sent[id][before:]]

    def ask(self, **frame: Any) -> dict[str, Any]:
        """Send a frame that is answered by one frame."""
        (answer,) = self.send(**frame)
        return answer

    def write(self, run: str = R1, chunks: int = 2) -> None:
        record = self.log.open(STREAM, "w", run)
        self.log.append(
            STREAM, run, "w", record.next, [f'"{n}"' for n in range(chunks)]
        )
