"""The rules of the log (PROTOCOL.md §2.1), as decisions on records.

All of them are here: which record follows which, what a writer learns from the record
that stands where it wanted to put its own, and when a silent run is past due. Pure:
`at` and `now` are given, nothing is read or written.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from . import chunks as chunk_texts
from .errors import (
    Busy,
    Cancelled,
    Fenced,
    Invalid,
    StreamEnded,
    Superseded,
    TailraceError,
)
from .records import Record

OnActive = Literal["supersede", "fail"]
Reason = Literal["completed", "error"]
"""How a writer ends its own run."""
EndReason = Literal["completed", "error", "cancelled", "producer_lost"]

PRODUCER_LOST: Final = "producer_lost"
CANCELLED: Final = "cancelled"


@dataclass(frozen=True, slots=True)
class Stamp:
    """What every new record gets from its writer and its time."""

    writer: str
    at: int
    lease: int
    expires_at: int


# ---- which record follows which ------------------------------------------------------


def open_after(
    tail: Record | None,
    stream: str,
    run: str,
    stamp: Stamp,
    *,
    meta: str | None = None,
    shared: bool = False,
) -> Record:
    """Return the `open` of a run behind the tail."""
    seq = tail.next if tail else 1
    return Record(
        stream=stream,
        seq=seq,
        kind="open",
        run=run,
        base=seq,
        writer=stamp.writer,
        epoch=0,
        count=1,
        index=0,
        at=stamp.at,
        lease=stamp.lease,
        expires_at=_expires_at(tail, stamp),
        shared=shared,
        meta=meta,
        prev=tail.run if tail else None,
    )


def data_after(tail: Record, chunks: str, count: int, stamp: Stamp) -> Record:
    """Return the `data` record that holds `count` chunks, behind its run's tail."""
    return _follow(tail, "data", stamp, count=count, chunks=chunks)


def claim_after(tail: Record, stamp: Stamp) -> Record:
    """Return the `claim` by which the stamp's writer takes the tail's run over."""
    return _follow(tail, "claim", stamp, epoch=tail.epoch + 1)


def end_after(
    tail: Record, reason: EndReason, stamp: Stamp, message: str | None = None
) -> Record:
    """Return the `end` of the tail's run."""
    if message is not None:
        # UTF-8, and so DynamoDB, cannot carry half an emoji, as cutting leaves it.
        message = message.encode("utf-8", "replace").decode()
    return _follow(tail, "end", stamp, reason=reason, message=message)


def _follow(
    tail: Record,
    kind: Literal["data", "claim", "end"],
    stamp: Stamp,
    *,
    count: int = 1,
    epoch: int | None = None,
    chunks: str = "",
    reason: str | None = None,
    message: str | None = None,
) -> Record:
    return Record(
        stream=tail.stream,
        seq=tail.next,
        kind=kind,
        run=tail.run,
        base=tail.base,
        writer=stamp.writer,
        epoch=tail.epoch if epoch is None else epoch,
        count=count,
        index=tail.chunks_in,
        at=stamp.at,
        lease=stamp.lease,
        expires_at=_expires_at(tail, stamp),
        shared=tail.shared,
        chunks=chunks,
        reason=reason,
        message=message,
    )


def _expires_at(tail: Record | None, stamp: Stamp) -> int:
    """Return when a record behind the tail may go: not before the tail, else a
    retention that was shortened would take the end of a run and leave its beginning."""
    return max(stamp.expires_at, tail.expires_at) if tail else stamp.expires_at


# ---- rule 2: the loser reads the winner ----------------------------------------------


@dataclass(frozen=True, slots=True)
class Met:
    """A put met a record that does not refuse it.

    `rest` are the chunk texts that are not in yet, to be put behind it. `done`: nothing
    is left to put, it is what was wanted.
    """

    rest: tuple[str, ...] = ()
    done: bool = False


def meet(put: Record, winner: Record) -> Met:
    """Say what a writer learns from the record that stands where it put its own.

    Raises what befell it: `Cancelled`, `Superseded`, `Fenced` or `StreamEnded`.
    """
    if winner.run != put.run or winner.writer != put.writer:
        raise refusal(put.run, winner)
    if winner.kind == put.kind and winner.chunks == put.chunks:
        if winner.reason != put.reason:
            raise refusal(put.run, winner)
        return Met(done=True)
    if winner.kind in ("open", "claim"):
        return Met(_texts(put))
    if winner.kind == "end":
        raise refusal(put.run, winner)
    if put.kind != "data":
        return Met()
    ours, theirs = _texts(put), _texts(winner)
    if ours[: len(theirs)] != theirs:
        raise Fenced(
            f"another producer writes as {put.writer}",
            run=put.run,
            epoch=winner.epoch,
        )
    return Met(ours[len(theirs) :])


def refusal(run: str, record: Record) -> TailraceError:
    """Return what a record of the log means to a writer of `run` that it is not by."""
    if record.run > run:
        return Superseded("a later run is in the log", run=record.run)
    if record.run < run:
        return Invalid(f"run {run} is not open")
    if record.kind == "end":
        if record.reason == CANCELLED:
            return Cancelled("the run was cancelled", run=run)
        return StreamEnded(
            f"the run has ended: {record.reason}", run=run, reason=record.reason
        )
    return Fenced("another writer has this run", run=run, epoch=record.epoch)


def ended_by(record: Record | None) -> str | None:
    """Return how a run ended, given its last record in the log; None: not known."""
    if record is None:
        return None
    return record.reason if record.kind == "end" else "superseded"


def _texts(record: Record) -> tuple[str, ...]:
    return tuple(chunk_texts.split(record.chunks))


# ---- rules 3 and 4: opening and claiming ---------------------------------------------


def check_open(tail: Record | None, run: str, writer: str, now: int) -> Record | None:
    """Return the tail if `run` is open already, by this writer; None: it may be opened.

    The caller has ended a run that is past due, and says itself what becomes of an
    active run of somebody else (`on_active`).
    """
    if tail is None or run > tail.run:
        return None
    if run < tail.run:
        raise Superseded("a later run is in the log", run=tail.run)
    if tail.expired(now):
        raise StreamEnded("the run is not in the log", run=run, reason="expired")
    if not tail.active:
        raise refusal(run, tail)
    if tail.writer != writer:
        raise Busy(
            "another writer has opened this run: claim it"
            ' (Producer: resume="continue" or "restart")',
            run=run,
            until=tail.at + tail.lease * 1000,
        )
    return tail


def check_claim(tail: Record | None, run: str, now: int) -> Record:
    """Return the tail if its run may be claimed, lease aside; else raise why not."""
    if tail is None or tail.expired(now):
        raise StreamEnded("the run is not in the log", run=run, reason="expired")
    if tail.run != run or (not tail.active and tail.reason != PRODUCER_LOST):
        raise refusal(run, tail)
    return tail


def check_owner(tail: Record | None, run: str, writer: str, now: int) -> Record:
    """Return the tail if `writer` is the one that may write `run`; else raise."""
    if tail is None or tail.expired(now):
        raise StreamEnded("the run is not in the log", run=run, reason="expired")
    if tail.run != run or not tail.active or tail.writer != writer:
        raise refusal(run, tail)
    return tail


# ---- rule 6: who is alive ------------------------------------------------------------


def alive_until(tail: Record, renewed_until: int | None) -> int:
    """Return until when the tail's run is believed alive, in ms.

    `renewed_until` is the `until` of the lease row of the tail's run and writer.
    """
    return max(tail.at + tail.lease * 1000, renewed_until or 0)
