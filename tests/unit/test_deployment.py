"""How a stack is found: arguments, then the environment, then CloudFormation."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from tailrace import deployment
from tailrace.deployment import Deployment, find, find_transport
from tailrace.errors import Invalid
from tailrace.transports.function import PublishFunction
from tailrace.transports.in_process import InProcess

OUTPUTS = {
    "SocketUrl": "wss://socket",
    "PublishFunctionName": "stack-publish",
    "LogTable": "stack-log",
    "StateTable": "stack-state",
    "KeyRingArn": "arn:secret",
}
FOUND = Deployment(
    function="stack-publish",
    log_table="stack-log",
    state_table="stack-state",
    secret="arn:secret",
    socket_url="wss://socket",
    retention_hours=5,
    lease_seconds=20,
)
TABLES = {"TAILRACE_LOG_TABLE": "l", "TAILRACE_STATE_TABLE": "s"}


class CloudFormation:
    """Knows one Tailrace stack, and one of somebody else."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.meta = type("Meta", (), {"region_name": "eu-central-1"})

    def describe_stacks(self, StackName: str) -> Any:  # noqa: N803
        self.asked.append(StackName)
        if StackName == "stack":
            outputs = OUTPUTS
        elif StackName == "other":
            outputs = {"BucketName": "b"}
        else:
            code = "ValidationError" if StackName == "missing" else "AccessDenied"
            raise ClientError({"Error": {"Code": code}}, "DescribeStacks")
        return {
            "Stacks": [
                {
                    "Outputs": [
                        {"OutputKey": key, "OutputValue": value}
                        for key, value in outputs.items()
                    ],
                    "Parameters": [
                        {"ParameterKey": "RetentionHours", "ParameterValue": "5"},
                        {"ParameterKey": "LeaseSeconds", "ParameterValue": "20"},
                    ],
                }
            ]
        }


@pytest.fixture(autouse=True)
def clients(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, int]]:
    """Count the boto3 clients that are made; CloudFormation's is a fake."""
    made: dict[str, int] = {}
    real = boto3.Session("id", "key", region_name="eu-central-1").client

    def client(service: Any, **options: Any) -> Any:
        made[service] = made.get(service, 0) + 1
        if service == "cloudformation":
            return CloudFormation()
        return real(service, **options)

    monkeypatch.setattr(boto3, "client", client)
    monkeypatch.setattr(deployment, "_shared", [deployment._Shared()])
    yield made


def test_a_stack_is_found_by_its_name(clients: dict[str, int]) -> None:
    assert find("stack", {}) == FOUND
    assert find(None, {"TAILRACE_STACK": "stack"}) == FOUND
    assert clients == {"cloudformation": 1}


def test_the_name_that_is_given_counts_more_than_the_environment() -> None:
    assert find("stack", {"TAILRACE_PUBLISH_FUNCTION": "mine", **TABLES}) == FOUND


def test_what_the_environment_names_counts_more_than_the_stack_that_it_names() -> None:
    environ = {
        "TAILRACE_STACK": "stack",
        "TAILRACE_SOCKET_URL": "ws://proxy",
        "TAILRACE_RETENTION_HOURS": "1",
    }
    found = find(None, environ)
    assert (found.socket_url, found.retention_hours) == ("ws://proxy", 1)
    assert (found.function, found.lease_seconds) == ("stack-publish", 20)


@pytest.mark.parametrize(
    ("name", "says"),
    [("missing", "no 'missing' in eu-central-1"), ("other", "no Tailrace stack")],
)
def test_a_stack_that_is_none_is_named(name: str, says: str) -> None:
    with pytest.raises(Invalid, match=says):
        find(name, {})


def test_what_aws_forbids_is_raised_as_it_is() -> None:
    with pytest.raises(ClientError, match="AccessDenied"):
        find("forbidden", {})


@pytest.mark.parametrize(
    ("given", "environ", "kind"),
    [
        (None, {"TAILRACE_STACK": "stack"}, PublishFunction),
        ("in-process", {"TAILRACE_STACK": "stack"}, InProcess),
        (None, {"TAILRACE_PUBLISH_FUNCTION": "f"}, PublishFunction),
        (None, TABLES, InProcess),
        (None, {**TABLES, "TAILRACE_PUBLISH_FUNCTION": "f"}, PublishFunction),
        ("in-process", {**TABLES, "TAILRACE_PUBLISH_FUNCTION": "f"}, InProcess),
        (None, {"TAILRACE_STACK": "stack", "TAILRACE_TRANSPORT": "in-process"},
         InProcess),
        ("function", {"TAILRACE_STACK": "stack", "TAILRACE_TRANSPORT": "in-process"},
         PublishFunction),
    ],
)  # fmt: skip
def test_the_transport_is_chosen_by_what_is_configured(
    given: str | None, environ: dict[str, str], kind: type
) -> None:
    assert type(find_transport(given, environ=environ)) is kind


@pytest.mark.parametrize(
    ("given", "environ", "says"),
    [
        (None, {}, "TAILRACE_STACK"),
        (None, {"TAILRACE_LOG_TABLE": "l"}, "TAILRACE_STATE_TABLE"),
        ("function", TABLES, "TAILRACE_PUBLISH_FUNCTION"),
        ("in-process", {"TAILRACE_PUBLISH_FUNCTION": "f"}, "TAILRACE_LOG_TABLE"),
        ("carrier-pigeon", TABLES, "transport"),
        (None, {**TABLES, "TAILRACE_TRANSPORT": "x"}, "TAILRACE_TRANSPORT"),
        (None, {**TABLES, "TAILRACE_RETENTION_HOURS": "x"}, "TAILRACE_RETENTION"),
    ],
)
def test_what_is_missing_is_named(
    given: str | None, environ: dict[str, str], says: str
) -> None:
    with pytest.raises(Invalid, match=says):
        find_transport(given, environ=environ)


def test_a_process_makes_each_client_once(clients: dict[str, int]) -> None:
    first = find_transport(environ=TABLES)
    assert find_transport(environ=TABLES) is first
    assert find_transport(environ={**TABLES, "TAILRACE_RETENTION_HOURS": "1"}) is not (
        first
    )
    assert clients == {"dynamodb": 2}
    assert find_transport(first) is first


def test_a_forked_child_shares_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    parents = find_transport(environ=TABLES)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert find_transport(environ=TABLES) is not parents


def test_the_tables_are_written_in_the_time_of_their_answers() -> None:
    transport = find_transport(environ=TABLES)
    assert isinstance(transport, InProcess)
    assert transport._log.retention == 72 * 3_600
    assert type(transport._log.clock).__name__ == "AwsClock"
