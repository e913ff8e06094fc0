"""The fan-out: pushes what the change feed brings to whoever subscribes to it.

Delivery may drop, repeat and reorder; the consumer's cursor repairs it. So one client
never fails a batch. Only what the tables cannot answer does, from the first record of
that stream on.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from .errors import Invalid, Unavailable
from .ports import Clock, Gateway, Push, State, Subscription
from .records import Record, from_item
from .slices import merge

Count = Callable[[str, int], None]
RunAll = Callable[[Sequence[Callable[[], None]]], None]
"""Runs tasks, side by side if it can; returns when all have returned."""

Queue = list[tuple[Subscription, list[str]]]
"""What one connection gets: the frames of each stream that it subscribes to."""

_TRIES = 2


@dataclass(frozen=True, slots=True)
class Change:
    """A record of the feed; `record` is None where its image holds none of ours."""

    sequence_number: str
    record: Record | None


def decode(event: Any) -> list[Change]:
    """Return the inserts of a feed event. Anything that is no event is `Invalid`.

    A poisoned image does not fail the batch: it would block its shard, and could never
    be pushed. It comes out without a record, to be counted.
    """
    try:
        changes = []
        for entry in event["Records"]:
            image = entry["dynamodb"].get("NewImage")
            if image is None:
                continue
            try:
                record = from_item(image)
            except Invalid:
                record = None
            changes.append(Change(str(entry["dynamodb"]["SequenceNumber"]), record))
        return changes
    except (KeyError, TypeError, AttributeError) as error:
        raise Invalid(f"event: no change feed ({type(error).__name__})") from None


class Fanout:
    """Pushes batches of the feed. Nothing is kept between two batches."""

    def __init__(
        self,
        state: State,
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

    def push(self, changes: Iterable[Change], deadline: int) -> list[str]:
        """Push a batch; return the sequence numbers from which on it failed.

        `deadline` (ms): no push is begun after it. What is dropped then would come no
        sooner if the whole batch came again.
        """
        first: dict[str, str] = {}
        records: dict[str, dict[int, Record]] = defaultdict(dict)
        for change in changes:
            record = change.record
            if record is None:
                self._count("PoisonedRecords", 1)
                continue
            first.setdefault(record.stream, change.sequence_number)
            records[record.stream][record.seq] = record  # the feed may repeat

        subscribers: dict[str, list[Subscription]] = {}

        def find(stream: str) -> None:
            with contextlib.suppress(Unavailable):
                subscribers[stream] = self._state.subscribers(stream)

        self._run_all([partial(find, stream) for stream in records])

        queues: dict[str, Queue] = defaultdict(list)
        now = self._clock()
        for stream, by_seq in records.items():
            self._count("FeedLag", now - min(record.at for record in by_seq.values()))
            subscriptions = subscribers.get(stream)
            if not subscriptions:
                continue
            ordered = [by_seq[seq] for seq in sorted(by_seq)]
            frames = [piece.frame() for piece in merge(ordered)]
            for subscription in subscriptions:
                if subscription.exp * 1000 > now:
                    queues[subscription.connection].append((subscription, frames))
        # Side by side across connections, one after the other within each: two
        # posts under way to one connection have no order.
        self._run_all([partial(self._drain, one, deadline) for one in queues.values()])
        return [number for stream, number in first.items() if stream not in subscribers]

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
