"""What the tables hold beside what is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tailrace.adapters.dynamodb import DynamoDBLog, DynamoDBState
from tailrace.errors import Unavailable
from tailrace.records import to_item
from tests.support.worlds import STREAM, opened

ITEM = {**to_item(opened()), "kind": {"S": "novelty"}}


class Table:
    """A client of a table with one item."""

    def query(self, **_: Any) -> dict[str, Any]:
        return {"Items": [ITEM]}

    def put_item(self, **_: Any) -> None:
        code = {"Code": "ConditionalCheckFailedException"}
        response: Any = {"Error": code, "Item": ITEM}
        raise ClientError(response, "PutItem")


class Noted:
    """A client of an empty table, which notes what is put."""

    def __init__(self) -> None:
        self.put: list[Any] = []

    def put_item(self, **call: Any) -> None:
        self.put.append(call["Item"])

    def get_item(self, **_: Any) -> dict[str, Any]:
        return {}


def test_aborts_of_whatever_leave_few_rows() -> None:
    """They are read with each frame of the connection."""
    client = Noted()
    state = DynamoDBState(client, "State")
    for number in range(1_000):
        assert state.abort_request("c1", f"r{number}", 60) is None
    keys = {(item["pk"]["S"], item["sk"]["S"]) for item in client.put}
    assert len(keys) == 16
    assert all(item["expires_at"] == {"N": "60"} for item in client.put)


@pytest.mark.parametrize(
    "ask",
    [
        lambda log: log.last(STREAM),
        lambda log: list(log.range(STREAM, 1)),
        lambda log: log.put(opened()),
    ],
)
def test_an_item_that_is_no_record_cannot_be_had_now(
    ask: Callable[[DynamoDBLog], Any],
) -> None:
    """As `Invalid` it would count as a bad frame of whoever subscribes."""
    with pytest.raises(Unavailable, match="no record"):
        ask(DynamoDBLog(Table(), "Log"))
