"""The producer for plain code: a thread makes the calls while the job goes on.

The job's threads put chunks into the core, the pump's thread takes calls out of it, and
one lock is between them. The pump does not know the producer, so that a producer that
was dropped can be told from one that is silent.

An interrupt (Ctrl-C) may meet the main thread anywhere but between `with` and a lock of
C. So the job's threads take the lock itself: `Condition` has Python code around it, in
which an interrupt leaves it taken, or given back twice, for ever.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

from ..deployment import find_transport
from ..errors import Invalid, TailraceError
from ..rules import Reason
from ..writers import Answer, Transport
from .base import EXIT_SECONDS, Base, BasePump, HandOver, OnStop, not_ended
from .calls import Call
from .core import Core
from .values import encode

T = TypeVar("T")


class Producer(Base):
    """Writes one run into a stream, from plain code.

    Leaving the `with` block normally ends the run as `completed`, leaving it by an
    exception as `error`; the exception goes on. A thread makes the calls, so that
    `write` need not wait for them. Safe to share between the threads of a process, but
    not with its forked children.
    """

    _pump: _Pump | None = None

    # ---- opening and leaving ---------------------------------------------------------

    def __enter__(self) -> Self:
        return self if self._pump is not None else self.open()

    def open(self) -> Self:
        """Open the run, or take it over; raises what stands in the way.

        `with` does it, too. This is for those who need `run` before they hand the
        producer to whoever enters the block.
        """
        if self._pump is not None:
            raise Invalid("a producer can be opened once only")
        transport = find_transport(self._transport, stack=self._stack)
        self._pump = pump = _Pump(self._core, transport, self._on_stop)
        weakref.finalize(self, pump.drop).atexit = False
        try:
            pump.start()
            pump.wait_for(lambda: self._core.state != "opening")
        except BaseException as error:
            with pump.lock:
                self._close(error)  # interrupted, when it may be open already
                pump.wake()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pump = self._pump
        if pump is None or pump.foreign:
            return
        self._check_left_by(error)
        try:
            with pump.lock:
                closing = self._close(error)
            if closing:
                pump.wait_for(lambda: self._core.state == "closed")
        except Exception as problem:
            if error is None:
                raise
            error.add_note(not_ended(problem))

    # ---- writing ---------------------------------------------------------------------

    def write(self, chunk: Any) -> None:
        """Take one chunk: text, any JSON value, or an object of an LLM's library.

        Returns at once, unless the buffer is full. Raises `TooLarge` (28,000 bytes as
        JSON) and `Invalid`, after which the run goes on; and what ended the run:
        `Cancelled`, `Superseded`, `Fenced`, `StreamEnded`, or `Unavailable`, which says
        up to which `seq` all is safe, and how many chunks that are (`already`).
        """
        text = encode(chunk)
        pump, core = self._open_pump(), self._core

        def written() -> bool:
            if core.full:
                return False
            core.write(text)
            if core.waiting == 1:
                pump.wake()
            return True

        pump.wait_for(written)

    def relay(self, chunks: Iterable[T]) -> Iterator[T]:
        """Write each chunk and pass it on, for a job that uses the stream itself. If
        the run can be written no more, `chunks` is closed, where it can be, and what
        ended the run is raised, also where `chunks` raises something itself."""
        try:
            for chunk in chunks:
                self.write(chunk)
                yield chunk
        except Exception as error:
            # Others than these are of `chunks` itself.
            if isinstance(error, TailraceError) or error is self.error:
                close = getattr(chunks, "close", None)
                if callable(close):
                    # What it is closed for is what counts.
                    with contextlib.suppress(Exception):
                        close()
            self._raise_stop(error)
            raise

    def flush(self) -> None:
        """Wait until all that was written is in the log; raises as `write` does."""
        pump = self._open_pump()
        with pump.lock:
            self._core.check()
            upto = self._core.flush()
        pump.wait_for(lambda: self._core.stored >= upto)

    def end(self, reason: Reason = "completed", message: str | None = None) -> None:
        """Put what was written and the end of the run, and wait for it. `reason`:
        `"completed"` or `"error"`. `message`, at most 500 characters, is shown to
        whoever watches. Raises as `write` does."""
        pump = self._open_pump()
        with pump.lock:
            self._core.end(reason, message)
        pump.wait_for(lambda: self._core.state == "closed")

    def hand_over(self, lease: int | None = None) -> HandOver:
        """Put what was written, and give the run away without ending it: the next
        attempt is `Producer(stream, **hand_over)`, also if it is begun twice. Until
        then the run is believed alive for `lease` seconds. Raises as `write` does."""
        pump = self._open_pump()
        with pump.lock:
            self._core.hand_over(lease)
        pump.wait_for(lambda: self._core.state == "closed")
        return self._handed_over()

    def watchers(self) -> int:
        """Return how many connections watch the stream now."""
        payload = {"operation": "watchers", "stream": self.stream}
        return int(self._open_pump().transport.ask(payload)["watchers"])

    def _open_pump(self) -> _Pump:
        if self._pump is None:
            raise Invalid("the producer is not open: use it in a `with` block")
        if self._pump.foreign:
            raise Invalid("the producer belongs to the process that opened it")
        if self._pump.lock._is_owned():  # type: ignore[attr-defined]
            raise Invalid(
                "a signal handler has interrupted the producer: raise an exception"
                " there, or note what is to be done"
            )
        return self._pump


class _Pump(BasePump):
    """The thread that makes a core's calls. `lock` guards the core. Whoever waits for
    something to come of a call has a bell."""

    def __init__(
        self, core: Core, transport: Transport, on_stop: OnStop | None
    ) -> None:
        super().__init__(core, transport, on_stop)
        # Its owner may be asked for: a signal handler interrupts whoever has it.
        self.lock = threading.RLock()
        self._alarm: threading.Lock | None = None
        self._bells: list[threading.Lock] = []
        self._thread = threading.Thread(target=self._run, name="tailrace", daemon=True)
        self._pid = os.getpid()

    @property
    def foreign(self) -> bool:
        """Whether this is a forked child, in which the thread does not run."""
        return self._pid != os.getpid()

    def start(self) -> None:
        _pumps.add(self)  # before it runs: the process may end at once
        try:
            self._thread.start()
        except RuntimeError:  # the process has too many
            _pumps.discard(self)
            raise

    def wake(self) -> None:
        """Say that something may be due. The lock is held."""
        # In this order, without a call between them: an interrupt leaves no half.
        alarm, self._alarm = self._alarm, None
        if alarm is not None:
            alarm.release()

    def wait_for(self, done: Callable[[], bool]) -> None:
        """Wait until it is done, which is asked with the lock held; raise what ended
        the run."""
        while True:
            with self.lock:
                self._core.check_error()
                if done():
                    return
                # It would wait for itself, and the collector with it, for ever.
                if threading.current_thread() is self._thread:
                    self.wake()
                    raise Invalid(
                        "a generator was dropped, and the garbage collector has closed"
                        " it in the producer's own thread, which can wait for nothing"
                    )
                bell = self._new_bell()
            bell.acquire()

    def finish(self, deadline: float) -> None:
        """Put what was written before the process ends, as far as there is time."""
        with self.lock:
            if self._goes_on:
                self._core.leave()
        while (left := deadline - time.monotonic()) > 0:
            with self.lock:
                if self._core.state == "closed":
                    return
                bell = self._new_bell()
            bell.acquire(timeout=left)

    def _new_bell(self) -> threading.Lock:
        """Have the thread see what is due; return what is released when something has
        come of it. The lock is held."""
        self.wake()
        bell = threading.Lock()
        bell.acquire()
        self._bells.append(bell)
        return bell

    def _ring(self) -> None:
        """Release the bells. The lock is held."""
        for bell in self._bells:
            bell.release()
        self._bells.clear()

    def _run(self) -> None:
        call: Call | None = None
        outcome: Answer | BaseException | None = None
        try:
            while (call := self._next(call, outcome)) is not None:
                try:
                    outcome = call.send(self.transport)
                except BaseException as error:  # noqa: BLE001 - the job shall have it
                    outcome = error
        except BaseException as error:
            with self.lock:
                self._core.abort(error)
            raise
        finally:
            _pumps.discard(self)
            with self.lock:
                self._ring()
        self._tell_job()

    def _next(
        self, call: Call | None, outcome: Answer | BaseException | None
    ) -> Call | None:
        """Note the outcome of a call, and wait for the next one."""
        core = self._core
        with self.lock:
            if call is not None:
                self._note(outcome, time.monotonic())
                self._ring()
        while True:
            with self.lock:
                if self._abandoned:
                    core.leave()
                if core.state == "closed":
                    return None
                now = time.monotonic()
                following = core.step(now)
                if following is not None:
                    self._ring()  # there may be room now
                    return following
                due = core.due(now)
                alarm = threading.Lock()
                alarm.acquire()
                # Shown when it is set: the collector may ring it here at any moment.
                self._alarm = alarm
            alarm.acquire(timeout=-1 if due is None else max(due - now, 0.0))


# Not a `WeakSet`: to go through that fails when a thread ends meanwhile.
_pumps: set[_Pump] = set()


def _finish_all() -> None:
    deadline = time.monotonic() + EXIT_SECONDS
    for pump in list(_pumps):
        if not pump.foreign:
            pump.finish(deadline)


atexit.register(_finish_all)
