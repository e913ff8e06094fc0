"""The producer for asyncio.

boto3's calls are made in threads; everything else happens in the event loop, driven by
callbacks. There is no task of its own, which `asyncio.run` would cancel while the job's
tasks are still ending their runs.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import weakref
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from inspect import isawaitable
from types import TracebackType
from typing import Any, Self, TypeVar

from ..deployment import find_transport
from ..errors import Invalid, TailraceError
from ..rules import Reason
from ..writers import Answer, Transport
from .base import EXIT_SECONDS, Base, BasePump, HandOver, OnStop, not_ended
from .callers import callers
from .core import Core
from .values import encode

T = TypeVar("T")

BREATH = 0.01
"""Seconds after which `write` lets the event loop run, for a job that does not."""

_DONE: Any = object()


class AsyncProducer(Base):
    """Writes one run into a stream, from asyncio.

    Leaving the `async with` block normally ends the run as `completed`, leaving it by
    an exception, or because the task was cancelled, as `error`; the exception goes on.
    """

    _pump: _Pump | None = None

    # ---- opening and leaving ---------------------------------------------------------

    async def __aenter__(self) -> Self:
        return self if self._pump is not None else await self.open()

    async def open(self) -> Self:
        """Open the run, or take it over; raises what stands in the way.

        `async with` does it, too. This is for those who need `run` before they hand the
        producer to whoever enters the block.
        """
        if self._pump is not None:
            raise Invalid("a producer can be opened once only")
        find = functools.partial(find_transport, self._transport, stack=self._stack)
        transport = await asyncio.get_running_loop().run_in_executor(callers(), find)
        self._pump = pump = _Pump(self._core, transport, self._on_stop)
        weakref.finalize(self, pump.drop).atexit = False
        pump.advance()
        try:
            await pump.wait_for(lambda: self._core.state != "opening")
        except BaseException as error:
            self._close(error)  # cancelled, when it may be open already
            pump.advance()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pump = self._pump
        if pump is None:
            return
        self._check_left_by(error)
        try:
            if self._close(error):
                pump.advance()
                await pump.wait_for(lambda: self._core.state == "closed")
        except Exception as problem:
            if error is None:
                raise
            error.add_note(not_ended(problem))

    # ---- writing ---------------------------------------------------------------------

    async def write(self, chunk: Any) -> None:
        """Take one chunk: text, any JSON value, or an object of an LLM's library.

        Returns at once, unless the buffer is full; every 10 ms it lets the event loop
        run, so that chunks leave, and a cancel is learnt, also where they come from
        plain code. Raises `TooLarge` (28,000 bytes as JSON) and `Invalid`, after which
        the run goes on; and what ended the run: `Cancelled`, `Superseded`, `Fenced`,
        `StreamEnded`, or `Unavailable`, which says up to which `seq` all is safe, and
        how many chunks that are (`already`).
        """
        text = encode(chunk)
        pump, core = self._open_pump(), self._core
        if core.full:
            await pump.wait_for(lambda: not core.full)
        core.write(text)
        if core.waiting == 1:
            pump.advance()
        await pump.breathe()

    async def relay(self, chunks: AsyncIterable[T] | Iterable[T]) -> AsyncIterator[T]:
        """Write each chunk and pass it on, for a job that uses the stream itself.

        As soon as the run can be written no more, the wait for the next chunk is
        cancelled, `chunks` is closed, where it can be, and what ended the run is
        raised, whatever `chunks` raises: so that an LLM that is silent is stopped, too.
        A plain iterable's wait cannot be cancelled; it is closed at its next chunk.
        """
        pump = self._open_pump()
        try:
            if isinstance(chunks, AsyncIterable):
                iterator = aiter(chunks)
                while (chunk := await pump.next(iterator)) is not _DONE:
                    await self.write(chunk)
                    yield chunk
            else:
                for chunk in chunks:
                    await self.write(chunk)
                    yield chunk
        except Exception as error:
            # Others than these are of `chunks` itself.
            if isinstance(error, TailraceError) or error is self.error:
                await _close(chunks)
            self._raise_stop(error)
            raise

    async def flush(self) -> None:
        """Wait until all that was written is in the log; raises as `write` does."""
        pump = self._open_pump()
        self._core.check()
        upto = self._core.flush()
        pump.advance()
        await pump.wait_for(lambda: self._core.stored >= upto)

    async def end(
        self, reason: Reason = "completed", message: str | None = None
    ) -> None:
        """Put what was written and the end of the run, and wait for it. `reason`:
        `"completed"` or `"error"`. `message`, at most 500 characters, is shown to
        whoever watches. Raises as `write` does."""
        pump = self._open_pump()
        self._core.end(reason, message)
        pump.advance()
        await pump.wait_for(lambda: self._core.state == "closed")

    async def hand_over(self, lease: int | None = None) -> HandOver:
        """Put what was written, and give the run away without ending it: the next
        attempt is `AsyncProducer(stream, **hand_over)`, also if it is begun twice.
        Until then the run is believed alive for `lease` seconds. Raises as `write`
        does."""
        pump = self._open_pump()
        self._core.hand_over(lease)
        pump.advance()
        await pump.wait_for(lambda: self._core.state == "closed")
        return self._handed_over()

    async def watchers(self) -> int:
        """Return how many connections watch the stream now."""
        payload = {"operation": "watchers", "stream": self.stream}
        ask = functools.partial(self._open_pump().transport.ask, payload)
        answer = await asyncio.get_running_loop().run_in_executor(callers(), ask)
        return int(answer["watchers"])

    def _open_pump(self) -> _Pump:
        if self._pump is None:
            raise Invalid("the producer is not open: use it in an `async with` block")
        return self._pump


class _Pump(BasePump):
    """Makes a core's calls, one after the other, for the event loop."""

    def __init__(
        self, core: Core, transport: Transport, on_stop: OnStop | None
    ) -> None:
        super().__init__(core, transport, on_stop)
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._waiters: set[asyncio.Future[None]] = set()
        self._interruptible: set[asyncio.Task[Any]] = set()
        self._breathed = self._loop.time()

    async def breathe(self) -> None:
        """Let the loop run now and then. Where the job's chunks come from plain code,
        nothing else does: no timer would fire, and no answer be noted."""
        now = self._loop.time()
        if now - self._breathed >= BREATH:
            self._breathed = now
            # An answer comes from its thread in one turn, and is noted in the next.
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    def advance(self) -> None:
        """Make the call that is due, or wait until one is."""
        core = self._core
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._abandoned:
            core.leave()
        now = self._loop.time()
        call = core.step(now)
        if call is not None:
            self._tell()  # there may be room now
            try:
                made = self._loop.run_in_executor(callers(), call.send, self.transport)
            except RuntimeError as error:  # there is no thread for it
                core.abort(error)
                self._tell()
            else:
                made.add_done_callback(self._made)
        elif (due := core.due(now)) is not None:
            self._timer = self._loop.call_at(due, self.advance)

    async def wait_for(self, what: Callable[[], bool]) -> None:
        """Wait until it is so; raise what ended the run."""
        while self._core.error is None and not what():
            waiter = self._loop.create_future()
            self._waiters.add(waiter)
            try:
                await waiter
            finally:
                self._waiters.discard(waiter)
        self._core.check_error()

    async def next(self, iterator: AsyncIterator[Any]) -> Any:
        """Return the job's next chunk, or `_DONE`. If the run is over first, the wait
        is cancelled and what ended the run is raised (as `asyncio.timeout` does it)."""
        self._core.check_error()
        task = asyncio.current_task()
        assert task is not None
        cancelling = task.cancelling()
        self._interruptible.add(task)
        try:
            return await anext(iterator, _DONE)
        except asyncio.CancelledError:
            if task not in self._interruptible and task.cancelling() <= cancelling + 1:
                self._core.check_error()
            raise
        finally:
            if task not in self._interruptible:
                task.uncancel()
            self._interruptible.discard(task)

    def _made(self, made: asyncio.Future[Answer]) -> None:
        error = made.exception()
        self._note(made.result() if error is None else error, self._loop.time())
        self._tell()
        self.advance()
        if self._core.error is not None:
            while self._interruptible:
                self._interruptible.pop().cancel()
        self._tell_job()

    def _tell(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)


async def _close(chunks: Any) -> None:
    close = getattr(chunks, "aclose", None) or getattr(chunks, "close", None)
    # What it is closed for is what counts.
    with contextlib.suppress(Exception):
        if callable(close) and isawaitable(closing := close()):
            await closing


def _finish_all() -> None:
    callers().finish(EXIT_SECONDS)


atexit.register(_finish_all)
