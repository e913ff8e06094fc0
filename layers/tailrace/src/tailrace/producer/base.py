"""What the sync and the async producer have in common: arguments, attributes, how
leaving the `with` block ends the run, and what a pump does with what came of a call."""

from __future__ import annotations

import logging
import random
import secrets
import time
import warnings
from collections.abc import Callable
from typing import Any, Literal, TypedDict

from .. import chunks as chunk_texts
from ..errors import Invalid
from ..records import MAX_MESSAGE_CHARS, check_message
from ..rules import OnActive
from ..writers import Answer, Transport
from .core import Core, Pace
from .opening import Opening, Resume

EXIT_SECONDS = 5.0
"""How long the end of a process waits for what is being put."""
DROPPED_SECONDS = 1.0
"""How long a producer that was dropped is believed to come back: of a generator, the
collector drops all that it has before it closes it, by which the block is left."""
ERROR_MESSAGE = "Something went wrong, and the answer broke off."

OnError = Literal["end", "hand_over"]
OnStop = Callable[[BaseException], None]

_log = logging.getLogger("tailrace")


class PublicError(Exception):
    """An exception whose text is fit to be shown to whoever watches the stream. Any
    other exception may quote keys and prompts, and is shown as a fixed text."""


class HandOver(TypedDict):
    """Where another producer goes on: `Producer(stream, **hand_over)`. Plain JSON."""

    run: str
    seq: int
    resume: Literal["continue"]


class Base:
    """What both producers are made of."""

    def __init__(
        self,
        stream: str,
        *,
        run: str | None = None,
        resume: Resume | None = None,
        seq: int | None = None,
        on_active: OnActive = "supersede",
        on_error: OnError = "end",
        error_message: str = ERROR_MESSAGE,
        meta: dict[str, Any] | None = None,
        lease: int = 30,
        wait: float = 0.0,
        min_interval: float = 0.05,
        give_up_after: float = 30.0,
        buffer: int = 1_000_000,
        on_stop: OnStop | None = None,
        transport: Transport | str | None = None,
        stack: str | None = None,
    ) -> None:
        """Prepare a run in `stream`; nothing happens before it is opened.

        `run`
            The id of the run, where it was made before. Without: a new one.
        `resume`
            What becomes of `run` if an earlier attempt has begun it. `"continue"` takes
            it over: the job goes on behind `already` chunks, so its upstream must be
            the same again. `"restart"` begins the answer anew, as a new run. If no
            attempt got so far, both open `run`.
        `seq`
            Where a predecessor handed the run over: `Producer(stream, **hand_over)`.
        `on_active`
            `"supersede"` ends another run that is active, `"fail"` raises `Busy`.
        `on_error`
            What an exception does to the run: `"end"`, or `"hand_over"` to an attempt
            that is going to be made; until then it is believed alive for `lease`
            seconds.
        `error_message`
            What whoever watches is shown of an exception that is no `PublicError`.
        `meta`
            A small JSON object for those who watch: model, message id.
        `lease`
            Seconds after which a producer that has died is presumed dead.
        `wait`
            Seconds to wait while somebody else is alive, before `Busy` is raised.
        `min_interval`
            Seconds between the starts of two appends. Chunks that come meanwhile leave
            together: fewer records cost less.
        `give_up_after`
            Seconds for which a call that fails is repeated, before `Unavailable` is
            raised.
        `buffer`
            Bytes that may wait before `write` does.
        `on_stop`
            Called once, as soon as it is known that the run can be written no more,
            with what the next `write` raises: for a job that is silent for long, to
            stop what it waits for. Whatever that raises in the job, `relay` and the
            block are left by what ended the run.
        `transport`, `stack`
            Where to publish: see `find_transport`.
        """
        chunk_texts.encode_meta(meta)
        check_message(error_message)
        if on_error not in ("end", "hand_over"):
            raise Invalid('on_error: must be "end" or "hand_over"')
        pace = Pace(min_interval, lease, buffer, give_up_after, wait)
        opening = Opening(
            stream,
            secrets.token_hex(10),
            run=run,
            resume=resume,
            seq=seq,
            on_active=on_active,
            lease=lease,
            meta=meta,
            randomness=secrets.token_bytes(10),
        )
        self._core = Core(opening, pace)
        self._stream = stream
        self._on_error = on_error
        self._error_message = error_message
        self._on_stop = on_stop
        self._transport = transport
        self._stack = stack

    @property
    def stream(self) -> str:
        """The stream's name."""
        return self._stream

    @property
    def run(self) -> str:
        """The run's id. `resume="restart"` gives the answer another one."""
        if self._core.run is None:
            raise Invalid("the producer is not open yet: use it in a `with` block")
        return self._core.run

    @property
    def seq(self) -> int:
        """The last seq that is known to be in the log: all up to it is safe."""
        return self._core.seq

    @property
    def already(self) -> int:
        """How many chunks of the run are known to be in the log. After a `resume`, the
        number that an earlier attempt got in: what a deterministic job skips."""
        return self._core.already

    @property
    def error(self) -> BaseException | None:
        """What ended the run before it was done, as soon as it is known: the exception
        that the next `write` raises."""
        return self._core.error

    def _check_left_by(self, error: BaseException | None) -> None:
        """Raise what ended the run, if the block is left by an exception that came of
        it. One that knows of it already is the job's own."""
        if isinstance(error, Exception) and not self._core.told:
            self._raise_stop(error)

    def _raise_stop(self, raised: Exception) -> None:
        """Raise what ended the run, if anything has, in place of what was raised behind
        it: as by a response that `on_stop` has closed."""
        stop = self._core.error
        if stop is not None and stop is not raised:
            stop.__cause__ = stop.__cause__ or raised
            self._core.check_error()

    def _close(self, error: BaseException | None) -> bool:
        """Ask the core for the end that leaving the block gives to the run; whether
        there is anything to wait for."""
        core = self._core
        if core.state == "closed":
            if error is None and not core.told:
                core.check_error()
            return False
        if core.closing:
            return True
        if error is None:
            core.end("completed")
        elif isinstance(error, PublicError):
            core.end("error", str(error)[:MAX_MESSAGE_CHARS] or self._error_message)
        elif self._on_error == "hand_over":
            core.hand_over()
        else:
            core.end("error", self._error_message)
        return True

    def _handed_over(self) -> HandOver:
        return {"run": self.run, "seq": self._core.next, "resume": "continue"}


class BasePump:
    """What both pumps are made of. It does not know the producer, so that one that was
    dropped can be told from one that is silent."""

    def __init__(
        self, core: Core, transport: Transport, on_stop: OnStop | None
    ) -> None:
        self.transport = transport
        self._core = core
        self._on_stop = on_stop
        self._dropped_at: float | None = None

    def drop(self) -> None:
        """Say that the producer is gone. It comes from the garbage collector, at any
        moment and in any thread, so it may not wait for a lock."""
        self._dropped_at = time.monotonic()
        if self._goes_on:
            text = f"the producer of run {self._core.run} was dropped without `end`"
            warnings.warn(text, ResourceWarning, stacklevel=2)

    @property
    def _goes_on(self) -> bool:
        """Whether nothing was said yet of the run's end."""
        return self._core.state != "closed" and not self._core.closing

    @property
    def _abandoned(self) -> bool:
        """Whether nothing will be said of the run's end any more."""
        at = self._dropped_at
        gone = at is not None and time.monotonic() - at >= DROPPED_SECONDS
        return gone and self._goes_on

    def _note(self, outcome: object, now: float) -> None:
        """Note the outcome of a call: its answer, or what it raised."""
        if isinstance(outcome, Answer):
            self._core.answered(outcome, now)
        else:
            if not isinstance(outcome, BaseException):
                outcome = TypeError("the transport gave no Answer")
            self._core.failed(outcome, now, random.random())

    def _tell_job(self) -> None:
        """Tell the job what ended the run, if anything has."""
        error = self._core.error
        if error is not None and self._on_stop is not None:
            try:
                self._on_stop(error)
            except Exception:  # noqa: BLE001 - nobody waits for it
                _log.exception("tailrace: on_stop failed")


def not_ended(problem: BaseException) -> str:
    """Return the note for an exception that leaves a block whose run did not end."""
    return f"tailrace: nor could the run be ended: {problem}"
