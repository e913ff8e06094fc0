"""The stack deployed with SnapStart: what is started is the snapshot, and always that
of the function that was deployed last.

The local AWS starts a published version when it is published, and keeps it: it makes no
snapshot of it, so nothing here shows a restore.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from demo.local_aws import REGION
from demo.stack import FunctionName, LocalStack, build, deploy, local_stack
from tests.support.deployed import Deployed
from tests.support.runs import an_answer_is_pushed

FUNCTIONS: tuple[FunctionName, ...] = ("websocket", "publish", "fanout")


def name(function: FunctionName) -> str:
    return f"tailrace-{function}"


@pytest.fixture(scope="module")
def stack() -> Iterator[LocalStack]:
    parameters = {"SnapStart": "On"}
    with local_stack(enforce_iam=True, parameters=parameters) as deployed:
        yield deployed


def again(stack: LocalStack, **parameters: str) -> LocalStack:
    return deploy(stack.aws, build(), parameters=parameters)


def snapshots(stack: LocalStack) -> dict[FunctionName, Any]:
    """Return each function's version that is in use, once it can be invoked: for that
    CloudFormation waits on AWS, but not here."""
    waiter = stack.lambda_.get_waiter("published_version_active")
    found: dict[FunctionName, Any] = {}
    for function in FUNCTIONS:
        waiter.wait(
            FunctionName=name(function), Qualifier="live", WaiterConfig={"Delay": 1}
        )
        found[function] = stack.lambda_.get_function_configuration(
            FunctionName=name(function), Qualifier="live"
        )
    return found


def test_the_invoke_policy_is_for_the_snapshot_and_for_the_function(
    stack: LocalStack,
) -> None:
    """Who was told the function's name before goes on."""
    snapshots(stack)
    user = f"producer-{uuid.uuid4().hex[:8]}"
    stack.iam.create_user(UserName=user)
    stack.iam.attach_user_policy(
        UserName=user, PolicyArn=stack.outputs["PublishInvokePolicyArn"]
    )
    key = stack.iam.create_access_key(UserName=user)["AccessKey"]
    client = boto3.client(
        "lambda",
        endpoint_url=stack.endpoint,
        region_name=REGION,
        aws_access_key_id=key["AccessKeyId"],
        aws_secret_access_key=key["SecretAccessKey"],
    )
    assert stack.function("publish") == f"{name('publish')}:live"
    call = json.dumps({"operation": "tail", "stream": "test:policy"})
    for invoked in (stack.function("publish"), name("publish")):
        answer = client.invoke(FunctionName=invoked, Payload=call)
        assert json.loads(answer["Payload"].read())["tail"] == 0
    with pytest.raises(client.exceptions.ClientError, match="AccessDenied"):
        client.invoke(FunctionName=f"{name('fanout')}:live", Payload="{}")


async def test_frames_calls_and_the_change_feed_start_the_snapshot(
    stack: LocalStack,
) -> None:
    for version in snapshots(stack).values():
        assert version["SnapStart"]["OptimizationStatus"] == "On"
    # What is not published does not even start.
    for function in FUNCTIONS:
        stack.lambda_.update_function_configuration(
            FunctionName=name(function), Handler="nothing.here"
        )
    try:
        await an_answer_is_pushed(Deployed(stack))
    finally:
        for function in FUNCTIONS:
            stack.lambda_.update_function_configuration(
                FunctionName=name(function), Handler="app.handler"
            )


async def test_a_parameter_that_changes_is_in_the_next_snapshot(
    stack: LocalStack,
) -> None:
    before = snapshots(stack)
    changed = again(stack, SnapStart="On", LogLevel="WARNING")
    after = snapshots(changed)
    for function, version in after.items():
        assert version["Environment"]["Variables"]["POWERTOOLS_LOG_LEVEL"] == "WARNING"
        listed = stack.lambda_.list_versions_by_function(FunctionName=name(function))
        kept = {one["Version"] for one in listed["Versions"]}
        assert kept == {"$LATEST", version["Version"]}, "old snapshots are paid for"
        assert before[function]["Version"] not in kept
    await an_answer_is_pushed(Deployed(changed))


async def test_it_can_be_switched_off_and_on_again(stack: LocalStack) -> None:
    off = again(stack, SnapStart="Off")
    assert off.function("publish") == name("publish")
    for function in FUNCTIONS:
        versions = off.lambda_.list_versions_by_function(FunctionName=name(function))
        assert [one["Version"] for one in versions["Versions"]] == ["$LATEST"]
    await an_answer_is_pushed(Deployed(off))
    on = again(stack, SnapStart="On")
    snapshots(on)
    await an_answer_is_pushed(Deployed(on))
