"""Chats: answers started from the socket, and the AI SDK's requests for them.

PROTOCOL.md §3.7 and §3.8. The session decides who may ask; here is what is done then.
A request is looked after until it is over: its next watch is a message in a queue, at
the end of the run's lease at the latest, because its client never asks.
"""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import replace

from . import chunks, dialect, frames, tokens
from .courier import FIRST_REPAIR_SECONDS, Carried, Courier
from .errors import (
    Busy,
    Cancelled,
    Forbidden,
    Invalid,
    NotNow,
    StreamEnded,
    TailraceError,
    TooMany,
    Unavailable,
)
from .log import Log, Look
from .ports import Count, Gateway, Jobs, Push, Repair, Repairs, State
from .quotas import Budget
from .records import Record
from .watchers import TAKEN, Connection, Request

MAX_REQUESTS = 50
# How long a job may take to begin.
START_SECONDS = 60
# How long one answer may take.
CARRY_MS = 10_000
# API Gateway closes a connection that is idle for 10 minutes. A look comes every four
# at the latest, and pushes a frame where none was for so long: after eight at most.
WATCH_SECONDS = (5, 240)
SILENT_MS = 240_000
# A request whose run has ended is only still there because its client could not be
# reached: that is tried again after this time.
ENDED_WATCH_MS = 30_000
# After so many repairs that failed, a request is left to its watch, and a frame that
# was to be told by itself is given up.
REPAIR_TRIES = 6
# For how long a `send` or `resume` may come behind its `abort`: frames of one client
# are handled side by side, and a function may have to start.
ABORTED_SECONDS = 60
# A 410 may be wrong: it is believed once so many repairs have failed before it.
GONE_TRIES = 2

COULD_NOT_START = "The answer could not be started."


class Chats:
    """The chats of one stage."""

    def __init__(
        self,
        log: Log,
        state: State,
        gateway: Gateway,
        courier: Courier,
        repairs: Repairs,
        jobs: Jobs,
        *,
        abort_cancels: bool = False,
        count: Count = lambda name, value: None,
    ) -> None:
        self._log = log
        self._state = state
        self._gateway = gateway
        self._courier = courier
        self._repairs = repairs
        self._jobs = jobs
        self._abort_cancels = abort_cancels
        self._count = count

    # ---- frames ----------------------------------------------------------------------

    def send(
        self,
        connection: Connection,
        frame: frames.Send,
        expires_at: int,
        budget: Budget,
    ) -> Record:
        """Start an answer; return the `open` of its run, or, if the frame is repeated,
        a later record. Where it is the AI SDK's, also serve it to the connection."""
        _check(connection.rights.send, "send", frame.stream)
        served = frame.n is None
        if served:
            _check(connection.rights.read, "read", frame.stream)
            self._check_room(connection, frame)
        opened, begun = self._open(connection.rights.sub, frame)
        request = None
        if served:
            if begun:
                _check_budget(budget)
            until = self._log.clock() + START_SECONDS * 1000
            request = self._store(
                self._request(connection, frame, opened),
                Look(opened, active=True, until=until),
                expires_at,
            )
            if request is None and self._cancels(connection, frame.stream):
                self._log.cancel(frame.stream, opened.run)
                return opened
        if not begun:
            self._start(connection.rights.sub, frame, opened, request)
        if request is not None:
            budget.bytes += self._bring(request, None if begun else [opened]).bytes
        return opened

    def resume(
        self,
        connection: Connection,
        frame: frames.Resume,
        expires_at: int,
        budget: Budget,
    ) -> None:
        """Serve the run that is active to the connection, from its first chunk."""
        _check_budget(budget)
        _check(connection.rights.read, "read", frame.stream)
        look = self._log.look(frame.stream)
        if look.tail is None or not look.active:
            none = dialect.answer("no-active", frame.request)
            self.tell(connection.id, frame.request, none)
            return
        self._check_room(connection, frame)
        head = self._run_up_to(look.tail)
        shift = dialect.shift_of(head)
        request = replace(
            self._request(connection, frame, look.tail),
            prefix=look.tail.next,
            shift=shift,
        )
        # The row before the log is read for its answer, so that what is appended
        # between is pushed.
        stored = self._store(request, look, expires_at)
        if stored is not None:
            budget.bytes += self._bring(stored, None).bytes
        elif self._cancels(connection, frame.stream):
            self._log.cancel(frame.stream, look.tail.run)
        # Reading is what it costs, however little compaction leaves of it.
        budget.bytes += sum(chunks.size(record.chunks) for record in head)

    def abort(self, connection: Connection, frame: frames.Abort) -> None:
        """Let go of a request. The answer goes on, unless the stack says otherwise."""
        stream = connection.requests.get(frame.request)
        request = self._stored(connection, stream, frame.request)
        if request is None:
            # It is over; or has yet to come, by an invocation beside this one.
            until = self._log.clock() // 1000 + ABORTED_SECONDS
            stream = self._state.abort_request(connection.id, frame.request, until)
            request = self._stored(connection, stream, frame.request)
        if request is not None and self._cancels(connection, request.stream):
            self._log.cancel(request.stream, request.run)
        if stream is not None:
            self._state.remove_request(stream, connection.id, frame.request)
        # The client waits for no answer; so this may be lost.
        self._gateway.push(connection.id, dialect.answer("end", frame.request))

    def authorize(
        self, connection: Connection, read: tuple[str, ...], exp: int
    ) -> None:
        """Let new rights count for the requests of a connection."""
        for id, stream in connection.requests.items():
            if not tokens.granted(read, stream):
                self._state.remove_request(stream, connection.id, id)
                problem = Forbidden("the token does not grant read for this stream")
                told = frames.error(problem, {"stream": stream, "requestId": id})
                self.tell(connection.id, id, told)
                continue
            request = self._state.request(stream, connection.id, id)
            if request is not None:
                self._state.renew_request(request, exp)

    def tell(self, connection: str, request: str, frame: str) -> None:
        """Push a frame that the client waits for, now or later."""
        if self._gateway.push(connection, frame) not in (Push.DONE, Push.GONE):
            self._tell_later(Repair("", connection, request, frame=frame))

    # ---- looking after requests ------------------------------------------------------

    def look_after(self, repair: Repair) -> None:
        """Push what a request lacks, and see to the next look if it is not over. What
        raises is to be repeated."""
        if repair.frame is not None:
            outcome = self._gateway.push(repair.connection, repair.frame)
            if outcome not in (Push.DONE, Push.GONE):
                self._tell_later(replace(repair, tries=repair.tries + 1))
            return
        request = self._state.request(repair.stream, repair.connection, repair.request)
        # A message may come twice: two of one number must not go on as two.
        if request is None or repair.watch not in (None, request.watch):
            return
        now = self._log.clock()
        if request.exp * 1000 <= now:
            # Nothing more is shown to it; it may come back with a new token.
            # Closed first: a message that comes again finds what is left to do.
            self._gateway.disconnect(request.connection)
            self._forget(request)
            return
        # Whoever looks ends a run whose producer is lost.
        look = self._log.look(request.stream) if repair.watch is not None else None
        carried = self._courier.carry(request, None, now + CARRY_MS)
        if carried.over:
            return
        if carried.outcome is Push.GONE and repair.tries >= GONE_TRIES:
            self._forget(request)
            return
        if look is None:
            if carried.outcome is Push.DONE:
                self._bring_rest(request)
                return
            # One at a time: else those who fail meanwhile ask for ever more.
            tries = 0 if carried.frames else repair.tries + 1
            if tries < REPAIR_TRIES:
                self._courier.repair_again(request, tries)
            return
        if carried.outcome is not Push.DONE:
            self._courier.repair(request)
        elif not carried.frames and now - request.at >= SILENT_MS:
            self._keep_alive(request, now)
        self._watch(request, look, request.watch + 1)
        self._state.claim_watch(request, request.watch + 1)

    def _bring_rest(self, request: Request) -> None:
        """Say that the repair is done, then bring what was appended meanwhile: whoever
        could not push it has asked for no other."""
        self._state.release_repair(request)
        there = self._state.request(request.stream, request.connection, request.id)
        if there is not None:
            self._bring(there, None)

    def _keep_alive(self, request: Request, now: int) -> None:
        if self._gateway.push(request.connection, dialect.KEEP_ALIVE) is Push.DONE:
            self._state.advance(request, request.sent, request.seq, now)

    def _tell_later(self, repair: Repair) -> None:
        if repair.tries < REPAIR_TRIES:
            self._count("RepairsAsked", 1)
            self._repairs.ask(repair, FIRST_REPAIR_SECONDS << repair.tries)

    def _watch(self, request: Request, look: Look, number: int) -> None:
        """Ask for a look at the end of the run's lease."""
        now = self._log.clock()
        until = look.until if look.active else now + ENDED_WATCH_MS
        seconds = (min(until, request.exp * 1000) - now) // 1000 + 1
        least, most = WATCH_SECONDS
        repair = Repair(request.stream, request.connection, request.id, watch=number)
        self._repairs.ask(repair, min(max(seconds, least), most))

    def _forget(self, request: Request) -> None:
        self._state.remove_request(request.stream, request.connection, request.id)

    # ---- parts -----------------------------------------------------------------------

    def _open(self, sub: str, frame: frames.Send) -> tuple[Record, bool]:
        """Open the run of a `send`; return its record, and whether a job has begun it,
        as it may have where the frame is repeated."""
        asked = hashlib.sha256(f"{sub}\n{frame.request}".encode()).hexdigest()
        writer = f"send.{asked[:40]}"
        try:
            return self._log.open(frame.stream, writer, lease=START_SECONDS), False
        except (Busy, StreamEnded, Cancelled) as begun:
            # A run that names its writer: what stands in the way is this one's own.
            tail = self._log.store.last(frame.stream)
            if tail is None or tail.run != begun.run:
                raise NotNow("the stream has changed; ask again") from None
            return tail, True

    def _start(
        self, sub: str, frame: frames.Send, opened: Record, request: Request | None
    ) -> None:
        try:
            self._jobs.start(
                {
                    "tailrace": 1,
                    "stream": opened.stream,
                    "run": opened.run,
                    "seq": opened.next,
                    "sub": sub,
                    "untrusted": frame.asked,
                }
            )
            self._count("JobsStarted", 1)
        except Unavailable as error:
            self._count("JobsNotStarted", 1)
            if request is not None:
                self._forget(request)
            # If a job did come, or the tables do not answer, its lease ends the run.
            with contextlib.suppress(TailraceError):
                self._log.end(
                    opened.stream,
                    opened.run,
                    opened.writer,
                    opened.next,
                    "error",
                    COULD_NOT_START,
                )
            raise Unavailable(COULD_NOT_START) from error

    def _request(
        self,
        connection: Connection,
        frame: frames.Send | frames.Resume,
        tail: Record,
    ) -> Request:
        return Request(
            connection=connection.id,
            id=frame.request,
            stream=frame.stream,
            run=tail.run,
            exp=connection.rights.exp,
            prefix=tail.base,
            shift=0,
            sent=dialect.NOTHING,
            seq=tail.base,
            at=self._log.clock(),
        )

    def _store(self, request: Request, look: Look, expires_at: int) -> Request | None:
        """Store a request, and see to its being looked after; if the frame is repeated,
        return what its first coming stored. None if its abort has overtaken it."""
        stored = self._state.put_request(request, expires_at)
        if stored is not None and stored.watch == 0:
            # Maybe once more than needed: of two messages of one number one goes on.
            self._watch(stored, look, stored.watch)
        return stored

    def _stored(
        self, connection: Connection, stream: str | None, id: str
    ) -> Request | None:
        if stream is None:
            return None
        return self._state.request(stream, connection.id, id)

    def _cancels(self, connection: Connection, stream: str) -> bool:
        """Whether an abort cancels the run."""
        granted = tokens.granted(connection.rights.cancel, stream)
        return self._abort_cancels and granted

    def _run_up_to(self, tail: Record) -> list[Record]:
        found = []
        for record in self._log.store.range(tail.stream, tail.base):
            if record.seq >= tail.next:
                break
            found.append(record)
        return found

    def _bring(self, request: Request, records: list[Record] | None) -> Carried:
        return self._courier.bring(request, records, self._log.clock() + CARRY_MS)

    def _check_room(
        self, connection: Connection, frame: frames.Send | frames.Resume
    ) -> None:
        # Before anything is begun for it; of frames side by side, the row refuses one.
        if connection.requests.get(frame.request, frame.stream) != frame.stream:
            raise Invalid(TAKEN)
        others = connection.requests.keys() - {frame.request}
        if len(others) >= MAX_REQUESTS:
            raise TooMany(
                f"more than {MAX_REQUESTS} requests at a time", limit=MAX_REQUESTS
            )


def _check_budget(budget: Budget) -> None:
    if budget.stopped:
        raise NotNow("too much was replayed; ask again in a minute")


def _check(grants: tuple[str, ...], what: str, stream: str) -> None:
    if not tokens.granted(grants, stream):
        raise Forbidden(f"the token does not grant {what} for this stream")
