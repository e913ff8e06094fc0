"""The two tables as a process sees them over the network.

Below is one truth, the memory adapters; above it, calls take time and go wrong. Every
read is consistent, as the adapters promise: what was applied before the read began is
seen. A mutant lies about that.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from tailrace.errors import Unavailable
from tailrace.ports import Lease
from tailrace.records import Record
from tailrace.watchers import Connection, Request, Rights, Subscription

if TYPE_CHECKING:
    from .world import World

T = TypeVar("T")
_PAGE = 6
# A process that stood still before it sent: AWS takes no request that was signed
# earlier than this (ms). One that stood still in a call gives it up.
_SIGNATURE = 900_000
_GIVE_UP = 10_000


def key(row: Subscription | Request) -> str:
    """Return under what a stream's row is found, and in which order."""
    return row.connection + (f"#{row.id}" if isinstance(row, Request) else "")


class Log:
    """A `LogStore`."""

    def __init__(self, world: World) -> None:
        self._world = world

    def put(self, record: Record) -> Record | None:
        world = self._world
        began = world.kernel.now
        world.network("put")
        if world.kernel.now - began > _SIGNATURE:
            raise Unavailable("the signature has expired")
        faults = world.faults
        if faults.hit("put-never"):
            world.network("lost")
            raise Unavailable("the put was lost")
        if faults.hit("put-late"):
            delay = world.kernel.dice("put-late").choice([5, 60, 900, 9_000])
            world.kernel.after(delay, self._arrive, record, began)
            world.network("lost")
            raise Unavailable("the put is late")
        winner = world.apply(record)
        if faults.hit("put-twice"):
            world.network("put")
            winner = world.apply(record)
        if faults.hit("put-lost"):
            world.network("lost")
            raise Unavailable("the answer was lost")
        world.network("put")
        if world.kernel.now - began > _GIVE_UP:
            raise Unavailable("the process stood still")
        return winner

    def _arrive(self, record: Record, sent_at: int) -> None:
        """A late put."""
        if self._world.kernel.now - sent_at <= _SIGNATURE:
            with contextlib.suppress(Unavailable):
                self._world.apply(record)

    def last(self, stream: str, at_most: int | None = None) -> Record | None:
        began = self._read()
        found = self._world.log.last(stream, at_most)
        self._world.network("read")
        if self._world.kernel.now - began > _GIVE_UP:
            raise Unavailable("the process stood still")
        return found

    def range(self, stream: str, start: int) -> Iterator[Record]:
        while True:
            self._read()
            page = []
            for record in self._world.log.range(stream, start):
                page.append(record)
                if len(page) == _PAGE:
                    break
            yield from page
            if len(page) < _PAGE:
                return
            start = page[-1].seq + 1

    def remove(self, stream: str, seq: int) -> None:
        self._read()
        self._world.remove(stream, seq)

    def _read(self) -> int:
        """Let a request travel; return when it was sent."""
        began = self._world.kernel.now
        self._world.network("read")
        if self._world.faults.hit("read-fails"):
            raise Unavailable("the read was lost")
        if self._world.kernel.now - began > _GIVE_UP:
            raise Unavailable("the process stood still")
        return began


class State:
    """A `State`."""

    def __init__(self, world: World) -> None:
        self._world = world

    def put_connection(self, connection: Connection, expires_at: int) -> None:
        self._call(
            lambda: self._world.state.put_connection(connection, expires_at),
            ("connection", connection.id),
            expires_at,
        )

    def connection(self, id: str) -> Connection | None:
        return self._call(lambda: self._world.state.connection(id))

    def set_rights(self, id: str, rights: Rights) -> bool:
        return self._call(lambda: self._world.state.set_rights(id, rights))

    def count_bad_frame(self, id: str) -> int:
        return self._call(lambda: self._world.state.count_bad_frame(id))

    def remove_connection(self, id: str, sub: str | None = None) -> None:
        self._call(lambda: self._world.state.remove_connection(id, sub))

    def connections_of(self, sub: str) -> list[str]:
        return self._call(lambda: self._world.state.connections_of(sub))

    def spend(self, sub: str, minute: int, amount: int, expires_at: int) -> int:
        return self._call(
            lambda: self._world.state.spend(sub, minute, amount, expires_at)
        )

    def subscribe(
        self, subscription: Subscription, expires_at: int
    ) -> Subscription | None:
        return self._call(lambda: self._world.subscribe(subscription, expires_at))

    def unsubscribe(self, stream: str, connection: str, n: int) -> None:
        self._call(lambda: self._world.unsubscribe(stream, connection, n))

    def subscribers(self, stream: str) -> Iterator[Subscription | Request]:
        size = 2 * self._world.share
        page: list[Subscription | Request] = []
        while True:
            after = key(page[-1]) if page else ""
            try:
                page = self._call(partial(self._world.subscribers, stream, after, size))
            except Unavailable:
                self._world.observe("unanswered", stream)
                raise
            yield from page
            if len(page) < size:
                return

    def drop(self, subscription: Subscription) -> None:
        self._call(lambda: self._world.drop(subscription))

    def mark_slow(self, one: Subscription | Request, until: int) -> None:
        self._call(lambda: self._world.state.mark_slow(one, until))

    def put_request(self, request: Request, expires_at: int) -> Request | None:
        return self._call(lambda: self._world.state.put_request(request, expires_at))

    def abort_request(self, connection: str, id: str, until: int) -> str | None:
        return self._call(
            lambda: self._world.state.abort_request(connection, id, until)
        )

    def request(self, stream: str, connection: str, id: str) -> Request | None:
        return self._call(lambda: self._world.state.request(stream, connection, id))

    def advance(self, request: Request, sent: int, seq: int, at: int) -> None:
        self._call(lambda: self._world.state.advance(request, sent, seq, at))

    def claim_watch(self, request: Request, watch: int) -> bool:
        return self._call(lambda: self._world.state.claim_watch(request, watch))

    def claim_repair(self, request: Request, until: int) -> bool:
        return self._call(lambda: self._world.state.claim_repair(request, until))

    def release_repair(self, request: Request) -> None:
        self._call(lambda: self._world.state.release_repair(request))

    def renew_request(self, request: Request, exp: int) -> None:
        self._call(lambda: self._world.state.renew_request(request, exp))

    def remove_request(self, stream: str, connection: str, id: str) -> None:
        self._call(lambda: self._world.state.remove_request(stream, connection, id))

    def lease(self, stream: str, run: str, writer: str) -> Lease | None:
        return self._call(lambda: self._world.state.lease(stream, run, writer))

    def put_lease(
        self, stream: str, run: str, writer: str, lease: Lease, expires_at: int
    ) -> None:
        self._call(
            lambda: self._world.put_lease(stream, run, writer, lease, expires_at),
            ("lease", f"{stream} {run} {writer}"),
            expires_at,
        )

    def remember_key(self, stream: str, key: str, seq: int, expires_at: int) -> int:
        return self._call(
            lambda: self._world.state.remember_key(stream, key, seq, expires_at),
            ("key", f"{stream} {key}"),
            expires_at,
        )

    def _call(
        self,
        call: Callable[[], T],
        row: tuple[str, str] | None = None,
        expires_at: int = 0,
    ) -> T:
        world = self._world
        began = world.kernel.now
        world.network("state")
        if world.faults.hit("state-fails"):
            raise Unavailable("the row was lost")
        result = call()
        if row is not None:
            world.expires[row] = expires_at
        if world.faults.hit("state-twice"):
            world.network("state")
            result = call()
        if world.faults.hit("state-lost"):
            raise Unavailable("the answer was lost")
        world.network("state")
        if world.kernel.now - began > _GIVE_UP:
            raise Unavailable("the process stood still")
        return result
