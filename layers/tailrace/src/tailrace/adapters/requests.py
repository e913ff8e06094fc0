"""The rows of the AI SDK's requests, beside the subscriptions of their streams."""

from __future__ import annotations

from zlib import crc32

from ..errors import Invalid
from ..records import Item
from ..watchers import TAKEN, Request
from .rows import Key, Rows

REQUEST = "request"
ABORTED = "aborted"
_ABORTED_ROWS = 16
_NUMBERS = (
    "exp",
    "prefix",
    "shift",
    "sent",
    "seq",
    "at",
    "watch",
    "repair_at",
    "slow_until",
)
HERE = "attribute_exists(#pk)"
"""The condition that a row is there."""


class RequestRows(Rows):
    """What `State` says of requests."""

    def put_request(self, request: Request, expires_at: int) -> Request | None:
        stream: Item = {"stream": {"S": request.stream}}
        # The reverse row first: it is what finds the other one again, and it names one.
        other = self._put(
            *_way_back(request.connection, request.id),
            stream,
            expires_at,
            condition="attribute_not_exists(#pk) OR #stream = :stream",
            names={"#pk": "pk", "#stream": "stream"},
            values={":stream": stream["stream"]},
        )
        if other is not None:
            raise Invalid(TAKEN)
        row: Item = {
            "run": {"S": request.run},
            **{name: {"N": str(getattr(request, name))} for name in _NUMBERS},
        }
        there = self._put(
            *_key(request),
            row,
            expires_at,
            condition="attribute_not_exists(#pk)",
            names={"#pk": "pk"},
        )
        # Behind the put, as an abort looks for the request behind its own: at least one
        # of the two sees the other.
        if self._was_aborted(request):
            self.remove_request(request.stream, request.connection, request.id)
            return None
        return to_request(there) if there else request

    def abort_request(self, connection: str, id: str, until: int) -> str | None:
        self._put(*_aborted(connection, id), {"request": {"S": id}}, until)
        item = self._get(*_way_back(connection, id))
        return str(item["stream"]["S"]) if item else None

    def _was_aborted(self, request: Request) -> bool:
        item = self._get(*_aborted(request.connection, request.id))
        if item is None or item["request"]["S"] != request.id:
            return False
        return int(item["expires_at"]["N"]) * 1000 > request.at

    def request(self, stream: str, connection: str, id: str) -> Request | None:
        item = self._get(f"stream#{stream}", f"{REQUEST}#{connection}#{id}")
        return to_request(item) if item else None

    def advance(self, request: Request, sent: int, seq: int, at: int) -> None:
        self._alter(request, f"{HERE} AND #sent <= :sent", sent=sent, seq=seq, at=at)

    def claim_watch(self, request: Request, watch: int) -> bool:
        condition = f"{HERE} AND #watch = :given"
        return self._alter(request, condition, {"given": request.watch}, watch=watch)

    def claim_repair(self, request: Request, until: int) -> bool:
        # Its own `until` was set by a try whose answer was lost.
        condition = f"{HERE} AND (#repair_at <= :given OR #repair_at = :repair_at)"
        given = {"given": request.repair_at}
        return self._alter(request, condition, given, repair_at=until)

    def release_repair(self, request: Request) -> None:
        condition = f"{HERE} AND #repair_at = :given"
        self._alter(request, condition, {"given": request.repair_at}, repair_at=0)

    def renew_request(self, request: Request, exp: int) -> None:
        self._alter(request, HERE, exp=exp)

    def remove_request(self, stream: str, connection: str, id: str) -> None:
        for key in request_keys(stream, connection, id):
            self._delete(*key)

    def _alter(
        self,
        request: Request,
        condition: str,
        given: dict[str, int] | None = None,
        **new: int,
    ) -> bool:
        """Set numbers of a request's row; False where the condition does not hold."""
        updated = self._update(
            *_key(request),
            "SET " + ", ".join(f"#{name} = :{name}" for name in new),
            {f"#{name}": name for name in new},
            {f":{name}": {"N": str(n)} for name, n in {**new, **(given or {})}.items()},
            condition,
        )
        return updated is not None


def is_request(item: Item) -> bool:
    """Whether a row under a stream is a request; else it is a subscription."""
    return bool(item["sk"]["S"].startswith(f"{REQUEST}#"))


def to_request(item: Item) -> Request:
    """Return the request in a row."""
    _, connection, id = item["sk"]["S"].split("#")
    return Request(
        connection=connection,
        id=id,
        stream=item["pk"]["S"].removeprefix("stream#"),
        run=item["run"]["S"],
        **{name: int(item[name]["N"]) for name in _NUMBERS},
    )


def request_keys(stream: str, connection: str, id: str) -> tuple[Key, Key]:
    """Return the keys of a request's rows: its own, and the way back to it."""
    return (
        (f"stream#{stream}", f"{REQUEST}#{connection}#{id}"),
        _way_back(connection, id),
    )


def _way_back(connection: str, id: str) -> Key:
    return f"connection#{connection}", f"{REQUEST}#{id}"


def _aborted(connection: str, id: str) -> Key:
    # A few rows a connection, whatever it aborts: all are read with each of its frames.
    return f"connection#{connection}", f"{ABORTED}#{crc32(id.encode()) % _ABORTED_ROWS}"


def _key(request: Request) -> Key:
    return request_keys(request.stream, request.connection, request.id)[0]
