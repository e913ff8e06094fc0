"""Threads: calls side by side, and the pushes of a publisher behind its back."""

from __future__ import annotations

import contextlib
import heapq
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ..delivery import Delivery, Subscribers
from ..direct import Direct, RecentSubscribers
from ..errors import TailraceError
from ..ports import Clock, Count, Gateway, Relay
from ..records import Record

# Threads only hide the network's wait.
PUSHERS = 16


def side_by_side(
    pool: ThreadPoolExecutor,
) -> Callable[[Sequence[Callable[[], None]]], None]:
    """Return a `RunAll` on the pool's threads; a single call stays on its own."""

    def run_all(tasks: Sequence[Callable[[], None]]) -> None:
        if len(tasks) == 1:
            tasks[0]()
            return
        for future in [pool.submit(task) for task in tasks]:
            future.result()

    return run_all


class Background:
    """Drives a `Direct`: its streams side by side, each when it is due.

    `on_error` is told, on some thread, what a push raised; nobody else is. `behind` is
    called behind each push, with its stream, where nothing waits for it.
    """

    def __init__(
        self,
        direct: Direct,
        clock: Clock,
        on_error: Callable[[Exception], None],
        *,
        behind: Callable[[str], None] | None = None,
    ) -> None:
        self._direct = direct
        self._clock = clock
        self._on_error = on_error
        self._behind = behind
        self._pool = ThreadPoolExecutor(PUSHERS, "tailrace-push")
        self._changed = threading.Condition()
        # What is due later, and the thread that waits for it.
        self._later: list[tuple[int, str]] = []
        self._waiter: threading.Thread | None = None

    def tell(self, record: Record) -> None:
        """Take a record that is in the log. Returns at once, and raises nothing."""
        self._schedule(record.stream, self._direct.put(record))

    def settle(self, seconds: float, stream: str | None = None) -> bool:
        """Wait until all of a stream, or of all, is pushed; False if that takes longer
        than so many seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: self._direct.settled(stream), seconds)

    def _schedule(self, stream: str, due: int | None) -> None:
        if due is None:
            return
        if due <= self._clock():
            self._start(self._push, stream)
        elif not self._put_off(stream, due):
            self._start(self._push_at, stream, due)

    def _put_off(self, stream: str, due: int) -> bool:
        """Leave it to the waiter; False if the process has no thread left for one."""
        with self._changed:
            if self._waiter is None:
                waiter = threading.Thread(
                    target=self._wait, name="tailrace-push-later", daemon=True
                )
                try:
                    waiter.start()
                except RuntimeError:
                    return False
                self._waiter = waiter
            heapq.heappush(self._later, (due, stream))
            self._changed.notify_all()
            return True

    def _start(self, push: Callable[..., None], *what: Any) -> None:
        # The interpreter may be about to end: then nobody is left to push it. Where
        # only a thread is missing, one that is there takes it from the queue.
        with contextlib.suppress(RuntimeError):
            self._pool.submit(push, *what)

    def _push_at(self, stream: str, due: int) -> None:
        time.sleep(max(due - self._clock(), 0) / 1000)
        self._push(stream)

    def _push(self, stream: str) -> None:
        try:
            due = self._direct.push(stream)
        except Exception as error:  # noqa: BLE001 - the put is done; nobody waits here
            self._on_error(error)
            due = self._direct.due(stream)
        self._schedule(stream, due)
        with self._changed:
            self._changed.notify_all()
        if self._behind is not None:
            try:
                self._behind(stream)
            except Exception as error:  # noqa: BLE001 - as above
                self._on_error(error)

    def _wait(self) -> None:
        while True:
            with self._changed:
                now = self._clock()
                if not self._later or self._later[0][0] > now:
                    left = (self._later[0][0] - now) / 1000 if self._later else None
                    self._changed.wait(left)
                    continue
                _, stream = heapq.heappop(self._later)
            self._start(self._push, stream)


def background(
    subscribers: Subscribers,
    gateway: Gateway,
    clock: Clock,
    on_error: Callable[[Exception], None],
    *,
    relay: Relay | None = None,
    interval: int = 0,
    ahead: bool = True,
    count: Count = lambda name, value: None,
    on_refusal: Callable[[TailraceError], None] = lambda refusal: None,
) -> Background:
    """Return what pushes for one publisher; `relay` and `on_refusal` as `Delivery` has
    them, `interval` as `Direct`. `ahead`: it asks for subscribers beside the pushes;
    not for one that is stopped at any time."""
    recent = RecentSubscribers(subscribers, clock)
    delivery = Delivery(
        recent,
        gateway,
        clock,
        side_by_side(ThreadPoolExecutor(PUSHERS, "tailrace-post")),
        relay=relay,
        count=count,
        on_refusal=on_refusal,
    )
    direct = Direct(delivery, clock, interval=interval, count=count)
    return Background(direct, clock, on_error, behind=recent.refresh if ahead else None)
