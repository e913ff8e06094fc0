"""A hostile client."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

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
        self.world.api.connect(self, token)

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
        stream = self.dice.choice(self.streams)
        run = ids.new_run(self.world.kernel.now + 200_000, self.dice.randbytes(10))
        frames: list[dict[str, Any]] = [
            {"type": "subscribe", "stream": stream},
            {"type": "subscribe", "stream": stream, "after": self.dice.randrange(30)},
            {"type": "sync", "streams": dict.fromkeys(self.streams)},
            {"type": "cancel", "stream": stream, "run": run},
        ]
        text = self.dice.choice(
            [json.dumps({**self.dice.choice(frames), "n": self.n})] * 2
            + [self.dice.choice(self.JUNK)]
        )
        self.world.api.send(self.connection, text)
        self.world.kernel.after(self.dice.choice([5, 300, 4_000]), self._go_on)
