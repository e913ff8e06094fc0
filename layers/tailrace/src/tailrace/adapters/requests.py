"""The rows of the AI SDK's requests, beside the subscriptions of their streams."""

from __future__ import annotations

from ..errors import Invalid
from ..records import Item
from ..watchers import TAKEN, Request
from .rows import Key, Rows

REQUEST = "request"
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
        row: Item = {
            "run": {"S": request.run},
            **{name: {"N": str(getattr(request, name))} for name in _NUMBERS},
        }
        stream: Item = {"stream": {"S": request.stream}}
        # The reverse row first: it is what finds the other one again, and it names one.
        other = self._put(
            f"connection#{request.connection}",
            f"{REQUEST}#{request.id}",
            stream,
            expires_at,
            condition="attribute_not_exists(#pk) OR #stream = :stream",
            names={"#pk": "pk", "#stream": "stream"},
            values={":stream": stream["stream"]},
        )
        if other is not None:
            raise Invalid(TAKEN)
        there = self._put(
            *_key(request),
            row,
            expires_at,
            condition="attribute_not_exists(#pk)",
            names={"#pk": "pk"},
        )
        return to_request(there) if there else None

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
        (f"connection#{connection}", f"{REQUEST}#{id}"),
    )


def _key(request: Request) -> Key:
    return request_keys(request.stream, request.connection, request.id)[0]
