"""The log: the nine rules of PROTOCOL.md §2.1 over a store and the lease rows.

Decisions are in `rules`; this module reads, puts, and does what a decision says. Used
by the publish function, the websocket function, and by producers in-process.
"""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from . import chunks as chunk_texts
from . import ids, rules
from .errors import Busy, Invalid, Unavailable
from .ports import Clock, Lease, LogStore, State
from .records import MAX_LEASE_SECONDS, Record, check_lease, check_message
from .rules import OnActive, Reason, Stamp

# A busy writer pauses after 500 ms (rule 5); a race lost takes 4 ms or more.
_TRIES = 300
_KNOWN_WRITERS = 1_000
_MAX_WALK = 50
# Up to so many characters of chunks are kept with an acknowledged record: to copy it
# without them would cost as much as all else that the append does.
_KEPT_CHARS = 500


@dataclass(frozen=True, slots=True)
class Look:
    """The tail of a stream, as found by somebody who had a look (rule 6).

    `until`: when an active run is next presumed dead (ms); 0 if none is active.
    """

    tail: Record | None
    active: bool
    until: int = 0


class Log:
    """Streams of one table. Safe to share between threads: it keeps no state but a
    cache of each writer's own last acknowledged append.

    `retention` and `lease` are seconds: how long a record is kept, and the lease of a
    run whose `open` names none. `on_conflict` is told the kind of each lost race.
    """

    def __init__(
        self,
        store: LogStore,
        state: State,
        clock: Clock,
        *,
        retention: int,
        lease: int,
        randomness: Callable[[int], bytes] = secrets.token_bytes,
        on_conflict: Callable[[str], None] = lambda kind: None,
    ) -> None:
        self.store = store
        self.state = state
        self.clock = clock
        self.retention = retention
        self.default_lease = lease
        self._randomness = randomness
        self._on_conflict = on_conflict
        self._known: OrderedDict[tuple[str, str, str], Record] = OrderedDict()
        self._lock = threading.Lock()

    # ---- reading ---------------------------------------------------------------------

    def look(self, stream: str) -> Look:
        """Return the tail, having ended its run as `producer_lost` if it is past due.

        An expired tail is returned (it still numbers the stream), as not active.
        """
        for _ in range(_TRIES):
            now = self.clock()  # before the reads: a reader may freeze (rule 6)
            tail = self.store.last(stream)
            now = self._not_later_than(now)
            if tail is None or not tail.active or tail.expired(now):
                return Look(tail, active=False)
            until = rules.alive_until(tail, None)
            if until > now:
                return Look(tail, active=True, until=until)
            lease = self.state.lease(stream, tail.run, tail.writer)
            until = rules.alive_until(tail, lease.until if lease else None)
            if until > now:
                return Look(tail, active=True, until=until)
            stamp = self._stamp(self.new_writer(), now, tail.lease)
            end = rules.end_after(tail, rules.PRODUCER_LOST, stamp)
            winner = self.store.put(end)
            if winner is None:
                return Look(end, active=False)
            self._on_conflict(winner.kind)
        raise Unavailable("the stream changes faster than it can be read")

    # ---- writing ---------------------------------------------------------------------

    def open(
        self,
        stream: str,
        writer: str,
        run: str | None = None,
        *,
        on_active: OnActive = "supersede",
        lease: int | None = None,
        meta: Any = None,
    ) -> Record:
        """Open a run; return the record behind which the writer goes on.

        That is its `open`, or, where the call repeats an earlier one, the run's tail.
        Raises `Superseded`, `Busy`, `Cancelled`, `StreamEnded` (rule 3).
        """
        lease = self._lease(lease)
        meta_text = chunk_texts.encode_meta(meta)
        given = run
        for _ in range(_TRIES):
            look = self.look(stream)
            tail, now = look.tail, self.clock()
            if given is None and tail and self._repeats_open(tail, writer, now):
                given = tail.run
            run = given or self.new_run(tail)
            again = rules.check_open(tail, ids.check_run(run, now), writer, now)
            if again is not None:
                return self._acknowledge(again)
            if tail and look.active and on_active == "fail":
                raise Busy(
                    "another run is active in this stream",
                    run=tail.run,
                    until=look.until,
                )
            record = rules.open_after(
                tail,
                stream,
                run,
                self._stamp(writer, now, lease),
                meta=meta_text,
            )
            winner = self.store.put(record)
            if winner is None:
                return self._acknowledge(record)
            self._on_conflict(winner.kind)
        raise Unavailable("the stream changes faster than a run can be opened")

    def claim(
        self,
        stream: str,
        run: str,
        writer: str,
        seq: int | None = None,
        *,
        lease: int | None = None,
    ) -> Record:
        """Take a run over; return the record behind which the writer goes on.

        `seq` is where a predecessor handed the run over. Raises `Busy` while another
        writer is alive, and what ended the run where it is over (rule 4).
        """
        for _ in range(_TRIES):
            now = self.clock()
            last = self.store.last(stream)
            now = self._not_later_than(now)
            tail = rules.check_claim(last, run, now)
            if tail.writer == writer and tail.active:
                return self._acknowledge(tail)
            if tail.active and tail.next != seq:
                row = self.state.lease(stream, run, tail.writer)
                until = rules.alive_until(tail, row.until if row else None)
                if until > now and not (row and row.handed_over):
                    raise Busy("another writer is alive", run=run, until=until)
            stamp = self._stamp(
                writer, now, tail.lease if lease is None else self._lease(lease)
            )
            record = rules.claim_after(tail, stamp)
            winner = self.store.put(record)
            if winner is None:
                return self._acknowledge(record)
            self._on_conflict(winner.kind)
        raise Unavailable("the stream changes faster than its run can be claimed")

    def append(
        self, stream: str, run: str, writer: str, seq: int, texts: Sequence[str]
    ) -> Record:
        """Append chunks (their JSON texts) at `seq`; return the record that ends them.

        Repeating the call is harmless. Raises what befell the writer, `Invalid` if
        `seq` is not where the run goes on, `TooLarge` beyond one record's limit.
        """
        rest = tuple(texts)
        if not rest:
            raise Invalid("chunks: must not be empty")
        chunk_texts.join(rest)
        behind = self._known_behind(stream, run, writer, seq)
        if behind is None:
            own = self._own_at(stream, run, writer, seq)
            if own is not None and own.kind == "data":
                met = rules.meet(replace(own, chunks=chunk_texts.join(rest)), own)
                if not met.rest:
                    return self._acknowledge(own)
                behind = rules.check_owner(own, run, writer, self.clock())
                rest = met.rest
            else:
                behind = self._owned_tail(stream, run, writer)
                _check_seq(seq, behind)
        for _ in range(_TRIES):
            stamp = self._stamp(writer, self.clock(), behind.lease)
            record = rules.data_after(behind, chunk_texts.join(rest), len(rest), stamp)
            winner = self.store.put(record)
            if winner is None:
                return self._acknowledge(record)
            self._on_conflict(winner.kind)
            met = rules.meet(record, winner)
            if met.done:
                return self._acknowledge(winner)
            behind, rest = winner, met.rest
        raise Unavailable("the stream changes faster than it can be written")

    def end(
        self,
        stream: str,
        run: str,
        writer: str,
        seq: int,
        reason: Reason,
        message: str | None = None,
    ) -> Record:
        """End a run that this writer has; return its `end`. Repeating is harmless."""
        if reason not in ("completed", "error"):
            raise Invalid('reason: must be "completed" or "error"')
        check_message(message)
        behind = self._known_behind(stream, run, writer, seq)
        if behind is None:
            tail = self.store.last(stream)
            own = self._own_at(stream, run, writer, seq)
            for earlier in (own, tail):
                if (
                    earlier is not None
                    and (earlier.run, earlier.writer) == (run, writer)
                    and earlier.reason == reason
                ):
                    return earlier
            behind = rules.check_owner(tail, run, writer, self.clock())
            if own is None:
                _check_seq(seq, behind)
        for _ in range(_TRIES):
            stamp = self._stamp(writer, self.clock(), behind.lease)
            record = rules.end_after(behind, reason, stamp, message)
            winner = self.store.put(record)
            if winner is None:
                return record
            self._on_conflict(winner.kind)
            if rules.meet(record, winner).done:
                return winner
            behind = winner
        raise Unavailable("the stream changes faster than it can be ended")

    def cancel(self, stream: str, run: str | None = None) -> Record | None:
        """Cancel a run, also one not yet opened; return the last record of that run.

        Without `run`: whatever is active. What ended before stays as it was. None if
        nothing is known of that run any more (rule 5).
        """
        canceller = self.new_writer()
        for _ in range(_TRIES):
            now = self.clock()
            tail = self.store.last(stream)
            now = self._not_later_than(now)
            gone = tail is None or tail.expired(now)
            if run is None:
                if tail is None or gone:
                    return None
                run = tail.run
            if tail is not None and tail.run == run:
                if gone:
                    return None
                if not tail.active:
                    return tail
                stamp = self._stamp(canceller, now, tail.lease)
                record = rules.end_after(tail, rules.CANCELLED, stamp)
            elif tail is None or tail.run < run:
                ids.check_run(run, now)
                stamp = self._stamp(canceller, now, self.default_lease)
                record = rules.open_after(tail, stream, run, stamp)
            else:
                return None if gone else self.last_of(stream, run, tail)
            winner = self.store.put(record)
            if winner is not None:
                self._on_conflict(winner.kind)
                # A race lost: the next look at the tail says what is (rule 5).
        raise Unavailable("the stream changes faster than it can be cancelled")

    def renew(
        self,
        stream: str,
        run: str,
        writer: str,
        *,
        lease: int | None = None,
        handed_over: bool = False,
    ) -> tuple[Record, Lease]:
        """Keep a silent run alive; raise what befell the writer meanwhile.

        Returns the run's tail and the lease. With `handed_over`, anybody may claim the
        run at once.
        """
        tail = self._owned_tail(stream, run, writer)
        seconds = tail.lease if lease is None else self._lease(lease)
        row = Lease(self.clock() + seconds * 1000, handed_over)
        self.state.put_lease(
            stream, run, writer, row, row.until // 1000 + MAX_LEASE_SECONDS
        )
        return tail, row

    def delete(self, stream: str) -> int:
        """Remove all of a stream but its final `end`; return how many records went.

        An active run is cancelled first. The `end` stays, so that the numbering goes
        on where it was, until it expires.
        """
        tail = self.store.last(stream)
        if tail is None:
            return 0
        while tail.active:
            run = tail.run
            if tail.expired(self.clock()):  # only an `open` may follow it (rule 7)
                run = self.new_run(tail)
            self.cancel(stream, run)
            tail = self.store.last(stream) or tail
        seqs = []
        for record in self.store.range(stream, 1):
            if record.seq >= tail.seq:
                break
            seqs.append(record.seq)
        for seq in seqs:
            self.store.remove(stream, seq)
        return len(seqs)

    # ---- what the operations share ---------------------------------------------------

    def last_of(self, stream: str, run: str, tail: Record) -> Record | None:
        """Return the last record of an earlier run, walking back run by run."""
        record: Record | None = tail
        for _ in range(_MAX_WALK):
            if record is None or record.run < run:
                return None
            if record.run == run:
                return record
            if record.base == 1:
                return None
            record = self.store.last(stream, record.base - 1)
        return None

    def new_writer(self) -> str:
        """Make a writer name that nobody else has."""
        return self._randomness(10).hex()

    def new_run(self, tail: Record | None) -> str:
        """Make a run id that may be opened behind the tail."""
        now = self.clock()
        after = tail.run if tail else None
        return ids.check_run(ids.new_run(now, self._randomness(10), after), now)

    def stamp(self, writer: str, lease: int | None = None) -> Stamp:
        """Return what a record that is put now gets."""
        return self._stamp(writer, self.clock(), self._lease(lease))

    def _stamp(self, writer: str, at: int, lease: int) -> Stamp:
        return Stamp(writer, at, lease, at // 1000 + self.retention)

    def _not_later_than(self, before: int) -> int:
        """Return the time that was taken before a read, or the time now where the
        answer has set the clock back: the first does so on a machine that was ahead."""
        return min(before, self.clock())

    def _lease(self, lease: int | None) -> int:
        return self.default_lease if lease is None else check_lease(lease)

    def _owned_tail(self, stream: str, run: str, writer: str) -> Record:
        return rules.check_owner(self.store.last(stream), run, writer, self.clock())

    def _own_at(self, stream: str, run: str, writer: str, seq: int) -> Record | None:
        """Return what an earlier call of this writer put at `seq`: data, or the end."""
        record = self.store.last(stream, seq)
        if (
            record is not None
            and (record.seq, record.run, record.writer) == (seq, run, writer)
            and record.kind in ("data", "end")
        ):
            return record
        return None

    def _repeats_open(self, tail: Record, writer: str, now: int) -> bool:
        """Whether an `open` by this writer that names no run has opened the tail's."""
        if tail.expired(now):
            return False
        if tail.writer == writer:
            return tail.active
        opened = self.store.last(tail.stream, tail.base)
        return opened is not None and (opened.run, opened.writer) == (tail.run, writer)

    def _acknowledge(self, record: Record) -> Record:
        key = (record.stream, record.run, record.writer)
        kept = record
        if record.meta is not None or len(record.chunks) > _KEPT_CHARS:
            kept = replace(record, chunks="", meta=None)
        with self._lock:
            self._known[key] = kept
            self._known.move_to_end(key)
            if len(self._known) > _KNOWN_WRITERS:
                self._known.popitem(last=False)
        return record

    def _known_behind(
        self, stream: str, run: str, writer: str, seq: int
    ) -> Record | None:
        """Return this writer's last acknowledged record, if `seq` follows it and it is
        young enough to be trusted without a read (rules 7 and 8)."""
        known = self._known.get((stream, run, writer))
        if (
            known is not None
            and known.next == seq
            and known.active
            and self.clock() - known.at < self.retention * 500
        ):
            return known
        return None


def _check_seq(seq: int, behind: Record) -> None:
    if seq != behind.next:
        raise Invalid(f"seq: is {seq}, the run goes on at {behind.next}")
