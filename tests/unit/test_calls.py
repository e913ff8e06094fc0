"""How AWS is called: what is tried again, how often, and until when."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ReadTimeoutError,
)

from tailrace.adapters import calls
from tailrace.errors import Unavailable

BROKEN: Any = {"ResponseMetadata": {"HTTPStatusCode": 503}}
PASSING = [
    ClientError({"Error": {"Code": "ThrottlingException"}}, "PutItem"),
    # CloudFormation's and SQS's words for it, with a status of 400.
    ClientError({"Error": {"Code": "Throttling"}}, "DescribeStacks"),
    ClientError({"Error": {"Code": "RequestThrottled"}}, "SendMessage"),
    # A version of which Lambda is making a snapshot, with a 409.
    ClientError({"Error": {"Code": "SnapStartNotReadyException"}}, "Invoke"),
    # And that has not woken in time, with a 408.
    ClientError({"Error": {"Code": "SnapStartTimeoutException"}}, "Invoke"),
    ClientError(BROKEN, "PutItem"),
    ReadTimeoutError(endpoint_url="https://example.invalid"),
]


class Time:
    """Time that goes on only in sleeps, each as long as `asleep` says."""

    def __init__(self) -> None:
        self.now = 0.0
        self.asleep: Callable[[float], float] = lambda seconds: seconds

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += self.asleep(seconds)


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    monkeypatch.setattr(calls, "time", time)
    return time


def failing(error: Exception, times: int) -> tuple[Callable[[], str], list[int]]:
    tries: list[int] = []

    def call() -> str:
        tries.append(1)
        if len(tries) <= times:
            raise error
        return "answer"

    return call, tries


@pytest.mark.parametrize("error", PASSING, ids=lambda error: type(error).__name__)
def test_what_may_pass_is_tried_again(time: Time, error: Exception) -> None:
    call, tries = failing(error, calls.TRIES - 1)
    assert calls.attempt(call) == "answer"
    call, tries = failing(error, 99)
    with pytest.raises(Unavailable):
        calls.attempt(call)
    assert len(tries) == calls.TRIES


def test_who_waits_longer_may_try_more_often(time: Time) -> None:
    call, tries = failing(PASSING[0], 7)
    assert calls.attempt(call, 8) == "answer"
    assert len(tries) == 8


def test_what_is_wrong_with_the_call_is_raised_as_it_is(time: Time) -> None:
    wrong = ClientError({"Error": {"Code": "AccessDeniedException"}}, "PutItem")
    call, tries = failing(wrong, 99)
    with pytest.raises(ClientError) as told:
        calls.attempt(call)
    assert (told.value, len(tries)) == (wrong, 1)


def test_a_process_that_stood_still_does_not_put_hours_later(time: Time) -> None:
    """Rule 7: by then, what the put relies on may be gone."""
    time.asleep = lambda seconds: 7_200.0
    call, tries = failing(PASSING[0], 1)
    with pytest.raises(Unavailable):
        calls.attempt(call)
    assert len(tries) == 1


def test_an_unavailable_names_no_content(time: Time) -> None:
    said: Any = {"Error": {"Code": "ThrottlingException", "Message": "secret"}}
    call, _ = failing(ClientError(said, "PutItem"), 99)
    with pytest.raises(Unavailable) as told:
        calls.attempt(call)
    assert told.value.message == "AWS: ThrottlingException"


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://lambda.eu-wset-1.amazonaws.com/2015-03-31/functions/f/invocations",
         "lambda.eu-wset-1.amazonaws.com"),
        ("http://me:secret@127.0.0.1:4566/", "127.0.0.1:4566"),
        ("https://123456789012.ddb.us-east-1.amazonaws.com/",
         "ddb.us-east-1.amazonaws.com"),
    ],
)  # fmt: skip
def test_an_unavailable_names_the_host_that_was_not_reached(
    time: Time, url: str, host: str
) -> None:
    for kind in (EndpointConnectionError, ConnectTimeoutError):
        call, _ = failing(kind(endpoint_url=url), 99)
        with pytest.raises(Unavailable) as told:
            calls.attempt(call)
        assert told.value.message == f"AWS: {kind.__name__} at {host}"


def test_an_answer_that_is_hours_old_is_no_answer(time: Time) -> None:
    def call() -> str:
        time.now += 3 * 3600
        return "answer"

    with pytest.raises(Unavailable, match="stood still"):
        calls.attempt(call)


def test_processes_that_go_on_from_one_snapshot_try_again_at_different_times(
    time: Time,
) -> None:
    waits = set()
    state = random.getstate()
    for _ in range(20):
        random.setstate(state)
        begun = time.now
        calls.attempt(failing(PASSING[0], 1)[0])
        waits.add(time.now - begun)
    assert len(waits) == 20
