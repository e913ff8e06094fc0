"""The same architecture written the obvious way, on the same local AWS: an item for
each chunk, a push for each item and reader, replay by a query, and no seam between the
two. A baseline, not a design."""

from __future__ import annotations

import asyncio
import io
import zipfile
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from bench.rivals.work import control
from demo.local_aws import REGION, LocalAws, local_aws

HANDLERS = Path(__file__).with_name("naive_functions.py")
RUNTIME = "python3.11"


def client(aws: LocalAws, service: Any) -> Any:
    session = boto3.Session("test", "test", region_name=REGION)
    config = Config(retries={"total_max_attempts": 1}, read_timeout=30)
    return session.client(service, endpoint_url=aws.endpoint, config=config)


def make_table(dynamodb: Any, name: str, sort: str, **options: Any) -> str:
    made = dynamodb.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[
            {"AttributeName": "pk", "AttributeType": "S"},
            {"AttributeName": "sk", "AttributeType": sort},
        ],
        KeySchema=[
            {"AttributeName": "pk", "KeyType": "HASH"},
            {"AttributeName": "sk", "KeyType": "RANGE"},
        ],
        **options,
    )
    return str(made["TableDescription"].get("LatestStreamArn", ""))


def deploy(aws: LocalAws, handlers: Path) -> str:
    """Make tables, functions and the WebSocket API; return its path."""
    dynamodb, functions = client(aws, "dynamodb"), client(aws, "lambda")
    gateway = client(aws, "apigatewayv2")
    feed = {"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"}
    stream = make_table(dynamodb, "chunks", "N", StreamSpecification=feed)
    make_table(dynamodb, "subs", "S")
    api = gateway.create_api(
        Name="naive",
        ProtocolType="WEBSOCKET",
        RouteSelectionExpression="$request.body.action",
    )["ApiId"]
    path = f"/_aws/execute-api/{api}/prod"
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.write(handlers, "app.py")
    for name in ("connect", "default", "fanout"):
        functions.create_function(
            FunctionName=name,
            Runtime=RUNTIME,
            Role="arn:aws:iam::000000000000:role/naive",
            Handler=f"app.{name}",
            Timeout=30,
            MemorySize=512,
            Code={"ZipFile": packed.getvalue()},
            Environment={
                "Variables": {"URL": aws.endpoint, "CONNECTIONS": aws.endpoint + path}
            },
        )
    for route, name in (("$connect", "connect"), ("$default", "default")):
        arn = f"arn:aws:lambda:{REGION}:000000000000:function:{name}"
        integration = gateway.create_integration(
            ApiId=api,
            IntegrationType="AWS_PROXY",
            IntegrationMethod="POST",
            IntegrationUri=f"arn:aws:apigateway:{REGION}:lambda:path/2015-03-31"
            f"/functions/{arn}/invocations",
        )["IntegrationId"]
        target = f"integrations/{integration}"
        gateway.create_route(ApiId=api, RouteKey=route, Target=target)
    made = gateway.create_deployment(ApiId=api)["DeploymentId"]
    gateway.create_stage(ApiId=api, StageName="prod", DeploymentId=made)
    functions.create_event_source_mapping(
        EventSourceArn=stream,
        FunctionName="fanout",
        StartingPosition="LATEST",
        BatchSize=100,
    )
    return path


def main(handlers: Path) -> None:
    with local_aws() as aws:
        path = deploy(aws, handlers)
        url = f"ws://{aws.gateway}{path}"
        environment = {
            name: value
            for name, value in aws.environment.items()
            if name.startswith("AWS_")
        }
        asyncio.run(control({}, url=url, environment=environment))


if __name__ == "__main__":
    main(HANDLERS)
