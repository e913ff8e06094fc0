"""The least that handlers can do there: what they take is the local AWS's own."""

from __future__ import annotations

import os
import sys
from typing import Any

import boto3

gateway: Any = boto3.client(
    "apigatewaymanagementapi", endpoint_url=os.environ["CONNECTIONS"]
)


def _done() -> dict[str, int]:
    print("done", file=sys.stderr, flush=True)
    return {"statusCode": 200}


def connect(event: dict[str, Any], context: Any) -> dict[str, int]:
    return _done()


def default(event: dict[str, Any], context: Any) -> dict[str, int]:
    connection = event["requestContext"]["connectionId"]
    gateway.post_to_connection(ConnectionId=connection, Data=event["body"].encode())
    return _done()


def fanout(event: dict[str, Any], context: Any) -> dict[str, int]:
    return _done()
