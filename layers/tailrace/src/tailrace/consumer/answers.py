"""What the server said: what each of its frames changes, and what an answer that never
comes does. Part of the machine. Times are milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ..errors import TailraceError, TooMany, Unauthorized, from_dict
from . import cursor as place
from .asks import ANSWER, leave, release, sync
from .cursor import Output, Reader, backoff
from .links import REFUSALS, cause, postpone, refresh_at, refused, retreat
from .state import Asked, AwsTime, Cancel, Fail, Link, Settle, State, Tell
from .wire import GATEWAY, Frame

MISSES = 3


def _slice(s: State, link: Link, frame: Frame) -> None:
    stream = frame["stream"]
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
        _tell(s, id, reader, place.receive(reader, frame, s.now))


def _subscribed(s: State, link: Link, frame: Frame) -> None:
    _strike(link, frame["n"])
    _answer(s, link, frame["stream"], frame["n"], frame)


def _synced(s: State, link: Link, frame: Frame) -> None:
    n = frame["n"]
    asked = _strike(link, n)
    if asked is not None:
        _measure(s, asked.at, frame["time"])
    for stream, tail in frame["tails"].items():
        _answer(s, link, stream, n, tail)
    # A stream that the answer passed over.
    release(s, link.socket, n, lambda tries: backoff(tries, s.chance))
    cause(s, "synced", link)


def _unsubscribed(s: State, link: Link, frame: Frame) -> None:
    stream, n = frame["stream"], frame.get("n")
    _strike(link, n)
    if frame.get("reason") == "forbidden":
        error = from_dict({"code": "forbidden", "message": "not granted"})
        _trouble(s, link, error, stream, n)
    # An unsubscribe of before the last subscribe took nothing away.
    if n is not None and n < link.streams.get(stream, 0):
        return
    for _, reader in s.readers_of(stream):
        reader.ask, reader.gap_at = None, s.now


def _cancelled(s: State, link: Link, frame: Frame) -> None:
    _strike(link, frame["n"])
    for id, _ in _asking(s, link, frame["n"]):
        end(s, Settle(id, frame.get("reason")))


def _authorized(s: State, link: Link, frame: Frame) -> None:
    _strike(link, frame["n"])
    s.refusals = 0
    refresh_at(s, link, frame["expires_at"])
    sync(s, link)


def _error(s: State, link: Link, frame: Frame) -> None:
    stream, n = frame.get("stream"), frame.get("n")
    asked = _strike(link, n)
    facts = {k: v for k, v in frame.items() if k not in ("type", "stream", "n")}
    error = from_dict(facts)
    # Where the server counts what was left already, there will be room.
    full = asked is not None and isinstance(error, TooMany)
    retryable = full or bool(frame.get("retryable"))
    if asked is not None and asked.type == "unsubscribe" and retryable:
        link.asked[frame["n"]] = asked  # it is asked again when its time is over
    elif asked is not None and asked.type == "auth":
        # The old token may still be good: it is the server that closes.
        s.token = None
        # What may be repeated says nothing of the new one.
        s.refusals += not retryable
        if retryable or s.refusals < REFUSALS:
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
        if asked is None or asked.type != "subscribe":
            # It says nothing of those who read; nor what was given up, and asked again.
            stream = None
        _trouble(s, link, error, stream, n, retryable=retryable)


def _gateway(s: State, link: Link, frame: Frame) -> None:
    # It does not say which frame it is about: all are asked again, soon, not all at
    # once.
    soon = s.now + ANSWER * (0.1 + 0.2 * s.chance)
    _delay(link, soon, lambda asked: asked.due > soon)


def _asking(s: State, link: Link, n: int | None) -> list[tuple[str, Reader | Cancel]]:
    """Return those who wait for the answer to a question."""
    return [
        (id, one)
        for id, one in s.everyone()
        if one.ask and (one.ask.socket, one.ask.n) == (link.socket, n)
    ]


def _answer(s: State, link: Link, stream: str, n: int, tail: Frame) -> None:
    """Give each reader of a stream a tail: the answer to its ask, or to somebody
    else's."""
    if problem := tail.get("error"):
        retryable = bool(problem.get("retryable"))
        _trouble(s, link, from_dict(problem), stream, n, retryable=retryable)
        return
    readers = s.readers_of(stream)
    if not readers:
        leave(s, link, stream)
    for id, reader in readers:
        asked = reader.ask
        if asked and (asked.socket, asked.n) == (link.socket, n):
            outputs = place.answered(reader, tail, s.now, s.chance)
            _tell(s, id, reader, outputs)
        else:
            place.noted(reader, tail, s.now)


def _tell(s: State, id: str, reader: Reader, outputs: list[Output]) -> None:
    s.out.extend(Tell(id, output) for output in outputs)
    if reader.done:
        forget(s, id)


def _trouble(
    s: State,
    link: Link,
    error: TailraceError,
    stream: str | None,
    n: int | None,
    *,
    retryable: bool = False,
) -> None:
    """Who is concerned by an error asks again later, or ends."""
    concerned = _asking(s, link, n)
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
        end(s, Fail(id, error))


def end(s: State, command: Fail | Settle) -> None:
    s.out.append(command)
    forget(s, command.id)


def forget(s: State, id: str) -> None:
    reader = s.readers.pop(id, None)
    s.cancels.pop(id, None)
    if reader is not None and not s.readers_of(reader.stream):
        for link in s.links:
            if reader.stream in link.streams:
                leave(s, link, reader.stream)
    if not s.wanted:
        cause(s, "unwanted")


def overdue(s: State, link: Link) -> None:
    """Give up on questions whose time is over; on the whole link, if it is
    silent."""
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
        stream = asked.stream if asked.type == "unsubscribe" else None
        if stream is not None and not s.readers_of(stream):
            leave(s, link, stream)


def _measure(s: State, asked_at: float, time: float) -> None:
    """Learn AWS time from an answer: the quickest is the best, until one
    contradicts it."""
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


FRAMES: dict[str, Callable[[State, Link, Frame], None]] = {
    "slice": _slice,
    "subscribed": _subscribed,
    "synced": _synced,
    "unsubscribed": _unsubscribed,
    "cancelled": _cancelled,
    "authorized": _authorized,
    "error": _error,
    GATEWAY: _gateway,
}
"""What each frame means on a link that is open."""
