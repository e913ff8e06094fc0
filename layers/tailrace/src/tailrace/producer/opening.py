"""How a producer gets its run: opens it, or takes it over from an earlier attempt.

PROTOCOL.md §2.1, rules 3 and 4, from the writer's side: which call to make next, given
how the one before was refused.
"""

from __future__ import annotations

from typing import Any, Literal

from .. import ids, rules
from ..errors import Busy, Invalid, StreamEnded, Superseded, TailraceError, Unavailable
from ..rules import OnActive
from ..writers import Answer, Transport

Resume = Literal["continue", "restart"]

_TRIES = 20


class Opening:
    """The first call of a producer; sent again after `Unavailable` or `Busy`, it goes
    on from what it has learnt.

    Run ids are made here and not by the server, so that an `open` whose answer was lost
    is repeated by name: from `randomness`, 10 bytes.
    """

    def __init__(
        self,
        stream: str,
        writer: str,
        *,
        run: str | None = None,
        resume: Resume | None = None,
        seq: int | None = None,
        on_active: OnActive = "supersede",
        lease: int,
        meta: dict[str, Any] | None = None,
        randomness: bytes,
    ) -> None:
        if resume not in (None, "continue", "restart"):
            raise Invalid('resume: must be "continue" or "restart"')
        if resume is not None and run is None:
            raise Invalid("resume: name the run that is to be resumed")
        if seq is not None and resume != "continue":
            raise Invalid('seq: is for `resume="continue"`')
        if on_active not in ("supersede", "fail"):
            raise Invalid('on_active: must be "supersede" or "fail"')
        self.stream = ids.check_stream(stream)
        self.run = None if run is None else ids.check_run(run)
        self.writer = ids.check_writer(writer)
        self._minted = run is None
        self._resume = resume
        self._seq = seq
        self._on_active = on_active
        self._lease = lease
        self._meta = meta
        self._randomness = randomness
        # A resumed run is claimed first: to open it would write `producer_lost` for all
        # to see where the one before it is past due.
        self._claiming = resume is not None
        self._unsure = False

    def send(self, transport: Transport) -> Answer:
        """Return where the run goes on; raises what PROTOCOL.md §4 says of `open` and
        `claim`."""
        if self.run is None:
            self.run = ids.new_run(transport.clock(), self._randomness)
        for _ in range(_TRIES):
            try:
                if not self._claiming:
                    return self._open(transport, self.run)
                answer = self._claim(transport, self.run)
                if self._resume == "continue":
                    return answer
                self._restart(self.run)
            except Unavailable:
                self._unsure = True
                raise
            except TailraceError as refusal:
                learnt = self._after_claim if self._claiming else self._after_open
                if not learnt(refusal, self.run, transport.clock()):
                    raise
        raise Unavailable("the stream changes faster than a run can be opened")

    def _open(self, transport: Transport, run: str) -> Answer:
        return transport.open(
            self.stream,
            run,
            self.writer,
            on_active=self._on_active,
            lease=self._lease,
            meta=self._meta,
        )

    def _claim(self, transport: Transport, run: str) -> Answer:
        return transport.claim(
            self.stream, run, self.writer, seq=self._seq, lease=self._lease
        )

    def _after_claim(self, refusal: TailraceError, run: str, now: int) -> bool:
        """Prepare another try after a refused claim; False: there is none."""
        match refusal:
            case Invalid() | StreamEnded(reason="expired"):
                self._claiming = False  # nobody has opened it yet
            case StreamEnded(reason="error") if self._resume == "restart":
                self._restart(run)
            case Superseded(run=later) if (
                self._resume == "restart" and later[14:] == run[14:]
            ):
                self.run = later  # an earlier attempt restarted it
            case _:
                return False
        return True

    def _after_open(self, refusal: TailraceError, run: str, now: int) -> bool:
        """Prepare another try after a refused open; False: there is none."""
        match refusal:
            case Busy(run=busy) if self._resume and busy == run:
                self._claiming = True  # another attempt opened it just now
            case StreamEnded(reason=rules.PRODUCER_LOST) if self._resume:
                self._claiming = True
            case Superseded(run=later) if self._minted and not self._unsure:
                self.run = ids.new_run(now, self._randomness, later)
            case Invalid() if self._minted and (
                ids.run_time(run) > now + ids.MAX_AHEAD_MS
            ):
                # This machine's clock was ahead, and has been set by the answer.
                self.run = ids.new_run(now, self._randomness)
            case _:
                return False
        return True

    def _restart(self, run: str) -> None:
        """Name the run that restarts this one. It differs by a millisecond only, so
        that a third attempt knows it for what it is."""
        at = f"{ids.run_time(run) + 1:012x}"
        self.run = f"{at[:8]}-{at[8:]}{run[13:]}"
        self._claiming = False
        self._on_active = "supersede"
