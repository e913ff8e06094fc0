"""The Python client's machine, driven as its edge drives it, by the world's time."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from tailrace.consumer import wire
from tailrace.consumer.asks import (
    Close,
    Command,
    Connect,
    Fail,
    FetchToken,
    Probe,
    Send,
    Tell,
)
from tailrace.consumer.cursor import Concluded, Cursor, Delivered
from tailrace.consumer.machine import Machine

from .consumers import Reader
from .gateway import Connection

if TYPE_CHECKING:
    from .vectors import Scribe
    from .world import World


class _Socket:
    """One WebSocket of the machine, in the making or open."""

    def __init__(self, tab: PackageTab, number: int) -> None:
        self.tab, self.number, self.name = tab, number, tab.name
        self.machine = tab.machine

    def opened(self, connection: Connection) -> None:
        if self.machine is self.tab.machine:
            self.tab.sockets[self.number] = connection
            self.tab.tell("opened", self.number)

    def received(self, connection: Connection, frame: dict[str, Any]) -> None:
        if self.machine is self.tab.machine:
            self.tab.hear(self.number, json.dumps(frame))

    def closed(self, connection: Connection) -> None:
        if self.machine is self.tab.machine:
            self.tab.sockets.pop(self.number, None)
            self.tab.tell("lost", self.number)


class PackageTab:
    """A program that watches with the package's client. For the rest as `Tab`."""

    def __init__(self, world: World, name: str, streams: list[str]) -> None:
        self.world, self.name, self.streams = world, name, streams
        self.dice = world.kernel.dice(name)
        self.readers: dict[str, Reader] = {}
        self._begin()
        self.sockets: dict[int, Connection] = {}
        self.gone = False
        self.asleep_until = 0
        self.stalled_until = 0
        self._narrow = False
        # Some draw the same lot whenever they draw.
        steady = world.kernel.dice(f"{name}/chance")
        self._chance = steady.choice([None, None, 0.1, 0.5, 0.9])
        self.token_life = self.dice.choice([40, 300, 900])
        self._timer = math.inf
        self._superseded: dict[str, str] = {}
        self._opens: dict[tuple[str, str], int] = {}
        world.book.tabs.append(self)

    # ---- what its user does ----------------------------------------------------------

    @property
    def connection(self) -> Connection | None:
        return next(iter(self.sockets.values()), None)

    def start(self) -> None: ...

    def watch(self, stream: str, after: Cursor | None = None) -> None:
        if stream in self.readers or self.gone:
            return
        reader = self.readers[stream] = Reader(stream, f"{self.name}/{stream}")
        if after is not None:
            reader.begins_at = after.seq + 1
            reader.cursor = (after.run, after.seq)
        self.tell("watch", stream, stream, after=after, follow=True)

    def unwatch(self, stream: str) -> None:
        if self.readers.pop(stream, None) is not None:
            self.tell("unwatch", stream)

    def reload(self) -> None:
        kept = {stream: self.readers[stream].cursor for stream in self.readers}
        shown = {stream: self.readers[stream].shown for stream in self.readers}
        keeps = self.dice.random() < 0.5
        for connection in self.sockets.values():
            connection.done = True
            self.world.api.close(connection)
        self._begin()
        self.readers, self.sockets = {}, {}
        self._superseded.clear()
        self._timer = math.inf
        for stream, cursor in kept.items():
            after = None
            if keeps and cursor is not None and cursor[0] is not None:
                after = Cursor(*cursor, ended=shown[stream] is None)
            self.watch(stream, after)
            self.readers[stream].shown = shown[stream] if after else None

    def sleep(self, ms: int) -> None:
        for connection in self.sockets.values():
            self.world.api.cut(connection, half=True)

    def cancel(self) -> None:
        for stream, reader in self.readers.items():
            run = reader.shown
            if run is not None:
                self.world.book.answers.setdefault(f"cancel {stream}", []).append(run)
                self.tell("cancel", f"cancel {stream}", stream, run)
                return

    def auth(self) -> None: ...

    def narrow(self) -> None:
        """Its next token grants one stream less, and is soon followed by another."""
        self._narrow, self.token_life = True, 40

    def pause(self) -> None:
        """A reader has no room, for a while."""
        for id in list(self.readers):
            self.tell("pause", id)
            self.world.kernel.after(2_000, self.tell, "resume", id)
            return

    # ---- the machine -----------------------------------------------------------------

    def _begin(self) -> None:
        """A new life, with a clock of its own."""
        self.machine, self._born = Machine(), self.world.kernel.now

    def hear(self, socket: int, text: str) -> None:
        frame = wire.decode(text)
        if frame is not None:
            self.tell("frame", socket, frame, heard=text)
        elif self._scribe:
            step = {"text": text, "socket": socket}
            self._scribe.note(self.name, self.machine, step, [], *self._now())

    def tell(
        self, event: str, *facts: Any, heard: str | None = None, **named: Any
    ) -> None:
        """Let the machine know of an event, and carry out what it commands."""
        now, chance = self._now()
        commands = getattr(self.machine, event)(*facts, **named, now=now, chance=chance)
        commands = list(commands)
        if self._scribe:
            step = step_of(event, facts, named, heard)
            self._scribe.note(self.name, self.machine, step, commands, now, chance)
        for command in commands:
            self._carry_out(command)
        for stream, reader in self.readers.items():
            state = self.machine._s.readers.get(stream)
            if state is not None and state.cursor is not None:
                reader.cursor = (state.cursor.run, state.cursor.seq)
        self._arm()

    def _now(self) -> tuple[int, float]:
        chance = self.dice.random() if self._chance is None else self._chance
        return self.world.kernel.now - self._born, chance

    @property
    def _scribe(self) -> Scribe | None:
        """Who writes this life down, if anybody does. A vector has one chance for all
        draws."""
        return None if self._chance is None else self.world.scribe

    def _arm(self) -> None:
        now = self.world.kernel.now - self._born
        deadline = self.machine.deadline
        if deadline < self._timer or self._timer <= now:
            self._timer = deadline
            if deadline < math.inf:
                wait = max(math.ceil(deadline) - now, 1)
                self.world.kernel.after(wait, self._tick, self.machine, deadline)

    def _tick(self, machine: Machine, deadline: float) -> None:
        late = self.stalled_until - self.world.kernel.now
        if late > 0 and machine is self.machine:
            self.world.kernel.after(late, self._tick, machine, deadline)
            return
        if machine is self.machine and deadline == self._timer:
            self._timer = math.inf
            self.tell("tick")

    def _carry_out(self, command: Command) -> None:
        world = self.world
        match command:
            case FetchToken():
                world.kernel.after(self.dice.choice((5, 300)), self._token)
            case Probe():
                world.kernel.after(10, self._probed, self.machine)
            case Connect(number, token):
                if self.sockets:
                    world.faults.note("rotated")
                world.api.connect(_Socket(self, number), token)
            case Send(number, frame):
                connection = self.sockets.get(number)
                if connection is not None:
                    if frame["type"] == "auth":
                        world.note_token(connection, frame["token"])
                    world.api.send(connection, wire.encode(frame))
            case Close(number):
                connection = self.sockets.pop(number, None)
                if connection is not None:
                    connection.done = True
                    world.api.close(connection)
            case Tell(stream, output):
                self._shown(stream, output)
            case Fail(id, error):
                world.note(f"{self.name}: {id} fails: {error!r}")
                if id in self.readers:
                    del self.readers[id]
                    world.kernel.after(3_000, self.watch, id)
            case _:
                pass

    def _token(self) -> None:
        if self.world.faults.hit("tokenless"):
            self.tell("tokenless")
            return
        exp = self.world.kernel.now // 1000 + self.token_life
        streams = tuple(self.streams[1:] if self._narrow else self.streams)
        self._narrow = False
        self.tell("token", self.world.mint(self.name, exp, streams, streams), exp)

    def _probed(self, machine: Machine) -> None:
        if machine is self.machine:
            # The server was there, but what was refused was not the token.
            self.tell("probed", False)

    def _shown(self, stream: str, output: Delivered | Concluded) -> None:
        reader = self.readers[stream]
        if isinstance(output, Concluded):
            reader.shown = None
            if output.reason == "superseded":
                self._superseded[stream] = output.run
            else:
                if reader.cursor is not None:
                    self.world.observe("expired", reader, output.run, reader.cursor)
                reader.trail.clear()
                reader.begins_at = -1
            return
        piece = output.piece
        before = self._superseded.pop(stream, None)
        if before is not None:
            self.world.observe("superseded", reader, before, piece.seq)
        if piece.open is not None and reader.shown is None:
            # A run that ended, and all of whose log expired, may be opened again.
            key = (stream, piece.run)
            opens = len(self.world.book.facts.get((*key, piece.seq), ()))
            if opens > self._opens.get(key, 1):
                reader.trail.pop(piece.run, None)
            self._opens[key] = opens
        reader.shown = None if piece.end else piece.run
        slice = {
            "stream": stream,
            "run": piece.run,
            "seq": piece.seq,
            "next": piece.next,
            "open": piece.open,
            "claim": piece.claim,
            "chunks": list(piece.chunks),
            "end": piece.end,
        }
        self.world.observe("delivered", reader, slice, piece.seq)


def step_of(
    event: str, facts: tuple[Any, ...], named: dict[str, Any], heard: str | None
) -> dict[str, Any]:
    """Return an event of the machine as tests/conformance spells it."""
    match event, facts:
        case "watch", (id, stream):
            after: Cursor | None = named["after"]
            step = {"watch": id, "stream": stream, "follow": named["follow"]}
            if after is not None:
                step["after"] = {"run": after.run, "seq": after.seq}
                step["after"]["ended"] = after.ended
            return step
        case "cancel", (id, stream, run):
            return {"cancel": id, "stream": stream, "run": run}
        case "frame", (socket, _):
            assert heard is not None
            return {"frame": json.loads(heard), "socket": socket}
        case "token", (token, exp):
            return {"token": token, "exp": exp}
        case "tokenless", ():
            return {"token": None}
        case "tick", ():
            return {"tick": True}
        case _, (fact,):
            return {event: fact}
    raise AssertionError(f"no step for {event}")
