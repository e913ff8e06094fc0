"""What the machine keeps, and what it commands. Times are milliseconds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from ..errors import TailraceError
from ..frames import MAX_STREAMS
from .cursor import Ask, Output, Reader
from .wire import Frame

Phase = Literal["idle", "token", "opening", "syncing", "live", "waiting", "closed"]


# ---- commands ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FetchToken:
    """Fetch a token; answer with `token` or `tokenless`."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A handshake failed: answer with `probed` whether the server was there."""


@dataclass(frozen=True, slots=True)
class Connect:
    socket: int
    token: str


@dataclass(frozen=True, slots=True)
class Close:
    socket: int


@dataclass(frozen=True, slots=True)
class Send:
    socket: int
    frame: Frame


@dataclass(frozen=True, slots=True)
class Tell:
    """Something for a reader."""

    id: str
    output: Output


@dataclass(frozen=True, slots=True)
class Fail:
    """A reader or a cancel ends with an error."""

    id: str
    error: TailraceError


@dataclass(frozen=True, slots=True)
class Settle:
    """A cancel is answered: how the run ended, or None if that is not known."""

    id: str
    reason: str | None


Command = FetchToken | Probe | Connect | Close | Send | Tell | Fail | Settle


# ---- state ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Asked:
    """A frame that wants an answer. `streams`: all that a `sync` names."""

    type: str
    stream: str | None
    at: float
    due: float
    streams: Iterable[str] = ()


@dataclass(slots=True)
class Cancel:
    """A wish to cancel a run; it asks as a reader does, until it is answered or due."""

    stream: str
    run: str
    due: float
    gap_at: float
    ask: Ask | None = None
    tries: int = 0
    paused: bool = False


@dataclass(slots=True)
class Link:
    """A connection, or one in the making.

    `due`: when its phase ends by itself. `n`: of the last frame sent. `heard`: when the
    last frame came. `asked`: what is unanswered, by `n`. `misses`: how many questions
    in a row stayed so. `streams`: what is subscribed here, with the `n` that did it.
    `auth_at`: when to fetch a fresh token. `exp` (seconds): of its token, which had
    never been used before if `fresh`.
    """

    phase: Phase = "idle"
    socket: int = 0
    due: float = math.inf
    n: int = 0
    heard: float = 0
    asked: dict[int, Asked] = field(default_factory=dict)
    misses: int = 0
    streams: dict[str, int] = field(default_factory=dict)
    synced_at: float = 0
    live_at: float = math.inf
    rotate_at: float = math.inf
    auth_at: float = math.inf
    exp: int | None = None
    fresh: bool = False

    @property
    def is_open(self) -> bool:
        return self.phase in ("live", "syncing")

    def has_room(self, stream: str) -> bool:
        """Tell whether the server is sure to have room for a stream: what it has not
        answered may be handled in any order."""
        if stream in self.streams:
            return True
        counted = {stream, *self.streams}
        for asked in self.asked.values():
            counted.update(asked.streams, [asked.stream] if asked.stream else ())
        return len(counted) <= MAX_STREAMS

    def lets(self, one: Reader | Cancel) -> bool:
        """Tell whether one has to wait for nothing but its time."""
        if one.ask or one.paused:
            return False
        return isinstance(one, Cancel) or self.has_room(one.stream)


@dataclass(frozen=True, slots=True)
class Token:
    value: str
    exp: int | None
    used: bool = False


@dataclass(frozen=True, slots=True)
class AwsTime:
    """What to add to `now` for AWS time, as learnt from an answer that took `trip`."""

    offset: float
    trip: float


@dataclass(slots=True)
class State:
    """All that the machine knows. `links`: the one in use, and while rotating its
    successor. `out`: the commands of this step, at `now`, with its `chance`.
    `fetching`: until when a token that is being fetched is waited for; or 0.
    `rejected`: a handshake with a fresh token failed, nobody knows yet why."""

    now: float = 0
    chance: float = 0
    out: list[Command] = field(default_factory=list)
    links: list[Link] = field(default_factory=lambda: [Link()])
    sockets: int = 0
    readers: dict[str, Reader] = field(default_factory=dict)
    cancels: dict[str, Cancel] = field(default_factory=dict)
    token: Token | None = None
    fetching: float = 0
    attempt: int = 0
    tried_at: float = -math.inf
    refusals: int = 0
    rejected: bool = False
    aws: AwsTime | None = None
    failure: TailraceError | None = None

    @property
    def link(self) -> Link:
        """The connection in use."""
        return self.links[0]

    def everyone(self) -> Iterator[tuple[str, Reader | Cancel]]:
        """Yield all who want something."""
        yield from list(self.readers.items())
        yield from list(self.cancels.items())

    @property
    def wanted(self) -> bool:
        return bool(self.readers or self.cancels)

    def readers_of(self, stream: str) -> list[tuple[str, Reader]]:
        return [(id, one) for id, one in self.readers.items() if one.stream == stream]
