"""Watchers: who is connected, with which rights, and what is to be pushed to them.

Pure: values, which the tables and the gateway keep and serve (`ports`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Rights:
    """What a token granted to a connection. `exp`: seconds."""

    sub: str
    exp: int
    read: tuple[str, ...] = ()
    cancel: tuple[str, ...] = ()
    send: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Connection:
    """A connection's row, and the streams that it subscribes to, with their `n`."""

    id: str
    rights: Rights
    bad_frames: int = 0
    streams: Mapping[str, int] = field(default_factory=dict)
    requests: Mapping[str, str] = field(default_factory=dict)
    """The stream of each request of the AI SDK that goes on."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """One subscriber of a stream. Nothing is pushed past `exp` (seconds), nor until
    `slow_until` (ms), which is in the past where it has been slow but once."""

    stream: str
    connection: str
    n: int
    exp: int
    slow_until: int = 0


@dataclass(frozen=True, slots=True)
class Request:
    """A request of the AI SDK's dialect (PROTOCOL.md §3.8): one run, pushed in order.

    What of the run lies before the seq `prefix` is compacted, by which the chunks
    behind it move up by `shift` places. `sent` is the place of the last frame that was
    accepted, or of an earlier one (`dialect.START` is before the first chunk); `seq`
    the key of a record from which on the rest can be read.

    `at` (ms): when a frame was last accepted. `watch`: the number of the message by
    which it is looked after. `repair_at` (ms): until then a repair is on its way.
    `slow_until` (ms): until then it is left to repairs; as a subscription's.
    """

    connection: str
    id: str
    stream: str
    run: str
    exp: int
    prefix: int
    shift: int
    sent: int
    seq: int
    at: int
    watch: int = 0
    repair_at: int = 0
    slow_until: int = 0


TAKEN = "requestId: names a request for another stream"


@dataclass(frozen=True, slots=True)
class Share:
    """A part of a large audience, and what each of it gets, in order.

    `deadline` (ms): no push is begun after it.
    """

    subscriptions: Sequence[Subscription]
    frames: Sequence[str]
    deadline: int
