"""The courier: brings a run to one request of the AI SDK, in order and without a gap.

The client of that dialect cannot ask for what it missed, so the server repairs: frame
n + 1 is pushed only once frame n was accepted; a push that failed, or may have, is
where it stops; and then a repair is asked for. Two couriers of one request only repeat.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .dialect import Step, steps
from .errors import Unavailable
from .ports import Clock, Count, Gateway, LogStore, Push, Repair, Repairs, State
from .pushing import Pusher
from .records import Record
from .watchers import Request

# A repair is asked for once in its delay and this, however many pushes fail meanwhile.
_REPAIR_MS = 5_000
FIRST_REPAIR_SECONDS = 1
# How many seqs a batch reads again for a request that lags. A repair holds up nobody.
_NEAR = 100


@dataclass(slots=True)
class Carried:
    """What became of it: the last push's outcome, what was accepted (bytes, too), and
    whether nothing more is to come."""

    outcome: Push = Push.DONE
    frames: int = 0
    bytes: int = 0
    over: bool = False


class Courier:
    """Carries runs to requests. Nothing is kept between two calls."""

    def __init__(
        self,
        log: LogStore,
        state: State,
        gateway: Gateway,
        repairs: Repairs,
        clock: Clock,
        *,
        count: Count = lambda name, value: None,
    ) -> None:
        self._log = log
        self._state = state
        self._repairs = repairs
        self._clock = clock
        self._pusher = Pusher(gateway, clock, count)
        self._count = count

    def bring(
        self, request: Request, records: Sequence[Record] | None, deadline: int
    ) -> Carried:
        """Push what these records, in order, and the log before them have for the
        request (without them, all that the log has); if that fails, or much of the log
        would have to be read, see to it that it is tried again.

        `deadline` (ms): no push is begun after it.
        """
        if records and records[0].seq > request.seq + _NEAR:
            self.repair(request)
            return Carried()
        needed = None if records is None else self._needed(request, records)
        carried = self.carry(request, needed, deadline)
        if carried.outcome is not Push.DONE:
            self.repair(request)
        return carried

    def carry(
        self, request: Request, records: Iterable[Record] | None, deadline: int
    ) -> Carried:
        """Push what the request lacks, up to the first push that fails. Without
        `records`, they are read from the log."""
        carried = Carried()
        reached: Step | None = None
        deadline = min(deadline, request.exp * 1000)
        if records is None:
            records = self._log.range(request.stream, request.seq)
        try:
            for step in steps(request, records):
                carried.outcome = self._pusher.push(
                    request.connection, step.frame, deadline
                )
                if carried.outcome is not Push.DONE:
                    break
                reached = step
                carried.frames += 1
                carried.bytes += len(step.frame)
        except Unavailable:
            carried.outcome = Push.FAILED
        carried.over = reached is not None and reached.last
        self._count("DialectFramesPushed", carried.frames)
        if reached is not None:
            # If it is not noted, frames are repeated.
            with contextlib.suppress(Unavailable):
                self._note(request, reached)
        return carried

    def repair(self, request: Request) -> None:
        """Ask for a repair, unless one is on its way."""
        if request.repair_at <= self._clock():
            # If nobody can be asked, the request is looked after at its next watch.
            with contextlib.suppress(Unavailable):
                self.repair_again(request, 0)

    def repair_again(self, request: Request, tries: int) -> None:
        """Ask for a repair, of which so many tries failed before, unless another was
        asked for since the request was read."""
        seconds = FIRST_REPAIR_SECONDS << tries
        until = self._clock() + seconds * 1000 + _REPAIR_MS
        if self._state.claim_repair(request, until):
            self._count("RepairsAsked", 1)
            one = Repair(request.stream, request.connection, request.id, tries=tries)
            self._repairs.ask(one, seconds)

    def _needed(
        self, request: Request, records: Sequence[Record]
    ) -> Iterable[Record] | None:
        """Return what of the records the request needs; None: the log must be read."""
        if not records or records[-1].next <= request.seq:
            return ()
        if request.seq < request.prefix and records[-1].next < request.prefix:
            return None  # a part of what is compacted as a whole
        needed = [record for record in records if record.seq >= request.seq]
        expected = request.seq
        for record in needed:
            if record.seq != expected:
                return None
            expected = record.next
        return needed or None

    def _note(self, request: Request, reached: Step) -> None:
        if reached.last:
            self._state.remove_request(request.stream, request.connection, request.id)
        else:
            self._state.advance(request, reached.sent, reached.seq, self._clock())
