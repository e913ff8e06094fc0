"""The ports in memory: for tests, the simulator, benchmarks and trying things out.

Everything is kept until the process ends; rows do not expire by themselves, as they may
not for days in DynamoDB. Safe to share between threads.
"""

from __future__ import annotations

import bisect
import threading
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ..errors import Invalid
from ..ports import Lease, Push, Repair
from ..records import Record
from ..watchers import TAKEN, Connection, Request, Rights, Subscription


class MemoryLog:
    """A `LogStore` of lists, one for each stream, ordered by seq."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seqs: dict[str, list[int]] = defaultdict(list)
        self._records: dict[str, dict[int, Record]] = defaultdict(dict)

    def put(self, record: Record) -> Record | None:
        with self._lock:
            records = self._records[record.stream]
            winner = records.get(record.seq)
            if winner is None:
                records[record.seq] = record
                seqs = self._seqs[record.stream]
                if seqs and seqs[-1] > record.seq:
                    bisect.insort(seqs, record.seq)
                else:
                    seqs.append(record.seq)
            return winner

    def last(self, stream: str, at_most: int | None = None) -> Record | None:
        with self._lock:
            seqs = self._seqs[stream]
            at = len(seqs) if at_most is None else bisect.bisect_right(seqs, at_most)
            return self._records[stream][seqs[at - 1]] if at else None

    def range(self, stream: str, start: int) -> Iterator[Record]:
        with self._lock:
            seqs = self._seqs[stream]
            found = seqs[bisect.bisect_left(seqs, start) :]
            records = self._records[stream]
        for seq in found:
            record = records.get(seq)
            if record is not None:
                yield record

    def remove(self, stream: str, seq: int) -> None:
        with self._lock:
            if self._records[stream].pop(seq, None) is not None:
                self._seqs[stream].remove(seq)


class MemoryState:
    """A `State` of dicts."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._connections: dict[str, Connection] = {}
        # Of each sub, when its connections' rows expire.
        self._subs: dict[str, dict[str, int]] = defaultdict(dict)
        self._subscriptions: dict[str, dict[str, Subscription]] = defaultdict(dict)
        self._leases: dict[tuple[str, str, str], Lease] = {}
        self._keys: dict[tuple[str, str], int] = {}
        self._spent: dict[tuple[str, int], int] = defaultdict(int)
        self._requests: dict[tuple[str, str, str], Request] = {}
        self._aborted: dict[tuple[str, str], int] = {}

    def put_connection(self, connection: Connection, expires_at: int) -> None:
        with self._lock:
            self._connections[connection.id] = connection
            self._subs[connection.rights.sub][connection.id] = expires_at

    def connection(self, id: str) -> Connection | None:
        with self._lock:
            connection = self._connections.get(id)
            if connection is None:
                return None
            streams = {
                stream: rows[id].n
                for stream, rows in self._subscriptions.items()
                if id in rows
            }
            requests = {
                request.id: request.stream
                for request in self._requests.values()
                if request.connection == id
            }
            return replace(connection, streams=streams, requests=requests)

    def set_rights(self, id: str, rights: Rights) -> bool:
        with self._lock:
            if id not in self._connections:
                return False
            self._connections[id] = replace(self._connections[id], rights=rights)
            return True

    def count_bad_frame(self, id: str) -> int:
        with self._lock:
            connection = self._connections.get(id)
            if connection is None:
                return 0
            bad = connection.bad_frames + 1
            self._connections[id] = replace(connection, bad_frames=bad)
            return bad

    def remove_connection(self, id: str, sub: str | None = None) -> None:
        with self._lock:
            connection = self._connections.pop(id, None)
            if connection is not None:
                self._subs[connection.rights.sub].pop(id, None)
            if sub is not None:
                self._subs[sub].pop(id, None)
            for rows in self._subscriptions.values():
                rows.pop(id, None)
            for key in [key for key in self._requests if key[1] == id]:
                del self._requests[key]

    def connections_of(self, sub: str) -> list[str]:
        with self._lock:
            found = self._subs[sub]
            return sorted(found, key=lambda id: found[id])

    def spend(self, sub: str, minute: int, amount: int, expires_at: int) -> int:
        with self._lock:
            self._spent[(sub, minute)] += amount
            return self._spent[(sub, minute)]

    def subscribe(
        self, subscription: Subscription, expires_at: int
    ) -> Subscription | None:
        with self._lock:
            rows = self._subscriptions[subscription.stream]
            there = rows.get(subscription.connection)
            if there is None:
                rows[subscription.connection] = subscription
            elif there.n <= subscription.n:
                rows[subscription.connection] = replace(
                    subscription, slow_until=there.slow_until
                )
            return there

    def unsubscribe(self, stream: str, connection: str, n: int) -> None:
        with self._lock:
            there = self._subscriptions[stream].get(connection)
            if there is not None and there.n <= n:
                del self._subscriptions[stream][connection]

    def subscribers(self, stream: str) -> list[Subscription | Request]:
        with self._lock:
            requests = [one for one in self._requests.values() if one.stream == stream]
            return [*self._subscriptions[stream].values(), *requests]

    def drop(self, subscription: Subscription) -> None:
        with self._lock:
            rows = self._subscriptions[subscription.stream]
            there = rows.get(subscription.connection)
            if there is not None and there.n == subscription.n:
                del rows[subscription.connection]

    def mark_slow(self, one: Subscription | Request, until: int) -> None:
        with self._lock:
            if isinstance(one, Request):
                if _key(one) not in self._requests:
                    return
            else:
                there = self._subscriptions[one.stream].get(one.connection)
                if there is None or there.n != one.n:
                    return
            for request in list(self._requests.values()):
                if request.connection == one.connection:
                    self._set(request, slow_until=until)
            for rows in self._subscriptions.values():
                if one.connection in rows:
                    row = replace(rows[one.connection], slow_until=until)
                    rows[one.connection] = row

    def put_request(self, request: Request, expires_at: int) -> Request | None:
        with self._lock:
            name = (request.connection, request.id)
            if self._stream_of(*name) not in (None, request.stream):
                raise Invalid(TAKEN)
            if self._aborted.get(name, 0) * 1000 > request.at:
                self._requests.pop(_key(request), None)
                return None
            return self._requests.setdefault(_key(request), request)

    def abort_request(self, connection: str, id: str, until: int) -> str | None:
        with self._lock:
            self._aborted[(connection, id)] = until
            return self._stream_of(connection, id)

    def _stream_of(self, connection: str, id: str) -> str | None:
        for stream, *name in self._requests:
            if name == [connection, id]:
                return stream
        return None

    def request(self, stream: str, connection: str, id: str) -> Request | None:
        with self._lock:
            return self._requests.get((stream, connection, id))

    def advance(self, request: Request, sent: int, seq: int, at: int) -> None:
        with self._lock:
            there = self._requests.get(_key(request))
            if there is not None and there.sent <= sent:
                self._set(there, sent=sent, seq=seq, at=at)

    def claim_watch(self, request: Request, watch: int) -> bool:
        with self._lock:
            there = self._requests.get(_key(request))
            if there is None or there.watch != request.watch:
                return False
            self._set(there, watch=watch)
            return True

    def claim_repair(self, request: Request, until: int) -> bool:
        with self._lock:
            there = self._requests.get(_key(request))
            if there is None or request.repair_at < there.repair_at != until:
                return False
            self._set(there, repair_at=until)
            return True

    def release_repair(self, request: Request) -> None:
        with self._lock:
            there = self._requests.get(_key(request))
            if there is not None and there.repair_at == request.repair_at:
                self._set(there, repair_at=0)

    def renew_request(self, request: Request, exp: int) -> None:
        with self._lock:
            there = self._requests.get(_key(request))
            if there is not None:
                self._set(there, exp=exp)

    def remove_request(self, stream: str, connection: str, id: str) -> None:
        with self._lock:
            self._requests.pop((stream, connection, id), None)

    def _set(self, request: Request, **values: Any) -> None:
        self._requests[_key(request)] = replace(request, **values)

    def lease(self, stream: str, run: str, writer: str) -> Lease | None:
        with self._lock:
            return self._leases.get((stream, run, writer))

    def put_lease(
        self, stream: str, run: str, writer: str, lease: Lease, expires_at: int
    ) -> None:
        with self._lock:
            self._leases[(stream, run, writer)] = lease

    def remember_key(self, stream: str, key: str, seq: int, expires_at: int) -> int:
        with self._lock:
            return self._keys.setdefault((stream, key), seq)


def _key(request: Request) -> tuple[str, str, str]:
    return request.stream, request.connection, request.id


class MemoryGateway:
    """A `Gateway` that keeps what it is given: `sent[connection]` is a list of frames.

    Connections in `gone` answer `GONE`; `disconnected` lists whom it closed.
    """

    def __init__(self) -> None:
        self.sent: dict[str, list[str]] = defaultdict(list)
        self.gone: set[str] = set()
        self.disconnected: list[str] = []

    def push(self, connection: str, frame: str) -> Push:
        if connection in self.gone:
            return Push.GONE
        self.sent[connection].append(frame)
        return Push.DONE

    def disconnect(self, connection: str) -> None:
        self.disconnected.append(connection)
        self.gone.add(connection)


class MemoryRepairs:
    """`Repairs` that keeps what is asked: `asked` has each repair and its seconds."""

    def __init__(self) -> None:
        self.asked: list[tuple[Repair, int]] = []

    def ask(self, repair: Repair, seconds: int) -> None:
        self.asked.append((repair, seconds))
