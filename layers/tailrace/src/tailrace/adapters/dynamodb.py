"""The log's and the state's tables in DynamoDB.

Every attribute is named through `ExpressionAttributeNames`: most of ours are reserved
words, which AWS refuses and emulators let pass. All reads are consistent.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from botocore.exceptions import ClientError

from ..errors import Invalid, Unavailable
from ..ports import Lease
from ..records import Item, Record, from_item, to_item
from ..watchers import Connection, Request, Rights, Subscription
from .calls import attempt, code
from .requests import (
    ABORTED,
    HERE,
    REQUEST,
    RequestRows,
    is_request,
    request_keys,
    to_request,
)
from .rows import Key, pages


class DynamoDBLog:
    """The `LogStore`. `client`: a boto3 DynamoDB client made with `calls.config`."""

    def __init__(self, client: Any, table: str) -> None:
        self._client = client
        self._table = table

    def put(self, record: Record) -> Record | None:
        """Insert, or return the winner. A try whose answer was lost may have been
        applied, so that the winner can be the record itself (`rules.meet`)."""
        item = to_item(record)

        def put() -> Record | None:
            try:
                self._client.put_item(
                    TableName=self._table,
                    Item=item,
                    ConditionExpression="attribute_not_exists(#seq)",
                    ExpressionAttributeNames={"#seq": "seq"},
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                )
                return None
            except ClientError as error:
                if code(error) != "ConditionalCheckFailedException":
                    raise
                winner: Any = error.response
                return _record(winner["Item"])

        return attempt(put)

    def last(self, stream: str, at_most: int | None = None) -> Record | None:
        names = {"#stream": "stream"}
        values: Item = {":stream": {"S": stream}}
        condition = "#stream = :stream"
        if at_most is not None:
            names["#seq"] = "seq"
            values[":most"] = {"N": str(at_most)}
            condition += " AND #seq <= :most"
        page = attempt(
            lambda: self._client.query(
                TableName=self._table,
                KeyConditionExpression=condition,
                ExpressionAttributeNames=names,
                ExpressionAttributeValues=values,
                ScanIndexForward=False,
                Limit=1,
                ConsistentRead=True,
            )
        )
        return _record(page["Items"][0]) if page["Items"] else None

    def range(self, stream: str, start: int) -> Iterator[Record]:
        found = pages(
            self._client,
            TableName=self._table,
            KeyConditionExpression="#stream = :stream AND #seq >= :start",
            ExpressionAttributeNames={"#stream": "stream", "#seq": "seq"},
            ExpressionAttributeValues={
                ":stream": {"S": stream},
                ":start": {"N": str(start)},
            },
            ConsistentRead=True,
        )
        for item in found:
            yield _record(item)

    def remove(self, stream: str, seq: int) -> None:
        attempt(
            lambda: self._client.delete_item(
                TableName=self._table,
                Key={"stream": {"S": stream}, "seq": {"N": str(seq)}},
            )
        )


def _record(item: Item) -> Record:
    """Return the record in an item; that there is none is no fault of whoever asked."""
    try:
        return from_item(item)
    except Invalid as error:
        raise Unavailable(f"the log: {error.message}") from None


# A page of subscribers: the first are pushed to while the others are read.
_SUBSCRIBERS = 1_000
_CONNECTION = "connection"
_NOT_LATER = "attribute_not_exists(#n) OR #n <= :n"
_SLOW_UNTIL = "SET #slow_until = :until"
_GRANTS = ("read", "cancel", "send")


class DynamoDBState(RequestRows):
    """The `State`, rows under `pk` and `sk`:

    | pk | sk | row |
    |---|---|---|
    | `connection#<id>` | `connection` | the connection |
    | `connection#<id>` | `stream#<stream>` | a stream that it subscribes to |
    | `connection#<id>` | `request#<request>` | a request of it, and its stream |
    | `connection#<id>` | `aborted#<number>` | a request that it aborted too early |
    | `stream#<stream>` | `<connection>` | a subscription |
    | `stream#<stream>` | `request#<connection>#<request>` | a request |
    | `sub#<sub>` | `<connection>` | a connection of a sub |
    | `spent#<sub>` | `<minute>` | what a sub spent in a minute |
    | `lease#<stream>` | `<run>#<writer>` | a lease |
    | `key#<stream>` | `<key>` | where a keyed call began |
    """

    # ---- connections -----------------------------------------------------------------

    def put_connection(self, connection: Connection, expires_at: int) -> None:
        rights = connection.rights
        attributes = {**_rights_attributes(rights), "bad_frames": {"N": "0"}}
        self._put_all(
            {
                (f"sub#{rights.sub}", connection.id): {},
                (f"connection#{connection.id}", _CONNECTION): attributes,
            },
            expires_at,
        )

    def connection(self, id: str) -> Connection | None:
        row: Item | None = None
        streams: dict[str, int] = {}
        requests: dict[str, str] = {}
        for item in self._rows(f"connection#{id}"):
            kind, _, name = item["sk"]["S"].partition("#")
            if kind == _CONNECTION:
                row = item
            elif kind == REQUEST:
                requests[name] = item["stream"]["S"]
            elif kind != ABORTED:
                streams[name] = int(item["n"]["N"])
        if row is None:
            return None
        bad_frames = int(row["bad_frames"]["N"])
        return Connection(id, _rights(row), bad_frames, streams, requests)

    def set_rights(self, id: str, rights: Rights) -> bool:
        attributes = _rights_attributes(rights)
        # No condition on the old rights: the client has one `auth` under way.
        updated = self._update(
            f"connection#{id}",
            _CONNECTION,
            "SET " + ", ".join(f"#{name} = :{name}" for name in attributes),
            {f"#{name}": name for name in attributes},
            {f":{name}": value for name, value in attributes.items()},
        )
        return updated is not None

    def count_bad_frame(self, id: str) -> int:
        counted = self._update(
            f"connection#{id}",
            _CONNECTION,
            "ADD #bad_frames :one",
            {"#bad_frames": "bad_frames"},
            {":one": {"N": "1"}},
        )
        return int(counted["bad_frames"]["N"]) if counted else 0

    def remove_connection(self, id: str, sub: str | None = None) -> None:
        connection = self.connection(id)
        subs = {} if sub is None else {sub: None}
        keys: list[Key] = []
        if connection is not None:
            subs[connection.rights.sub] = None
            for stream in connection.streams:
                keys += (
                    (f"stream#{stream}", id),
                    (f"connection#{id}", f"stream#{stream}"),
                )
            for request, stream in connection.requests.items():
                keys += request_keys(stream, id, request)
        self._delete_all([*((f"sub#{one}", id) for one in subs), *keys])
        if connection is not None:
            # Last, because by this one the others are found, should they not all be
            # gone.
            self._delete(f"connection#{id}", _CONNECTION)

    def connections_of(self, sub: str) -> list[str]:
        rows = self._rows(f"sub#{sub}")
        oldest_first = sorted(rows, key=lambda row: int(row["expires_at"]["N"]))
        return [row["sk"]["S"] for row in oldest_first]

    def spend(self, sub: str, minute: int, amount: int, expires_at: int) -> int:
        answer = attempt(
            lambda: self._client.update_item(
                TableName=self._table,
                Key={"pk": {"S": f"spent#{sub}"}, "sk": {"S": str(minute)}},
                UpdateExpression="ADD #spent :amount SET #expires_at = :expires_at",
                ExpressionAttributeNames={
                    "#spent": "spent",
                    "#expires_at": "expires_at",
                },
                ExpressionAttributeValues={
                    ":amount": {"N": str(amount)},
                    ":expires_at": {"N": str(expires_at)},
                },
                ReturnValues="UPDATED_NEW",
            )
        )
        return int(answer["Attributes"]["spent"]["N"])

    # ---- subscriptions ---------------------------------------------------------------

    def subscribe(
        self, subscription: Subscription, expires_at: int
    ) -> Subscription | None:
        stream, connection = subscription.stream, subscription.connection
        n: Item = {"n": {"N": str(subscription.n)}}
        # The reverse row first: it is what finds the other one again.
        self._put(
            f"connection#{connection}",
            f"stream#{stream}",
            n,
            expires_at,
            condition=_NOT_LATER,
            names={"#n": "n"},
            values={":n": n["n"]},
        )
        there = self._replace(
            f"stream#{stream}",
            connection,
            {**n, "exp": {"N": str(subscription.exp)}},
            expires_at,
            _NOT_LATER,
        )
        return _to_subscription(there) if there else None

    def unsubscribe(self, stream: str, connection: str, n: int) -> None:
        for pk, sk in (
            (f"stream#{stream}", connection),
            (f"connection#{connection}", f"stream#{stream}"),
        ):
            self._delete(pk, sk, "#n <= :n", {"#n": "n"}, {":n": {"N": str(n)}})

    def subscribers(self, stream: str) -> Iterator[Subscription | Request]:
        for item in self._rows(f"stream#{stream}", Limit=_SUBSCRIBERS):
            if is_request(item):
                yield to_request(item)
            else:
                yield _to_subscription(item)

    def drop(self, subscription: Subscription) -> None:
        self._delete(
            f"stream#{subscription.stream}",
            subscription.connection,
            "#n = :n",
            {"#n": "n"},
            {":n": {"N": str(subscription.n)}},
        )

    def mark_slow(self, one: Subscription | Request, until: int) -> None:
        if isinstance(one, Request):
            marked = self._mark_request(one.stream, one.connection, one.id, until)
        else:
            marked = self._mark(one.stream, one.connection, one.n, until)
        all = self.connection(one.connection) if marked else None
        if all is None:
            return
        for stream, n in all.streams.items():
            self._mark(stream, all.id, n, until)
        for id, stream in all.requests.items():
            self._mark_request(stream, all.id, id, until)

    def _mark(self, stream: str, connection: str, n: int, until: int) -> bool:
        marked = self._update(
            f"stream#{stream}",
            connection,
            _SLOW_UNTIL,
            {"#slow_until": "slow_until", "#n": "n"},
            {":until": {"N": str(until)}, ":n": {"N": str(n)}},
            f"{HERE} AND #n = :n",
        )
        return marked is not None

    def _mark_request(self, stream: str, connection: str, id: str, until: int) -> bool:
        marked = self._update(
            *request_keys(stream, connection, id)[0],
            _SLOW_UNTIL,
            {"#slow_until": "slow_until"},
            {":until": {"N": str(until)}},
            HERE,
        )
        return marked is not None

    # ---- leases and keys -------------------------------------------------------------

    def lease(self, stream: str, run: str, writer: str) -> Lease | None:
        item = self._get(f"lease#{stream}", f"{run}#{writer}")
        if item is None:
            return None
        return Lease(int(item["until"]["N"]), item["handed_over"]["BOOL"])

    def put_lease(
        self, stream: str, run: str, writer: str, lease: Lease, expires_at: int
    ) -> None:
        self._put(
            f"lease#{stream}",
            f"{run}#{writer}",
            {
                "until": {"N": str(lease.until)},
                "handed_over": {"BOOL": lease.handed_over},
            },
            expires_at,
        )

    def remember_key(self, stream: str, key: str, seq: int, expires_at: int) -> int:
        there = self._put(
            f"key#{stream}",
            key,
            {"seq": {"N": str(seq)}},
            expires_at,
            condition="attribute_not_exists(#pk)",
            names={"#pk": "pk"},
        )
        return int(there["seq"]["N"]) if there else seq


def _to_subscription(item: Item) -> Subscription:
    return Subscription(
        item["pk"]["S"].removeprefix("stream#"),
        item["sk"]["S"],
        int(item["n"]["N"]),
        int(item["exp"]["N"]),
        int(item["slow_until"]["N"]) if "slow_until" in item else 0,
    )


def _rights_attributes(rights: Rights) -> Item:
    grants = {name: getattr(rights, name) for name in _GRANTS}
    return {
        "sub": {"S": rights.sub},
        "exp": {"N": str(rights.exp)},
        "grants": {"S": json.dumps(grants)},
    }


def _rights(item: Item) -> Rights:
    grants = json.loads(item["grants"]["S"])
    return Rights(
        sub=item["sub"]["S"],
        exp=int(item["exp"]["N"]),
        **{name: tuple(grants[name]) for name in _GRANTS},
    )
