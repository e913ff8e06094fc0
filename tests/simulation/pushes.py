"""Direct delivery as one publisher does it: what `adapters/background.py` does with
threads, done with tasks.

A publisher is a producer's machine, or a container of the publish function, which
stands still between two invocations.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from tailrace.audience import from_event, to_event
from tailrace.delivery import Delivered, Delivery
from tailrace.direct import Direct, RecentSubscribers
from tailrace.fanout import Fanout
from tailrace.records import Record
from tailrace.watchers import Share

from .feed import RESERVE, TIMEOUT
from .invariants import RATE
from .kernel import Process

if TYPE_CHECKING:
    from .world import World

SETTLE_FUNCTION = 500
SETTLE_PROCESS = 1_000


class Pushes:
    """What one publisher has put and is to push."""

    def __init__(self, world: World, clock: Callable[[], int], interval: int) -> None:
        self._world = world
        self._kernel = world.kernel
        self._clock = clock
        recent = RecentSubscribers(world.state_port, clock)
        self.direct = Direct(
            _Observed(self, world, recent, clock), clock, interval=interval
        )
        # Its machines: whoever told it something.
        self.processes: list[Process] = []
        # What it was told of and has not delivered.
        self.owed: set[tuple[str, int]] = set()
        self._waiting: list[Callable[[], None]] = []

    def tell(self, record: Record) -> None:
        process = self._kernel.process()
        if process not in self.processes:
            self.processes.append(process)
        self.owed.add((record.stream, record.seq))
        self._schedule(process, record.stream, self.direct.put(record))

    def settle(self, limit: int, stream: str | None = None) -> bool:
        """Wait until all is pushed, but so long at most (ms); return whether it is."""
        until = self._kernel.now + limit
        while not self.direct.settled(stream) and self._kernel.now < until:
            self._kernel.park(lambda wake: self._wake_at(until, wake))
        return self.direct.settled(stream)

    def _wake_at(self, at: int, wake: Callable[[], None]) -> None:
        """Wake once: when something was pushed, or then."""

        def once() -> None:
            if once in self._waiting:
                self._waiting.remove(once)
                wake()

        self._waiting.append(once)
        self._kernel.after(at - self._kernel.now, once)

    def _schedule(self, process: Process, stream: str, due: int | None) -> None:
        if due is not None:
            delay = max(0, due - self._clock())
            self._kernel.after(delay, self._start, process, stream)

    def _start(self, process: Process, stream: str) -> None:
        def push() -> None:
            self._schedule(process, stream, self.direct.push(stream))

        def done(error: BaseException | None) -> None:
            self._world.observe("ran", error)
            for wake in tuple(self._waiting):
                wake()

        if not process.dead:
            self._kernel.start(process, push, done, scope=object())


class Relay:
    """Lambda, as it takes shares: by the fan-out's containers, or not now."""

    def __init__(self, world: World) -> None:
        self._world = world

    def hand_over(self, share: Share) -> Callable[[], bool]:
        world, scope = self._world, self._world.kernel.scope
        if world.faults.hit("share-refused"):
            return lambda: False
        ended: list[BaseException | None] = []
        waiting: list[Callable[[], None]] = []
        world.faults.note("handed-share")

        def play(fanout: Fanout) -> None:
            deadline = world.kernel.process().clock() + TIMEOUT - RESERVE
            told = from_event(json.loads(to_event(share)))
            assert told is not None
            fanout.push_share(told, deadline)

        def done(error: BaseException | None) -> None:
            world.observe("ran", error)
            world.observe("shared", scope, share, error)
            if error is not None:
                world.faults.note("lost-share")
            ended.append(error)
            for wake in waiting:
                wake()

        world.observe("sharing", scope, share)
        world.invoke("fanout", play, done, scope=scope)

        def wait() -> bool:
            if not ended:
                world.kernel.park(waiting.append)
            return True

        return wait


class _Observed(Delivery):
    """Tells the invariants what is to be delivered, and what came of it."""

    def __init__(
        self,
        pushes: Pushes,
        world: World,
        recent: RecentSubscribers,
        clock: Callable[[], int],
    ) -> None:
        super().__init__(
            recent,
            world.api,
            clock,
            world.kernel.side_by_side,
            relay=Relay(world),
            share=world.share,
            rate=RATE,
        )
        self._pushes = pushes
        self._world = world

    def deliver(
        self, streams: Mapping[str, Sequence[Record]], deadline: int
    ) -> Delivered:
        observe = self._world.observe
        (stream,) = streams
        observe("delivering", self._pushes, stream)
        done = False
        try:
            delivered = super().deliver(streams, deadline)
            done = not delivered.failed
            if done:
                self._pushes.owed -= {(stream, one.seq) for one in streams[stream]}
        finally:
            observe("delivered-by", self._pushes, stream, streams[stream], done)
        return delivered
