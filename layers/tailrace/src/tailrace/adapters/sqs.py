"""The queue of repairs, in SQS."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from ..errors import Invalid
from ..ports import Repair
from .calls import attempt


class SqsRepairs:
    """`Repairs`. `client` makes a boto3 SQS client, when the first repair is asked for:
    most invocations ask for none."""

    def __init__(self, client: Callable[[], Any], url: str) -> None:
        self._client = client
        self._url = url

    def ask(self, repair: Repair, seconds: int) -> None:
        client = self._client()
        body = {name: value for name, value in asdict(repair).items() if value}
        if repair.watch is not None:
            body["watch"] = repair.watch
        attempt(
            lambda: client.send_message(
                QueueUrl=self._url, MessageBody=json.dumps(body), DelaySeconds=seconds
            )
        )


def decode(event: Any) -> list[Repair]:
    """Return the repairs that an event of the queue brings; `Invalid` if it is none."""
    try:
        return [_repair(json.loads(one["body"])) for one in event["Records"]]
    except (KeyError, TypeError, ValueError) as error:
        raise Invalid(f"event: no repairs ({type(error).__name__})") from None


def _repair(body: dict[str, Any]) -> Repair:
    return Repair(**{"stream": "", **body})
