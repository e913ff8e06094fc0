"""The Python client's machine, driven as its edge drives it, by the world's time."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from tailrace import ids
from tailrace.consumer import wire
from tailrace.consumer.cursor import Concluded, Cursor, Delivered
from tailrace.consumer.machine import Machine, Status
from tailrace.consumer.state import (
    Close,
    Command,
    Connect,
    Fail,
    FetchToken,
    Probe,
    Send,
    Tell,
)
from tailrace.errors import Unauthorized
from tailrace.frames import MAX_STREAMS

from .consumers import Reader
from .gateway import Connection

if TYPE_CHECKING:
    from .vectors import Scribe
    from .world import World


GARBLED: tuple[Callable[[dict[str, Any], str], str], ...] = (
    lambda frame, text: text[: len(text) // 2],
    lambda frame, text: "[" * 100_000,
    lambda frame, text: f"[{text}]",
    lambda frame, text: json.dumps({**frame, "type": 7}),
    lambda frame, text: json.dumps({"n": 1}),
    lambda frame, text: json.dumps({**frame, "type": "slice", "chunks": {}}),
    lambda frame, text: json.dumps({**frame, "type": "slice", "next": -1}),
    lambda frame, text: json.dumps({**frame, "type": "synced", "tails": {"s1": {}}}),
)
"""What might come instead of a frame, and says nothing."""


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
            text = json.dumps(frame)
            if self.tab.world.faults.hit("odd-frames", 0.3):
                garbled = self.tab.dice.choice(GARBLED)
                self.tab.hear(self.number, garbled(frame, text))
            self.tab.hear(self.number, text)

    def closed(self, connection: Connection) -> None:
        if self.machine is self.tab.machine:
            self.tab.sockets.pop(self.number, None)
            self.tab.tell("lost", self.number)


class PackageTab:
    """A program that watches with the package's client. For the rest as `Tab`."""

    def __init__(self, world: World, name: str, streams: list[str]) -> None:
        self.world, self.name, self.streams = world, name, streams
        self.dice = world.kernel.dice(name)
        self.gone = False
        self.asleep_until = 0
        self.stalled_until = 0
        self.status: Status = "idle"
        self.token_life = self.dice.choice([40, 300, 900])
        self._narrow = False
        self.readers: dict[str, Reader] = {}
        self.sockets: dict[int, Connection] = {}
        self._opens: dict[tuple[str, str], int] = {}
        self._superseded: dict[str, str] = {}
        # Readers whose cursor was kept without what belongs to it.
        self._careless: set[str] = set()
        # Readers that are done at the end of the first run that they show.
        self.one_run = {one for one in streams if self.dice.random() < 0.2}
        # Some draw the same lot whenever they draw.
        steady = world.kernel.dice(f"{name}/chance")
        self._chance = steady.choice([None, None, 0.1, 0.5, 0.9])
        self._begin()
        world.book.tabs.append(self)

    # ---- what its user does ----------------------------------------------------------

    @property
    def connection(self) -> Connection | None:
        return next(iter(self.sockets.values()), None)

    def start(self) -> None: ...

    def watch(
        self,
        stream: str,
        after: Cursor | None = None,
        *,
        id: str | None = None,
        run: str | None = None,
    ) -> None:
        """`id`: of the reader, where it is not the only one of its stream."""
        id = id or stream
        if id in self.readers or self.gone:
            return
        tail = self.world.log.last(stream)
        if after is None and tail is not None and self.dice.random() < 0.2:
            later = ids.new_run(self.world.kernel.now + 3_000, self.dice.randbytes(10))
            run = self.dice.choice([tail.run, tail.prev or tail.run, later])
        reader = self.readers[id] = Reader(stream, f"{self.name}/{id}")
        reader.wanted = run
        if after is not None:
            reader.begins_at = after.seq + 1
            reader.cursor = (after.run, after.seq)
        follow = reader.follow = id not in self.one_run
        self.tell("watch", id, stream, after=after, run=run, follow=follow)

    def unwatch(self, id: str) -> None:
        if self.readers.pop(id, None) is not None:
            self.tell("unwatch", id)

    def twin(self, stream: str) -> None:
        """Another part of the program reads the same stream, from somewhere else."""
        tail = self.world.log.last(stream)
        after = None
        if tail is not None and self.dice.random() < 0.7:
            after = Cursor(None, self.dice.randrange(tail.next))
        self.watch(stream, after, id=f"{stream}+")

    def crowd(self) -> None:
        """It watches more than a connection can, of what it is not granted."""
        for number in range(MAX_STREAMS + 1):
            self.tell("watch", f"x{number}", f"x{number}", after=None, follow=True)

    def quit(self) -> None:
        """The program closes its client, tries to go on, and takes a new one."""
        streams = sorted({one.stream for one in self.readers.values()})
        self.readers = {}
        self.tell("close")
        for stream in streams:
            self.tell("watch", stream, stream, after=None, follow=True)
        self._begin()
        for stream in streams:
            self.watch(stream)

    def reload(self) -> None:
        before, keeps = self.readers, self.dice.random() < 0.5
        for connection in self.sockets.values():
            connection.done = True
            self.world.api.close(connection)
        self._begin()
        for id, old in before.items():
            if keeps and old.cursor is not None and old.cursor[0] is not None:
                # Some do not keep whether the run had ended.
                ended = old.shown is None and self.dice.random() < 0.7
                self._go_on(id, old, ended=ended)
            else:
                self.watch(old.stream, id=id)

    def _go_on(self, id: str, old: Reader, *, ended: bool) -> None:
        """Watch again, behind a cursor that was kept."""
        assert old.cursor is not None
        if old.shown is None and not ended:
            self._careless.add(id)
        self.watch(old.stream, Cursor(*old.cursor, ended=ended), id=id)
        if id in self.readers:  # unless a crowd has taken all room
            self.readers[id].shown = old.shown

    def sleep(self, ms: int) -> None:
        """It is without a network for a while."""
        self.asleep_until = self.world.kernel.now + ms
        for connection in self.sockets.values():
            self.world.api.cut(connection, half=True)
        if self.dice.random() < 0.3:
            self.cancel()

    def cancel(self) -> None:
        for reader in self.readers.values():
            run, stream = reader.shown, reader.stream
            if run is not None:
                self.world.book.cancels.setdefault(stream, []).append(run)
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
        self.readers, self.sockets, self._timer = {}, {}, math.inf
        self._superseded, self._careless = {}, set()
        # Told that there will be no token.
        self._never = False

    def hear(self, socket: int, text: str) -> None:
        frame = wire.decode(text)
        if frame is not None:
            self.tell("frame", socket, frame, heard=text)
        elif self._scribe:
            self._scribe.note(
                self.name, self.machine, *self._now(), "text", socket, text
            )

    def tell(
        self, event: str, *facts: Any, heard: str | None = None, **named: Any
    ) -> None:
        """Let the machine know of an event, and carry out what it commands."""
        now, chance = self._now()
        commands = getattr(self.machine, event)(*facts, **named, now=now, chance=chance)
        commands = list(commands)
        if self._scribe:
            told = (event, *facts[:1], heard) if event == "frame" else (event, *facts)
            self._scribe.note(
                self.name, self.machine, now, chance, *told, commands=commands, **named
            )
        for command in commands:
            self._carry_out(command)
        for id, reader in self.readers.items():
            state = self.machine._s.readers.get(id)
            if state is not None and state.cursor is not None:
                reader.cursor = (state.cursor.run, state.cursor.seq)
        self.status = self.machine.status
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
            case Connect(number, _) if world.kernel.now < self.asleep_until:
                world.kernel.after(20, self._unconnected, self.machine, number)
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
            case Tell(id, output):
                self._shown(id, output)
            case Fail(id, error):
                world.note(f"{self.name}: {id} fails: {error!r}")
                if not self._never:
                    world.observe("failed", self.name, error)
                if id in self.readers:
                    stream = self.readers.pop(id).stream
                    world.kernel.after(3_000, partial(self.watch, stream, id=id))
            case _:
                pass

    def _token(self) -> None:
        if self.world.faults.hit("tokenless"):
            if self.dice.random() < 0.2:
                self.world.faults.note("token-refused")
                self._never = True
                self.tell("tokenless", Unauthorized("nobody is logged in"))
            else:
                self.tell("tokenless")
            return
        exp = self.world.kernel.now // 1000 + self.token_life
        streams = tuple(self.streams[1:] if self._narrow else self.streams)
        self._narrow = False
        self.tell("token", self.world.mint(self.name, exp, streams, streams), exp)

    def _probed(self, machine: Machine) -> None:
        if machine is self.machine:
            offline = self.world.kernel.now < self.asleep_until
            self.tell("probed", not offline and self.dice.random() < 0.7)

    def _unconnected(self, machine: Machine, number: int) -> None:
        if machine is self.machine:
            self.tell("lost", number)

    def _shown(self, id: str, output: Delivered | Concluded) -> None:
        if id not in self.readers:
            return  # of a crowd
        reader = self.readers[id]
        if isinstance(output, Concluded):
            if output.reason == "superseded" and id in self._careless:
                reader.shown = None
            elif output.reason == "superseded":
                self._superseded[id] = output.run
                reader.shown = None
            else:
                if reader.cursor is not None and output.run == reader.shown:
                    self.world.observe("expired", reader, output.run, reader.cursor)
                reader.shown = reader.wanted = None
                reader.trail.clear()
                reader.begins_at = -1
            self._careless.discard(id)
            if id in self.one_run:
                self._done(id, reader)
            return
        piece = output.piece
        stream = reader.stream
        before = self._superseded.pop(id, None)
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
        reader.wanted = None
        reader.cursor = (piece.run, piece.next - 1)
        lost = piece.end is not None and piece.end["reason"] == "producer_lost"
        if piece.end is not None and not lost and id in self.one_run:
            self._done(id, reader)

    def _done(self, id: str, reader: Reader) -> None:
        """It has had the run that it wanted: later it wants what comes next."""
        self.world.faults.note("one-run")
        del self.readers[id]
        before = self._superseded.pop(id, None)
        if before is not None and reader.cursor is not None:
            place = reader.cursor[1] + 1
            self.world.observe("superseded", reader, before, place)

        def again(machine: Machine) -> None:
            if machine is self.machine and id not in self.readers:
                if reader.cursor is not None and reader.cursor[0] is not None:
                    self._go_on(id, reader, ended=True)
                else:
                    self.watch(reader.stream, id=id)

        self.world.kernel.after(3_000, again, self.machine)
