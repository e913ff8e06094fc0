"""The stack deployed in Direct delivery: the same guarantees, and the least rights.

The change feed is filtered to `open` and `end` here: a live slice with chunks can only
have been pushed by whoever put them.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from demo.local_aws import REGION
from demo.stack import local_stack
from tailrace import Producer, consume, deployment
from tests.support.deployed import Deployed
from tests.support.runs import Run, every_kind_of_consumer_has_all
from tests.support.socket import TIMEOUT, Socket, open_socket

POST = "arn:aws:execute-api:*:*:*/v1/POST/@connections/*"


@pytest.fixture(scope="module")
def direct() -> Iterator[Deployed]:
    with local_stack(enforce_iam=True, parameters={"Delivery": "Direct"}) as stack:
        yield Deployed(stack)


def live(socket: Socket) -> list[Any]:
    """Return the chunks that were pushed, not replayed."""
    return [
        chunk
        for frame in socket.frames
        if frame["type"] == "slice" and not frame.get("replay")
        for chunk in frame.get("chunks", ())
    ]


async def test_a_thousand_chunks_reach_every_kind_of_consumer(
    direct: Deployed,
) -> None:
    """Through the publish function."""
    await every_kind_of_consumer_has_all(direct)


async def test_who_comes_in_mid_answer_is_shown_all_though_nothing_follows(
    direct: Deployed,
) -> None:
    """The publisher has listed the subscribers just before, and falls silent within the
    second."""
    for _ in range(2):  # the first finds the functions cold, and so is late
        run = Run(direct, direct.new_stream(), 2)
        await asyncio.to_thread(run.write, 1)
        token = direct.token(run.stream)
        watching = consume(direct.stack.socket_url, token, run.stream)
        shown = aiter(watching)
        async with asyncio.timeout(12):  # the next sync comes after 25 s
            assert await anext(shown) == run.chunks[0]
            await asyncio.to_thread(run.write, 1)
            assert await anext(shown) == run.chunks[1]
        await watching.aclose()


# ---- who may push --------------------------------------------------------------------


def deny(action: str, resource: str) -> dict[str, str]:
    statement = {"Effect": "Deny", "Action": action, "Resource": resource}
    document = {"Version": "2012-10-17", "Statement": [statement]}
    return {"PolicyName": "denied", "PolicyDocument": json.dumps(document)}


async def test_without_its_right_to_post_the_publish_function_appends_all_the_same(
    direct: Deployed,
) -> None:
    stack, run = direct.stack, Run(direct, direct.new_stream(), 20)
    role = stack.lambda_.get_function_configuration(
        FunctionName=stack.function("publish")
    )["Role"].rsplit("/", 1)[-1]
    async with open_socket(stack.socket_url, direct.token(run.stream)) as socket:
        await socket.ask("subscribe", "subscribed", stream=run.stream)
        # The list may be a second old.
        deadline = time.monotonic() + TIMEOUT
        while not live(socket) and time.monotonic() < deadline:
            await asyncio.to_thread(run.write, 1)
            try:
                async with asyncio.timeout(0.2):
                    await socket.receive()
            except TimeoutError:
                continue
        assert live(socket)
        stack.iam.put_role_policy(
            RoleName=role, **deny("execute-api:ManageConnections", POST)
        )
        try:
            written = run.written
            await asyncio.to_thread(run.write, 1)
            assert any("a push failed" in line for line in stack.logs("publish"))
        finally:
            stack.iam.delete_role_policy(RoleName=role, PolicyName="denied")
        await asyncio.to_thread(run.end)
        await socket.until(lambda frame: "end" in frame)
    assert run.chunks[written] not in live(socket)


@pytest.fixture
def policy_only(direct: Deployed, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Be somebody who has the exported policy for publishing in-process, and nothing
    else; yield the user's name."""
    stack = direct.stack
    user = f"producer-{uuid.uuid4().hex[:8]}"
    policy = stack.outputs["PublishInProcessPolicyArn"]
    stack.iam.create_user(UserName=user)
    stack.iam.attach_user_policy(UserName=user, PolicyArn=policy)
    key = stack.iam.create_access_key(UserName=user)["AccessKey"]
    for name, value in {
        "AWS_ENDPOINT_URL": stack.endpoint,
        "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
        "AWS_DEFAULT_REGION": REGION,
        "TAILRACE_LOG_TABLE": stack.log_table,
        "TAILRACE_STATE_TABLE": stack.state_table,
        "TAILRACE_CONNECTIONS_URL": stack.outputs["ConnectionsUrl"],
        "TAILRACE_FANOUT_FUNCTION": stack.function("fanout"),
        "TAILRACE_DELIVERY": "Direct",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    monkeypatch.setattr(deployment, "_shared", [deployment._Shared()])
    yield user
    stack.iam.delete_access_key(UserName=user, AccessKeyId=key["AccessKeyId"])
    stack.iam.detach_user_policy(UserName=user, PolicyArn=policy)
    stack.iam.delete_user(UserName=user)


async def test_the_in_process_policy_lets_a_producer_push_and_forget_who_is_gone(
    direct: Deployed, policy_only: str, caplog: pytest.LogCaptureFixture
) -> None:
    stack, stream = direct.stack, direct.new_stream()
    key = {"pk": {"S": f"stream#{stream}"}, "sk": {"S": "nobody"}}
    later = {"N": str(int(time.time()) + 600)}
    stack.dynamodb.put_item(
        TableName=stack.state_table,
        Item={**key, "n": {"N": "1"}, "exp": later, "expires_at": later},
    )
    chunks = [f"{number} " for number in range(50)]

    def work() -> None:
        with Producer(stream, transport="in-process") as producer:
            for chunk in chunks:
                producer.write(chunk)
                time.sleep(0.01)

    async with open_socket(stack.socket_url, direct.token(stream)) as socket:
        await socket.ask("subscribe", "subscribed", stream=stream)
        working = asyncio.create_task(asyncio.to_thread(work))
        await socket.until(lambda frame: "end" in frame)
        await working
    pushed = live(socket)
    assert pushed == [chunk for chunk in chunks if chunk in pushed] != []
    assert "Item" not in stack.dynamodb.get_item(TableName=stack.state_table, Key=key)
    assert "pushes to watchers fail" not in caplog.text


@pytest.mark.parametrize(
    ("action", "resource"),
    [
        ("execute-api:ManageConnections", POST),
        ("dynamodb:Query", "arn:aws:dynamodb:*:*:table/*State*"),
    ],
)
def test_without_one_of_its_rights_a_producer_in_process_says_so_and_goes_on(
    direct: Deployed,
    policy_only: str,
    caplog: pytest.LogCaptureFixture,
    action: str,
    resource: str,
) -> None:
    stack, stream = direct.stack, direct.new_stream()
    later = {"N": str(int(time.time()) + 600)}
    stack.iam.put_user_policy(UserName=policy_only, **deny(action, resource))
    try:
        with Producer(stream, transport="in-process") as producer:
            # A push that is merely slow is no complaint.
            by = time.monotonic() + TIMEOUT
            while "pushes to watchers fail" not in caplog.text:
                assert time.monotonic() < by, "it says nothing"
                # Anew each time: the feed's net has its rights, may be the first to
                # push to it, and drops what is gone.
                stack.dynamodb.put_item(
                    TableName=stack.state_table,
                    Item={
                        "pk": {"S": f"stream#{stream}"}, "sk": {"S": "nobody"},
                        "n": {"N": "1"}, "exp": later, "expires_at": later,
                    },
                )  # fmt: skip
                producer.write("a")
                time.sleep(0.05)
    finally:
        stack.iam.delete_user_policy(UserName=policy_only, PolicyName="denied")
    assert direct.ask("tail", stream)["reason"] == "completed"
