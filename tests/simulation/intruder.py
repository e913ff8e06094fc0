"""A hostile client."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import jwt

from tailrace import ids

from .gateway import Connection

if TYPE_CHECKING:
    from .world import World


class Intruder:
    """A client that asks for what it is not granted, and sends what is no frame."""

    JUNK = (
        "",
        "null",
        "[]",
        "{",
        '{"type":"subscribe"}',
        '{"type":"$disconnect"}',
        '{"type":"subscribe","stream":"secret","n":-1}',
        '{"type":"sync","n":3,"streams":{"' + "a" * 300 + '":null}}',
        '{"type":"sync","n":3,"streams":{"s1":[1,2,3]}}',
        "\ud800",
        "[" * 2_000,
        '{"type":"auth","n":1,"token":"x.y.z"}',
        '{"type":"auth","n":1,"token":7}',
        '{"n":1}',
        '{"type":"subscribe","stream":"s1","n":2,"compact":"zip"}',
        '{"type":"subscribe","stream":"s1","n":"2"}',
        '{"type":"sync","n":3,"streams":[]}',
        '{"type":"sync","n":3,"streams":{},"compact":[]}',
        '{"type":"sync","n":3,"streams":{"s1":"here"}}',
        json.dumps(
            {"type": "sync", "n": 3, "streams": {f"s{n}": None for n in range(51)}}
        ),
        json.dumps({"type": "cancel", "n": 1, "stream": "s1", "run": "none"}),
        '{"type":"send","n":1,"stream":"s1","requestId":"r1"}',
        '{"type":"send","requestId":"r1","id":"1","stream":"s1"}',
        '{"type":"send","requestId":"r1","id":1}',
        '{"type":"resume","requestId":"r1","id":"1","lastSequence":1}',
        '{"type":"resume","requestId":"r1","stream":"s1"}',
        '{"type":"abort","requestId":"r1"}',
        '{"type":"abort","requestId":["r1"]}',
        '"' + "x" * 32_300 + '"',
        '"' + "x" * 33_000 + '"',
    )

    def __init__(self, world: World, name: str, streams: list[str]) -> None:
        self.world, self.name, self.streams = world, name, streams
        self.dice = world.kernel.dice(name)
        self.connection: Connection | None = None
        self.n = 0
        self.life = self.dice.choice([5, 900])

    def start(self) -> None:
        exp = self.world.kernel.now // 1000 + self.life
        token = self.world.mint(self.name, exp, ("its:*", self.streams[0]))
        if self.world.faults.on and self.dice.random() < 0.4:
            self.world.api.connect(self, *self._false(token))
        else:
            self.world.api.connect(self, token)

    def _false(self, token: str) -> tuple[str | None, str | None]:
        """Return a token that is none, or a page that is not on the list."""
        now = self.world.kernel.now // 1000
        good: dict[str, Any] = {"sub": "x", "aud": "tailrace", "exp": now + 900}
        secret = self.world.ring[self.world.ring["current"]]

        def forged(kid: str | None = "k1", key: str = secret, **claims: Any) -> str:
            headers = {"kid": kid} if kid else {}
            return jwt.encode(good | claims, key, "HS256", headers)

        return self.dice.choice(
            [
                (token, "https://elsewhere.example.com"),
                (None, None),
                ("no token", None),
                (forged(key="not-the-secret-of-any-of-our-keys"), None),
                (forged(kid=None), None),
                (forged(kid="current"), None),
                (forged(kid="k99"), None),
                (forged(aud="others"), None),
                (forged(nbf=now + 500), None),
                (forged(exp="soon"), None),
                (forged(exp=True), None),
                (forged(exp=float("inf")), None),
                (forged(read=["no stream"]), None),
                (forged(read="s1"), None),
                (forged(read=["s1*"]), None),
                (forged(read=["s1"] * 101), None),
                (forged(sub=""), None),
                (forged(sub="x" * 201), None),
            ]
        )

    def opened(self, connection: Connection) -> None:
        self.connection = connection
        self._go_on()

    def closed(self, connection: Connection) -> None:
        self.connection = None
        if self.world.faults.on:
            self.world.kernel.after(2_000, self.start)

    def received(self, connection: Connection, frame: dict[str, Any]) -> None: ...

    def _go_on(self) -> None:
        if self.connection is None or not self.world.faults.on:
            return
        self.n += 1
        exp = self.world.kernel.now // 1000 + 900
        stream = self.dice.choice(self.streams)
        run = ids.new_run(self.world.kernel.now + 200_000, self.dice.randbytes(10))
        frames: list[dict[str, Any]] = [
            {"type": "subscribe", "stream": stream},
            {"type": "subscribe", "stream": stream, "after": self.dice.randrange(30)},
            {"type": "sync", "streams": dict.fromkeys(self.streams)},
            {"type": "cancel", "stream": stream, "run": run},
            {"type": "auth", "token": self.world.mint("tab0", exp, (stream,))},
        ]
        text = self.dice.choice(
            [json.dumps({**self.dice.choice(frames), "n": self.n})] * 2
            + [self.dice.choice(self.JUNK)]
        )
        self.world.api.send(self.connection, text)
        if self.dice.random() < 0.02:
            for n in range(250):
                flood = {"type": "sync", "streams": {}, "n": n + 1}
                send, text = self.world.api.send, json.dumps(flood)
                self.world.kernel.after(15 * n, send, self.connection, text)
        if self.dice.random() < 0.02:
            for n in range(60):
                asked = {"type": "subscribe", "stream": f"its:{n}", "n": n + 1}
                send, text = self.world.api.send, json.dumps(asked)
                self.world.kernel.after(120 * n, send, self.connection, text)
        self.world.kernel.after(self.dice.choice([5, 300, 4_000]), self._go_on)
