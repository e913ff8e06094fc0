"""How a stack is found: arguments, then the environment, then CloudFormation."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, ClassVar

import boto3
import pytest
from botocore.exceptions import ClientError, NoCredentialsError

from tailrace import deployment
from tailrace.adapters.apigateway import GatewayRefused
from tailrace.deployment import (
    STALE_SECONDS,
    Deployment,
    find,
    find_keys,
    find_transport,
)
from tailrace.direct import Telling
from tailrace.errors import Invalid
from tailrace.ids import new_run
from tailrace.ports import Push
from tailrace.transports.function import PublishFunction
from tailrace.transports.in_process import InProcess
from tailrace.watchers import Subscription
from tailrace.writers import Answer
from tests.support.worlds import STREAM, World

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
    key_ring_arn="arn:secret",
    socket_url="wss://socket",
    retention_hours=5,
    lease_seconds=20,
)
KINDS = ("function", "in-process")
TABLES = {"TAILRACE_LOG_TABLE": "l", "TAILRACE_STATE_TABLE": "s"}


class CloudFormation:
    """Knows one Tailrace stack, and one of somebody else."""

    parameters: ClassVar[dict[str, str]] = {}

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
                        {"ParameterKey": key, "ParameterValue": value}
                        for key, value in {
                            "RetentionHours": "5",
                            "LeaseSeconds": "20",
                            **self.parameters,
                        }.items()
                    ],
                }
            ]
        }


@pytest.fixture(autouse=True)
def clients(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, int]]:
    """Count the boto3 clients that are made; CloudFormation's is a fake."""
    made: dict[str, int] = {}
    session = boto3.Session("id", "key", region_name="eu-central-1")
    real = session.client

    def client(service: Any, **options: Any) -> Any:
        made[service] = made.get(service, 0) + 1
        if service == "cloudformation":
            return CloudFormation()
        return real(service, **options)

    monkeypatch.setattr(boto3, "DEFAULT_SESSION", session)
    monkeypatch.setattr(boto3, "client", client)
    monkeypatch.setattr(deployment, "_shared", [deployment._Shared()])
    yield made


def test_a_stack_is_found_by_its_name(clients: dict[str, int]) -> None:
    assert find("stack", {}) == FOUND
    assert find(None, {"TAILRACE_STACK": "stack"}) == FOUND
    assert clients == {"cloudformation": 1}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that a test moves."""
    now = [1_000.0]
    monkeypatch.setattr(deployment, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def test_a_stack_that_was_deployed_anew_is_found_within_minutes(
    clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a worker goes on as Feed in a stack that is Direct, or calls an alias that
    is no more, for as long as it lives."""
    monkeypatch.setitem(OUTPUTS, "PublishFunctionName", "stack-publish:live")
    before = [find_transport(kind, stack="stack") for kind in KINDS]
    monkeypatch.setitem(OUTPUTS, "PublishFunctionName", "stack-publish")
    monkeypatch.setitem(OUTPUTS, "ConnectionsUrl", "https://x/v1")
    monkeypatch.setattr(CloudFormation, "parameters", {"Delivery": "Direct"})
    clock[0] += STALE_SECONDS - 1
    assert [find_transport(kind, stack="stack") for kind in KINDS] == before
    clock[0] += 1
    function, tables = (find_transport(kind, stack="stack") for kind in KINDS)
    assert isinstance(function, PublishFunction)
    assert function._function == "stack-publish"
    assert isinstance(tables, InProcess)
    assert isinstance(tables._log.store, Telling)


@pytest.mark.parametrize("error", ["AccessDenied", "ValidationError", "Throttling"])
def test_what_is_known_of_a_stack_is_kept_while_nobody_tells_more(
    clock: list[float], monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    assert find("stack", {}) == FOUND
    asked: list[str] = []

    def refuse(self: CloudFormation, StackName: str) -> Any:  # noqa: N803
        asked.append(StackName)
        raise ClientError({"Error": {"Code": error}}, "DescribeStacks")

    monkeypatch.setattr(CloudFormation, "describe_stacks", refuse)
    clock[0] += STALE_SECONDS
    assert find("stack", {}) == find("stack", {}) == FOUND
    assert asked == ["stack"], "it costs a call each"


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
    [
        ("missing", "no 'missing' in eu-central-1; is AWS_DEFAULT_REGION right"),
        ("other", "no Tailrace stack"),
    ],
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
        (None, {**TABLES, "TAILRACE_DELIVERY": "x"}, "TAILRACE_DELIVERY"),
        (None, {**TABLES, "TAILRACE_DELIVERY": "Direct"}, "TAILRACE_CONNECTIONS"),
    ],
)
def test_what_is_missing_is_named(
    given: str | None, environ: dict[str, str], says: str
) -> None:
    with pytest.raises(Invalid, match=says):
        find_transport(given, environ=environ)


DIRECT = {"TAILRACE_DELIVERY": "Direct", "TAILRACE_CONNECTIONS_URL": "http://gateway"}


def test_the_mode_of_delivery_is_found_with_the_tables(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert find("stack", {}).delivery == "Feed"
    monkeypatch.setitem(OUTPUTS, "ConnectionsUrl", "https://gateway")
    monkeypatch.setattr(
        CloudFormation, "parameters", {"Delivery": "Direct", "PushInterval": "250"}
    )
    monkeypatch.setattr(deployment, "_shared", [deployment._Shared()])
    found = find("stack", {})
    assert (found.delivery, found.push_interval) == ("Direct", 250)
    assert found.connections_url == "https://gateway"
    told = find(None, {**TABLES, **DIRECT, "TAILRACE_PUSH_INTERVAL": "100"})
    assert (told.delivery, told.push_interval) == ("Direct", 100)
    assert told.connections_url == "http://gateway"
    assert find("stack", {"TAILRACE_DELIVERY": "Feed"}).delivery == "Direct"
    stack = {"TAILRACE_STACK": "stack"}
    assert find(None, {**stack, "TAILRACE_PUSH_INTERVAL": "0"}).push_interval == 0
    unset = {"TAILRACE_PUSH_INTERVAL": "", "TAILRACE_RETENTION_HOURS": ""}
    assert find(None, {**stack, **unset}) == found


def opened(
    monkeypatch: pytest.MonkeyPatch, world: World, gateway: type
) -> tuple[Any, Answer]:
    """Open a run in-process, in Direct delivery; return how, and the answer."""
    monkeypatch.setattr(deployment, "ApiGateway", gateway)
    monkeypatch.setattr(deployment, "DynamoDBLog", lambda *_: world.store)
    monkeypatch.setattr(deployment, "DynamoDBState", lambda *_: world.state)
    transport = find_transport(environ={**TABLES, **DIRECT})
    run = new_run(transport.clock(), bytes(10))
    answer = transport.open(
        STREAM, run, "w", on_active="supersede", lease=30, meta=None
    )
    return transport, answer


def test_in_direct_delivery_what_is_put_in_process_is_pushed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And what goes wrong there is said, once a minute, and fails nothing."""
    world, told = World(), list[Any]()

    class Gateway:
        def __init__(self, session: Any, url: str, *, connections: int) -> None:
            told.append(url)

        def push(self, connection: str, frame: str) -> Push:
            told.append((connection, json.loads(frame)["seq"]))
            if len(told) > 2:
                raise GatewayRefused(403)
            return Push.DONE

    world.state.subscribe(Subscription(STREAM, "c1", 1, 2**40), 0)
    transport, answer = opened(monkeypatch, world, Gateway)
    run = answer.run
    transport.renew(STREAM, run, "w", lease=30, handed_over=True)
    assert told == ["http://gateway", ("c1", 1)]
    for _ in range(2):
        answer = transport.append(STREAM, run, "w", answer.next, ["1"])
        transport.renew(STREAM, run, "w", lease=30, handed_over=True)
    assert [one.getMessage() for one in caplog.records] == [
        "pushes to watchers fail: GatewayRefused"
    ]


def test_that_no_watcher_can_be_reached_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A job whose network has a way to DynamoDB only. One watcher out of reach, among
    others, is no fault of ours."""
    world, reached = World(), {"c2"}

    class Gateway:
        def __init__(self, session: Any, url: str, *, connections: int) -> None: ...

        def push(self, connection: str, frame: str) -> Push:
            return Push.DONE if connection in reached else Push.FAILED

    for id in ("c1", "c2"):
        world.state.subscribe(Subscription(STREAM, id, 1, 2**40), 0)
    transport, answer = opened(monkeypatch, world, Gateway)
    run = answer.run
    for said in ([], ["pushes to watchers fail: no watcher can be reached"]):
        for _ in range(40):
            answer = transport.append(STREAM, run, "w", answer.next, ["1"])
            transport.renew(STREAM, run, "w", lease=30, handed_over=True)
        assert [one.getMessage() for one in caplog.records] == said
        reached.clear()


def test_a_process_makes_each_client_once(clients: dict[str, int]) -> None:
    first = find_transport(environ=TABLES)
    assert find_transport(environ=TABLES) is first
    assert find_transport(environ={**TABLES, "TAILRACE_RETENTION_HOURS": "1"}) is not (
        first
    )
    assert clients == {"dynamodb": 2}
    assert find_transport(first) is first


@pytest.mark.parametrize(
    "find",
    [
        lambda: find_transport(environ={"TAILRACE_PUBLISH_FUNCTION": "f"}),
        lambda: find_transport(environ=TABLES),
        lambda: find_keys("arn:secret"),
    ],
)
def test_a_process_that_had_no_credentials_looks_for_them_again(
    find: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    session = boto3.Session(region_name="eu-central-1")
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", session)
    monkeypatch.setattr(boto3, "client", session.client)
    coming = [None, boto3.Session("id", "key").get_credentials()]
    monkeypatch.setattr(session._session, "get_credentials", lambda: coming[0])
    with pytest.raises(NoCredentialsError):
        find()
    del coming[0]
    found = find()
    assert find() is found


def test_a_forked_child_shares_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    parents = find_transport(environ=TABLES)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert find_transport(environ=TABLES) is not parents


def test_the_tables_are_written_in_the_time_of_their_answers() -> None:
    transport = find_transport(environ=TABLES)
    assert isinstance(transport, InProcess)
    assert transport._log.retention == 72 * 3_600
    assert type(transport._log.clock).__name__ == "AwsClock"
