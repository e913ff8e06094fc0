"""The delivery: pushes records that are in the log to whoever subscribes to them.

It may drop, repeat and reorder; the consumer's cursor repairs it. So one client never
fails the others, nor the caller: what could not be pushed in time is dropped. Requests
of the AI SDK, which cannot repair anything, are the courier's.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol

from .errors import Unavailable
from .ports import Clock, Gateway, Push, Request, Subscription
from .pushing import Count, Pusher
from .records import Record
from .slices import merge

if TYPE_CHECKING:
    from .courier import Courier

RunAll = Callable[[Sequence[Callable[[], None]]], None]
"""Runs tasks, side by side if it can; returns when all have returned."""

Queue = list[tuple[Subscription, list[str]]]
"""What one connection gets: the frames of each stream that it subscribes to."""

Errands = list[tuple[Request, Sequence[Record]]]
"""The requests of one connection, each with the new records of its stream."""


class Subscribers(Protocol):
    """What a delivery asks of the state's table (`ports.State`)."""

    def subscribers(self, stream: str) -> list[Subscription | Request]: ...

    def drop(self, subscription: Subscription) -> None: ...


class Delivery:
    """Delivers batches of records. Nothing is kept between two batches.

    `courier` is called where there is a request; without it, requests are passed over.
    `net`: somebody else pushes to subscriptions, and this is only the net behind: they
    are told where runs begin and end.
    """

    def __init__(
        self,
        state: Subscribers,
        gateway: Gateway,
        clock: Clock,
        run_all: RunAll,
        *,
        courier: Callable[[], Courier] | None = None,
        net: bool = False,
        count: Count = lambda name, value: None,
    ) -> None:
        self._state = state
        self._clock = clock
        self._pusher = Pusher(gateway, clock, count)
        self._run_all = run_all
        self._courier = courier
        self._net = net
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
        errands: dict[str, Errands] = defaultdict(list)
        now = self._clock()
        for stream, records in streams.items():
            frames: list[str] = []
            shown = records
            if self._net:
                shown = [one for one in records if one.kind in ("open", "end")]
            for one in subscribers.get(stream, ()):
                if one.exp * 1000 <= now:
                    continue
                if isinstance(one, Request):
                    errands[one.connection].append((one, records))
                    continue
                frames = frames or [piece.frame() for piece in merge(shown)]
                queues[one.connection].append((one, frames))
        # Side by side across connections, one after the other within each: two
        # posts under way to one connection have no order.
        self._run_all(
            [
                partial(
                    self._serve, queues.get(one, []), errands.get(one, []), deadline
                )
                for one in {**queues, **errands}
            ]
        )
        return streams.keys() - subscribers.keys()

    def _find(
        self, streams: Mapping[str, object]
    ) -> dict[str, list[Subscription | Request]]:
        """Return the subscribers of those streams that could be looked up."""
        found: dict[str, list[Subscription | Request]] = {}

        def find(stream: str) -> None:
            with contextlib.suppress(Unavailable):
                found[stream] = self._state.subscribers(stream)

        self._run_all([partial(find, stream) for stream in streams])
        return found

    def _serve(self, queue: Queue, errands: Errands, deadline: int) -> None:
        """Push what is new to one connection."""
        outcome = self._drain(queue, deadline) if queue else Push.DONE
        if not errands or self._courier is None:
            return
        courier = self._courier()
        for request, records in errands:
            if outcome is Push.DONE:
                outcome = courier.bring(request, records, deadline).outcome
            else:
                courier.repair(request)  # a dead connection costs no more time

    def _drain(self, queue: Queue, deadline: int) -> Push:
        """Push one connection's frames in order, up to the first that fails."""
        connection = queue[0][0].connection
        frames = [frame for _, those in queue for frame in those]
        pushed = 0
        outcome = Push.DONE
        while outcome is Push.DONE and pushed < len(frames):
            outcome = self._pusher.push(connection, frames[pushed], deadline)
            if outcome is Push.DONE:
                pushed += 1
        self._count("SlicesPushed", pushed)
        if outcome is Push.GONE:
            self._count("ConnectionsGone", 1)
            for subscription, _ in queue:
                self._drop(subscription)
        else:
            self._count("SlicesDropped", len(frames) - pushed)
        return outcome

    def _drop(self, subscription: Subscription) -> None:
        # Else the row stays until somebody pushes to it again, or its TTL.
        with contextlib.suppress(Unavailable):
            self._state.drop(subscription)
