"""The two tables, with the keys that template.yaml gives them."""

from __future__ import annotations

from typing import Any


def create_tables(client: Any, log: str, state: str) -> None:
    """Create both tables; `tests/unit/test_template.py` pins the template's keys."""
    for name, keys in (
        (log, (("stream", "S"), ("seq", "N"))),
        (state, (("pk", "S"), ("sk", "S"))),
    ):
        client.create_table(
            TableName=name,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[
                {"AttributeName": key, "AttributeType": type} for key, type in keys
            ],
            KeySchema=[
                {"AttributeName": key, "KeyType": kind}
                for (key, _), kind in zip(keys, ("HASH", "RANGE"), strict=True)
            ],
        )
