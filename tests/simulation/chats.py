"""Chats in a world of faults: the AI SDK's transport on one socket, and nobody asking.

The client is a model of `WebSocketChatTransport` (`ai` 7): it takes frames by sequence,
ignores what it has, and closes its socket at the first gap, or at a frame that it does
not know. The gateway refuses, breaks and stands still at random, and what seemed lost
may arrive late.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tailrace import chunks, tokens
from tailrace.chat import Chats
from tailrace.courier import Courier
from tailrace.delivery import Delivery
from tailrace.errors import TailraceError, Unavailable
from tailrace.fanout import Fanout
from tailrace.rules import Reason
from tailrace.session import Session

from .chat_faults import BEHIND, ChatFaults, Queue, RoughApi
from .gateway import Connection
from .invariants import invariant, one_run_is_active, seqs_are_dense
from .kernel import Process
from .visitors import Visitor
from .world import RING, Container, Keys, Violation, World

# By nothing else the SDK's client knows that an answer which ended well is not whole.
INTERRUPTED = {"type": "finish", "finishReason": "interrupted"}
STREAMS = 50
REST = 900_000


@dataclass
class Asked:
    """A request, as the transport keeps it."""

    stream: str
    last: int = -1
    chunks: list[Any] = field(default_factory=list)
    end: str | None = None


class StockTab:
    """The SDK's transport on one socket."""

    name = "stock"

    def __init__(self, world: ChatWorld) -> None:
        self.world = world
        self.dice = world.kernel.dice("stock")
        self.requests: dict[str, Asked] = {}
        self.active: set[str] = set()
        self.killed: str | None = None

    @property
    def done(self) -> bool:
        left = self.active - self.world.queue.given_up
        return len(self.requests) == STREAMS and not left

    def start(self) -> None:
        exp = self.world.kernel.now // 1000 + 7_000
        self.world.api.connect(self, self.world.mint(self.name, exp, ("*",)))

    def opened(self, connection: Connection) -> None:
        for number in range(STREAMS):
            stream = f"chat:{number % (STREAMS * 4 // 5)}"
            kind = "send" if number < STREAMS * 4 // 5 else "resume"
            at = self.dice.randrange(3_000) + (0 if kind == "send" else 4_000)
            self.world.kernel.after(at, self._ask, connection, kind, stream, number)

    def _ask(self, connection: Connection, kind: str, stream: str, n: int) -> None:
        request = f"r{n}"
        self.requests[request] = Asked(stream)
        self.active.add(request)
        frame = {"type": kind, "requestId": request, "id": stream[5:]}
        rest: dict[str, Any] = {"messages": [], "headers": {}, "body": {}}
        self.world.api.send(connection, json.dumps({**frame, **rest}))

    def received(self, connection: Connection, frame: dict[str, Any]) -> None:
        kind, id = frame.get("type"), frame.get("requestId")
        if not isinstance(kind, str) or not isinstance(id, str):
            return self._kill(connection, f"a frame that it does not know: {frame}")
        if id not in self.active:
            return None
        asked = self.requests[id]
        if kind == "chunk":
            if frame["sequence"] <= asked.last:
                return None
            if frame["sequence"] != asked.last + 1:
                gap = f"{id} has {asked.last}, and gets {frame['sequence']}"
                return self._kill(connection, gap)
            asked.last = frame["sequence"]
            asked.chunks.append(frame["chunk"])
        elif kind in ("end", "error", "no-active"):
            asked.end = kind
            self.active.discard(id)
        elif kind != "start":
            return self._kill(connection, f"a type that it does not know: {kind}")
        return None

    def _kill(self, connection: Connection, why: str) -> None:
        self.killed = self.killed or why
        self.world.api.close(connection)

    def closed(self, connection: Connection) -> None:
        self.killed = self.killed or "the server closed it"


class Job:
    """A user's job function: it claims its run, writes, and ends, or dies."""

    def __init__(self, world: ChatWorld, event: dict[str, Any]) -> None:
        self.world, self.event = world, event
        self.dice = world.kernel.dice(f"job/{event['stream']}")
        process = Process(world.kernel, "job")
        world.kernel.start(process, self._play, self._done)

    def _play(self) -> None:
        world, event, dice = self.world, self.event, self.dice
        stream, run = event["stream"], event["run"]
        clock, writer = world.kernel.process().clock, dice.randbytes(8).hex()
        log = world.new_log(clock, world.new_pushes(clock))
        tail = log.claim(stream, run, writer, event["seq"], lease=10)
        texts: list[Any] = [
            {"type": "start", "messageId": run},
            {"type": "text-start", "id": "t"},
        ]
        count = dice.choice((1, 5, 30, 60))
        texts += [
            {"type": "text-delta", "id": "t", "delta": f"{number} "}
            for number in range(count)
        ]
        texts += [{"type": "text-end", "id": "t"}, {"type": "finish"}]
        fate = dice.choice(("completed",) * 7 + ("error", "cancelled", "dies"))
        if fate != "completed":
            texts = texts[: dice.randrange(1, len(texts))]
        pause = dice.choice((5, 60, 400))
        if dice.random() < 0.05:
            world.faults.note("babbled")
            texts.insert(dice.randrange(len(texts)), "no chunk of the SDK's")
        if dice.random() < 0.03:
            world.faults.note("thought")
            for _ in range(100):
                log.renew(stream, run, writer)
                world.kernel.wait(5_000)
        while texts:
            size = dice.randrange(1, 5)
            encoded = [chunks.encode(one) for one in texts[:size]]
            tail = log.append(stream, run, writer, tail.next, encoded)
            texts = texts[size:]
            world.kernel.wait(pause)
        if fate == "cancelled":
            log.cancel(stream, run)
        elif fate != "dies":
            reason: Reason = "completed"
            if fate == "error":
                reason = "error"
            log.end(stream, run, writer, tail.next, reason)

    def _done(self, error: BaseException | None) -> None:
        # A second delivery is refused: the first is alive, or done.
        if error is not None and not isinstance(error, TailraceError):
            raise error


class ChatWorld(World):
    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        dice = self.kernel.dice("chats")
        self.api = RoughApi(self)
        self.queue = Queue(self)
        self.faults = ChatFaults(self.kernel)
        self.faults.rates = {
            kind: dice.choice((0.0, 0.02, 0.1))
            for kind in (
                *BEHIND,
                "killed",
                "queue-repeats",
                "no-disconnect",
                "state-twice",
            )
        }
        self.faults.rates["job-fails"] = 0.05
        self.abort_cancels = dice.random() < 0.5
        # Requests whose job could not be started, as far as anybody knows.
        self.not_started: set[str] = set()
        self.faults.rates |= {"feed-repeats": 0.1, "feed-late": 0.02}
        self.tab = StockTab(self)
        self.visitor = Visitor(self)

    def handler(self, kind: str, container: Container) -> Any:
        clock = container.clock
        courier = Courier(self.log_port, self.state_port, self.api, self.queue, clock)
        if kind == "fanout":
            delivery = Delivery(
                self.state_port,
                self.api,
                clock,
                self.kernel.side_by_side,
                courier=lambda: courier,
                net=self.direct,
            )
            return Fanout(delivery, clock)
        log = self.new_log(clock)
        chats = Chats(
            log,
            self.state_port,
            self.api,
            courier,
            self.queue,
            self,
            abort_cancels=self.abort_cancels,
        )
        if kind == "repairs":
            return chats
        return Session(
            log,
            self.state_port,
            self.api,
            Keys(self),
            clock,
            origins=["*"],
            chats=lambda: chats,
        )

    def start(self, event: dict[str, Any]) -> None:
        """Invoke the job function, as `Jobs` has it: at least once."""
        self.network("invoke")
        dice = self.kernel.dice("jobs")
        if self.faults.hit("job-fails"):
            self.not_started.add(event["untrusted"]["requestId"])
            if dice.random() < 0.5:
                raise Unavailable("no function was invoked")

        def deliver() -> None:
            Job(self, event)

        self.kernel.after(dice.choice((5, 200, 2_000)), deliver)
        if dice.random() < 0.2:
            self.kernel.after(dice.choice((5, 3_000)), deliver)
        if event["untrusted"]["requestId"] in self.not_started:
            raise Unavailable("the answer was lost")

    def invoke(
        self,
        kind: str,
        play: Callable[[Any], None],
        on_done: Callable[[BaseException | None], None],
        *,
        scope: object = None,
    ) -> None:
        """As it is; but who is killed on a client's frame kills that client's socket:
        API Gateway then sends a frame without a type. So nobody is, here."""
        kept, killed = self.faults.rates, dict(self.faults.rates)
        if kind == "websocket":
            killed.pop("killed", None)
        self.faults.rates = killed
        super().invoke(kind, play, on_done, scope=scope)
        self.faults.rates = kept

    def mint(
        self, sub: str, exp: int, read: tuple[str, ...], cancel: tuple[str, ...] = ()
    ) -> str:
        now = self.kernel.now // 1000
        return tokens.mint(
            RING,
            sub=sub,
            now=now,
            expires_in=exp - now,
            read=read,
            cancel=("*",),
            send=read,
        )

    def note_token(self, connection: Connection, token: str) -> None: ...

    def observe(self, event: str, *facts: Any) -> None:
        if event == "put":
            for check in (seqs_are_dense, one_run_is_active):
                check(self, *facts)

    def play(self) -> None:
        """Run to the end; raise what does not hold."""
        self.tab.start()
        self.visitor.start()
        until = self.kernel.now + REST
        while self.kernel.now < until and self.kernel.step() and not self.tab.done:
            self._check(no_gap_reaches_the_sdk)
            self._check(nothing_goes_on_behind_its_end)
            self._check(a_repeated_send_is_one_run)
        self._check(every_request_ends_with_nobody_asking)
        self._check(what_was_cut_short_never_looks_whole)

    def _check(self, check: Callable[[ChatWorld], None]) -> None:
        try:
            check(self)
        except AssertionError as error:
            raise Violation(check.__name__, str(error)) from None


# ---- what must be true ---------------------------------------------------------------


@invariant("G17")
def no_gap_reaches_the_sdk(world: ChatWorld) -> None:
    assert world.tab.killed is None, world.tab.killed
    assert world.visitor.gap is None, world.visitor.gap


@invariant("G17")
def nothing_goes_on_behind_its_end(world: ChatWorld) -> None:
    assert world.visitor.behind is None, world.visitor.behind


@invariant("G4")
def a_repeated_send_is_one_run(world: ChatWorld) -> None:
    assert world.visitor.twice is None, world.visitor.twice


@invariant("G17")
def every_request_ends_with_nobody_asking(world: ChatWorld) -> None:
    assert world.tab.done, f"{sorted(world.tab.active)} go on for ever"
    for id, asked in world.tab.requests.items():
        if id in world.tab.active:
            continue  # the operator knows
        if id in world.not_started:
            assert asked.end == "error", f"{id} could not be started: {asked.end}"
            continue
        wanted, end = _written(world, asked)
        if asked.end != "no-active":
            assert end != "completed" or asked.end == "end", f"{id}: {asked.end}"
            assert _merged(asked.chunks) == _merged(wanted), f"{id} lacks something"


@invariant("G18")
def what_was_cut_short_never_looks_whole(world: ChatWorld) -> None:
    for id, asked in world.tab.requests.items():
        _, end = _written(world, asked)
        if asked.end == "end":
            assert end in ("completed", "cancelled"), f"{id} ended: {end}"
            last = {"completed": {"type": "finish"}, "cancelled": INTERRUPTED}[end]
            assert asked.chunks[-1] == last, id


def _written(world: ChatWorld, asked: Asked) -> tuple[list[Any], str | None]:
    """Return what the SDK is to be given of a run, and how the run ended."""
    records = list(world.log.range(asked.stream, 1))
    wanted = [
        chunk
        for record in records
        if record.kind == "data"
        for chunk in chunks.decode(record.chunks)
    ]
    end = records[-1].reason
    if "no chunk of the SDK's" in wanted:
        return wanted[: wanted.index("no chunk of the SDK's")], "error"
    if end == "cancelled":
        wanted.append(INTERRUPTED)
    return wanted, end


def _merged(chunks_: list[Any]) -> tuple[list[str], str]:
    kinds = [one["type"] for one in chunks_ if one["type"] != "text-delta"]
    return kinds, "".join(one.get("delta", "") for one in chunks_)


def play(seed: int) -> ChatWorld:
    world = ChatWorld(seed)
    world.play()
    return world
