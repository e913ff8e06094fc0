"""The delivery: pushes records that are in the log to whoever subscribes to them.

It may drop, repeat and reorder; the consumer's cursor repairs it. So one client never
fails the others, nor the caller: what could not be pushed in time is dropped. Requests
of the AI SDK, which cannot repair anything, are the courier's. An audience that is more
than one invocation's work is handed over, share by share.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, Protocol

from .audience import PUSHES_PER_SECOND, SHARE, window
from .errors import TailraceError, Unavailable
from .ports import Clock, Count, Gateway, Push, Relay
from .pushing import Pusher
from .records import Record
from .slices import merge
from .watchers import Request, Share, Subscription

if TYPE_CHECKING:
    from .courier import Courier

PASS_OVER_MS = 10_000
"""How long a connection is not pushed to that was slow twice, the second time within as
long of the first. It sees the gap with the next slice, or with its next sync; and is
pushed to again once it has taken an answer."""

ERRANDS_MS = 500
"""For how long all requests of one connection may hold up a batch: they take a push for
each chunk, one after the other."""

RunAll = Callable[[Sequence[Callable[[], None]]], None]
"""Runs tasks, side by side if it can; returns when all have returned."""

Queue = list[tuple[Subscription, Sequence[str]]]
"""What one connection gets: the frames of each stream that it subscribes to."""

Errands = list[tuple[Request, Sequence[Record]]]
"""The requests of one connection, each with the new records of its stream."""


class Subscribers(Protocol):
    """What a delivery asks of the state's table (`ports.State`)."""

    def subscribers(self, stream: str) -> Iterable[Subscription | Request]: ...

    def drop(self, subscription: Subscription) -> None: ...

    def mark_slow(self, one: Subscription | Request, until: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Delivered:
    """What became of a batch: the streams whose subscribers could not be looked up; and
    until when (ms) large audiences are to be left alone."""

    failed: set[str]
    rest: int = 0


@dataclass(slots=True)
class _Audience:
    """Of one stream: whom the delivery serves itself, the shares that were handed over,
    each with what waits for its end, and how many pushes those are."""

    own: list[Subscription | Request] = field(default_factory=list)
    shares: list[tuple[Share, Callable[[], bool]]] = field(default_factory=list)
    pushes: int = 0


class Delivery:
    """Delivers batches of records. Nothing is kept between two batches.

    `courier` is called where there is a request; without it, requests are passed over.
    `relay` takes audiences of more than `share` subscriptions, which then are pushed to
    `rate` times a second at most; without it, all are served here. `net`: somebody else
    pushes to subscriptions, and this is only the net behind: they are told where runs
    begin and end. `on_refusal` is told, on some thread, why subscribers could not be
    looked up.
    """

    def __init__(
        self,
        state: Subscribers,
        gateway: Gateway,
        clock: Clock,
        run_all: RunAll,
        *,
        courier: Callable[[], Courier] | None = None,
        relay: Relay | None = None,
        share: int = SHARE,
        rate: int = PUSHES_PER_SECOND,
        net: bool = False,
        count: Count = lambda name, value: None,
        on_refusal: Callable[[TailraceError], None] = lambda refusal: None,
    ) -> None:
        self._state = state
        self._clock = clock
        self._pusher = Pusher(gateway, clock, count)
        self._run_all = run_all
        self._courier = courier
        self._relay = relay
        self._share = share
        self._rate = rate
        self._net = net
        self._count = count
        self._on_refusal = on_refusal

    def deliver(
        self, streams: Mapping[str, Sequence[Record]], deadline: int
    ) -> Delivered:
        """Push each stream's records, given in order.

        `deadline` (ms): no push is begun after it, and what is left is dropped.
        """
        began = self._clock()
        shown = {stream: self._shown(records) for stream, records in streams.items()}
        frames = {stream: _Frames(records) for stream, records in shown.items()}
        audiences = {stream: _Audience() for stream in streams}
        failed: set[str] = set()

        def look_up(stream: str) -> None:
            try:
                self._look_up(stream, audiences[stream], frames[stream], deadline)
            except Unavailable as refusal:
                self._on_refusal(refusal)
                failed.add(stream)
                audiences[stream].own = []

        self._run_all([partial(look_up, stream) for stream in streams])
        queues: dict[str, Queue] = defaultdict(list)
        errands: dict[str, Errands] = defaultdict(list)
        now = self._clock()
        for stream, audience in audiences.items():
            for one in audience.own:
                if _over_at(one) <= now:
                    continue
                if isinstance(one, Request):
                    errands[one.connection].append((one, streams[stream]))
                # A net shows nothing of most batches, however many watch.
                elif frames[stream].texts and not self._slow(one, frames[stream], now):
                    queues[one.connection].append((one, frames[stream].texts))
        # Side by side across connections, one after the other within each: two
        # posts under way to one connection have no order.
        self._run_all(
            [
                partial(
                    self._serve, queues.get(one, []), errands.get(one, []), deadline
                )
                for one in {**queues, **errands}
            ]
        )
        rest = 0
        for audience in audiences.values():
            for share, done in audience.shares:
                if not done():
                    self._count("SharesRefused", 1)
                    self.push(share)
            rest = max(rest, began + window(audience.pushes, self._rate))
        return Delivered(failed, rest)

    def push(self, share: Share) -> None:
        """Push a share."""
        now = self._clock()
        self._run_all(
            [
                partial(self._serve, [(one, share.frames)], [], share.deadline)
                for one in share.subscriptions
                if _over_at(one) > now
            ]
        )

    def _shown(self, records: Sequence[Record]) -> Sequence[Record]:
        """Return what subscriptions are shown of a stream's records."""
        if self._net:
            return [one for one in records if one.kind in ("open", "end")]
        return records

    def _look_up(
        self, stream: str, audience: _Audience, frames: _Frames, deadline: int
    ) -> None:
        """Read who subscribes to a stream; hand a large audience over meanwhile."""
        found = iter(self._state.subscribers(stream))
        if self._relay is None or not frames.texts:
            audience.own.extend(found)
            return
        first = list(islice(found, self._share + 1))
        if len(first) <= self._share:
            audience.own.extend(first)
            return
        now = self._clock()
        subscriptions = (
            one
            for one in _keep_requests(chain(first, found), audience.own)
            if not self._slow(one, frames, now)
        )
        while some := list(islice(subscriptions, self._share)):
            share = Share(some, frames.texts, deadline)
            audience.shares.append((share, self._relay.hand_over(share)))
            audience.pushes += len(some) * len(frames.texts)
            self._count("SharesHandedOver", 1)

    def _serve(self, queue: Queue, errands: Errands, deadline: int) -> None:
        """Push what is new to one connection."""
        outcome = self._drain(queue, deadline) if queue else Push.DONE
        if not errands or self._courier is None:
            return
        courier = self._courier()
        # What takes longer is a repair's, which holds up nobody.
        deadline = min(deadline, self._clock() + ERRANDS_MS)
        for request, records in errands:
            passed_over = request.slow_until > self._clock()
            if passed_over or outcome is not Push.DONE:
                courier.repair(request)  # a dead connection costs no more time
            else:
                outcome = courier.bring(request, records, deadline).outcome
            if outcome is Push.SLOW and not passed_over:
                self._note_slow(request)

    def _drain(self, queue: Queue, deadline: int) -> Push:
        """Push one connection's frames in order, up to the first that fails."""
        connection = queue[0][0].connection
        # Of one token, so of one `exp`; or of two, while an `auth` is under way.
        deadline = min(deadline, *(_over_at(one) for one, _ in queue))
        frames = [frame for _, those in queue for frame in those]
        pushed = 0
        outcome = Push.DONE
        while outcome is Push.DONE and pushed < len(frames):
            outcome = self._pusher.push(connection, frames[pushed], deadline)
            if outcome is Push.DONE:
                pushed += 1
        self._count("SlicesPushed", pushed)
        if outcome is Push.GONE:
            self._count("ConnectionsGone", 1)
        else:
            self._count("SlicesDropped", len(frames) - pushed)
        if outcome is Push.SLOW:
            self._count("ConnectionsSlow", 1)
        if outcome is Push.SLOW:
            self._note_slow(max((one for one, _ in queue), key=lambda s: s.slow_until))
        elif outcome is Push.GONE:
            for subscription, _ in queue:
                with contextlib.suppress(Unavailable):
                    self._state.drop(subscription)
        return outcome

    def _slow(self, one: Subscription, frames: _Frames, now: int) -> bool:
        """Whether it is passed over: to wait for a slow connection would hold up all
        others of its streams."""
        if one.slow_until <= now:
            return False
        self._count("SlicesDropped", len(frames.texts))
        return True

    def _note_slow(self, one: Subscription | Request) -> None:
        now = self._clock()
        # Once may be a hiccup of the network, and what was pushed arrives late.
        again = one.slow_until > now - PASS_OVER_MS
        # If it is not noted, somebody pushes to it again, as vainly.
        with contextlib.suppress(Unavailable):
            self._state.mark_slow(one, now + PASS_OVER_MS if again else now)


def _over_at(one: Subscription | Request) -> int:
    """Return from when on (ms) nothing is pushed to it any more."""
    return one.exp * 1000


class _Frames:
    """The frames of records, made when there is somebody to get them."""

    def __init__(self, records: Sequence[Record]) -> None:
        self._records = records
        self._texts: list[str] | None = None

    @property
    def texts(self) -> list[str]:
        if self._texts is None:
            self._texts = [piece.frame() for piece in merge(self._records)]
        return self._texts


def _keep_requests(
    found: Iterable[Subscription | Request], kept: list[Subscription | Request]
) -> Iterator[Subscription]:
    """Yield the subscriptions; requests, which need the courier, are kept."""
    for one in found:
        if isinstance(one, Request):
            kept.append(one)
        else:
            yield one
