"""The threads of a process that make calls for the event loops.

Not a `ThreadPoolExecutor`: that takes no call once the main thread's code is over, when
a loop in another thread may have an answer half written.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future, wait
from functools import partial
from typing import Any

CALLERS = 64
"""How many calls are made at once. Where there are more runs than that, their calls
queue, and what is written meanwhile leaves together."""


class Callers(Executor):
    """Daemon threads, which begin as they are needed and stay."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._begun = 0
        self._idle = 0
        self._calls: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._unfinished: set[Future[Any]] = set()
        # Taken itself, because of interrupts: see `sync`.
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)

    def submit(self, call: Any, /, *args: Any, **options: Any) -> Future[Any]:
        made: Future[Any] = Future()
        with self._lock:
            self._calls.append((made, partial(call, *args, **options)))
            if self._idle < len(self._calls) and self._begun < self._most:
                self._begin()
            self._unfinished.add(made)
            self._changed.notify()
        made.add_done_callback(self._unfinished.discard)
        return made

    def finish(self, seconds: float) -> None:
        """Wait for the calls that were given, at most so long."""
        wait([*self._unfinished], timeout=seconds)

    def _begin(self) -> None:
        name = f"tailrace_{self._begun}"
        thread = threading.Thread(target=self._work, name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the process has too many, or is at its end
            if not self._begun:
                self._calls.clear()
                raise
        else:
            self._begun += 1

    def _work(self) -> None:
        while True:
            with self._lock:
                self._idle += 1
                self._changed.wait_for(lambda: self._calls)
                self._idle -= 1
                made, call = self._calls.popleft()
            _make(made, call)
            del made, call  # whatever they hold is not to wait for the next


def _make(made: Future[Any], call: Callable[[], Any]) -> None:
    if made.set_running_or_notify_cancel():
        try:
            answer = call()
        except BaseException as error:  # noqa: BLE001 - whoever has the future is told
            made.set_exception(error)
        else:
            made.set_result(answer)


_of_processes: dict[int, Callers] = {}


def callers() -> Callers:
    """Return those of this process: a forked child has none of its parent's threads."""
    pid = os.getpid()
    if pid not in _of_processes:
        _of_processes[pid] = Callers(CALLERS)
    return _of_processes[pid]
