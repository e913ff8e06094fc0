"""One-call publish: for callers that keep no state between two calls (rule 9).

Each call is a writer of its own. With a `key`, a repeated call has the same writer, and
looks first for what the earlier one got in: that lies at the seq where it began, which
is remembered, or behind.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal

from . import chunks as chunk_texts
from . import ids, rules
from .errors import Busy, Invalid, Unavailable
from .log import Log, Look
from .records import Record

_TRIES = 50


def publish(
    log: Log,
    stream: str,
    texts: Sequence[str],
    *,
    run: str | None = None,
    end: Literal["completed", "error"] | None = None,
    message: str | None = None,
    key: str | None = None,
    lease: int | None = None,
) -> Record:
    """Open a shared run where none is active, append, end; return the tail.

    Raises `Busy` where a producer's own run is active; with `run`, what befell that
    run; `TooLarge` before anything is in.
    """
    for group in chunk_texts.pack(texts):
        chunk_texts.join(group)
    call = _Call(log, stream, run, key, lease)
    done, look = call.find()
    tries = 0
    while tries < _TRIES:
        rest = texts[done:]
        if call.end is not None:
            return call.end
        if not rest and (end is None or (call.began and not look.active)):
            return _tail(look)
        if not call.writes(look):
            if not rest:
                raise Invalid("end: no run is active")
            record = call.begin(look)
        else:
            assert look.tail is not None
            if rest:
                group = next(chunk_texts.pack(rest))
                chunks = chunk_texts.join(group)
                record = rules.data_after(look.tail, chunks, len(group), call.stamp())
            else:
                assert end is not None
                record = rules.end_after(look.tail, end, call.stamp(), message)
        winner = log.store.put(record)
        if winner is not None:
            tries += 1
            done, look = call.find()
            continue
        look = Look(record, active=record.active)
        call.began = True
        if record.kind == "data":
            done += record.count
        if record.kind == "end":
            return record
    raise Unavailable("the stream changes faster than it can be written")


class _Call:
    """One call, or one `key`: where it began, and what of it is in."""

    def __init__(
        self, log: Log, stream: str, run: str | None, key: str | None, lease: int | None
    ) -> None:
        self._log = log
        self._stream = stream
        self._run = run
        self._lease = lease
        self.began = False
        self.end: Record | None = None
        tail = log.store.last(stream)
        self._start = tail.next if tail else 1
        if key is None:
            self._writer = "call:" + log.new_writer()
        else:
            self._writer = "call:" + hashlib.sha256(key.encode()).hexdigest()[:40]
            self._start = log.state.remember_key(
                stream, key, self._start, log.clock() // 1000 + log.retention
            )

    def find(self) -> tuple[int, Look]:
        """Return how many of the call's chunks are in, and the tail."""
        look = self._log.look(self._stream)
        done = 0
        if look.tail is not None and look.tail.last >= self._start:
            for record in self._log.store.range(self._stream, self._start):
                if record.seq > look.tail.seq:
                    break
                if record.writer == self._writer:
                    self.began = True
                    self.end = record if record.kind == "end" else None
                    done += record.count if record.kind == "data" else 0
        return done, look

    def stamp(self) -> rules.Stamp:
        return self._log.stamp(self._writer, self._lease)

    def writes(self, look: Look) -> bool:
        """Whether the active run, if any, is the one to write; `Busy` if it is a
        producer's own."""
        tail = look.tail
        if tail is None or not look.active:
            return False
        if not tail.shared:
            raise Busy("a producer writes this run", run=tail.run, until=look.until)
        return self._run in (None, tail.run)

    def begin(self, look: Look) -> Record:
        """Return the record that makes a shared run active."""
        tail, stamp, now = look.tail, self.stamp(), self._log.clock()
        if tail is not None and not tail.expired(now):
            if (
                tail.shared
                and tail.reason == rules.PRODUCER_LOST
                and self._run in (None, tail.run)
            ):
                return rules.claim_after(tail, stamp)
            if self.began and tail.reason == rules.CANCELLED:
                raise rules.refusal(tail.run, tail)
        if self._run is not None:
            run = ids.check_run(self._run, now)
            rules.check_open(tail, run, self._writer)
        else:
            run = self._log.new_run(tail)
        return rules.open_after(tail, self._stream, run, stamp, shared=True)


def _tail(look: Look) -> Record:
    if look.tail is None:
        raise Invalid("chunks: must not be empty")
    return look.tail
