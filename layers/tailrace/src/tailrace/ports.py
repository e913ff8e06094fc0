"""What the logic asks of the outside: the two tables, the gateway, the queue of
repairs, the job and the fan-out function.

What an adapter has to keep is written here. Those of `LogStore` and `State`, in
DynamoDB and in memory, are held to it by one contract suite.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from .records import Record
from .watchers import Connection, Request, Rights, Share, Subscription

Clock = Callable[[], int]
"""AWS time, in ms."""

Count = Callable[[str, int], None]
"""Adds to what is counted under a name."""


class LogStore(Protocol):
    """The log's table. Every read is consistent. Every call may raise `Unavailable`;
    after a `put` that did, the record may be in, or get in later, or never."""

    def put(self, record: Record) -> Record | None:
        """Insert the record if nothing has its key; else return what has it."""

    def last(self, stream: str, at_most: int | None = None) -> Record | None:
        """Return the record with the greatest key (not above `at_most`), if any."""

    def range(self, stream: str, start: int) -> Iterator[Record]:
        """Yield the records from key `start` on, in order, read page by page."""

    def remove(self, stream: str, seq: int) -> None:
        """Remove a record; nothing happens if it is not there."""


@dataclass(frozen=True, slots=True)
class Lease:
    """Until when (ms) a silent writer of a run is alive; `handed_over`: or until
    somebody claims the run."""

    until: int
    handed_over: bool = False


class State(Protocol):
    """The state's table. Reads are consistent. Every call may raise `Unavailable`.

    `expires_at` (seconds) is when TTL may delete a row.
    """

    def put_connection(self, connection: Connection, expires_at: int) -> None:
        """Store the row of a new connection, findable by its `sub`."""

    def connection(self, id: str) -> Connection | None:
        """Return the connection with its subscriptions, if it has a row."""

    def set_rights(self, id: str, rights: Rights) -> bool:
        """Replace the rights of a connection; False if it has no row."""

    def count_bad_frame(self, id: str) -> int:
        """Count one bad frame of a connection; return how many there are now."""

    def remove_connection(self, id: str, sub: str | None = None) -> None:
        """Remove the connection's row and all that is stored for it. `sub`: by whose
        name it was found, as it may be although its own row is gone."""

    def connections_of(self, sub: str) -> list[str]:
        """Return the ids of the connections of a `sub`, those first whose rows expire
        first; some may be dead."""

    def spend(self, sub: str, minute: int, amount: int, expires_at: int) -> int:
        """Add to what a `sub` has spent in a minute; return the sum. A call that raised
        `Unavailable` may count twice."""

    def subscribe(
        self, subscription: Subscription, expires_at: int
    ) -> Subscription | None:
        """Store a subscription, unless one with a greater `n` is there; return what was
        there. What is known of its being slow stays."""

    def unsubscribe(self, stream: str, connection: str, n: int) -> None:
        """Remove a subscription if its `n` is not greater."""

    def subscribers(self, stream: str) -> Iterable[Subscription | Request]:
        """Return all subscriptions of a stream, and requests for runs of it, read page
        by page."""

    def drop(self, subscription: Subscription) -> None:
        """Remove a subscription if it is still the version given."""

    def mark_slow(self, one: Subscription | Request, until: int) -> None:
        """Set `slow_until` (ms) of a request, or of a subscription if it is still the
        version given; and of all that its connection has besides."""

    def put_request(self, request: Request, expires_at: int) -> Request | None:
        """Store a request, unless the connection has one of that name; return what is
        stored: that may be the very one, by a try whose answer was lost. None if it was
        aborted before it came. `Invalid` if its name stands for a request for another
        stream, which would not be found any more."""

    def abort_request(self, connection: str, id: str, until: int) -> str | None:
        """Note that a request of that name was aborted, should it come only now, until
        then (seconds); return the stream of one that was stored meanwhile. Of a
        connection's, the latest are kept."""

    def request(self, stream: str, connection: str, id: str) -> Request | None:
        """Return a request, if it goes on."""

    def advance(self, request: Request, sent: int, seq: int, at: int) -> None:
        """Note how far a request is, unless it is gone or further already."""

    def claim_watch(self, request: Request, watch: int) -> bool:
        """Replace the number of its watch; False if it is not the one given."""

    def claim_repair(self, request: Request, until: int) -> bool:
        """Note that a repair is on its way until then; False if that was noted of
        another since the request was read."""

    def release_repair(self, request: Request) -> None:
        """Note that none is on its way, but for those since the request was read."""

    def renew_request(self, request: Request, exp: int) -> None:
        """Replace the `exp` of a request, unless it is gone."""

    def remove_request(self, stream: str, connection: str, id: str) -> None:
        """Remove a request."""

    def lease(self, stream: str, run: str, writer: str) -> Lease | None:
        """Return the lease row of a writer, if any."""

    def put_lease(
        self, stream: str, run: str, writer: str, lease: Lease, expires_at: int
    ) -> None:
        """Store the lease row of a writer."""

    def remember_key(self, stream: str, key: str, seq: int, expires_at: int) -> int:
        """Store that a keyed call began at `seq`, unless that is stored already;
        return what is stored."""


@dataclass(frozen=True, slots=True)
class Repair:
    """A request that is to be looked after. `watch`: it is looked after regularly, and
    this is the message of that number. `tries`: so many repairs failed before.
    `frame`: this is all there is to push."""

    stream: str
    connection: str
    request: str
    watch: int | None = None
    tries: int = 0
    frame: str | None = None


class Push(Enum):
    """What became of a push. `DONE` is no proof of delivery."""

    DONE = "done"
    GONE = "gone"
    SLOW = "slow"
    """No answer in time; it may be done all the same."""
    THROTTLED = "throttled"
    FAILED = "failed"


class Repairs(Protocol):
    """The queue by which the websocket function is asked to look after a request."""

    def ask(self, repair: Repair, seconds: int) -> None:
        """Ask for a repair in so many seconds, at most 900; may raise `Unavailable`.
        It comes at least once."""


class Jobs(Protocol):
    """The user's job function."""

    def start(self, event: dict[str, Any]) -> None:
        """Start a job; it comes at least once. May raise `Unavailable`."""


class Gateway(Protocol):
    """`@connections`. Never raises for what one connection did."""

    def push(self, connection: str, frame: str) -> Push:
        """Send one frame to a connection."""

    def disconnect(self, connection: str) -> None:
        """Close a connection; nothing happens if it is gone."""


class Relay(Protocol):
    """Invocations of the fan-out function that push shares."""

    def hand_over(self, share: Share) -> Callable[[], bool]:
        """Have a share pushed by an invocation of its own, from now on.

        What is returned waits until none of its pushes is under way any more; False:
        there were none, and there will be none. What else went wrong, its clients see
        as a gap.
        """
