"""The websocket session: what a connection may ask, and what it is answered.

One method for each event of a connection; PROTOCOL.md §3 is what they implement. Knows
no Lambda event and no API Gateway: `connect` raises what refuses the handshake, and
`receive` answers every frame through the gateway, also a bad one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from . import frames, tokens
from .compaction import Mode
from .errors import (
    Forbidden,
    Invalid,
    NotNow,
    TailraceError,
    TooFast,
    TooLarge,
    TooMany,
    Unauthorized,
    Unavailable,
    UnknownConnection,
    Unsupported,
)
from .log import Log
from .ports import Clock, Count, Gateway, Push, State
from .positions import Position
from .quotas import Budget, Quotas, Rate, Spent
from .replay import Replay
from .rules import ended_by
from .watchers import Connection, Rights, Subscription

if TYPE_CHECKING:
    from .chat import Chats

MAX_BAD_FRAMES = 20
# API Gateway ends a connection after two hours; its rows may go a little later.
CONNECTION_SECONDS = 7_800
# The sub of a connection that came with an expired token; no token can have it.
_NOBODY = ""
# A publisher's list of subscribers is a second old at most (`direct.LIST_MS`). It has
# none where nothing was put for a while: an interval and a deadline, of 5 s each.
AGAIN_MS = 1_500
RECENT_MS = 15_000
# How many connections over the quota are closed as a new one comes. Mostly it is one;
# there are more where closing some failed before.
_EVICTED_AT_ONCE = 5


class Keys(Protocol):
    """The key ring, kept in memory."""

    def ring(self) -> tokens.KeyRing:
        """Return the ring; it may be some minutes out of date."""

    def reread(self) -> tokens.KeyRing:
        """Return the ring, read anew unless that was done, or tried, within the last
        minute; may raise `Unavailable`."""


class Session:
    """All connections of one stage. `origins`: the allowed `Origin` headers, or `*`.
    `chats` is called when the first is needed; None: this stack has none. `direct`:
    publishers push, each to the subscribers of up to a second ago. `on_refusal` is told
    what a frame, or a stream of one, is refused by."""

    def __init__(
        self,
        log: Log,
        state: State,
        gateway: Gateway,
        keys: Keys,
        clock: Clock,
        *,
        origins: Sequence[str],
        chats: Callable[[], Chats] | None = None,
        direct: bool = False,
        count: Count = lambda name, value: None,
        on_refusal: Callable[[TailraceError], None] = lambda refusal: None,
        quotas: Quotas = Quotas(),  # noqa: B008 - it is frozen
    ) -> None:
        self._log = log
        self._state = state
        self._gateway = gateway
        self._keys = keys
        self._clock = clock
        self._origins = frozenset(origins)
        self._chats = chats
        self._direct = direct
        self._count = count
        self._on_refusal = on_refusal
        self._quotas = quotas
        self._rate = Rate(quotas.frames, quotas.frames_a_second)
        self._spent = Spent(quotas.replay_bytes)

    # ---- events ----------------------------------------------------------------------

    def connect(self, id: str, token: str | None, origin: str | None) -> None:
        """Let a connection in, or raise `Unauthorized`, `Forbidden` or `Unavailable`.

        Without an `Origin` (no browser) there is nothing to check: the token is not
        ambient, as a cookie would be. An expired token comes in without rights.
        """
        if origin is not None and not {"*", origin} & self._origins:
            raise Forbidden("origin: not on the list")
        if not token:
            raise Unauthorized("token: missing")
        try:
            rights = self._verify(token)
        except tokens.ExpiredToken:
            rights = Rights(sub=_NOBODY, exp=0)
        self._put_connection(id, rights)

    def disconnect(self, id: str) -> None:
        """Forget a connection that was closed."""
        self._state.remove_connection(id)

    def receive(self, id: str, body: Any) -> None:
        """Handle one message of a client. Answers it; raises nothing of its own."""
        connection = None
        try:
            self._check_rate(id)
            connection = self._state.connection(id)
            if connection is None:
                raise UnknownConnection("the server does not know this connection")
            self._handle(connection, frames.decode(body))
        except TailraceError as problem:
            self._refuse(id, problem, frames.echo(body))
        if connection and not connection.streams and not connection.requests:
            # Its first: behind the answer, for which somebody waits.
            self._make_room(connection.rights.sub)

    # ---- frames ----------------------------------------------------------------------

    def _handle(self, connection: Connection, frame: frames.ClientFrame) -> None:
        if isinstance(frame, frames.Auth):
            return self._auth(connection, frame)
        if connection.rights.exp <= self._now():
            raise Unauthorized("token: expired")
        if isinstance(frame, frames.Subscribe):
            return self._subscribe(connection, frame)
        if isinstance(frame, frames.Unsubscribe):
            return self._unsubscribe(connection, frame)
        if isinstance(frame, frames.Sync):
            return self._sync(connection, frame)
        if isinstance(frame, frames.Cancel):
            return self._cancel(connection, frame)
        return self._chat(connection, frame)

    def _subscribe(self, connection: Connection, frame: frames.Subscribe) -> None:
        budget = self._new_budget(connection)
        new = 0 if frame.stream in connection.streams else 1
        self._check_room(len(connection.streams) + new)
        facts = self._serve(
            connection, frame.stream, frame.n, frame.position, budget, frame.compact
        )
        self._account(connection, budget)
        told = frames.subscribed(frame.stream, frame.n, facts)
        self._conclude(connection, frame.n, budget, told)

    def _sync(self, connection: Connection, frame: frames.Sync) -> None:
        budget = self._new_budget(connection)
        self._check_room(len(connection.streams.keys() | frame.streams.keys()))
        tails: dict[str, Any] = {
            name: {"error": problem.as_dict()}
            for name, problem in frame.refused.items()
        }
        for stream, position in frame.streams.items():
            try:
                if budget.late(self._clock()):
                    raise NotNow("the answer took too long; ask again")
                tails[stream] = self._serve(
                    connection,
                    stream,
                    frame.n,
                    position,
                    budget,
                    frame.compact.get(stream),
                )
            except TailraceError as problem:
                self._on_refusal(problem)
                tails[stream] = {"error": problem.as_dict()}
            if budget.gone:
                break
        self._account(connection, budget)
        told = frames.synced(frame.n, self._clock(), tails)
        self._conclude(connection, frame.n, budget, told)

    def _unsubscribe(self, connection: Connection, frame: frames.Unsubscribe) -> None:
        self._state.unsubscribe(frame.stream, connection.id, frame.n)
        self._answer(connection.id, type="unsubscribed", stream=frame.stream, n=frame.n)

    def _cancel(self, connection: Connection, frame: frames.Cancel) -> None:
        if not tokens.granted(connection.rights.cancel, frame.stream):
            raise Forbidden("the token does not grant cancel for this stream")
        record = self._log.cancel(frame.stream, frame.run)
        self._answer(
            connection.id,
            type="cancelled",
            stream=frame.stream,
            run=frame.run,
            reason=ended_by(record),
            n=frame.n,
        )

    def _chat(
        self, connection: Connection, frame: frames.Send | frames.Resume | frames.Abort
    ) -> None:
        if self._chats is None:
            raise Unsupported("this stack was deployed without a job function")
        chats = self._chats()
        if isinstance(frame, frames.Abort):
            chats.abort(connection, frame)
        elif isinstance(frame, frames.Resume):
            budget = self._new_budget(connection)
            chats.resume(connection, frame, self._expires_at(), budget)
            self._account(connection, budget)
        else:
            budget = self._new_budget(connection)
            opened = chats.send(connection, frame, self._expires_at(), budget)
            self._account(connection, budget)
            if frame.n is not None:
                self._answer(
                    connection.id,
                    type="sent",
                    stream=frame.stream,
                    run=opened.run,
                    seq=opened.base,
                    requestId=frame.request,
                    n=frame.n,
                )

    def _auth(self, connection: Connection, frame: frames.Auth) -> None:
        rights = self._verify(frame.token)
        if connection.rights.sub not in (_NOBODY, rights.sub):
            raise Unauthorized("token: of another sub")
        # Frames side by side may have put more than there is room for.
        self._check_room(len(connection.streams))
        if connection.rights.sub == _NOBODY:
            self._put_connection(connection.id, rights)
        # The connection first, then what it subscribes to: a crash between leaves
        # rows that end with the old token, which the client's next sync puts right.
        if not self._state.set_rights(connection.id, rights):
            raise UnknownConnection("the server does not know this connection")
        for stream, n in connection.streams.items():
            if tokens.granted(rights.read, stream):
                self._put_subscription(connection.id, stream, n, rights.exp)
            else:
                self._state.unsubscribe(stream, connection.id, n)
                self._answer(
                    connection.id,
                    type="unsubscribed",
                    stream=stream,
                    reason=Forbidden.code,
                )
        if connection.requests and self._chats is not None:
            self._chats().authorize(connection, rights.read, rights.exp)
        self._answer(connection.id, type="authorized", expires_at=rights.exp, n=frame.n)

    # ---- parts -----------------------------------------------------------------------

    def _new_budget(self, connection: Connection) -> Budget:
        """Return an answer's budget: none at all, for a sub that replays too much. It
        is told `more`, and so asks on, with pauses."""
        now = self._clock()
        budget = Budget(now)
        if self._spent.over(connection.rights.sub, now // 60_000):
            self._count("ReplaysThrottled", 1)
            budget.stopped = True
        return budget

    def _account(self, connection: Connection, budget: Budget) -> None:
        self._count("ReplayedChunks", budget.chunks)
        sub, minute = connection.rights.sub, self._clock() // 60_000
        owed = self._spent.owe(sub, minute, budget.bytes)
        if not owed:
            return
        with contextlib.suppress(Unavailable):
            spent = self._state.spend(sub, minute, owed, self._now() + 300)
            self._spent.learn(sub, minute, spent)

    def _serve(
        self,
        connection: Connection,
        stream: str,
        n: int,
        position: Position,
        budget: Budget,
        compact: Mode | None,
    ) -> dict[str, Any]:
        """Subscribe, then replay within the answer's budget; return the facts."""
        if not tokens.granted(connection.rights.read, stream):
            raise Forbidden("the token does not grant read for this stream")
        # The row before the read, so that what is appended between is pushed.
        there = self._put_subscription(connection.id, stream, n, connection.rights.exp)
        replay = Replay(self._log, stream, position, compact, ahead=not budget.stopped)
        if not budget.stopped:
            for piece in replay.slices():
                frame = piece.frame(replay=True)
                if not budget.take(frame, self._clock(), piece.read):
                    break
                pushed = self._push(connection.id, frame)
                if pushed is not Push.DONE:
                    # Nothing that lies behind a failed push may be sent (§3.4).
                    budget.stopped = budget.failed = True
                    if pushed is Push.GONE:
                        budget.gone = True
                        self._state.unsubscribe(stream, connection.id, n)
                    break
                budget.chunks += piece.count
        facts = {
            "run": replay.run,
            "tail": replay.tail,
            "from": replay.start,
            "active": replay.active,
            "more": replay.more,
        }
        # The same frame's is of a try whose answer was lost.
        new = there is None or there.n == n
        if new and self._direct and replay.at > self._clock() - RECENT_MS:
            facts["again"] = AGAIN_MS
        if there is not None and there.slow_until:
            budget.slow = stream
            if there.slow_until > self._clock():
                # What is appended until it is pushed to again, it has to ask for.
                facts["again"] = AGAIN_MS
        return facts

    def _put_subscription(
        self, id: str, stream: str, n: int, exp: int
    ) -> Subscription | None:
        row = Subscription(stream, id, n, exp)
        return self._state.subscribe(row, self._expires_at())

    def _conclude(
        self, connection: Connection, n: int, budget: Budget, told: str
    ) -> None:
        """Push what closes an answer. Who has taken all of it is not slow any more."""
        if budget.gone:
            return
        pushed = self._push(connection.id, told)
        if budget.slow is not None and pushed is Push.DONE and not budget.failed:
            row = Subscription(budget.slow, connection.id, n, connection.rights.exp)
            with contextlib.suppress(Unavailable):
                self._state.mark_slow(row, 0)

    def _put_connection(self, id: str, rights: Rights) -> None:
        self._state.put_connection(Connection(id, rights), self._expires_at())

    def _make_room(self, sub: str) -> None:
        """Of too many connections the oldest goes: as likely as not it is one whose end
        nobody told."""
        if sub == _NOBODY:
            return
        with contextlib.suppress(Unavailable):
            there = self._state.connections_of(sub)
            over = there[: -self._quotas.connections]
            for other in over[:_EVICTED_AT_ONCE]:
                self._count("ConnectionsEvicted", 1)
                problem = TooMany(
                    f"more than {self._quotas.connections} connections",
                    limit=self._quotas.connections,
                )
                self._push(other, frames.error(problem, {}))
                self._gateway.disconnect(other)
                self._state.remove_connection(other, sub)

    def _check_rate(self, id: str) -> None:
        if self._rate.over(id, self._clock()):
            self._count("FramesThrottled", 1)
            limit = self._quotas.frames_a_second
            raise TooFast(f"more than {limit} frames a second", limit=limit)

    def _check_room(self, streams: int) -> None:
        if streams > frames.MAX_STREAMS:
            raise TooMany(
                f"more than {frames.MAX_STREAMS} subscriptions",
                limit=frames.MAX_STREAMS,
            )

    def _verify(self, token: str) -> Rights:
        try:
            return tokens.verify(token, self._keys.ring(), self._now())
        except tokens.UnknownKey:
            return tokens.verify(token, self._keys.reread(), self._now())

    def _refuse(self, id: str, problem: TailraceError, about: dict[str, Any]) -> None:
        """Answer with an error, and close the connection where that is the rule."""
        self._on_refusal(problem)
        close = isinstance(problem, UnknownConnection | TooFast)
        try:
            if isinstance(problem, Invalid | TooLarge | TooMany):
                close = self._state.count_bad_frame(id) >= MAX_BAD_FRAMES
                self._count("BadFrames", 1)
            elif isinstance(problem, Unauthorized):
                connection = self._state.connection(id)
                close = not connection or connection.rights.exp <= self._now()
        except TailraceError:
            # The tables do not answer; the client is told what it did all the same.
            pass
        told = frames.error(problem, about)
        if "requestId" in about and "n" not in about and self._chats and not close:
            # Whoever sent it does not ask again.
            with contextlib.suppress(Unavailable):
                self._chats().tell(id, about["requestId"], told)
        else:
            self._push(id, told)
        if close:
            with contextlib.suppress(Unavailable):
                self._gateway.disconnect(id)

    def _answer(self, id: str, **frame: Any) -> None:
        self._push(id, frames.encode(frame))

    def _push(self, id: str, frame: str) -> Push:
        return self._gateway.push(id, frame)

    def _now(self) -> int:
        return self._clock() // 1000

    def _expires_at(self) -> int:
        return self._now() + CONNECTION_SECONDS
