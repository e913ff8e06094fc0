"""A Lambda function that answers with Bedrock, and stops when somebody presses stop.

Invoke it asynchronously with `{"stream", "run", "messages"}`. Its role needs
`bedrock:InvokeModelWithResponseStream`, and the stack's `PublishInvokePolicyArn`; its
environment `TAILRACE_PUBLISH_FUNCTION` and `MODEL`. Lambda delivers an event again if
an attempt fails: a run that has begun is then answered anew.
"""

import os
from functools import cache
from typing import Any

import boto3

from tailrace import Busy, Cancelled, Producer, StreamEnded, Superseded


@cache
def bedrock() -> Any:
    return boto3.client("bedrock-runtime")


def handler(event: dict[str, Any], context: Any) -> None:
    try:
        answer(event)
    except (Cancelled, Superseded):
        return  # nobody wants this answer any more
    except (Busy, StreamEnded):
        return  # another delivery of this event is at it, or has done it


def answer(event: dict[str, Any]) -> None:
    model = os.environ["MODEL"]
    with Producer(
        event["stream"], run=event["run"], resume="restart", meta={"model": model}
    ) as stream:
        response = bedrock().converse_stream(modelId=model, messages=event["messages"])
        try:
            for chunk in response["stream"]:
                stream.write(chunk)
        finally:
            response["stream"].close()  # Bedrock stops, and so does its bill
