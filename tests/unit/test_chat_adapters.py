"""What starts jobs, and the queue of repairs, with a client that notes its calls."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tailrace.adapters.jobs import LambdaJobs
from tailrace.adapters.sqs import SqsRepairs, decode
from tailrace.errors import Invalid, Unavailable
from tailrace.ports import Repair


class Client:
    def __init__(self, *errors: str) -> None:
        self.calls: list[dict[str, Any]] = []
        self.errors = list(errors)

    def call(self, **given: Any) -> dict[str, Any]:
        self.calls.append(given)
        if self.errors:
            raise ClientError({"Error": {"Code": self.errors.pop(0)}}, "Call")
        return {}

    invoke = send_message = call


def test_a_job_is_invoked_asynchronously_with_its_event() -> None:
    client = Client()
    LambdaJobs(lambda: client, "answers").start({"sub": "u7", "text": "\ud83d"})
    (call,) = client.calls
    assert (call["FunctionName"], call["InvocationType"]) == ("answers", "Event")
    assert json.loads(call["Payload"]) == {"sub": "u7", "text": "\ud83d"}


def test_a_throttled_job_is_tried_again() -> None:
    client = Client("TooManyRequestsException")
    LambdaJobs(lambda: client, "answers").start({})
    assert len(client.calls) == 2


@pytest.mark.parametrize(
    "error", ["ResourceNotFoundException", "AccessDeniedException"]
)
def test_a_job_that_cannot_be_started_is_unavailable_to_the_client(error: str) -> None:
    client = Client(error)
    with pytest.raises(Unavailable, match=error):
        LambdaJobs(lambda: client, "answers").start({})
    assert len(client.calls) == 1


@pytest.mark.parametrize(
    "repair",
    [
        Repair("chat:42", "c1", "r1"),
        Repair("chat:42", "c1", "r1", watch=0),
        Repair("chat:42", "c1", "r1", watch=7),
        Repair("chat:42", "c1", "r1", tries=3),
        Repair("", "c1", "r1", frame="{}"),
    ],
)
def test_a_repair_comes_out_of_the_queue_as_it_went_in(repair: Repair) -> None:
    client = Client()
    SqsRepairs(lambda: client, "https://queue").ask(repair, 30)
    (call,) = client.calls
    assert (call["QueueUrl"], call["DelaySeconds"]) == ("https://queue", 30)
    assert decode({"Records": [{"body": call["MessageBody"]}]}) == [repair]


@pytest.mark.parametrize("event", [{}, {"Records": [{}]}, {"Records": [{"body": "7"}]}])
def test_what_is_no_repair_is_invalid(event: Any) -> None:
    with pytest.raises(Invalid):
        decode(event)
