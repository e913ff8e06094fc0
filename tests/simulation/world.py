"""One world: the tables, the feed, the gateway, the functions, and who lives in it.

A seed decides everything. After every step the invariants that the step could have
broken have been checked; `Scenario` then stops the faults, lets everybody finish, and
checks what must be true at rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tailrace import tokens
from tailrace.adapters.memory import MemoryLog, MemoryState
from tailrace.delivery import Delivery
from tailrace.direct import Telling
from tailrace.errors import Unavailable
from tailrace.fanout import Fanout
from tailrace.log import Log
from tailrace.ports import Lease, LogStore
from tailrace.publish import Publish
from tailrace.quotas import Quotas
from tailrace.records import Record
from tailrace.session import Session
from tailrace.watchers import Request, Subscription

from . import invariants, tables
from .faults import Faults
from .feed import Feed
from .gateway import Api, Connection
from .invariants import RATE
from .kernel import START, Kernel, Killed, Process
from .pushes import SETTLE_FUNCTION, Pushes, Relay

if TYPE_CHECKING:
    from .vectors import Scribe

RING = {"current": "k1", "k1": "planted-secret-planted-secret-32"}
ORIGIN = "https://app.example.com"
STRICT = Quotas(frames=15, frames_a_second=4, connections=3, replay_bytes=64_000)
# Warm functions of a kind, beyond which a new one starts only where all are busy.
WARM = 6
RETENTION = 3_600
LEASE = 20
FUNCTION_TIMEOUT = 29_000


class Violation(AssertionError):
    """An invariant does not hold; `name` says which."""

    def __init__(self, name: str, what: str) -> None:
        super().__init__(f"{name}: {what}")
        self.name = name


class Keys:
    """The key ring as one container knows it."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._known = world.ring
        self._read_at = world.kernel.now

    def ring(self) -> tokens.KeyRing:
        return self._known

    def reread(self) -> tokens.KeyRing:
        if self._world.kernel.now - self._read_at >= 60_000:
            self._world.network("keys")
            self._known, self._read_at = self._world.ring, self._world.kernel.now
        return self._known


class Container:
    """A warm function: what it keeps between two events."""

    def __init__(self, world: World, kind: str, skew: int) -> None:
        self.busy = False
        self.skew = skew
        self._world = world
        self.pushes: Pushes | None = None
        self.handler: Any = world.handler(kind, self)

    def clock(self) -> int:
        return self._world.kernel.now + self.skew


class World:
    def __init__(
        self,
        seed: int,
        *,
        without: frozenset[str] = frozenset(),
        beside: frozenset[str] = frozenset(),
        trace: bool = False,
    ) -> None:
        self.beside = beside
        self.kernel = Kernel(seed)
        self.faults = Faults(self.kernel, without)
        self.trace: list[str] | None = [] if trace else None
        # Who pushes: the change feed's fan-out, or whoever publishes.
        self.direct = self.kernel.dice("delivery").random() < 0.5
        # How many subscriptions of a stream one invocation serves.
        self.share = self.kernel.dice("share").choice([1, 1, 2, 250])
        self.strict = self.faults.has("strict")
        self.log = MemoryLog()
        self.state = MemoryState()
        self.expires: dict[tuple[str, str], int] = {}
        self.book = invariants.Book()
        self.log_port = tables.Log(self)
        self.state_port = tables.State(self)
        self.api = Api(self)
        self.feed = Feed(self)
        self.pushes: list[Pushes] = []
        self.streams: list[str] = []
        self.origin = ORIGIN
        self.deleted: set[tuple[str, int]] = set()
        self.ring: tokens.KeyRing = RING
        self.resting = False
        self.rests_at = 0
        self.violation: Violation | None = None
        # Who writes down what befalls the Python clients, if anybody does.
        self.scribe: Scribe | None = None
        self._network = self.kernel.dice("network")
        self._freezing = self.kernel.dice("freezing")
        self._containers: dict[str, list[Container]] = {}
        self._tokens: dict[tuple[Any, ...], str] = {}
        self._rotations = 0
        self._writing: dict[str, int] = {}
        self._wrote_at: dict[str, int] = {}
        # Streams of which a `delete` is under way: nobody begins to write them.
        self.deleting: list[str] = []

    # ---- what happens ----------------------------------------------------------------

    def run(self, steps: int) -> None:
        """Let so many steps happen, faults and all."""
        for _ in range(steps):
            if not self.kernel.step():
                return
            if self.violation is not None:
                raise self.violation

    def observe(self, event: str, *facts: Any) -> None:
        """Tell the trace and the invariants."""
        if self.trace is not None:
            invariants.describe(self, event, facts)
        for invariant in invariants.ON.get(event, ()):
            try:
                invariant(self, *facts)
            except AssertionError as error:
                self.fail(invariant.__name__, str(error))

    def fail(self, invariant: str, what: str) -> None:
        """Raised by the world, not into the code that happens to run."""
        if self.violation is None:
            self.violation = Violation(invariant, what)

    def note(self, what: str) -> None:
        if self.trace is not None:
            self.trace.append(f"{self.kernel.now - START:>9} {what}")

    def handler(self, kind: str, container: Container) -> Any:
        """Build what a function of that kind keeps."""
        clock = container.clock
        if kind == "fanout":
            side_by_side = self.kernel.side_by_side
            delivery = Delivery(
                self.state_port,
                self.api,
                clock,
                side_by_side,
                relay=Relay(self),
                share=self.share,
                rate=RATE,
            )
            return Fanout(delivery, clock, pause=self.kernel.wait)
        if kind == "publish":
            pushes = container.pushes = self.new_pushes(clock)
            return Publish(
                self.new_log(clock, pushes),
                self.state_port,
                self.api,
                settle=lambda: pushes and pushes.settle(SETTLE_FUNCTION),
            )
        return Session(
            self.new_log(clock),
            self.state_port,
            self.api,
            Keys(self),
            clock,
            origins=[ORIGIN],
            direct=self.direct,
            count=self.count,
            quotas=STRICT if self.strict else Quotas(),
        )

    # ---- the network and the functions -----------------------------------------------

    def network(self, kind: str) -> None:
        """Let a call of the running task travel."""
        if kind == "lost":
            ms = self._network.choice((50, 200, 1_000))
        elif self.faults.hit("slow-table", 0.2):
            ms = 1_000
        else:
            ms = self._network.choice((1, 1, 2, 3, 8))
        if self.faults.hit("frozen", 0.05):
            self.kernel.process().freeze(self._freezing.choice((500, 8_000, 40_000)))
        self.kernel.wait(ms)
        self.kernel.process().ahead = 0

    def invoke(
        self,
        kind: str,
        play: Callable[[Any], None],
        on_done: Callable[[BaseException | None], None],
        *,
        scope: object = None,
    ) -> None:
        """Invoke a function: an idle container, or a cold one. `scope` as
        `Kernel.start` has it."""
        pool = self._containers.setdefault(kind, [])
        idle = [one for one in pool if not one.busy]
        dice = self.kernel.dice(f"containers/{kind}")
        if idle and (dice.random() < 0.8 or len(pool) >= WARM):
            container = dice.choice(idle)
        else:
            skew = dice.randrange(-200, 200) if self.faults.has("skew") else 0
            container = Container(self, kind, skew)
            self.faults.note("cold")
            pool.append(container)
        process = Process(self.kernel, kind, container.skew)
        process.deadline = self.kernel.now + FUNCTION_TIMEOUT
        if self.faults.hit("killed", 0.5):
            process.calls_left = dice.randrange(16)
        container.busy = True

        def done(error: BaseException | None) -> None:
            container.busy = False
            if container.pushes and not container.pushes.direct.settled():
                # What has answered stands still.
                process.freeze(dice.choice((0, 300, 5_000)))
            if isinstance(error, Killed) and self.kernel.now > (process.deadline or 0):
                self.faults.note("timed-out")
            if error is not None:
                pool.remove(container)
            on_done(error)

        self.kernel.start(process, lambda: play(container.handler), done, scope=scope)

    def count(self, metric: str, value: int) -> None:
        """Hear what the websocket function counts."""
        happening = {
            "FramesThrottled": "too-fast",
            "ConnectionsEvicted": "evicted",
            "ReplaysThrottled": "throttled-replay",
        }.get(metric)
        if happening:
            self.faults.note(happening)

    # ---- who writes ------------------------------------------------------------------

    def begin_to_write(self, stream: str) -> None:
        self._writing[stream] = self._writing.get(stream, 0) + 1

    def end_to_write(self, stream: str) -> None:
        self._writing[stream] -= 1
        self._wrote_at[stream] = self.kernel.now

    def quiet(self, stream: str) -> bool:
        """Whether nobody writes, and nothing that somebody sent is still under way."""
        since = self.kernel.now - self._wrote_at.get(stream, self.kernel.now)
        return not self._writing.get(stream) and since > 60_000

    def new_pushes(self, clock: Callable[[], int], interval: int = 0) -> Pushes | None:
        """Return what a publisher pushes with, if it is to push at all."""
        if not self.direct:
            return None
        pushes = Pushes(self, clock, interval)
        self.pushes.append(pushes)
        return pushes

    def new_log(self, clock: Callable[[], int], pushes: Pushes | None = None) -> Log:
        store: LogStore = self.log_port
        if pushes is not None:
            store = Telling(store, pushes.tell)
        return Log(
            store,
            self.state_port,
            clock,
            retention=RETENTION,
            lease=LEASE,
            randomness=self.kernel.dice("ids").randbytes,
        )

    # ---- the truth -------------------------------------------------------------------

    def apply(self, record: Record) -> Record | None:
        """The table puts a record, if nothing has its key."""
        tail = self.log.last(record.stream)
        if self._races_ttl(record, tail):
            raise Unavailable("the tail was deleted")
        winner = self.log.put(record)
        if winner is None:
            self.observe("put", record, tail)
            self.feed.inserted(record)
        return winner

    def _races_ttl(self, record: Record, tail: Record | None) -> bool:
        """Whether an `open` comes behind an expired tail that TTL has just deleted.

        Such a put must not be taken, but is: docs/threat-model.md, what is not met. So
        only who asks for `ttl-race` meets it.
        """
        expected = tail.next if tail else 1
        behind_nothing = record.kind == "open" and record.seq > expected
        # Another log may have grown up to it since, by the same race.
        if tail and record.kind == "open" and record.prev != tail.run:
            behind_nothing = True
        deleted = (record.stream, record.seq - 1) in self.deleted
        return behind_nothing and deleted and "ttl-race" not in self.beside

    def remove(self, stream: str, seq: int) -> None:
        record = self.log.last(stream, seq)
        if record is not None and record.seq == seq:
            self.deleted.add((stream, record.last))
        self.observe("remove", stream, seq)
        self.log.remove(stream, seq)

    def row(self, stream: str, connection: str) -> Subscription | None:
        return next(
            (
                one
                for one in self.state.subscribers(stream)
                if isinstance(one, Subscription) and one.connection == connection
            ),
            None,
        )

    def subscribe(self, row: Subscription, expires_at: int) -> Subscription | None:
        there = self.row(row.stream, row.connection)
        before = self.state.subscribe(row, expires_at)
        self.expires["subscription", f"{row.stream} {row.connection}"] = expires_at
        name, now = (row.stream, row.connection), self.kernel.now
        since = self.book.rows[name][2] if there and name in self.book.rows else now
        self.book.rows[name] = (now, row.n, since)
        return before

    def unsubscribe(self, stream: str, connection: str, n: int) -> None:
        before = self.row(stream, connection)
        self.state.unsubscribe(stream, connection, n)
        self.observe("row-gone", before, n, self.row(stream, connection))

    def drop(self, row: Subscription) -> None:
        before = self.row(row.stream, row.connection)
        self.state.drop(row)
        after = self.row(row.stream, row.connection)
        self.observe("row-dropped", before, row, after)

    def subscribers(
        self, stream: str, after: str, size: int
    ) -> list[Subscription | Request]:
        """Return a page of a stream's subscribers, in the order of their keys."""
        found = self.state.subscribers(stream)
        return sorted(
            (one for one in found if tables.key(one) > after), key=tables.key
        )[:size]

    def put_lease(
        self, stream: str, run: str, writer: str, lease: Lease, expires_at: int
    ) -> None:
        self.observe("renewed", stream, run, writer)
        self.state.put_lease(stream, run, writer, lease, expires_at)

    # ---- TTL -------------------------------------------------------------------------

    def expire(self, streams: Sequence[str]) -> None:
        """TTL deletes some of what has expired, in any order."""
        dice = self.kernel.dice("expire")
        now = self.kernel.now // 1000
        for stream in streams:
            records = list(self.log.range(stream, 1))
            for record in records:
                if record.expires_at < now and dice.random() < 0.7:
                    self.remove(stream, record.seq)
        for row in [key for key, at in self.expires.items() if at < now]:
            if dice.random() < 0.7:
                self._expire_row(*row)
                del self.expires[row]

    def _expire_row(self, kind: str, name: str) -> None:
        state = self.state
        if kind == "connection":
            state._connections.pop(name, None)
        elif kind == "subscription":
            stream, connection = name.split(" ")
            state._subscriptions[stream].pop(connection, None)
        elif kind == "lease":
            stream, run, writer = name.split(" ")
            state._leases.pop((stream, run, writer), None)
        else:
            stream, key = name.split(" ")
            state._keys.pop((stream, key), None)

    # ---- tokens ----------------------------------------------------------------------

    def rotate_keys(self) -> None:
        """Add a key and sign with it; the one before stays for a minute."""
        self._rotations += 1
        number = self._rotations + 1
        new = f"k{number}"
        before = self.ring["current"]
        secret = f"planted-secret-planted-secret-{number:02}"
        self.ring = {**self.ring, "current": new, new: secret}

        def forget() -> None:
            self.ring = {k: v for k, v in self.ring.items() if k != before}

        self.kernel.after(900_000, forget)

    def mint(
        self, sub: str, exp: int, read: tuple[str, ...], cancel: tuple[str, ...] = ()
    ) -> str:
        """Return a token; `exp` in seconds."""
        if self.faults.hit("keys-rotate", 0.2):
            self.rotate_keys()
        key = (sub, exp, read, cancel, self.ring["current"])
        token = self._tokens.get(key)
        if token is None:
            now = self.kernel.now // 1000 - 60
            token = tokens.mint(
                self.ring,
                sub=sub,
                now=now,
                expires_in=exp - now,
                read=read,
                cancel=cancel,
            )
            self._tokens[key] = token
            self.book.tokens[token] = (sub, exp, read, cancel)
        return token

    def note_token(self, connection: Connection, token: str) -> None:
        sub, exp, read, cancel = self.book.tokens[token]
        connection.tokens.append((exp, sub, frozenset(read), frozenset(cancel)))
