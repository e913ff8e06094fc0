"""The stack deployed anew while an answer is written and watched: with other settings,
which change each function and the change feed, as another version would."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from demo.stack import LocalStack, build, deploy, local_stack
from tailrace import AsyncProducer, consume, deployment, find_transport
from tailrace.transports.function import PublishFunction
from tests.support.deployed import Deployed
from tests.support.runs import an_answer_is_pushed
from tests.support.socket import TIMEOUT


@pytest.fixture(scope="module")
def stack() -> Iterator[LocalStack]:
    with local_stack(enforce_iam=True) as deployed:
        yield deployed


# In this order: each is deployed over the one before.
@pytest.mark.parametrize(
    "changed",
    [
        {"LogLevel": "WARNING", "FeedBatchSize": "1000"},
        {"Delivery": "Direct"},
        {"Delivery": "Feed"},
        {"SnapStart": "On"},
        {"SnapStart": "Off"},
    ],
    ids=str,
)
async def test_an_answer_goes_on_while_the_stack_is_deployed_anew(
    stack: LocalStack, changed: dict[str, str]
) -> None:
    deployed = Deployed(stack)
    stream = deployed.new_stream()
    done = asyncio.Event()
    written: list[str] = []
    # By the function's own name, which is there whatever SnapStart is.
    transport = PublishFunction(stack.lambda_, "tailrace-publish")

    async def write() -> None:
        async with AsyncProducer(stream, transport=transport) as producer:
            while not done.is_set():
                written.append(f"{len(written)} ")
                await producer.write(written[-1])
                await asyncio.sleep(0.05)

    async def deploy_anew() -> LocalStack:
        anew = await asyncio.to_thread(deploy, stack.aws, build(), parameters=changed)
        done.set()
        return anew

    async def read() -> list[Any]:
        return [chunk async for chunk in consume(url, token, stream)]

    url, token = stack.socket_url, deployed.token(stream)
    async with asyncio.timeout(TIMEOUT), asyncio.TaskGroup() as group:
        group.create_task(write())
        reading = group.create_task(read())
        deploying = group.create_task(deploy_anew())
    assert reading.result() == written
    assert kept(deploying.result()) == kept(stack), "nobody has to be told anew"
    await an_answer_is_pushed(deployed)


def kept(stack: LocalStack) -> dict[str, str]:
    """Return where things are, which no parameter changes."""
    snapshots = ("PublishFunctionName", "FanoutFunctionName")
    return {name: at for name, at in stack.outputs.items() if name not in snapshots}


def test_what_was_deleted_can_be_read_in_a_restored_table_and_put_back(
    stack: LocalStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the runbook has it."""
    deployed, table = Deployed(stack), "restored"
    stream = deployed.new_stream()
    call: dict[str, Any] = {"operation": "read", "stream": stream}
    deployed.call(stream=stream, chunks=["a", "b"], end=True)
    before = deployed.call(**call)
    stack.dynamodb.update_continuous_backups(
        TableName=stack.log_table,
        PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True},
    )
    stack.dynamodb.restore_table_to_point_in_time(
        SourceTableName=stack.log_table,
        TargetTableName=table,
        UseLatestRestorableTime=True,
    )
    deployed.ask("delete", stream)
    assert deployed.call(**call)["slices"] == []

    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    monkeypatch.setattr(deployment, "_shared", [deployment._Shared()])
    told = stack.environment | {"TAILRACE_STACK": "tailrace"}
    for name, value in (told | {"TAILRACE_LOG_TABLE": table}).items():
        monkeypatch.setenv(name, value)
    assert find_transport("in-process").ask(call) == before

    records = stack.dynamodb.query(
        TableName=table,
        KeyConditionExpression="#stream = :stream",
        ExpressionAttributeNames={"#stream": "stream"},
        ExpressionAttributeValues={":stream": {"S": stream}},
    )["Items"]
    for record in records:
        with contextlib.suppress(
            stack.dynamodb.exceptions.ConditionalCheckFailedException
        ):
            stack.dynamodb.put_item(
                TableName=stack.log_table,
                Item=record,
                ConditionExpression="attribute_not_exists(seq)",
            )
    assert deployed.call(**call) == before
