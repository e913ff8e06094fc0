"""One run as its writer sees it: what to send next, and when.

A machine without I/O, clock, threads or chance. A shell writes chunks into it, asks
for the call to make now (`step`), makes it, and says what came of it (`answered`,
`failed`); where there is none to make, `due` says when to ask again.

    opening ──▶ writing ──▶ closing ──▶ closed
       └───────────┴── failed ─┴──────────▲

What holds (PROTOCOL.md §2.1): one call at a time; an append whose outcome is unknown is
repeated unchanged before anything else is put (rule 1); after 500 ms of appends back to
back, without a gap that a cancel fits into, comes a pause of 40 ms (rule 5); a run that
has nothing to say is renewed well within its lease and at least every 4 s, by which a
silent producer learns of a cancel (rule 6).

Times are seconds of any clock that never goes back.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, NamedTuple

from .. import chunks as chunk_texts
from ..chunks import MAX_CHUNKS_BYTES
from ..errors import Busy, Invalid, StreamEnded, TooLarge, Unavailable
from ..records import check_lease, check_message
from ..rules import Reason
from ..writers import Answer
from .calls import Append, Call, End, Renew
from .opening import Opening

BACK_TO_BACK = 0.5
PAUSE = 0.04
# A cancel is a read and a put, each about as long as an append.
GAP_IN_APPENDS = 8
GAP_AT_LEAST = 0.001
LOOK_EVERY = 4.0
BACKOFF = 0.1
BACKOFF_CAP = 5.0
BUSY_CAP = 1.0

# What a waiting chunk costs beyond its text, so that a million empty ones count.
_OVERHEAD = 100

State = Literal["opening", "writing", "closing", "closed"]


@dataclass(frozen=True, slots=True)
class Pace:
    """How a producer behaves, in seconds; `buffer` in bytes.

    `min_interval` lies between the starts of two appends; `give_up_after` is how long a
    failing call is repeated, `wait` how long one that is refused as `Busy`.
    """

    min_interval: float = 0.05
    lease: int = 30
    buffer: int = 1_000_000
    give_up_after: float = 30.0
    wait: float = 0.0

    def __post_init__(self) -> None:
        for name in ("min_interval", "give_up_after", "wait"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not value >= 0:
                raise Invalid(f"{name}: must be seconds, 0 or more")
        check_lease(self.lease)
        if not isinstance(self.buffer, int | float) or not self.buffer > 0:
            raise Invalid("buffer: must be bytes, more than 0")


@dataclass(frozen=True, slots=True)
class _End:
    reason: Reason
    message: str | None


@dataclass(frozen=True, slots=True)
class _HandOver:
    lease: int


@dataclass(frozen=True, slots=True)
class _Leave:
    """Nothing is put behind the last chunk: the run is left to its lease."""


class _Chunk(NamedTuple):
    """A chunk that waits. `upto` is the cost of all chunks up to this one: so that one
    append to the buffer is all that a `write` changes; an interrupt leaves no half."""

    text: str
    size: int
    upto: int


class Core:
    """The state machine of one run; the module says how to drive it.

    `next`, `already` (chunks) and `epoch` are what the log has acknowledged. `error` is
    what ended the work before it was done; `told`: the job has had it.
    """

    def __init__(self, opening: Opening, pace: Pace) -> None:
        self.state: State = "opening"
        self.error: BaseException | None = None
        self._trace: TracebackType | None = None
        self.told = False
        self.next = 0
        self.already = 0
        self.epoch = 0
        self.stored = 0
        self._opening = opening
        self._pace = pace
        self._buffer: deque[_Chunk] = deque()
        self._in_hand = 0
        self._taken_upto = 0
        self._hurry_to = 0
        self._closing: _End | _HandOver | _Leave | None = None
        # The call that is under way, or that is to be repeated at `_retry_at`.
        self._call: Call | None = opening
        self._under_way = False
        self._retry_at: float | None = None
        self._failing_since: float | None = None
        self._tries = 0
        self._began = 0.0
        # Of the last append; `_gap`: how long after it a cancel fits in;
        # `_streak_since`: no such gap between appends since then.
        self._append_began: float | None = None
        self._append_ended = 0.0
        self._gap = PAUSE
        self._streak_since = 0.0
        self._look_at = 0.0

    # ---- what is so ------------------------------------------------------------------

    @property
    def run(self) -> str | None:
        """The run's id, once it is known."""
        return self._opening.run

    @property
    def seq(self) -> int:
        """The last seq that is known to be in the log; 0 before the run is open."""
        return max(self.next - 1, 0)

    @property
    def written(self) -> int:
        """How many chunks were taken by `write`."""
        return self.stored + self._in_hand + len(self._buffer)

    @property
    def waiting(self) -> int:
        """How many chunks are in the buffer."""
        return len(self._buffer)

    @property
    def closing(self) -> bool:
        """Whether its end was asked for."""
        return self._closing is not None

    @property
    def full(self) -> bool:
        """Whether the buffer pushes back."""
        if not self._buffer:
            return False
        return self._buffer[-1].upto - self._taken_upto >= self._pace.buffer

    # ---- what the job does -----------------------------------------------------------

    def check_error(self) -> None:
        """Raise what ended the run before it was done."""
        if self.error is not None:
            self.told = True
            # Of where it came from, and not of each time that it was raised here.
            raise self.error.with_traceback(self._trace)

    def check(self) -> None:
        """Raise what stands in the way of a `write`."""
        self.check_error()
        if self._closing is not None:
            reason = self._closing.reason if isinstance(self._closing, _End) else None
            raise StreamEnded(
                "this producer has ended its run, or handed it over",
                run=self.run,
                reason=reason,
            )

    def write(self, text: str) -> None:
        """Take one chunk, its JSON text. Whoever writes minds `full`."""
        self.check()
        size = chunk_texts.size(text)
        if size > MAX_CHUNKS_BYTES:
            raise TooLarge(
                f"chunk: more than {MAX_CHUNKS_BYTES} bytes as JSON; write it in parts",
                limit=MAX_CHUNKS_BYTES,
            )
        upto = self._buffer[-1].upto if self._buffer else self._taken_upto
        self._buffer.append(_Chunk(text, size, upto + size + _OVERHEAD))

    def flush(self) -> int:
        """Let what was written leave without waiting for `min_interval`; return what
        `stored` will be when it is in."""
        self._hurry_to = self.written
        return self._hurry_to

    def end(self, reason: Reason, message: str | None = None) -> None:
        """Put what was written, then the `end`. What is wrong is refused here, so that
        the run goes on: refused by the log, it would be left without an end."""
        self.check()
        if reason not in ("completed", "error"):
            raise Invalid('reason: must be "completed" or "error"')
        check_message(message)
        self._close(_End(reason, message))

    def hand_over(self, lease: int | None = None) -> None:
        """Put what was written, then let anybody claim the run, which is believed alive
        for `lease` seconds more."""
        lease = self._pace.lease if lease is None else check_lease(lease)
        self._close(_HandOver(lease))

    def leave(self) -> None:
        """Put what was written, and nothing more: the run is left to its lease."""
        self._close(_Leave())

    def _close(self, closing: _End | _HandOver | _Leave) -> None:
        self.check()
        self._closing = closing
        self.flush()
        if self.state == "writing":
            self.state = "closing"
            if self._call is None:
                self._left()

    def _left(self) -> None:
        if isinstance(self._closing, _Leave) and not self._buffer:
            self.state = "closed"

    # ---- what the shell does ---------------------------------------------------------

    def step(self, now: float) -> Call | None:
        """Return the call to make now, if any. It is under way until `answered` or
        `failed` says otherwise."""
        if self.state == "closed" or self._under_way:
            return None
        if self._call is None:
            self._call = self._choose(now)
        elif self._retry_at is not None and now < self._retry_at:
            return None
        if self._call is None:
            return None
        if isinstance(self._call, Append):
            if now >= self._append_ended + self._gap:
                self._streak_since = now
            self._append_began = now
        self._began = now
        self._under_way = True
        return self._call

    def due(self, now: float) -> float | None:
        """Return when the next call is due, as things are; None: not before something
        else happens."""
        if self.state == "closed" or self._under_way:
            return None
        if self._call is not None:
            return now if self._retry_at is None else self._retry_at
        if self._buffer:
            return min(self._append_at(now), self._look_at)
        return self._look_at if self._closing is None else now

    def answered(self, answer: Answer, now: float) -> None:
        """Note that the call succeeded."""
        call = self._call
        self._call, self._under_way, self._retry_at = None, False, None
        self._failing_since, self._tries = None, 0
        self._look_at = self._began + min(LOOK_EVERY, self._pace.lease / 3)
        if isinstance(call, Append):
            self.next = answer.next
            self.already += len(call.texts)
            self.stored += len(call.texts)
            self._in_hand = 0
            self._append_ended = now
            took = GAP_IN_APPENDS * (now - self._began)
            self._gap = min(PAUSE, max(GAP_AT_LEAST, took))
        elif isinstance(call, Opening):
            self.next, self.already, self.epoch = (
                answer.next,
                answer.already,
                answer.epoch,
            )
            self.state = "writing" if self._closing is None else "closing"
        elif isinstance(call, End):
            self.next = answer.next
            self.state = "closed"
        elif isinstance(call, Renew) and call.handed_over:
            self.state = "closed"
        self._left()

    def failed(self, error: BaseException, now: float, chance: float) -> None:
        """Note that the call failed; `chance`: at random, from 0 to 1."""
        self._under_way = False
        if self._failing_since is None:
            self._failing_since = self._began
        if isinstance(error, Unavailable):
            give_up_at = self._failing_since + self._pace.give_up_after
        elif isinstance(error, Busy) and isinstance(self._call, Opening):
            give_up_at = self._failing_since + self._pace.wait
        else:
            self._fail(error)
            return
        self._tries += 1
        cap = BUSY_CAP if isinstance(error, Busy) else BACKOFF_CAP
        pause = chance * min(cap, BACKOFF * 2**self._tries)
        if isinstance(self._call, Renew) and not self._call.handed_over:
            # It put nothing, so that chunks need not wait for it.
            self._call, self._failing_since = None, None
            self._look_at = now + min(pause, LOOK_EVERY)
        elif now < give_up_at:
            self._retry_at = min(now + pause, give_up_at)
        else:
            self._fail(self._gave_up(error))

    def abort(self, error: BaseException) -> None:
        """Stop at once, by a fault of the shell."""
        self._under_way = False
        self._fail(error)

    # ---- how it decides --------------------------------------------------------------

    def _choose(self, now: float) -> Call | None:
        place = (self._opening.stream, self.run or "", self._opening.writer)
        if self._buffer:
            if self._append_at(now) <= now:
                return Append(*place, self.next, self._take())
        elif isinstance(self._closing, _End):
            return End(*place, self.next, self._closing.reason, self._closing.message)
        elif isinstance(self._closing, _HandOver):
            return Renew(*place, self._closing.lease, handed_over=True)
        if self._look_at <= now:
            return Renew(*place, self._pace.lease)
        return None

    def _append_at(self, now: float) -> float:
        if self._append_began is None:
            return now
        at = self._append_ended
        if self._hurry_to <= self.stored:
            at = max(at, self._append_began + self._pace.min_interval)
        if now - self._streak_since >= BACK_TO_BACK:
            at = max(at, self._append_ended + PAUSE)
        return at

    def _take(self) -> tuple[str, ...]:
        """Take from the buffer as many chunks as one record holds."""
        texts: list[str] = []
        room = MAX_CHUNKS_BYTES + 1
        while self._buffer and self._buffer[0].size < room:
            chunk = self._buffer.popleft()
            room -= chunk.size + 1
            self._taken_upto = chunk.upto
            texts.append(chunk.text)
        self._in_hand = len(texts)
        return tuple(texts)

    def _fail(self, error: BaseException) -> None:
        self.error = error
        self._trace = error.__traceback__
        self.state = "closed"
        self._call = None
        self._buffer.clear()

    def _gave_up(self, error: BaseException) -> BaseException:
        if isinstance(error, Busy):
            return error
        if self.state == "opening":
            where = "the run could not be opened"
        else:
            where = f"all is safe up to seq {self.seq} ({self.already} chunks)"
        final = Unavailable(
            f"gave up after {self._pace.give_up_after:g} s: {where}; {error}",
            stream=self._opening.stream,
            run=self.run,
            seq=self.seq,
            already=self.already,
        )
        final.__cause__ = error
        return final
