"""Direct delivery: a publisher pushes what it has put itself (PROTOCOL.md §7).

Here is what waits to be pushed, and what becomes of it; whoever calls `push`, on which
thread and when, is the edge (`adapters/background.py`). Nothing here is waited for by
an append.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from .delivery import Delivery, Subscribers
from .ports import Clock, Count, LogStore
from .records import Record
from .watchers import Request, Subscription

LIST_MS = 1_000
"""How old the list of a stream's subscribers may be."""
AHEAD_MS = 900
"""How old it is when it is asked for anew, beside the pushes: none waits for it."""
DEADLINE_MS = 5_000
"""No push of a batch is begun later: who is still without it repairs itself."""
# A lookup that failed is repeated, and what waits meanwhile is kept up to a limit.
_RETRY_MS = 250
_MAX_WAITING_BYTES = 1_000_000
_MAX_STREAMS = 1_000


class Telling:
    """A `LogStore` that tells of each record that is put through it, once it is in.

    Also of one that was in already, by an earlier put of the same writer whose outcome
    nobody knew: it may not have been told of.
    """

    def __init__(self, store: LogStore, tell: Callable[[Record], None]) -> None:
        self._store = store
        self._tell = tell

    def put(self, record: Record) -> Record | None:
        winner = self._store.put(record)
        if winner is None:
            self._tell(record)
        elif (winner.run, winner.writer) == (record.run, record.writer):
            self._tell(winner)
        return winner

    def last(self, stream: str, at_most: int | None = None) -> Record | None:
        return self._store.last(stream, at_most)

    def range(self, stream: str, start: int) -> Iterator[Record]:
        return self._store.range(stream, start)

    def remove(self, stream: str, seq: int) -> None:
        self._store.remove(stream, seq)


class RecentSubscribers:
    """The subscribers of streams, as of at most `LIST_MS` ago. Safe to share between
    threads."""

    def __init__(self, subscribers: Subscribers, clock: Clock) -> None:
        self._subscribers = subscribers
        self._clock = clock
        self._lists: OrderedDict[str, tuple[int, list[Subscription | Request]]] = (
            OrderedDict()
        )
        self._lock = threading.Lock()

    def subscribers(self, stream: str) -> list[Subscription | Request]:
        return self._known(stream, LIST_MS)

    def refresh(self, stream: str) -> None:
        """Ask anew for a list that is soon too old."""
        self._known(stream, AHEAD_MS)

    def _known(self, stream: str, within: int) -> list[Subscription | Request]:
        now = self._clock()  # before the read: the list is as old as its question
        with self._lock:
            at, found = self._lists.get(stream, (0, []))
        if 0 <= now - at < within:
            return found
        found = list(self._subscribers.subscribers(stream))
        with self._lock:
            self._lists[stream] = now, found
            self._lists.move_to_end(stream)
            if len(self._lists) > _MAX_STREAMS:
                self._lists.popitem(last=False)
        return found

    def drop(self, subscription: Subscription) -> None:
        self._replace(subscription)
        self._subscribers.drop(subscription)

    def mark_slow(self, one: Subscription | Request, until: int) -> None:
        self._replace(one, replace(one, slow_until=until))
        self._subscribers.mark_slow(one, until)

    def _replace(
        self, one: Subscription | Request, *others: Subscription | Request
    ) -> None:
        with self._lock:
            at, found = self._lists.get(one.stream, (0, []))
            if one in found:
                left = [other for other in found if other != one]
                self._lists[one.stream] = at, [*left, *others]


@dataclass(slots=True)
class _Queue:
    """What waits of one stream. `due` (ms): when it may next be pushed."""

    due: int = 0
    records: dict[int, Record] = field(default_factory=dict)
    bytes: int = 0
    pushing: bool = False

    def add(self, record: Record) -> None:
        if self.bytes > _MAX_WAITING_BYTES:
            # So far behind, that the log is the shorter way.
            self.records.clear()
            self.bytes = 0
        self.records[record.seq] = record
        self.bytes += len(record.chunks)

    def take(self) -> list[Record]:
        records = [self.records[seq] for seq in sorted(self.records)]
        self.records, self.bytes = {}, 0
        return records


class Direct:
    """What one publisher has put and is to push. Safe to share between threads.

    A stream is pushed by one batch at a time, so that no connection ever has two of its
    posts under way. `interval` (ms) lies between the starts of two batches; what is put
    meanwhile is merged. A large audience makes the interval longer; an `end` waits for
    none.
    """

    def __init__(
        self,
        delivery: Delivery,
        clock: Clock,
        *,
        interval: int = 0,
        count: Count = lambda name, value: None,
    ) -> None:
        self._delivery = delivery
        self._clock = clock
        self._interval = interval
        self._count = count
        self._queues: dict[str, _Queue] = {}
        self._lock = threading.Lock()

    def put(self, record: Record) -> int | None:
        """Take a record that is in the log; return when `push` is to be called for its
        stream (ms), or None where that is known already."""
        with self._lock:
            queue = self._queues.get(record.stream)
            if queue is None:
                self._forget_idle()
                queue = self._queues[record.stream] = _Queue()
            known = bool(queue.records) or queue.pushing
            queue.add(record)
            if record.kind == "end":
                known, queue.due = queue.pushing, 0
            return None if known else queue.due

    def push(self, stream: str) -> int | None:
        """Push what waits of a stream, unless that is under way; return when to call
        again, or None where nothing waits.

        A lookup that failed is to be repeated. What else goes wrong is raised, and what
        was to be pushed is dropped.
        """
        with self._lock:
            queue = self._queues.get(stream)
            if queue is None or queue.pushing or not queue.records:
                return None
            now = self._clock()
            if now < queue.due:
                return queue.due
            records = queue.take()
            queue.pushing, queue.due = True, now + self._interval
        self._count("DirectLag", now - records[0].at)
        again, rest = False, 0
        try:
            delivered = self._delivery.deliver({stream: records}, now + DEADLINE_MS)
            again, rest = bool(delivered.failed), delivered.rest
        finally:
            with self._lock:
                queue.pushing = False
                if queue.due:  # else there is an `end`
                    queue.due = max(queue.due, rest)
                if again:
                    later, queue.records, queue.bytes = queue.records, {}, 0
                    for record in (*records, *later.values()):
                        queue.add(record)
                    queue.due = self._clock() + _RETRY_MS
        return self.due(stream)

    def due(self, stream: str) -> int | None:
        """Return when `push` is to be called for a stream; None: nothing waits."""
        with self._lock:
            queue = self._queues.get(stream)
            if queue is None or queue.pushing or not queue.records:
                return None
            return queue.due

    def settled(self, stream: str | None = None) -> bool:
        """Whether nothing of a stream, or of any, waits or is being pushed."""
        with self._lock:
            return not any(
                queue.pushing or queue.records
                for name, queue in self._queues.items()
                if stream in (None, name)
            )

    def _forget_idle(self) -> None:
        """A queue that is empty only remembers when it may be pushed again."""
        if len(self._queues) >= _MAX_STREAMS:
            now = self._clock()
            self._queues = {
                name: queue
                for name, queue in self._queues.items()
                if queue.pushing or queue.records or queue.due > now
            }
