"""The client as a machine without I/O: what each event and each server frame means.

An event is a method; each returns the commands that are to be carried out. It has no
clock, no chance and no sockets: `now` is milliseconds of any clock that never goes
back, `chance` at random from 0 to 1; `deadline` says when the next `tick` is due.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Literal

from ..errors import (
    Invalid,
    TailraceError,
    TooMany,
    Unauthorized,
    Unavailable,
    from_dict,
)
from ..frames import MAX_STREAMS
from . import cursor as place
from .asks import (
    ANSWER,
    Asked,
    AwsTime,
    Cancel,
    Close,
    Command,
    Fail,
    Link,
    Settle,
    State,
    Tell,
    Token,
    ask_due,
    leave,
    release,
    sync,
)
from .cursor import Cursor, Output, Reader, backoff
from .links import (
    cause,
    connect,
    fatally,
    postpone,
    refresh_at,
    refused,
    retreat,
    want_token,
)
from .wire import Frame

SYNC = 25_000
CANCEL = 30_000
MISSES = 3

Status = Literal["idle", "connecting", "replaying", "live", "offline", "closed"]


class Refused(Unauthorized):
    """Handshakes with fresh tokens were refused, though the server was there."""

    code = "refused"


class Closed(Invalid):
    """The client was closed."""

    code = "closed"


class Machine:
    """Any number of readers of any streams over one connection, or two while rotating.

    Readers and cancels have ids of the caller's making.
    """

    def __init__(self) -> None:
        self._s = State()
        self._on_frame: dict[str, Callable[[Link, Frame], None]] = {
            "slice": self._slice,
            "subscribed": self._subscribed,
            "synced": self._synced,
            "unsubscribed": self._unsubscribed,
            "cancelled": self._cancelled,
            "authorized": self._authorized,
            "error": self._error,
            "gateway": self._gateway,
        }

    # ---- what is so ------------------------------------------------------------------

    @property
    def deadline(self) -> float:
        """When the next `tick` is due."""
        s, link = self._s, self._s.link
        at: list[float] = [one.due for one in s.links]
        at += [wish.due for wish in s.cancels.values()]
        at += [asked.due for one in s.links for asked in one.asked.values()]
        if link.is_open:
            at += [
                one.gap_at
                for _, one in s.everyone()
                if one.ask is None and not one.paused
            ]
        if link.phase == "live":
            if s.readers:
                at.append(link.synced_at + SYNC)
            if len(s.links) == 1:
                at.append(link.rotate_at)
            if not s.fetching:
                at.append(link.auth_at)
        return min(at)

    @property
    def status(self) -> Status:
        """How things stand, for people."""
        s, phase = self._s, self._s.link.phase
        if phase in ("idle", "closed"):
            return "idle" if phase == "idle" else "closed"
        if phase == "waiting" and s.attempt > 1:
            return "offline"
        catching = any(one.ask and one.catching for one in s.readers.values())
        if phase == "syncing" or catching:
            return "replaying"
        return "live" if phase == "live" else "connecting"

    def aws_time(self, now: float) -> float | None:
        """Return AWS time in ms, as the server's answers tell it."""
        return None if self._s.aws is None else now + self._s.aws.offset

    # ---- what the application wants --------------------------------------------------

    def watch(
        self,
        id: str,
        stream: str,
        *,
        after: Cursor | None = None,
        run: str | None = None,
        follow: bool = False,
        now: float,
        chance: float,
    ) -> list[Command]:
        """Begin to read: behind a cursor, or a run by name, or the current one."""
        s = self._begin(now, chance)
        streams = {reader.stream for reader in s.readers.values()} | {stream}
        if len(streams) > MAX_STREAMS:
            error = TooMany(f"at most {MAX_STREAMS} streams", limit=MAX_STREAMS)
            s.out.append(Fail(id, error))
            return s.out
        s.readers[id] = place.watch(
            stream, after=after, run=run, follow=follow, now=s.now
        )
        return self._wanted()

    def unwatch(self, id: str, *, now: float, chance: float) -> list[Command]:
        s = self._begin(now, chance)
        self._forget(id)
        return s.out

    def pause(self, id: str, *, now: float, chance: float) -> list[Command]:
        """The reader has no room: let go what comes."""
        s = self._begin(now, chance)
        if reader := s.readers.get(id):
            reader.paused, reader.held = True, []
        return s.out

    def resume(self, id: str, *, now: float, chance: float) -> list[Command]:
        s = self._begin(now, chance)
        if reader := s.readers.get(id):
            reader.paused, reader.catching, reader.gap_at = False, True, s.now
        ask_due(s)
        return s.out

    def cancel(
        self, id: str, stream: str, run: str, *, now: float, chance: float
    ) -> list[Command]:
        s = self._begin(now, chance)
        s.cancels[id] = Cancel(stream, run, due=s.now + CANCEL, gap_at=s.now)
        return self._wanted()

    def close(self, *, now: float, chance: float) -> list[Command]:
        """End all, for good."""
        s = self._begin(now, chance)
        fatally(s, Closed("the client was closed"))
        return s.out

    # ---- what the shell found --------------------------------------------------------

    def token(
        self, value: str, exp: int | None = None, *, now: float, chance: float
    ) -> list[Command]:
        s = self._begin(now, chance)
        s.fetching = False
        s.token = Token(value, exp)
        for link in list(s.links):
            cause(s, "token", link)
        return s.out

    def tokenless(
        self, fatal: TailraceError | None = None, *, now: float, chance: float
    ) -> list[Command]:
        """There is no token to be had now; nor ever, by a `fatal` error."""
        s = self._begin(now, chance)
        if fatal is not None and s.fetching:
            fatally(s, fatal)
        s.fetching = False
        for link in list(s.links):
            cause(s, "tokenless", link)
        return s.out

    def opened(self, socket: int, *, now: float, chance: float) -> list[Command]:
        s = self._begin(now, chance)
        for link in self._links(socket):
            cause(s, "opened", link)
        return s.out

    def lost(self, socket: int, *, now: float, chance: float) -> list[Command]:
        """A handshake failed, or a socket closed."""
        s = self._begin(now, chance)
        for link in self._links(socket):
            cause(s, "lost", link)
        # What is lost needs no closing.
        s.out = [one for one in s.out if one != Close(socket)]
        return s.out

    def probed(self, reachable: bool, *, now: float, chance: float) -> list[Command]:
        s = self._begin(now, chance)
        # Only where the server was there, and refused, does it tell of the token.
        if reachable and s.link.phase == "waiting":
            if s.link.fresh:
                refused(s, Refused("the handshake was refused"))
            s.token = None
        return s.out

    def frame(
        self, socket: int, frame: Frame, *, now: float, chance: float
    ) -> list[Command]:
        """A frame came, as `wire.decode` gave it."""
        s = self._begin(now, chance)
        for link in self._links(socket):
            if link.is_open:
                link.heard = s.now
                self._on_frame[frame["type"]](link, frame)
                ask_due(s)
        return s.out

    def tick(self, *, now: float, chance: float) -> list[Command]:
        """The deadline has come."""
        s = self._begin(now, chance)
        for link in list(s.links):
            if link.due <= s.now:
                cause(s, "due", link)
            self._overdue(link)
        for id, wish in list(s.cancels.items()):
            if wish.due <= s.now:
                self._end(Fail(id, Unavailable("the cancel was not answered")))
        link = s.link
        if link.phase == "live":
            if link.auth_at <= s.now:
                want_token(s)
            if link.rotate_at <= s.now and len(s.links) == 1:
                successor = Link()
                s.links.append(successor)
                connect(s, successor)
            if s.readers and link.synced_at + SYNC <= s.now:
                sync(s, link)
        ask_due(s)
        return s.out

    # ---- what the server said --------------------------------------------------------

    def _slice(self, link: Link, frame: Frame) -> None:
        s, stream = self._s, frame["stream"]
        readers = s.readers_of(stream)
        if not readers:
            leave(s, link, stream)
        if frame.get("replay"):
            # While slices of an answer come, the answer is on its way.
            _delay(
                link,
                s.now + ANSWER,
                lambda asked: (
                    asked.type == "sync"
                    or (asked.type == "subscribe" and asked.stream == stream)
                ),
            )
        for id, reader in readers:
            self._tell(id, reader, place.receive(reader, frame, s.now))

    def _subscribed(self, link: Link, frame: Frame) -> None:
        _strike(link, frame["n"])
        self._answer(link, frame["stream"], frame["n"], frame)

    def _synced(self, link: Link, frame: Frame) -> None:
        s, n = self._s, frame["n"]
        asked = _strike(link, n)
        if asked is not None:
            self._measure(asked.at, frame["time"])
        for stream, tail in frame["tails"].items():
            self._answer(link, stream, n, tail)
        # A stream that the answer passed over.
        release(s, link.socket, n, lambda tries: backoff(tries, s.chance))
        cause(s, "synced", link)

    def _unsubscribed(self, link: Link, frame: Frame) -> None:
        s, stream, n = self._s, frame["stream"], frame.get("n")
        _strike(link, n)
        if frame.get("reason") == "forbidden":
            error = from_dict({"code": "forbidden", "message": "no longer granted"})
            self._trouble(link, error, stream, n)
        # An unsubscribe of before the last subscribe took nothing away.
        if n is not None and n < link.streams.get(stream, 0):
            return
        for _, reader in s.readers_of(stream):
            reader.ask, reader.gap_at = None, s.now

    def _cancelled(self, link: Link, frame: Frame) -> None:
        _strike(link, frame["n"])
        for id, _ in self._asking(link, frame["n"]):
            self._end(Settle(id, frame.get("reason")))

    def _authorized(self, link: Link, frame: Frame) -> None:
        s = self._s
        _strike(link, frame["n"])
        s.refusals = 0
        refresh_at(s, link, frame["expires_at"])
        sync(s, link)

    def _error(self, link: Link, frame: Frame) -> None:
        s, stream, n = self._s, frame.get("stream"), frame.get("n")
        asked = _strike(link, n)
        facts = {k: v for k, v in frame.items() if k not in ("type", "stream", "n")}
        error = from_dict(facts)
        retryable = bool(frame.get("retryable"))
        if asked is not None and asked.type == "auth":
            # The old token may still be good: it is the server that closes.
            s.token = None
            s.refusals += 1
            if s.refusals < MISSES:
                link.auth_at = s.now
                postpone(s, link)
        elif isinstance(error, Unauthorized):
            retreat(s, link)
            refused(s, error)
        elif frame["code"] == "unknown_connection" or (
            retryable
            and link.phase == "syncing"
            and asked is not None
            and asked.type == "sync"
        ):
            retreat(s, link)
        else:
            if asked is not None and asked.type == "cancel":
                stream = None  # it says nothing of those who read
            self._trouble(link, error, stream, n, retryable=retryable)

    def _gateway(self, link: Link, frame: Frame) -> None:
        # It does not say which frame it is about: all are asked again, soon, not all at
        # once.
        soon = self._s.now + ANSWER * (0.1 + 0.2 * self._s.chance)
        _delay(link, soon, lambda asked: asked.due > soon)

    # ---- what these have in common ---------------------------------------------------

    def _begin(self, now: float, chance: float) -> State:
        s = self._s
        s.now, s.chance, s.out = max(s.now, now), chance, []
        return s

    def _wanted(self) -> list[Command]:
        s = self._s
        if isinstance(s.failure, Closed):
            fatally(s, s.failure)
        else:
            cause(s, "wanted")
        ask_due(s)
        return s.out

    def _links(self, socket: int) -> list[Link]:
        return [link for link in self._s.links if link.socket == socket]

    def _asking(
        self, link: Link, n: int | None
    ) -> Iterable[tuple[str, Reader | Cancel]]:
        """Return those who wait for the answer to a question."""
        return [
            (id, one)
            for id, one in self._s.everyone()
            if one.ask and (one.ask.socket, one.ask.n) == (link.socket, n)
        ]

    def _answer(self, link: Link, stream: str, n: int, tail: Frame) -> None:
        """Give each reader of a stream a tail: the answer to its ask, or to somebody
        else's."""
        s = self._s
        if problem := tail.get("error"):
            retryable = bool(problem.get("retryable"))
            self._trouble(link, from_dict(problem), stream, n, retryable=retryable)
            return
        readers = s.readers_of(stream)
        if not readers:
            leave(s, link, stream)
        for id, reader in readers:
            asked = reader.ask
            if asked and (asked.socket, asked.n) == (link.socket, n):
                outputs = place.answered(reader, tail, s.now, s.chance)
                self._tell(id, reader, outputs)
            else:
                place.noted(reader, tail, s.now)

    def _tell(self, id: str, reader: Reader, outputs: list[Output]) -> None:
        self._s.out.extend(Tell(id, output) for output in outputs)
        if reader.done:
            self._forget(id)

    def _trouble(
        self,
        link: Link,
        error: TailraceError,
        stream: str | None,
        n: int | None,
        *,
        retryable: bool = False,
    ) -> None:
        """Who is concerned by an error asks again later, or ends."""
        s = self._s
        concerned = self._asking(link, n)
        if retryable:
            for _, one in concerned:
                if stream in (None, one.stream):
                    one.ask = None
                    one.tries += 1
                    one.gap_at = s.now + backoff(one.tries, s.chance)
            return
        for id, one in concerned if stream is None else s.readers_of(stream):
            if isinstance(one, Reader):
                link.streams.pop(one.stream, None)  # the server subscribed nobody
            self._end(Fail(id, error))

    def _end(self, command: Fail | Settle) -> None:
        self._s.out.append(command)
        self._forget(command.id)

    def _forget(self, id: str) -> None:
        s = self._s
        reader = s.readers.pop(id, None)
        s.cancels.pop(id, None)
        if reader is not None and not s.readers_of(reader.stream):
            for link in s.links:
                if reader.stream in link.streams:
                    leave(s, link, reader.stream)
        if not s.wanted:
            cause(s, "unwanted")

    def _overdue(self, link: Link) -> None:
        """Give up on questions whose time is over; on the whole link, if it is
        silent."""
        s = self._s
        for n, asked in list(link.asked.items()):
            if asked.due > s.now:
                continue
            misses = link.misses + 1
            if link.heard <= asked.at or misses >= MISSES:
                retreat(s, link)
                return
            _strike(link, n)
            link.misses = misses
            release(s, link.socket, n)
            if asked.type == "sync":
                sync(s, link)
            if asked.type == "auth":
                link.auth_at = s.now

    def _measure(self, asked_at: float, time: float) -> None:
        """Learn AWS time from an answer: the quickest is the best, until one
        contradicts it."""
        s = self._s
        trip = s.now - asked_at
        offset = time - (asked_at + s.now) / 2
        if s.aws is None or trip <= s.aws.trip or abs(offset - s.aws.offset) > trip:
            s.aws = AwsTime(offset, trip)


def _strike(link: Link, n: int | None) -> Asked | None:
    """Take a question off the list: it is answered."""
    link.misses = 0
    return None if n is None else link.asked.pop(n, None)


def _delay(link: Link, due: float, which: Callable[[Asked], bool]) -> None:
    for n, asked in link.asked.items():
        if which(asked):
            link.asked[n] = replace(asked, due=due)
