"""What is asked of the server and kept in mind until it is answered: `sync`,
`subscribe`, `unsubscribe`, `cancel`, `auth`; and whom an answer serves.

Part of the machine; knows nothing of how links come and go. Times are milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from ..errors import TailraceError
from .cursor import Ask, Output, Reader, doubled
from .wire import Frame

ANSWER = 5_000
"""Without an answer, and without anything else, for so long, a connection is dead."""

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
    """A frame that wants an answer."""

    type: str
    stream: str | None
    at: float
    due: float


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
    successor. `out`: the commands of this step, at `now`, with its `chance`."""

    now: float = 0
    chance: float = 0
    out: list[Command] = field(default_factory=list)
    links: list[Link] = field(default_factory=lambda: [Link()])
    sockets: int = 0
    readers: dict[str, Reader] = field(default_factory=dict)
    cancels: dict[str, Cancel] = field(default_factory=dict)
    token: Token | None = None
    fetching: bool = False
    attempt: int = 0
    tried_at: float = -math.inf
    refusals: int = 0
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


# ---- asking --------------------------------------------------------------------------


def ask(s: State, link: Link, type: str, **fields: Any) -> int:
    """Send a frame that wants an answer; return its `n`."""
    link.n += 1
    # A server that is slow with everybody must let somebody in.
    wait = doubled(ANSWER, s.attempt) if link.phase == "syncing" else ANSWER
    link.asked[link.n] = Asked(type, fields.get("stream"), s.now, s.now + wait)
    s.out.append(Send(link.socket, {"type": type, **fields, "n": link.n}))
    return link.n


def sync(s: State, link: Link, *, catching: bool = False) -> None:
    """Ask for everything that is watched. `catching`: after an absence, so that what it
    brings is no repair."""
    streams: dict[str, Any] = {}
    for reader in s.readers.values():
        if reader.paused or (reader.ask and reader.ask.socket == link.socket):
            continue
        reader.catching = reader.catching or catching
        streams.setdefault(reader.stream, reader.position)
    link.synced_at = s.now
    n = ask(s, link, "sync", streams=streams)
    for stream, position in streams.items():
        _mark(s, link, stream, position, n)


def ask_due(s: State) -> None:
    """Ask for everyone whose time to ask has come."""
    if not s.link.is_open:
        return
    for _, one in s.everyone():
        if one.ask or one.paused or one.gap_at > s.now:
            continue
        if isinstance(one, Cancel):
            n = ask(s, s.link, "cancel", stream=one.stream, run=one.run)
            one.ask = Ask(s.link.socket, n)
            continue
        position = one.position
        names = zip(("run", "after"), position or (), strict=False)
        fields = {name: value for name, value in names if value is not None}
        n = ask(s, s.link, "subscribe", stream=one.stream, **fields)
        _mark(s, s.link, one.stream, position, n)


def _mark(s: State, link: Link, stream: str, position: Any, n: int) -> None:
    """Note a question with every reader that its answer will serve."""
    link.streams[stream] = n
    for _, reader in s.readers_of(stream):
        if not reader.paused and reader.position == position:
            reader.ask = Ask(link.socket, n, reader.cursor)
            reader.gap_at = math.inf
            if reader.again_at <= s.now:
                reader.again_at = math.inf


def leave(s: State, link: Link, stream: str) -> None:
    """Stop watching. Frames still on their way are no reason to say it twice."""
    link.streams.pop(stream, None)
    said = any(
        (asked.type, asked.stream) == ("unsubscribe", stream)
        for asked in link.asked.values()
    )
    if link.is_open and not said:
        ask(s, link, "unsubscribe", stream=stream)


def release(
    s: State,
    socket: int,
    n: int | None = None,
    delay: Callable[[int], float] = lambda tries: 0,
) -> None:
    """Let go of a question (all of a socket, without `n`) that will not be answered:
    who waits for it asks again, after the delay for so many tries."""
    for _, one in s.everyone():
        if one.ask and one.ask.socket == socket and n in (None, one.ask.n):
            one.ask = None
            one.gap_at = s.now + delay(one.tries)
