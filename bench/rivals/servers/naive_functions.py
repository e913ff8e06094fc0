"""The handlers of naive.py. Each writes a line, as ours do there: the local AWS waits
for one."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

CONFIG = Config(retries={"total_max_attempts": 1})
PAGE = 30_000


def _client(service: Any, url: str) -> Any:
    return boto3.client(service, endpoint_url=url, config=CONFIG)


dynamodb = _client("dynamodb", os.environ["URL"])
gateway = _client("apigatewaymanagementapi", os.environ["CONNECTIONS"])


def _done() -> dict[str, int]:
    print("done", file=sys.stderr, flush=True)
    return {"statusCode": 200}


def _post(connection: str, data: str) -> None:
    with contextlib.suppress(ClientError):
        gateway.post_to_connection(ConnectionId=connection, Data=data.encode())


def connect(event: dict[str, Any], context: Any) -> dict[str, int]:
    sid = event["queryStringParameters"]["sid"]
    connection = event["requestContext"]["connectionId"]
    item = {"pk": {"S": sid}, "sk": {"S": connection}}
    dynamodb.put_item(TableName="subs", Item=item)
    return _done()


def default(event: dict[str, Any], context: Any) -> dict[str, int]:
    asked = json.loads(event["body"])
    connection = event["requestContext"]["connectionId"]
    page: list[str] = []
    size = 0
    start: dict[str, Any] = {}
    while True:
        found = dynamodb.query(
            TableName="chunks",
            KeyConditionExpression="pk = :pk AND sk > :after",
            ExpressionAttributeValues={
                ":pk": {"S": asked["sid"]},
                ":after": {"N": str(asked["after"])},
            },
            ConsistentRead=True,
            **start,
        )
        for item in found["Items"]:
            text = item["chunk"]["S"]
            if size + len(text) > PAGE:
                _post(connection, "\n".join(page))
                page, size = [], 0
            page.append(text)
            size += len(text) + 1
        if "LastEvaluatedKey" not in found:
            break
        start = {"ExclusiveStartKey": found["LastEvaluatedKey"]}
    if page:
        _post(connection, "\n".join(page))
    return _done()


def fanout(event: dict[str, Any], context: Any) -> dict[str, int]:
    watching: dict[str, list[str]] = {}
    for record in event["Records"]:
        image = record["dynamodb"]["NewImage"]
        sid = image["pk"]["S"]
        if sid not in watching:
            found = dynamodb.query(
                TableName="subs",
                KeyConditionExpression="pk = :pk",
                ExpressionAttributeValues={":pk": {"S": sid}},
                ConsistentRead=True,
            )
            watching[sid] = [item["sk"]["S"] for item in found["Items"]]
        for connection in watching[sid]:
            _post(connection, image["chunk"]["S"])
    return _done()
