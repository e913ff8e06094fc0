"""A job that is a Lambda function: with nothing but the stack's policy, it hands its
run from invocation to invocation, each of which is delivered twice."""

from __future__ import annotations

import io
import json
import time
import zipfile
from collections.abc import Iterator

import pytest

from demo.stack import LocalStack
from tests.support.deployed import Deployed

ALL = 30

CODE = """
import json
import boto3
from tailrace import Busy, Producer, StreamEnded

client = boto3.client("lambda")

def handler(event, context):
    assert context.get_remaining_time_in_millis() > 0
    try:
        with Producer(event["stream"], **event.get("hand_over", {})) as stream:
            for number in range(stream.already, event["all"]):
                stream.write(number)
                if number % 10 == 9 and number + 1 < event["all"]:
                    event["hand_over"] = stream.hand_over()
                    for _ in "ab":
                        client.invoke(
                            FunctionName=context.function_name,
                            InvocationType="Event",
                            Payload=json.dumps(event),
                        )
                    return "handed over"
    except (Busy, StreamEnded) as refused:
        return refused.code
    return "done"
"""
TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": "lambda.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
    ],
}
INVOKE_ITSELF = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Action": "lambda:InvokeFunction",
            "Resource": "arn:aws:lambda:*:*:*:agent",
        }
    ],
}


@pytest.fixture
def agent(stack: LocalStack) -> Iterator[str]:
    """Create the function; return its name."""
    role = stack.iam.create_role(
        RoleName="agent", AssumeRolePolicyDocument=json.dumps(TRUST)
    )["Role"]
    policy = stack.outputs["PublishInvokePolicyArn"]
    stack.iam.attach_role_policy(RoleName="agent", PolicyArn=policy)
    stack.iam.put_role_policy(
        RoleName="agent",
        PolicyName="itself",
        PolicyDocument=json.dumps(INVOKE_ITSELF),
    )
    publish = stack.lambda_.get_function_configuration(
        FunctionName=stack.function("publish")
    )
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("app.py", CODE)
    stack.lambda_.create_function(
        FunctionName="agent",
        Runtime="python3.13",
        Handler="app.handler",
        Role=role["Arn"],
        Code={"ZipFile": code.getvalue()},
        Layers=[layer["Arn"] for layer in publish["Layers"]],
        Timeout=30,
        Environment={
            "Variables": {"TAILRACE_PUBLISH_FUNCTION": stack.function("publish")}
        },
    )
    yield "agent"
    stack.lambda_.delete_function(FunctionName="agent")


def test_one_run_of_many_invocations(
    deployed: Deployed, stack: LocalStack, agent: str
) -> None:
    stream = deployed.new_stream()
    payload = json.dumps({"stream": stream, "all": ALL})
    first = stack.lambda_.invoke(FunctionName=agent, Payload=payload)
    assert json.loads(first["Payload"].read()) == "handed over"
    deadline = time.monotonic() + 60
    while deployed.ask("tail", stream)["kind"] != "end":
        assert time.monotonic() < deadline, "the agent never came to its end"
        time.sleep(0.1)
    answer = deployed.ask("read", stream)
    slices = [json.loads(text) for text in answer["slices"]]
    chunks = [chunk for piece in slices for chunk in piece.get("chunks", [])]
    assert chunks == list(range(ALL))
    assert sum("claim" in piece for piece in slices) == 2
    assert slices[-1]["end"] == {"reason": "completed"}
