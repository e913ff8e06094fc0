"""Shares are handed over by invocations of which nobody makes a second."""

from __future__ import annotations

import io
import json
import threading
from typing import Any

import pytest
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ReadTimeoutError,
)

from tailrace.adapters.relay import LambdaRelay
from tailrace.watchers import Share, Subscription


def share(frame: str = "{}") -> Share:
    return Share([Subscription("s", "c1", 1, 5)], [frame], 9)


class Lambda:
    """Answers invocations."""

    def __init__(self, answer: Any = None) -> None:
        self.answer = answer or {"StatusCode": 200}
        if isinstance(self.answer, dict):
            self.answer.setdefault("Payload", io.BytesIO(b"{}"))
        self.invoked: list[dict[str, Any]] = []

    def invoke(self, **call: Any) -> Any:
        self.invoked.append(call)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Relay(LambdaRelay):
    def __init__(self, client: Any) -> None:
        self.counted: dict[str, int] = {}
        super().__init__(lambda: client, "tailrace-fanout", count=self.add)

    def add(self, name: str, value: int) -> None:
        self.counted[name] = self.counted.get(name, 0) + value


def refused(code: str, status: int) -> ClientError:
    return ClientError(
        {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}},  # type: ignore[typeddict-item]
        "Invoke",
    )


def test_a_share_is_an_invocation_whose_end_is_waited_for() -> None:
    client = Lambda()
    assert Relay(client).hand_over(share())() is True
    (call,) = client.invoked
    assert call["FunctionName"] == "tailrace-fanout"
    assert json.loads(call["Payload"])["share"]["subscriptions"] == [
        ["s", "c1", 1, 5, 0]
    ]


def test_shares_are_pushed_side_by_side() -> None:
    meet = threading.Barrier(3)

    class Busy(Lambda):
        def invoke(self, **call: Any) -> Any:
            meet.wait(10)
            return super().invoke(**call)

    relay = Relay(Busy())
    assert [wait() for wait in [relay.hand_over(share()) for _ in range(3)]] == (
        [True] * 3
    )


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("TooManyRequestsException", 429),
        ("AccessDeniedException", 403),
        ("ResourceNotFoundException", 404),
        ("RequestTooLargeException", 413),
    ],
)
def test_what_did_not_begin_is_said(code: str, status: int) -> None:
    relay = Relay(Lambda(refused(code, status)))
    assert relay.hand_over(share())() is False
    assert not relay.counted.get("SharesLost")


@pytest.mark.parametrize(
    "answer",
    [
        refused("ServiceException", 500),
        ReadTimeoutError(endpoint_url="https://lambda"),
        {"StatusCode": 200, "FunctionError": "Unhandled"},
    ],
)
def test_what_may_have_been_pushed_is_not_pushed_again(answer: Any) -> None:
    """A gap is repaired; two pushes to one connection at a time have no order."""
    relay = Relay(Lambda(answer))
    assert relay.hand_over(share())() is True
    assert relay.counted == {"SharesLost": 1}


@pytest.mark.parametrize("error", [EndpointConnectionError, ConnectTimeoutError])
def test_what_did_not_even_leave_is_said(error: type[Exception]) -> None:
    """A job in a network that has a way to DynamoDB only."""
    relay = Relay(Lambda(error(endpoint_url="https://lambda")))  # type: ignore[call-arg]
    assert relay.hand_over(share())() is False
    assert not relay.counted.get("SharesLost")


def test_an_answer_is_read_so_that_its_connection_serves_the_next() -> None:
    client = Lambda()
    Relay(client).hand_over(share())()
    assert client.answer["Payload"].read() == b""


def test_more_than_an_invocation_takes_is_not_handed_over() -> None:
    client = Lambda()
    assert Relay(client).hand_over(share("x" * 5_000_000))() is False
    assert client.invoked == []
