"""The delivery: pushes records that are in the log to whoever subscribes to them.

It may drop, repeat and reorder; the consumer's cursor repairs it. So one client never
fails the others, nor the caller: what could not be pushed in time is dropped.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol

from .errors import Unavailable
from .ports import Clock, Gateway, Push, Subscription
from .records import Record
from .slices import merge

Count = Callable[[str, int], None]
RunAll = Callable[[Sequence[Callable[[], None]]], None]
"""Runs tasks, side by side if it can; returns when all have returned."""

Queue = list[tuple[Subscription, list[str]]]
"""What one connection gets: the frames of each stream that it subscribes to."""

_TRIES = 2


class Subscribers(Protocol):
    """What a delivery asks of the state's table (`ports.State`)."""

    def subscribers(self, stream: str) -> list[Subscription]: ...

    def drop(self, subscription: Subscription) -> None: ...


class Delivery:
    """Delivers batches of records. Nothing is kept between two batches."""

    def __init__(
        self,
        state: Subscribers,
        gateway: Gateway,
        clock: Clock,
        run_all: RunAll,
        *,
        count: Count = lambda name, value: None,
    ) -> None:
        self._state = state
        self._gateway = gateway
        self._clock = clock
        self._run_all = run_all
        self._count = count

    def deliver(
        self, streams: Mapping[str, Sequence[Record]], deadline: int
    ) -> set[str]:
        """Push each stream's records, given in order; return the streams whose
        subscribers could not be looked up.

        `deadline` (ms): no push is begun after it, and what is left is dropped.
        """
        subscribers = self._find(streams)
        queues: dict[str, Queue] = defaultdict(list)
        now = self._clock()
        for stream, records in streams.items():
            subscriptions = subscribers.get(stream)
            if not subscriptions:
                continue
            frames = [piece.frame() for piece in merge(records)]
            for subscription in subscriptions:
                if subscription.exp * 1000 > now:
                    queues[subscription.connection].append((subscription, frames))
        # Side by side across connections, one after the other within each: two
        # posts under way to one connection have no order.
        self._run_all([partial(self._drain, one, deadline) for one in queues.values()])
        return streams.keys() - subscribers.keys()

    def _find(self, streams: Mapping[str, object]) -> dict[str, list[Subscription]]:
        """Return the subscribers of those streams that could be looked up."""
        found: dict[str, list[Subscription]] = {}

        def find(stream: str) -> None:
            with contextlib.suppress(Unavailable):
                found[stream] = self._state.subscribers(stream)

        self._run_all([partial(find, stream) for stream in streams])
        return found

    def _drain(self, queue: Queue, deadline: int) -> None:
        """Push one connection's frames in order, up to the first that fails."""
        connection = queue[0][0].connection
        frames = [frame for _, those in queue for frame in those]
        pushed = 0
        outcome = Push.DONE
        while outcome is Push.DONE and pushed < len(frames):
            outcome = self._push(connection, frames[pushed], deadline)
            if outcome is Push.DONE:
                pushed += 1
        self._count("SlicesPushed", pushed)
        if outcome is Push.GONE:
            self._count("ConnectionsGone", 1)
            for subscription, _ in queue:
                self._drop(subscription)
        else:
            self._count("SlicesDropped", len(frames) - pushed)

    def _push(self, connection: str, frame: str, deadline: int) -> Push:
        """Push a frame, with one retry; after that the client repairs itself."""
        outcome = Push.FAILED
        for _ in range(_TRIES):
            if self._clock() >= deadline:
                break
            outcome = self._gateway.push(connection, frame)
            if outcome in (Push.DONE, Push.GONE):
                break
            self._count("PushesThrottled", 1)
        return outcome

    def _drop(self, subscription: Subscription) -> None:
        # Else the row stays until somebody pushes to it again, or its TTL.
        with contextlib.suppress(Unavailable):
            self._state.drop(subscription)
