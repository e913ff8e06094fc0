"""What the log's table holds that is no record: nobody's fault who asks for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tailrace.adapters.dynamodb import DynamoDBLog
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
