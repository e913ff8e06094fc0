"""One reader's place in the log: which slices it takes, holds and drops, when it must
ask, and which ends it concludes (PROTOCOL.md §3.5, rules 1 to 7).

Pure, and knows no connection. Times are milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ..rules import PRODUCER_LOST

GAP = 300
BACKOFF = 500
LONGEST = 30_000

# Slices, of at most 32 KB each. What lies further ahead is asked for in its turn.
_HELD = 256

Via = Literal["live", "replay", "repair"]
"""How a slice came: pushed as it was written; read from the log to catch up; read from
the log because a gap was found."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last thing received in order, to be kept and handed back.

    Without a run: whatever holds `seq` + 1. `ended`: `seq` is the end of its run, so
    that a later `open` supersedes nothing; but `lost`: the run is presumed dead, and
    may go on.
    """

    run: str | None
    seq: int
    ended: bool = False
    start: str | None = None
    """Where the server has placed it before an `open`: the run before which none
    counts."""
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Piece:
    """A slice as it came."""

    run: str
    seq: int
    next: int
    at: int | None
    via: Via
    open: dict[str, Any] | None = None
    claim: dict[str, Any] | None = None
    chunks: tuple[Any, ...] = ()
    end: dict[str, Any] | None = None
    size: int = 0

    def behind(self, seq: int) -> Piece:
        """Return what is left of it from `seq` on."""
        head = self.open is not None or self.claim is not None
        rest = self.chunks[seq - self.seq - head :]
        return Piece(
            self.run,
            seq,
            self.next,
            self.at,
            self.via,
            chunks=rest,
            end=self.end,
            size=self.size,
        )


@dataclass(frozen=True, slots=True)
class Delivered:
    """A piece that continues the cursor."""

    piece: Piece


@dataclass(frozen=True, slots=True)
class Concluded:
    """A run is over that has no `end` for this reader: `superseded` or `expired`."""

    run: str
    reason: Literal["superseded", "expired"]


Output = Delivered | Concluded


@dataclass(frozen=True, slots=True)
class Ask:
    """A question under way, and where the reader was when it asked."""

    socket: int
    n: int
    cursor: Cursor | None = None


@dataclass(slots=True)
class Reader:
    """What a reader has, and waits for.

    `wanted`: the run asked for by name, until it begins. `shown`: the run begun that
    may go on. `gap_at`: when to ask. `again_at`: when to ask although nothing seems to
    be missing, since somebody may not have pushed to this reader yet. `tries`: asks in
    a row that brought nothing. `catching`: until an answer has told all, so that what
    comes is no repair. `paused`: its queue is full; what comes is let go, and asked for
    later. `done`: nothing more will come.
    """

    stream: str
    wanted: str | None = None
    cursor: Cursor | None = None
    follow: bool = False
    shown: str | None = None
    held: list[Piece] = field(default_factory=list)
    tail: int = 0
    gap_at: float = math.inf
    again_at: float = math.inf
    ask: Ask | None = None
    tries: int = 0
    catching: bool = True
    paused: bool = False
    done: bool = False

    @property
    def position(self) -> list[Any] | None:
        """Where it wants to continue, as `sync` says it."""
        if self.cursor is not None:
            return [self.cursor.run, self.cursor.seq]
        return None if self.wanted is None else [self.wanted]


def watch(
    stream: str,
    *,
    after: Cursor | None = None,
    run: str | None = None,
    follow: bool = False,
    now: float,
) -> Reader:
    """Return a reader that begins."""
    begun = after and (not after.ended or (after.lost and not follow))
    return Reader(
        stream,
        wanted=None if after else run,
        cursor=after,
        follow=follow,
        shown=after.run if after and begun else None,
        gap_at=now,
    )


def backoff(attempt: int, chance: float) -> float:
    """Return the delay before an attempt, with full jitter; `chance` is in [0, 1)."""
    return chance * doubled(BACKOFF, attempt)


def doubled(ms: int, times: int) -> int:
    """Return a time that was doubled so often, at most 30 s: by then API Gateway has
    given up too."""
    return min(LONGEST, ms << min(times, 16))


# ---- what becomes of a slice ---------------------------------------------------------

Kin = Literal["start", "any", "same", "later", "earlier"]
Place = Literal["behind", "across", "opens", "next", "ahead"]
Fate = Literal["drop", "take", "hold", "anew"]

# fmt: off
RULES: dict[Kin, dict[Place, Fate]] = {
    "start": {"behind": "drop", "across": "anew", "opens": "take", "next": "anew",
              "ahead": "hold"},
    "any": {"behind": "drop", "across": "take", "opens": "take", "next": "take",
            "ahead": "hold"},
    "same": {"behind": "drop", "across": "take", "opens": "take", "next": "take",
             "ahead": "hold"},
    "later": {"behind": "hold", "across": "hold", "opens": "take", "next": "hold",
              "ahead": "hold"},
    "earlier": {"behind": "drop", "across": "drop", "opens": "drop", "next": "drop",
                "ahead": "drop"},
}
# fmt: on
"""By whose run a slice is of, seen from the cursor, and by where it lies. `opens`: at
exactly cursor + 1, with its run's `open`; `next`: there, without; `across`: begins at
or before the cursor and ends behind it.

A later run may follow only with its `open`. Where it does not lie beyond the cursor,
the log was begun anew: only an answer can say where it goes on. `start`: the server has
placed the cursor before an `open`; what is found there instead is of another log, so
that the place is lost. `any`: a cursor without a run, from the application.
"""


def _fate(reader: Reader, piece: Piece) -> Fate:
    return RULES[_kin(reader, piece.run)][_place(reader, piece)]


def _kin(reader: Reader, run: str) -> Kin:
    cursor = reader.cursor
    known = cursor.run if cursor else reader.wanted
    if run == known:
        return "same"
    start = known if known is not None else (cursor.start if cursor else None)
    if start is None:
        return "any"
    if run < start:
        return "earlier"
    return "start" if known is None else "later"


def _place(reader: Reader, piece: Piece) -> Place:
    """Without a cursor only the `open` that is waited for has a place; all else is
    ahead."""
    if reader.cursor is not None:
        due = reader.cursor.seq + 1
    else:
        awaited = piece.open is not None and reader.wanted in (None, piece.run)
        due = piece.seq if awaited else 0
    if piece.next <= due:
        return "behind"
    if piece.seq > due:
        return "ahead"
    if piece.seq < due:
        return "across"
    return "next" if piece.open is None else "opens"


# ---- slices --------------------------------------------------------------------------


def receive(reader: Reader, frame: Mapping[str, Any], now: float) -> list[Output]:
    """Take, hold or drop a slice; return what there is for the application."""
    piece = _piece(reader, frame)
    fate = "drop" if reader.paused else _fate(reader, piece)
    out: list[Output] = []
    if fate == "drop":
        return out
    if fate == "take":
        _take(reader, piece, out)
        _release(reader, out)
        reader.tries = 0
        reader.gap_at = reader.again_at
    else:
        if fate == "anew":
            reader.cursor = None
        _hold(reader, piece)
    if _behind(reader):
        reader.gap_at = min(reader.gap_at, now + GAP)
    return out


def _piece(reader: Reader, frame: Mapping[str, Any]) -> Piece:
    via: Via = "live"
    if frame.get("replay"):
        via = "replay" if reader.catching else "repair"
    return Piece(
        frame["run"],
        frame["seq"],
        frame["next"],
        frame.get("at"),
        via,
        frame.get("open"),
        frame.get("claim"),
        tuple(frame.get("chunks", ())),
        frame.get("end"),
        frame.get("size", 0),
    )


def _take(reader: Reader, piece: Piece, out: list[Output]) -> None:
    if piece.run != reader.shown:
        # Another run begins here, so the one that was shown or waited for is over.
        if reader.shown is not None:
            _conclude(reader, reader.shown, "superseded", out)
        elif reader.wanted not in (None, piece.run):
            _conclude(reader, str(reader.wanted), "expired", out)
        if reader.done:
            return
    due = reader.cursor.seq + 1 if reader.cursor else 0
    out.append(Delivered(piece.behind(due) if piece.seq < due else piece))
    reader.wanted = None
    reader.shown = piece.run
    reader.cursor = Cursor(piece.run, piece.next - 1, piece.end is not None)
    if piece.end is None:
        return
    # A run presumed dead may still be claimed: who reads no other waits for that.
    if reader.follow or piece.end.get("reason") != PRODUCER_LOST:
        reader.shown = None
        reader.done = not reader.follow


def _conclude(
    reader: Reader,
    run: str,
    reason: Literal["superseded", "expired"],
    out: list[Output],
) -> None:
    out.append(Concluded(run, reason))
    reader.shown = reader.wanted = None
    reader.done = not reader.follow


def _hold(reader: Reader, piece: Piece) -> None:
    # A repeat must not take the place of another.
    for held in reader.held:
        if (held.run, held.seq) == (piece.run, piece.seq) and held.next >= piece.next:
            return
    reader.held = sorted([*reader.held, piece], key=lambda one: one.seq)[:_HELD]


def _release(reader: Reader, out: list[Output]) -> None:
    """Take from the held pieces what has its place now."""
    at = 0
    while at < len(reader.held) and not reader.done:
        fate = _fate(reader, reader.held[at])
        if fate not in ("take", "drop"):
            at += 1
            continue
        piece = reader.held.pop(at)
        if fate == "take":
            _take(reader, piece, out)
        at = 0


def _behind(reader: Reader) -> bool:
    """Whether something is known to exist that it does not have."""
    return bool(reader.held) or (
        reader.cursor is not None and reader.tail > reader.cursor.seq
    )


# ---- answers -------------------------------------------------------------------------


def answered(
    reader: Reader, answer: Mapping[str, Any], now: float, chance: float
) -> list[Output]:
    """Take the answer to this reader's ask. Its slices came before it, if they did."""
    out: list[Output] = []
    asked = reader.ask.cursor if reader.ask else None
    reader.ask = None
    if isinstance(again := answer.get("again"), int):
        reader.again_at = now + again
    reader.gap_at = reader.again_at
    reader.tail = answer["tail"]
    # A cursor that has moved since was continued by the log: `from` is old news.
    if reader.cursor is asked and not reader.paused:
        # What has expired is followed by an `open` at most: nothing shown goes on.
        over = answer["run"] is None and reader.shown is not None
        if asked is not None and asked.seq == answer["from"] and not over:
            _confirm(reader, asked, answer)
        elif asked is not None or not _awaited(reader, answer):
            _relocate(reader, answer, out)
    moved = reader.cursor is not asked
    more = bool(answer.get("more"))
    reader.tries = 0 if moved else reader.tries + 1
    reader.catching = reader.catching and more
    if _behind(reader) or (moved and reader.cursor is None):
        # What brings nothing must not be asked for again at the network's speed.
        pause = 0.0 if moved else backoff(reader.tries, chance)
        reader.gap_at = now + pause + (0 if more else GAP)
    return out


def noted(reader: Reader, answer: Mapping[str, Any], now: float) -> None:
    """Take the answer to somebody else's question: where it does not agree with the
    cursor, this reader asks for itself."""
    cursor, run = reader.cursor, answer["run"]
    if cursor is None:
        agrees = _awaited(reader, answer)
    else:
        # An answer may be older than the cursor; a log begun anew has a later run.
        known = run is None or (cursor.run is not None and run <= cursor.run)
        agrees = known and answer["tail"] <= cursor.seq
    if not agrees:
        reader.gap_at = min(reader.gap_at, now + GAP)


def _relocate(reader: Reader, answer: Mapping[str, Any], out: list[Output]) -> None:
    """The log goes on elsewhere than at the cursor, or tells where it begins."""
    run, at = answer["run"], answer["from"]
    # What was shown cannot be continued, not even where its run is served again.
    if reader.shown is not None:
        _conclude(reader, reader.shown, "expired", out)
    if run is not None and at == answer["tail"]:
        reader.cursor = Cursor(run, at, ended=True)
    else:
        seen = reader.cursor.run if reader.cursor is not None else None
        # Where no run is left, only a later one than was seen can begin; `!` sorts
        # below any id.
        start = reader.wanted or run or f"{seen or ''}!"
        reader.cursor = Cursor(None, at, start=start)
    _release(reader, out)


def _confirm(reader: Reader, asked: Cursor, answer: Mapping[str, Any]) -> None:
    """The log goes on from the cursor."""
    # A held piece that disputes this place is of no log.
    reader.held = [piece for piece in reader.held if piece.seq > asked.seq + 1]
    run, at_tail = answer["run"], answer["tail"] == asked.seq
    if run is None:
        return
    if asked.start is not None:
        # Where an open should follow, a run lies behind, or none that could open here
        # goes on: of a log begun anew.
        if at_tail or run < asked.start:
            reader.cursor = None
    elif asked.ended or answer.get("active"):
        return
    elif at_tail and reader.shown and run == asked.run:
        # The run ended at a cursor that was kept without its `ended`.
        reader.shown = None
        reader.cursor = Cursor(asked.run, asked.seq, ended=True)


def _awaited(reader: Reader, answer: Mapping[str, Any]) -> bool:
    """Whether the run that is waited for has not opened yet, as far as this tells."""
    return reader.wanted is not None and (
        answer["run"] is None or answer["run"] < reader.wanted
    )
