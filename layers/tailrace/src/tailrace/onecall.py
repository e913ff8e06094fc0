"""One-call publish: for callers that keep no state between two calls (rule 9).

Each call is a writer of its own. With a `key`, a repeated call has the same writer, and
looks first for what the earlier one got in: that lies at the seq where it began, which
is remembered, or behind.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

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
    end: rules.Reason | None = None,
    message: str | None = None,
    key: str | None = None,
    lease: int | None = None,
) -> Record:
    """Open a shared run where none is active, append, end; return the run's tail.

    Raises `Busy` where a producer's own run is active; `TooLarge` before anything is
    in; and what befell the run that was given, or that has some of the chunks.
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
        if not rest:
            over = call.began and not look.active and call.run == _run(look)
            if end is None or over:
                return call.tail(look)
        if not call.writes(look):
            if not rest and not call.began:
                raise Invalid("end: no run is active")
            record = call.begin(look)
        else:
            assert look.tail is not None
            if rest:
                group = next(chunk_texts.pack(rest))
                chunks = chunk_texts.join(group)
                stamp = call.stamp(look.tail)
                record = rules.data_after(look.tail, chunks, len(group), stamp)
            else:
                assert end is not None
                stamp = call.stamp(look.tail)
                record = rules.end_after(look.tail, end, stamp, message)
        winner = log.store.put(record)
        if winner is not None:
            tries += 1
            done, look = call.find()
            continue
        look = Look(record, active=record.active)
        done += call.count(record)
    raise Unavailable("the stream changes faster than it can be written")


class _Call:
    """One call, or one `key`: where it began, and what of it is in.

    `run`: the run it was told to write, or else the one that has its first chunks:
    the rest, and the end, go into no other.
    """

    def __init__(
        self, log: Log, stream: str, run: str | None, key: str | None, lease: int | None
    ) -> None:
        self._log = log
        self._stream = stream
        self.run = run
        self._lease = lease
        self._last: Record | None = None
        tail = log.store.last(stream)
        self._start = tail.next if tail else 1
        if key is None:
            self._writer = "call:" + log.new_writer()
        else:
            self._writer = "call:" + hashlib.sha256(key.encode()).hexdigest()[:40]
            self._start = log.state.remember_key(
                stream, key, self._start, log.clock() // 1000 + log.retention
            )

    @property
    def began(self) -> bool:
        return self._last is not None

    @property
    def end(self) -> Record | None:
        return self._last if self._last and self._last.kind == "end" else None

    def tail(self, look: Look) -> Record:
        """Return the tail of the call's run, as far as it is known."""
        tail = look.tail if self.run == _run(look) else self._last
        if tail is None:
            raise Invalid("chunks: must not be empty")
        return tail

    def count(self, record: Record) -> int:
        """Count a record of this call; return how many chunks it has."""
        self._last = record
        if record.kind != "data":
            return 0
        self.run = record.run
        return record.count

    def find(self) -> tuple[int, Look]:
        """Return how many of the call's chunks are in, and the tail."""
        look = self._log.look(self._stream)
        done = 0
        if look.tail is not None and look.tail.last >= self._start:
            for record in self._log.store.range(self._stream, self._start):
                if record.seq > look.tail.seq:
                    break
                if record.writer == self._writer:
                    done += self.count(record)
        return done, look

    def stamp(self, tail: Record | None = None) -> rules.Stamp:
        """Return the stamp of an `open`, or of what follows the tail."""
        lease = self._lease
        if lease is None and tail is not None:
            lease = tail.lease
        return self._log.stamp(self._writer, lease)

    def writes(self, look: Look) -> bool:
        """Whether the active run, if any, is the one to write; `Busy` if it is a
        producer's own."""
        tail = look.tail
        if tail is None or not look.active:
            return False
        if not tail.shared:
            raise Busy("a producer writes this run", run=tail.run, until=look.until)
        return self.run in (None, tail.run)

    def begin(self, look: Look) -> Record:
        """Return the record that makes a shared run active."""
        tail, now = look.tail, self._log.clock()
        if tail is not None and not tail.expired(now):
            if (
                tail.shared
                and tail.reason == rules.PRODUCER_LOST
                and self.run in (None, tail.run)
            ):
                return rules.claim_after(tail, self.stamp(tail))
            if self.began and tail.reason == rules.CANCELLED:
                raise rules.refusal(tail.run, tail)
        if self.run is not None:
            run = ids.check_run(self.run, now)
            rules.check_open(tail, run, self._writer, now)
        else:
            run = self._log.new_run(tail)
        return rules.open_after(tail, self._stream, run, self.stamp(), shared=True)


def _run(look: Look) -> str | None:
    return look.tail.run if look.tail else None
