"""Rows of the state's table: the calls that read and write them.

Every attribute is named through `ExpressionAttributeNames`. All reads are consistent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from botocore.exceptions import ClientError

from ..records import Item
from .calls import attempt, code

# What one BatchWriteItem takes.
_MAX_BATCH = 25
_THROTTLED: Any = {"Error": {"Code": "ProvisionedThroughputExceededException"}}

Key = tuple[str, str]
"""The `pk` and `sk` of a row."""


class Rows:
    """One table of rows under `pk` and `sk`. `client`: a boto3 DynamoDB client made
    with `calls.config`."""

    def __init__(self, client: Any, table: str) -> None:
        self._client = client
        self._table = table

    def _put(
        self,
        pk: str,
        sk: str,
        attributes: Mapping[str, Any],
        expires_at: int,
        *,
        condition: str | None = None,
        names: dict[str, str] | None = None,
        values: Item | None = None,
    ) -> Item | None:
        """Put a row; return the row that the condition met instead."""
        call: dict[str, Any] = {
            "TableName": self._table,
            "Item": {
                **_at(pk, sk),
                **attributes,
                "expires_at": {"N": str(expires_at)},
            },
        }
        if condition is not None:
            call["ConditionExpression"] = condition
            call["ExpressionAttributeNames"] = names
            call["ReturnValuesOnConditionCheckFailure"] = "ALL_OLD"
        if values is not None:
            call["ExpressionAttributeValues"] = values
        try:
            attempt(lambda: self._client.put_item(**call))
        except ClientError as error:
            if code(error) != "ConditionalCheckFailedException":
                raise
            return _met(error)
        return None

    def _put_all(self, rows: Mapping[Key, Item], expires_at: int) -> None:
        """Put rows, whatever is there, in no order; a failure may have put some."""
        later = {"expires_at": {"N": str(expires_at)}}
        self._write_all(
            {"PutRequest": {"Item": {**_at(*key), **attributes, **later}}}
            for key, attributes in rows.items()
        )

    def _delete_all(self, keys: Iterable[Key]) -> None:
        """Delete rows, none named twice, in no order; a failure may leave some."""
        self._write_all({"DeleteRequest": {"Key": _at(*key)}} for key in keys)

    def _write_all(self, requests: Iterable[Any]) -> None:
        left = list(requests)

        def write() -> None:
            answer = self._client.batch_write_item(
                RequestItems={self._table: left[:_MAX_BATCH]}
            )
            refused = answer["UnprocessedItems"].get(self._table, [])
            left[:_MAX_BATCH] = refused
            if refused:
                raise ClientError(_THROTTLED, "BatchWriteItem")

        while left:
            attempt(write)

    def _replace(
        self,
        pk: str,
        sk: str,
        attributes: Item,
        expires_at: int,
        condition: str,
    ) -> Item | None:
        """Set attributes of a row, new or not, and leave its others; return the row
        that was there, whether or not the condition, which knows each attribute by its
        name, has held for it."""
        new = {**attributes, "expires_at": {"N": str(expires_at)}}
        there: Item | None
        try:
            there = attempt(
                lambda: self._client.update_item(
                    TableName=self._table,
                    Key=_at(pk, sk),
                    UpdateExpression="SET "
                    + ", ".join(f"#{name} = :{name}" for name in new),
                    ConditionExpression=condition,
                    ExpressionAttributeNames={f"#{name}": name for name in new},
                    ExpressionAttributeValues={
                        f":{name}": value for name, value in new.items()
                    },
                    ReturnValues="ALL_OLD",
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                )
            ).get("Attributes")
        except ClientError as error:
            if code(error) != "ConditionalCheckFailedException":
                raise
            there = _met(error)
        return there

    def _get(self, pk: str, sk: str) -> Item | None:
        answer = attempt(
            lambda: self._client.get_item(
                TableName=self._table,
                Key=_at(pk, sk),
                ConsistentRead=True,
            )
        )
        item: Item | None = answer.get("Item")
        return item

    def _delete(
        self,
        pk: str,
        sk: str,
        condition: str | None = None,
        names: dict[str, str] | None = None,
        values: Item | None = None,
    ) -> None:
        call: dict[str, Any] = {
            "TableName": self._table,
            "Key": _at(pk, sk),
        }
        if condition is not None:
            call["ConditionExpression"] = condition
            call["ExpressionAttributeNames"] = names
            call["ExpressionAttributeValues"] = values
        try:
            attempt(lambda: self._client.delete_item(**call))
        except ClientError as error:
            if code(error) != "ConditionalCheckFailedException":
                raise

    def _update(
        self,
        pk: str,
        sk: str,
        expression: str,
        names: dict[str, str],
        values: Item,
        condition: str = "attribute_exists(#pk)",
    ) -> Any:
        """Update a row; return its new attributes, None if the condition, which knows
        `#pk` by that name, does not hold."""
        try:
            answer = attempt(
                lambda: self._client.update_item(
                    TableName=self._table,
                    Key=_at(pk, sk),
                    UpdateExpression=expression,
                    ConditionExpression=condition,
                    ExpressionAttributeNames={**names, "#pk": "pk"},
                    ExpressionAttributeValues=values,
                    ReturnValues="UPDATED_NEW",
                )
            )
            return answer["Attributes"]
        except ClientError as error:
            if code(error) != "ConditionalCheckFailedException":
                raise
            return None

    def _rows(self, pk: str, **query: Any) -> Iterator[Item]:
        return pages(
            self._client,
            **query,
            TableName=self._table,
            KeyConditionExpression="#pk = :pk",
            ExpressionAttributeNames={"#pk": "pk"},
            ExpressionAttributeValues={":pk": {"S": pk}},
            ConsistentRead=True,
        )


def _at(pk: str, sk: str) -> Item:
    return {"pk": {"S": pk}, "sk": {"S": sk}}


def _met(error: ClientError) -> Item:
    """Return the item that a condition met."""
    response: Any = error.response
    item: Item = response["Item"]
    return item


def pages(client: Any, **query: Any) -> Iterator[Item]:
    """Yield the items of a query, page by page."""
    while True:
        page = attempt(lambda: client.query(**query))
        yield from page["Items"]
        if "LastEvaluatedKey" not in page:
            return
        query["ExclusiveStartKey"] = page["LastEvaluatedKey"]
