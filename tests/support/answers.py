"""A job function beside the stack: it answers what is sent over the socket."""

from __future__ import annotations

import io
import json
import zipfile

from demo.stack import LocalStack

JOB = "answers"

CODE = """
import time
from tailrace import Asked, Producer, PublicError, job

@job(lease=5)
def handler(asked: Asked, stream: Producer) -> None:
    wants = asked.untrusted.get("body", {})
    stream.write({"type": "start", "messageId": stream.run})
    stream.write({"type": "text-start", "id": "t"})
    for number in range(wants.get("all", 20)):
        stream.write({"type": "text-delta", "id": "t", "delta": f"{number} "})
        time.sleep(wants.get("pause", 0))
    if wants.get("fails"):
        raise PublicError("No such model.")
    stream.write({"type": "text-end", "id": "t"})
    stream.write({"type": "data-asked", "data": {"sub": asked.sub}})
    stream.write({"type": "finish"})
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


def deploy_job(stack: LocalStack) -> None:
    """Create the function that the stack's `JobFunction` names."""
    role = stack.iam.create_role(
        RoleName=JOB, AssumeRolePolicyDocument=json.dumps(TRUST)
    )["Role"]
    policy = stack.outputs["PublishInvokePolicyArn"]
    stack.iam.attach_role_policy(RoleName=JOB, PolicyArn=policy)
    publish = stack.lambda_.get_function_configuration(
        FunctionName=stack.function("publish")
    )
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("app.py", CODE)
    stack.lambda_.create_function(
        FunctionName=JOB,
        Runtime="python3.13",
        Handler="app.handler",
        Role=role["Arn"],
        Code={"ZipFile": code.getvalue()},
        Layers=[layer["Arn"] for layer in publish["Layers"]],
        Timeout=60,
        Environment={
            "Variables": {"TAILRACE_PUBLISH_FUNCTION": stack.function("publish")}
        },
    )
