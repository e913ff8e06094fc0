"""What is asked of the server and kept in mind until it is answered: `sync`,
`subscribe`, `unsubscribe`, `cancel`, `auth`; and whom an answer serves.

Part of the machine; knows nothing of how links come and go. Times are milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from .cursor import Ask, doubled
from .state import Asked, Cancel, Link, Send, State

ANSWER = 5_000
"""Without an answer, and without anything else, for so long, a connection is dead."""


def ask(s: State, link: Link, type: str, **fields: Any) -> int:
    """Send a frame that wants an answer; return its `n`."""
    link.n += 1
    # A server that is slow with everybody must let somebody in.
    wait = doubled(ANSWER, s.attempt) if link.phase == "syncing" else ANSWER
    link.asked[link.n] = Asked(
        type, fields.get("stream"), s.now, s.now + wait, fields.get("streams", ())
    )
    s.out.append(Send(link.socket, {"type": type, **fields, "n": link.n}))
    return link.n


def sync(s: State, link: Link, *, catching: bool = False) -> None:
    """Ask for everything that is watched. `catching`: after an absence, so that what it
    brings is no repair."""
    streams: dict[str, Any] = {}
    for reader in s.readers.values():
        # What its successor has asked is not asked on a connection about to be closed.
        if reader.paused or (reader.ask and reader.ask.socket >= link.socket):
            continue
        if not link.has_room(reader.stream):
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
        if one.gap_at > s.now or not s.link.lets(one):
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
