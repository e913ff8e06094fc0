"""The client as a machine without I/O: what each event and each server frame means.

An event is a method; each returns the commands that are to be carried out. It has no
clock, no chance and no sockets: `now` is milliseconds of any clock that never goes
back, `chance` at random from 0 to 1; `deadline` says when the next `tick` is due.
"""

from __future__ import annotations

from typing import Literal

from ..errors import (
    Invalid,
    TailraceError,
    TooMany,
    Unauthorized,
    Unavailable,
)
from ..frames import MAX_STREAMS
from . import cursor as place
from .answers import FRAMES, end, forget, overdue
from .asks import ask_due, sync
from .cursor import Cursor
from .links import (
    cause,
    connect,
    fatally,
    refused,
    want_token,
)
from .state import Cancel, Close, Command, Fail, Link, State, Token
from .wire import Frame

SYNC = 25_000
CANCEL = 30_000

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

    # ---- what is so ------------------------------------------------------------------

    @property
    def deadline(self) -> float:
        """When the next `tick` is due."""
        s, link = self._s, self._s.link
        at: list[float] = [one.due for one in s.links]
        at += [wish.due for wish in s.cancels.values()]
        at += [asked.due for one in s.links for asked in one.asked.values()]
        if link.is_open:
            at += [one.gap_at for _, one in s.everyone() if link.lets(one)]
        if link.phase == "live":
            if s.readers:
                at.append(link.synced_at + SYNC)
            if len(s.links) == 1:
                at.append(link.rotate_at)
            at.append(max(link.auth_at, s.fetching))
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
        forget(s, id)
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
        s.fetching = 0
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
        s.fetching = 0
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
            if s.rejected:
                refused(s, Refused("the handshake was refused"))
            s.rejected, s.token = False, None
        return s.out

    def frame(
        self, socket: int, frame: Frame, *, now: float, chance: float
    ) -> list[Command]:
        """A frame came, as `wire.decode` gave it."""
        s = self._begin(now, chance)
        for link in self._links(socket):
            if link.is_open:
                link.heard = s.now
                FRAMES[frame["type"]](s, link, frame)
                ask_due(s)
        return s.out

    def tick(self, *, now: float, chance: float) -> list[Command]:
        """The deadline has come."""
        s = self._begin(now, chance)
        for link in list(s.links):
            if link.due <= s.now:
                cause(s, "due", link)
            overdue(s, link)
        for id, wish in list(s.cancels.items()):
            if wish.due <= s.now:
                end(s, Fail(id, Unavailable("the cancel was not answered")))
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
