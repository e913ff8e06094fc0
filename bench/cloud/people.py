"""Who writes an answer, and who watches it: the package's own producer and consumer,
driven by the cloud's time."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from tailrace.chunks import encode
from tailrace.consumer.cursor import Delivered
from tailrace.consumer.machine import Machine
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
from tailrace.consumer.wire import decode as decode_frame
from tailrace.consumer.wire import encode as encode_frame
from tailrace.errors import TailraceError
from tailrace.producer.core import Core, Pace
from tailrace.producer.opening import Opening
from tailrace.writers import Transport
from tests.simulation.kernel import Process

from . import wire

if TYPE_CHECKING:
    from .cloud import Cloud
    from .gateway import Connection

MS = 1_000
SECOND = 1_000_000


class Answer:
    """One answer: tokens at their pace, each one `write`. `written[i]` is when token
    `i` was (µs)."""

    def __init__(
        self,
        cloud: Cloud,
        stream: str,
        transport: Transport,
        *,
        tokens: list[Any],
        rate: float,
        interval: float,
    ) -> None:
        self.cloud = cloud
        self.stream = stream
        self.done = False
        self.written: list[int] = []
        self.failures = 0
        self._dice = cloud.kernel.dice(f"job {stream}")
        self.process = Process(cloud.kernel, f"job {stream}")
        self._texts = [encode(token) for token in tokens]
        self._pause = SECOND / rate
        self._begun = cloud.kernel.now
        self._transport = transport
        self.core = Core(
            Opening(stream, "0123456789abcdef0123", lease=30, randomness=bytes(10)),
            Pace(min_interval=interval),
        )
        cloud.kernel.start(self.process, self._play, self._stopped)

    def _play(self) -> None:
        core, kernel = self.core, self.cloud.kernel
        while core.state != "closed":
            self._write()
            call = core.step(kernel.now / SECOND)
            if call is None:
                self._wait()
                continue
            try:
                answer = call.send(self._transport)
            except TailraceError as error:
                self.failures += 1
                core.failed(error, kernel.now / SECOND, self._dice.random())
            else:
                core.answered(answer, kernel.now / SECOND)

    def _write(self) -> None:
        """Write what the model has said by now."""
        if self.core.state != "writing":
            return
        if not self.written:
            self._begun = self.cloud.kernel.now
        while len(self.written) < len(self._texts):
            at = self._begun + round(len(self.written) * self._pause)
            if at > self.cloud.kernel.now:
                return
            self.core.write(self._texts[len(self.written)])
            self.written.append(at)
        self.core.end("completed")

    def _wait(self) -> None:
        now = self.cloud.kernel.now
        due = self.core.due(now / SECOND)
        times = [now + 60 * SECOND]
        if due is not None:
            times.append(math.ceil(due * SECOND))
        if self.core.state == "writing":
            times.append(self._begun + round(len(self.written) * self._pause))
        self.cloud.kernel.wait(max(1, min(times) - now))

    def _stopped(self, error: BaseException | None) -> None:
        if error is not None:
            raise error
        if self.core.error is not None:
            raise self.core.error
        self.done = True


class Seat:
    """A socket and its subscription, as a page leaves them that has come. It looks at
    what it gets, as `Watcher` does, and asks for nothing."""

    def __init__(self, cloud: Cloud, stream: str) -> None:
        self._cloud = cloud
        self.shown: list[int] = []
        self.first_shown: dict[int, int] = {}
        self.ended = False
        self.disordered = 0
        self._next = 0
        connection = cloud.gateway.seat(self)
        wire.put_row(
            f"stream#{stream}",
            connection.id,
            {"n": 1, "exp": cloud.clock() // 1_000 + 900},
        )

    def lost(self, number: int) -> None:
        """Stay away: it is no page that would come back."""

    def received(self, number: int, frame: str) -> None:
        slice_ = json.loads(frame)
        self.disordered += slice_["seq"] < self._next
        self._next = slice_["next"]
        now = self._cloud.kernel.now
        self.shown += [now] * len(slice_.get("chunks", ()))
        self.first_shown.update(dict.fromkeys(range(slice_["seq"], self._next), now))
        self.ended = self.ended or "end" in slice_


class Watcher:
    """One page: connects, watches a stream to its end, stays as long as it stays.
    `shown[i]` is when chunk `i` came (µs). `follow`: also the next. `reachable`: what
    its probe finds where a handshake failed."""

    def __init__(
        self,
        cloud: Cloud,
        stream: str,
        name: str,
        *,
        follow: bool = False,
        reachable: bool = False,
    ) -> None:
        self.cloud = cloud
        self.stream = stream
        self.name = name
        self.shown: list[int] = []
        self.first_shown: dict[int, int] = {}
        """When each slice came, by the seqs that it begins with and holds."""

        self.disordered = 0
        """Live slices that came behind a later one."""

        self.ended = False
        self.live = False
        self.gave_up = False
        self._reachable = reachable
        self._reached = 0
        self._machine = Machine()
        self._sockets: dict[int, Connection] = {}
        self._timer = math.inf
        self._dice = cloud.kernel.dice(f"watcher {name}")
        self._tell("watch", stream, stream, follow=follow)

    def fail(self, *, slow: bool) -> None:
        """Take no more frames. `slow`: whoever pushes one waits; else the socket is
        gone, and neither the page nor a function was told."""
        for connection in self._sockets.values():
            connection.slow, connection.open = slow, slow

    def cut(self) -> None:
        """Lose the connection, and know it."""
        for number, connection in list(self._sockets.items()):
            self.cloud.gateway.close(connection)
            self.lost(number)

    def leave(self) -> None:
        """Close the page."""
        for connection in list(self._sockets.values()):
            self.cloud.gateway.close(connection)
        self._machine, self._sockets = Machine(), {}

    # ---- what the gateway tells ------------------------------------------------------

    def opened(self, connection: Connection, number: int) -> None:
        self._sockets[number] = connection
        self._tell("opened", number)

    def lost(self, number: int) -> None:
        """Learn that a handshake was refused, or that the connection is closed."""
        self._sockets.pop(number, None)
        self._tell("lost", number)

    def received(self, number: int, frame: str) -> None:
        decoded = decode_frame(frame)
        assert decoded is not None
        if decoded["type"] == "synced":
            self.live = True
        if decoded["type"] == "slice" and not decoded.get("replay"):
            self.disordered += decoded["seq"] < self._reached
            self._reached = decoded["next"]
        self._tell("frame", number, decoded)

    # ---- the machine -----------------------------------------------------------------

    def _tell(self, event: str, *facts: Any, **more: Any) -> None:
        kernel = self.cloud.kernel
        machine = self._machine
        commands = getattr(machine, event)(
            *facts, **more, now=kernel.now / MS, chance=self._dice.random()
        )
        for command in list(commands):
            self._carry_out(command)
        deadline = machine.deadline
        if deadline < self._timer or self._timer * MS <= kernel.now:
            self._timer = deadline
            if deadline < math.inf:
                pause = max(math.ceil(deadline * MS) - kernel.now, 1)
                kernel.after(pause, self._tick, machine, deadline)

    def _tick(self, machine: Machine, deadline: float) -> None:
        if machine is self._machine and deadline == self._timer:
            self._timer = math.inf
            self._tell("tick")

    def _carry_out(self, command: Command) -> None:
        match command:
            case FetchToken():
                self.cloud.kernel.after(1, self._token)
            case Connect(number, token):
                self.cloud.gateway.connect(self, number, token)
            case Send(number, frame):
                self.cloud.gateway.send(self._sockets[number], encode_frame(frame))
            case Close(number):
                self.cloud.gateway.close(self._sockets.pop(number))
            case Tell(_, Delivered(piece)):
                now = self.cloud.kernel.now
                self.shown += [now] * len(piece.chunks)
                self.first_shown.update(
                    dict.fromkeys(range(piece.seq, piece.next), now)
                )
                self.ended = self.ended or piece.end is not None
            case Probe():
                pause = 2 * self.cloud.draw("socket")
                self.cloud.kernel.after(pause, self._tell, "probed", self._reachable)
            case Fail() if self._reachable:
                self.gave_up = True
            case _:
                raise RuntimeError(f"nothing was to go wrong: {command}")

    def _token(self) -> None:
        token, exp = self.cloud.token(self.name, self.stream)
        self._tell("token", token, exp)
