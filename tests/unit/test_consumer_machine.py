"""The consumer's machine against the real session and fan-out, on a bad network.

Time is virtual and a seed decides everything: which pushes are lost, repeated, late or
out of order, when sockets die, when the server answers too late or not at all. Whatever
happens, what a reader was given is the log from where it began, in order, each chunk
once; and all of it in the end. What each single frame means is in test_conformance.py.
"""

from __future__ import annotations

import heapq
import itertools
import json
import math
import os
import random
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from tailrace.consumer import wire
from tailrace.consumer.cursor import Concluded, Delivered
from tailrace.consumer.machine import Closed, Machine
from tailrace.consumer.state import (
    Close,
    Command,
    Connect,
    Fail,
    FetchToken,
    Probe,
    Send,
    Settle,
    Tell,
)
from tailrace.delivery import Delivery
from tailrace.errors import Forbidden, TooMany
from tailrace.fanout import Change, Fanout
from tailrace.frames import MAX_STREAMS
from tailrace.ports import Push
from tailrace.session import Session
from tailrace.watchers import Connection, Rights
from tests.support.worlds import NOW, STREAM, World, one_by_one, run_id

SEEDS = int(os.environ.get("SEEDS", "300"))
SHARES = 4
FOREVER = 1 << 60


class Network:
    """A consumer, a server and the way between them, on one clock (ms from 0)."""

    def __init__(self, seed: int, trouble: float) -> None:
        self.chance = random.Random(seed)
        self.trouble = trouble
        self.world = World(seed)
        self.now = 0.0
        self.machine = Machine()
        self.shown: dict[str, list[Any]] = {}
        self.failed: dict[str, str] = {}
        self.settled: dict[str, str | None] = {}
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._ids = itertools.count()
        self._alive: dict[int, str] = {}
        self._session = Session(
            self.world.log, self.world.state, self, object(),  # type: ignore[arg-type]
            self.world.clock, origins=["*"],
        )  # fmt: skip
        self._fanout = Fanout(
            Delivery(self.world.state, self, self.world.clock, one_by_one),
            self.world.clock,
        )

    # ---- time ------------------------------------------------------------------------

    def later(self, delay: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._later, (self.now + delay, next(self._numbers), act))

    def advance(self, ms: float) -> None:
        """Let time pass, and happen what is due."""
        until = self.now + ms
        for _ in range(200_000):
            due = self.machine.deadline
            first = self._later[0][0] if self._later else float("inf")
            if min(due, first) > until:
                break
            self._go_to(max(self.now, min(due, first)))
            if first <= due:
                heapq.heappop(self._later)[2]()
            else:
                self.feed("tick")
        else:
            raise AssertionError("a storm")
        self._go_to(until)

    def _go_to(self, now: float) -> None:
        self.now = now
        self.world.clock.now = NOW + int(now)

    # ---- the consumer ----------------------------------------------------------------

    def feed(self, event: str, *arguments: Any, **options: Any) -> None:
        step = getattr(self.machine, event)
        chance = self.chance.random()
        for command in step(*arguments, **options, now=self.now, chance=chance):
            self._carry_out(command)

    def _carry_out(self, command: Command) -> None:
        match command:
            case FetchToken():
                self.later(5, lambda: self.feed("token", "token"))
            case Connect(socket, _):
                self.later(20, lambda: self._open(socket))
            case Probe():
                self.later(1, lambda: self.feed("probed", False))
            case Close(socket):
                self._end(socket)
            case Send(socket, frame):
                wire.encode(frame)
                self.later(10, lambda: self._receive(socket, json.dumps(frame)))
            case Tell(id, output):
                self.shown.setdefault(id, []).extend(events(output))
            case Fail(id, error):
                self.failed[id] = error.code
            case Settle(id, reason):
                self.settled[id] = reason

    def _open(self, socket: int) -> None:
        if self.chance.random() < self.trouble:
            self.feed("lost", socket)
            return
        id = f"c{next(self._ids)}"
        self._alive[socket] = id
        rights = Rights("u", 1 << 40, read=("*",), cancel=("*",))
        self.world.state.put_connection(Connection(id, rights), 1 << 40)
        self.feed("opened", socket)

    def _end(self, socket: int) -> None:
        id = self._alive.pop(socket, None)
        if id is not None:
            self._session.disconnect(id)

    def cut(self) -> None:
        """Every socket dies; the server may not hear of it."""
        for socket in list(self._alive):
            if self.chance.random() < 0.5:
                self._end(socket)
            self._alive.pop(socket, None)
            self.later(self.chance.random() * 100, partial(self.feed, "lost", socket))

    # ---- the server ------------------------------------------------------------------

    def _receive(self, socket: int, text: str) -> None:
        if (id := self._alive.get(socket)) is None:
            return
        if self.chance.random() < self.trouble / 4:
            if self.chance.random() < 0.5:  # the function was throttled
                frame = '{"message":"Internal server error","requestId":"r"}'
                self._deliver(socket, frame)
            return
        self._session.receive(id, text)

    def feed_back(self) -> None:
        """Push what is in the log and was not pushed, in batches, perhaps twice."""
        records = self.world.records()
        changes = [Change(str(record.seq), record) for record in records]
        fresh = changes[getattr(self, "_fed", 0) :]
        self._fed = len(changes)
        if self.chance.random() < self.trouble:
            fresh = changes[-3:] + fresh
        if fresh:
            self._fanout.push(fresh, FOREVER)

    def push(self, connection: str, frame: str) -> Push:
        for socket, id in self._alive.items():
            if id == connection:
                if self.chance.random() < self.trouble / 2:
                    return self.chance.choice([Push.GONE, Push.THROTTLED, Push.DONE])
                times = 2 if self.chance.random() < self.trouble / 4 else 1
                for _ in range(times):
                    slow = self.chance.random() < self.trouble / 2
                    delay = self.chance.random() * 700 if slow else 15
                    self.later(delay, partial(self._deliver, socket, frame))
                return Push.DONE
        return Push.GONE

    def disconnect(self, connection: str) -> None:
        for socket, id in list(self._alive.items()):
            if id == connection:
                self._end(socket)
                self.later(5, partial(self.feed, "lost", socket))

    def _deliver(self, socket: int, text: str) -> None:
        frame = wire.decode(text)
        if socket in self._alive and frame is not None:
            self.feed("frame", socket, frame)


def events(output: Any) -> list[tuple[Any, ...]]:
    """Return what an output shows: (run, seq, kind, value)."""
    if isinstance(output, Concluded):
        return [(output.run, None, "end", output.reason)]
    assert isinstance(output, Delivered)
    piece = output.piece
    found: list[tuple[str, Any]] = []
    if piece.open is not None:
        found.append(("open", None))
    if piece.claim is not None:
        found.append(("claim", None))
    found += [("chunk", chunk) for chunk in piece.chunks]
    if piece.end is not None:
        found.append(("end", piece.end["reason"]))
    return [(piece.run, piece.seq + at, *one) for at, one in enumerate(found)]


def truth(world: World) -> list[tuple[Any, ...]]:
    """Return all that the log holds, as `events` spells it."""
    found: list[tuple[Any, ...]] = []
    for record in world.records():
        if record.kind == "data":
            values = json.loads(f"[{record.chunks}]")
            found += [
                (record.run, record.seq + at, "chunk", value)
                for at, value in enumerate(values)
            ]
        else:
            found.append((record.run, record.seq, record.kind, record.reason))
    return found


def play(seed: int) -> None:
    """Write three runs past a follower, and a reader that joins in the middle."""
    chance = random.Random(seed)
    network = Network(seed, trouble=chance.choice([0.0, 0.1, 0.3]))
    log = network.world.log
    network.feed("watch", "from the start", STREAM, follow=True)
    network.advance(chance.choice([0, 200]))
    for number in range(1, 4):
        run, writer = run_id(number), f"w{number}"
        tail = log.open(STREAM, writer, run).next
        for chunk in range(chance.randrange(1, 30)):
            parts = range(chance.choice([1, 3]))
            texts = [f'"{number}-{chunk}-{part}"' for part in parts]
            tail = log.append(STREAM, run, writer, tail, texts).next
            if chance.random() < 0.7:
                network.feed_back()
            network.advance(chance.choice([0, 20, 100, 1_000]))
            if chance.random() < network.trouble / 3:
                network.cut()
            if chance.random() < 0.05:
                network.feed("pause", "from the start")
                network.advance(50)
                network.feed("resume", "from the start")
            check_readers(network, whole=False)
            if (number, chunk) == (2, 3):
                network.feed("watch", "joined late", STREAM, follow=True)
        if number != 2:  # the second is superseded
            log.end(STREAM, run, writer, tail, "completed")
        network.feed_back()
    network.trouble = 0.0
    network.advance(120_000)
    network.feed_back()
    check_readers(network, whole=True)
    assert not network.failed


def shown_of(network: Network, reader: str) -> list[tuple[Any, ...]]:
    return [one for one in network.shown.get(reader, []) if one[1] is not None]


def check_readers(network: Network, *, whole: bool) -> None:
    """Assert that each reader has a contiguous piece of the log, from the open of the
    run that it was served first; and to the end, if `whole`."""
    log = truth(network.world)
    for reader in network.shown:
        shown = shown_of(network, reader)
        begin = log.index(shown[0])
        assert log[begin][2] == "open"
        end = len(log) if whole else begin + len(shown)
        assert shown == log[begin:end], reader


@pytest.mark.parametrize("share", range(SHARES))
def test_a_reader_gets_the_log_once_and_in_order_whatever_happens(share: int) -> None:
    seeds = [int(os.environ["SEED"])] if "SEED" in os.environ else range(SEEDS)
    for seed in list(seeds)[share::SHARES]:
        try:
            play(seed)
        except BaseException as error:
            error.add_note(f"again: SEED={seed}")
            raise


# ---- what no vector tells ------------------------------------------------------------


def live(network: Network) -> Network:
    network.feed("watch", "a", STREAM)
    network.advance(1_000)
    assert network.machine.status == "live"
    return network


def test_a_machine_that_was_asked_for_nothing_waits_for_no_time() -> None:
    assert Machine().deadline == math.inf


def test_a_cancel_that_is_refused_says_nothing_of_those_who_read() -> None:
    network = live(Network(1, 0))
    log = network.world.log
    log.open(STREAM, "w", run_id(1))
    network.feed_back()
    network.feed("cancel", "stop", STREAM, run_id(1))
    refusal = Forbidden("no").as_dict()
    frame = {"type": "error", **refusal, "stream": STREAM, "n": 2}
    network.feed("frame", 1, frame)
    assert network.failed == {"stop": "forbidden"}
    network._later.clear()
    log.append(STREAM, run_id(1), "w", 2, ['"a"'])
    network.feed_back()
    network.advance(1_000)
    assert ("chunk", "a") in [one[2:] for one in network.shown["a"]]


def test_more_streams_than_a_connection_may_have_are_refused() -> None:
    machine = Machine()
    for number in range(MAX_STREAMS):
        machine.watch(str(number), f"s{number}", now=0, chance=0)
    machine.watch("another reader", "s1", now=0, chance=0)
    (refused,) = machine.watch("too many", "s50", now=0, chance=0)
    assert isinstance(refused, Fail)
    assert isinstance(refused.error, TooMany)


def test_a_client_that_was_closed_fails_what_is_asked_of_it() -> None:
    network = live(Network(1, 0))
    network.feed("close")
    network.feed("watch", "b", STREAM)
    network.feed("cancel", "c", STREAM, run_id(1))
    assert network.failed == {"a": "closed", "b": "closed", "c": "closed"}
    assert network.machine.status == "closed"
    assert isinstance(network.machine._s.failure, Closed)
    assert network._alive == {}
