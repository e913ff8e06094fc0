"""How connections come and go (PROTOCOL.md §3.1 and §3.5, rules 8 to 10).

What a link does about each cause in each phase is `TABLE`; what is not in it changes
nothing. Part of the machine. Times are milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from ..errors import TailraceError
from .asks import ANSWER, ask, ask_due, leave, release, sync
from .cursor import backoff, doubled
from .state import Close, Connect, Fail, FetchToken, Link, Phase, Probe, State

Cause = Literal[
    "wanted", "unwanted", "token", "tokenless", "opened", "synced", "lost", "due"
]
Act = Callable[[State, Link], None]

HANDSHAKE = 10_000
LINGER = 60_000
MINUTE = 60_000
STEADY = 10_000
"""A connection that lived this long ends the back-off."""
HURRY = 1_000
"""Between two attempts, however much is wanted."""
REFUSALS = 3


def cause(s: State, why: Cause, link: Link | None = None) -> None:
    """Let a link (the one in use, if none is given) do what the cause asks of it."""
    link = link or s.link
    act = TABLE[link.phase].get(why)
    if act is not None:
        act(s, link)


def connect(s: State, link: Link) -> None:
    token = s.token
    stale = (
        token is not None
        and token.exp
        and s.aws is not None
        and s.now + s.aws.offset > token.exp * 1000 - HANDSHAKE
    )
    _reset(link)
    link.phase, link.due = "token", s.now + HANDSHAKE
    if token is not None and not stale:
        _open(s, link)
    else:
        want_token(s)


def want_token(s: State) -> None:
    """Have a token fetched. One that is too long in coming is asked for again, and is
    welcome all the same."""
    if s.fetching <= s.now:
        s.out.append(FetchToken())
        s.fetching = s.now + HANDSHAKE * (1 + s.chance)


def _open(s: State, link: Link) -> None:
    token = s.token
    if token is None:
        return
    s.sockets += 1
    link.phase, link.socket = "opening", s.sockets
    link.due = s.now + doubled(HANDSHAKE, s.attempt)
    link.exp, link.fresh = token.exp, not token.used
    s.token = replace(token, used=True)
    s.tried_at = s.now
    s.out.append(Connect(link.socket, token.value))


def _greet(s: State, link: Link) -> None:
    """`sync` is the first frame on every new socket."""
    link.phase, link.due = "syncing", float("inf")
    link.heard = s.now
    link.rotate_at = s.now + (100 + 15 * s.chance) * MINUTE
    sync(s, link, catching=link is s.link)
    ask_due(s)


def _settle(s: State, link: Link) -> None:
    """The first `synced`: this link carries the client from now on."""
    link.phase, link.live_at = "live", s.now
    if s.link is not link:
        s.out.append(Close(s.link.socket))
        release(s, s.link.socket)
    s.links = [link]
    s.refusals, s.rejected = 0, False
    refresh_at(s, link, link.exp)
    # What began or ended to be watched since the `sync`.
    for reader in s.readers.values():
        if reader.ask is None and reader.stream not in link.streams:
            reader.gap_at = s.now
    for stream in list(link.streams):
        if not s.readers_of(stream):
            leave(s, link, stream)
    ask_due(s)
    if not s.wanted:
        _linger(s, link)


def retreat(s: State, link: Link) -> None:
    """The link is gone, or given up."""
    if link.phase == "token":
        s.fetching = 0
    if link.socket:
        s.out.append(Close(link.socket))
    s.links = [other for other in s.links if other is not link]
    if s.links:
        s.link.rotate_at = s.now + MINUTE * (0.5 + s.chance)
    else:
        s.links = [Link()]
        if s.wanted:
            if s.now - link.live_at >= STEADY:
                s.attempt = 0
            s.link.phase = "waiting"
            s.link.due = s.now + backoff(s.attempt, s.chance)
            s.attempt += 1
    release(s, link.socket)
    ask_due(s)


def _rejected(s: State, link: Link) -> None:
    """A handshake failed: by the network, or by the server. (One that was only not
    answered tells nothing of the token.)"""
    retreat(s, link)
    if s.link.phase == "waiting":
        s.rejected = s.rejected or link.fresh
        s.out.append(Probe())


def _hurry(s: State, link: Link) -> None:
    due = s.tried_at + HURRY
    if due <= s.now:
        connect(s, link)
    else:
        link.due = min(due, link.due)


def _reopen(s: State, link: Link) -> None:
    s.failure = None
    s.refusals = s.attempt = 0
    connect(s, link)


def _linger(s: State, link: Link) -> None:
    link.due = s.now + LINGER


def _unlinger(s: State, link: Link) -> None:
    link.due = float("inf")


def rest(s: State, link: Link | None = None) -> None:
    """Close everything; nobody wants it."""
    s.out.extend(Close(other.socket) for other in s.links if other.socket)
    s.links = [Link()]


def fatally(s: State, failure: TailraceError) -> None:
    """End everything by this failure."""
    rest(s)
    s.out.extend(Fail(id, failure) for id, _ in s.everyone())
    s.readers.clear()
    s.cancels.clear()
    s.token, s.fetching, s.failure = None, 0, failure
    s.link.phase = "closed"


def refused(s: State, error: TailraceError) -> None:
    """A token was refused: another one is fetched, but not for ever."""
    s.token = None
    s.refusals += 1
    if s.refusals >= REFUSALS:
        fatally(s, error)


def refresh_at(s: State, link: Link, exp: int | None) -> None:
    """Plan the next `auth`, at 80 % of what is left of the token."""
    if exp and s.aws:
        left = exp * 1000 - s.now - s.aws.offset
        link.auth_at = s.now + max(1_000, 0.8 * left)


def _authorize(s: State, link: Link) -> None:
    if s.token is None or link.auth_at > s.now:
        return
    s.token = replace(s.token, used=True)
    ask(s, link, "auth", token=s.token.value)
    link.auth_at = float("inf")


def postpone(s: State, link: Link) -> None:
    """There is no fresh token to be had: try again later."""
    if link.auth_at <= s.now:
        link.auth_at = s.now + ANSWER * (1 + s.chance)


def _reset(link: Link) -> None:
    blank = Link()
    for name in Link.__slots__:
        setattr(link, name, getattr(blank, name))


TABLE: dict[Phase, dict[Cause, Act]] = {
    "idle": {"wanted": connect},
    "token": {"token": _open, "tokenless": retreat, "due": retreat},
    "opening": {"opened": _greet, "lost": _rejected, "due": retreat},
    "syncing": {"synced": _settle, "lost": retreat},
    "live": {
        "wanted": _unlinger,
        "unwanted": _linger,
        "token": _authorize,
        "tokenless": postpone,
        "lost": retreat,
        "due": rest,
    },
    "waiting": {"wanted": _hurry, "unwanted": rest, "due": connect},
    "closed": {"wanted": _reopen},
}
