"""Finds a deployed stack: what a caller names, else the environment, else the stack's
CloudFormation outputs.

    TAILRACE_STACK             name of the stack: everything else is found by it
    TAILRACE_PUBLISH_FUNCTION  the publish function
    TAILRACE_LOG_TABLE, TAILRACE_STATE_TABLE, TAILRACE_RETENTION_HOURS
                               the tables, to publish in-process
    TAILRACE_DELIVERY, TAILRACE_CONNECTIONS_URL, TAILRACE_PUSH_INTERVAL,
    TAILRACE_FANOUT_FUNCTION   "Direct", the stage's @connections endpoint, the
                               milliseconds between pushes, and the function that takes
                               shares of large audiences, to push what is published
                               in-process
    TAILRACE_TRANSPORT         "function" or "in-process", where both are known
    TAILRACE_KEY_RING_ARN      the key ring's secret, to mint tokens
    TAILRACE_SOCKET_URL        where consumers connect
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import boto3
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from .adapters.apigateway import ApiGateway
from .adapters.background import PUSHERS, Background, background
from .adapters.calls import AwsClock, attempt, code, config
from .adapters.dynamodb import DynamoDBLog, DynamoDBState
from .adapters.relay import ANSWER_SECONDS, INVOCATIONS, LambdaRelay
from .adapters.secretsmanager import SecretKeys
from .config import Settings, from_environment
from .direct import Telling
from .errors import Invalid, TailraceError
from .log import Log
from .ports import LogStore
from .transports.function import PublishFunction
from .transports.in_process import InProcess
from .writers import Transport

# As many calls as there may be producers at once: a pool that is too small throws
# connections away.
_CONNECTIONS = 128
# A cold start takes a second or two; a second try of an append waits for no answer.
_INVOKE_SECONDS = 10
# How long an `end` or a handover waits for the pushes of its stream, at most.
_SETTLE_SECONDS = 1.0
# So many slices that could not be pushed, and none that could, are told.
_IN_VAIN = 20
# CloudFormation lets an account ask little at a time: for jobs that start together.
_TRIES = 8
STALE_SECONDS = 300
"""How long what CloudFormation says of a stack is good for."""

_DEFAULTS = Settings()
_log = logging.getLogger("tailrace")

T = TypeVar("T")


class NoStack(Invalid):
    """There is no stack of that name, or none is named at all."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """The parts of a stack, as far as they are known ("" if not)."""

    function: str = ""
    log_table: str = ""
    state_table: str = ""
    key_ring_arn: str = ""
    socket_url: str = ""
    retention_hours: int = _DEFAULTS.retention_hours
    lease_seconds: int = _DEFAULTS.lease_seconds
    delivery: str = _DEFAULTS.delivery
    connections_url: str = ""
    push_interval: int = _DEFAULTS.push_interval
    fanout_function: str = ""
    transport: str = ""


def find(
    stack: str | None = None, environ: Mapping[str, str] | None = None
) -> Deployment:
    """Return the stack of that name, else what the environment tells, where what it
    names itself counts more than the stack that it names."""
    environ = os.environ if environ is None else environ
    settings = from_environment(environ)
    transport = environ.get("TAILRACE_TRANSPORT", "")
    if transport not in ("", "function", "in-process"):
        raise Invalid('environment: TAILRACE_TRANSPORT must be "function"/"in-process"')
    if stack is not None:
        return replace(of_stack(stack), transport=transport)
    named = environ.get("TAILRACE_STACK")
    found = of_stack(named) if named else Deployment()
    told: dict[str, Any] = {
        "function": environ.get("TAILRACE_PUBLISH_FUNCTION"),
        "log_table": settings.log_table,
        "state_table": settings.state_table,
        "key_ring_arn": settings.key_ring_arn,
        "socket_url": environ.get("TAILRACE_SOCKET_URL"),
        "connections_url": settings.connections_url,
        "fanout_function": settings.fanout_function,
        "transport": transport,
    }
    told = {name: value for name, value in told.items() if value}
    for name in ("retention_hours", "lease_seconds", "delivery", "push_interval"):
        if environ.get(f"TAILRACE_{name.upper()}"):
            told[name] = getattr(settings, name)
    return replace(found, **told)


def of_stack(name: str) -> Deployment:
    """Return what CloudFormation says of a stack (`cloudformation:DescribeStacks`), or
    said within the last minutes."""
    return _once(("stack", name), lambda: _Stack(name)).known()


def find_transport(
    transport: Transport | str | None = None,
    *,
    stack: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> Transport:
    """Return how to publish: `transport` itself, or `"function"` or `"in-process"` of
    the stack; without either, the publish function if one is known, else the tables.

    One transport, and its boto3 clients, serves a whole process. `Invalid` says what
    is missing; without credentials it is boto3's `NoCredentialsError`.
    """
    if transport is not None and not isinstance(transport, str):
        return transport
    found = find(stack, environ)
    kind = transport or found.transport
    if kind not in ("", "function", "in-process"):
        raise Invalid('transport: must be "function" or "in-process"')
    tables = bool(found.log_table and found.state_table)
    if not kind:
        kind = "function" if found.function else "in-process"
        if not found.function and not tables:
            raise NoStack(
                'no stack is known: give `stack="<name>"`, or set TAILRACE_STACK,'
                " TAILRACE_PUBLISH_FUNCTION, or TAILRACE_LOG_TABLE and"
                " TAILRACE_STATE_TABLE"
            )
    if kind == "function":
        if not found.function:
            raise Invalid("no publish function is known: TAILRACE_PUBLISH_FUNCTION")
        return _once(("function", found.function), lambda: _function(found))
    if not tables:
        raise Invalid("no tables are known: TAILRACE_LOG_TABLE, TAILRACE_STATE_TABLE")
    return _once(("in-process", found), lambda: _in_process(found))


def find_keys(key_ring_arn: str) -> SecretKeys:
    """Return the key ring in a secret, by its ARN or name."""
    return _once(
        ("keys", key_ring_arn),
        lambda: SecretKeys(_client("secretsmanager", read_timeout=3), key_ring_arn),
    )


def _client(service: Any, **options: Any) -> Any:
    """Return a client that is going to be kept. Made without credentials, it would
    never look for them again."""
    if boto3.DEFAULT_SESSION is None:
        boto3.setup_default_session()
    assert boto3.DEFAULT_SESSION is not None
    if boto3.DEFAULT_SESSION.get_credentials() is None:
        raise NoCredentialsError
    return boto3.client(service, config=config(**options))


def _function(found: Deployment) -> Transport:
    client = _client("lambda", read_timeout=_INVOKE_SECONDS, connections=_CONNECTIONS)
    return PublishFunction(client, found.function)


def _in_process(found: Deployment) -> Transport:
    client = _client("dynamodb", read_timeout=3, connections=_CONNECTIONS)
    clock = AwsClock()
    clock.watch(client)
    store: LogStore = DynamoDBLog(client, found.log_table)
    state = DynamoDBState(client, found.state_table)
    settle: Callable[[str], Any] = lambda stream: None  # noqa: E731
    if found.delivery == "Direct":
        pushes = _background(found, state, clock)
        store = Telling(store, pushes.tell)
        settle = partial(pushes.settle, _SETTLE_SECONDS)
    log = Log(
        store,
        state,
        clock,
        retention=found.retention_hours * 3600,
        lease=found.lease_seconds,
    )
    return InProcess(log, settle)


def _background(found: Deployment, state: DynamoDBState, clock: AwsClock) -> Background:
    if not found.connections_url:
        raise Invalid("no gateway is known: TAILRACE_CONNECTIONS_URL")
    session = boto3.DEFAULT_SESSION or boto3.Session()
    gateway = ApiGateway(session, found.connections_url, connections=PUSHERS)
    complaint = _Complaint()
    return background(
        state,
        gateway,
        clock,
        complaint,
        relay=LambdaRelay(_invoker, found.fanout_function)
        if found.fanout_function
        else None,
        interval=found.push_interval,
        count=complaint.count,
    )


def _invoker() -> Any:
    return _once(
        ("shares",),
        lambda: _client("lambda", read_timeout=ANSWER_SECONDS, connections=INVOCATIONS),
    )


class _Complaint:
    """Says that pushes fail, at most once a minute: the log has all, and who watches
    asks for it, but each time only when a gap is seen."""

    def __init__(self) -> None:
        self._said: float | None = None
        self._in_vain = 0

    def __call__(self, error: Exception) -> None:
        self._say(type(error).__name__)

    def count(self, name: str, value: int) -> None:
        """Take what deliveries count. One client that is out of reach is no fault of
        ours; where none is in reach, it is the gateway that is not."""
        if name == "SlicesPushed" and value:
            self._in_vain = 0
        elif name == "SlicesDropped":
            self._in_vain += value
            if self._in_vain >= _IN_VAIN:
                self._say("no watcher can be reached")

    def _say(self, what: str) -> None:
        now = time.monotonic()
        if self._said is None or now - self._said >= 60:
            self._said = now
            _log.warning("pushes to watchers fail: %s", what)


_OUTPUTS = {
    "function": "PublishFunctionName",
    "log_table": "LogTable",
    "state_table": "StateTable",
    "key_ring_arn": "KeyRingArn",
    "socket_url": "SocketUrl",
    "connections_url": "ConnectionsUrl",
    "fanout_function": "FanoutFunctionName",
}


class _Stack:
    """What is known of a stack, which may be deployed anew while a process lives."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._client = boto3.client("cloudformation", config=config(read_timeout=10))
        self._asked_at = time.monotonic()
        self._found = _describe(self._client, name, _TRIES)

    def known(self) -> Deployment:
        now = time.monotonic()
        if now - self._asked_at >= STALE_SECONDS:
            # Before the call: of several threads one makes it.
            self._asked_at = now
            # If it does not answer, nor let us ask any more, all is as it was.
            with contextlib.suppress(TailraceError, BotoCoreError, ClientError):
                self._found = _describe(self._client, self._name, tries=1)
        return self._found


def _describe(client: Any, name: str, tries: int) -> Deployment:
    try:
        answer = attempt(lambda: client.describe_stacks(StackName=name), tries)
    except ClientError as error:
        if code(error) != "ValidationError":
            raise
        raise NoStack(
            f"stack: there is no {name!r} in {client.meta.region_name};"
            " is AWS_DEFAULT_REGION right, and the account?"
        ) from None
    described = answer["Stacks"][0]
    outputs = {
        output["OutputKey"]: output["OutputValue"]
        for output in described.get("Outputs", [])
    }
    parameters = {
        parameter["ParameterKey"]: parameter.get("ParameterValue", "")
        for parameter in described.get("Parameters", [])
    }
    if _OUTPUTS["function"] not in outputs:
        raise NoStack(f"stack: {name!r} is no Tailrace stack, or not yet deployed")
    return Deployment(
        **{field: outputs.get(key, "") for field, key in _OUTPUTS.items()},
        retention_hours=int(
            parameters.get("RetentionHours", _DEFAULTS.retention_hours)
        ),
        lease_seconds=int(parameters.get("LeaseSeconds", _DEFAULTS.lease_seconds)),
        delivery=parameters.get("Delivery", _DEFAULTS.delivery),
        push_interval=int(parameters.get("PushInterval", _DEFAULTS.push_interval)),
    )


class _Shared:
    """What a process makes once. A forked child makes its own: it must not share its
    parent's sockets, and a lock that was held at the fork stays held."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.made: dict[Any, Any] = {}
        self.lock = threading.Lock()


_shared = [_Shared()]


def _once(key: Any, make: Callable[[], T]) -> T:
    """Make a thing once in a process, and one at a time: boto3's default session must
    not be used by two threads."""
    if _shared[0].pid != os.getpid():
        _shared[0] = _Shared()
    shared = _shared[0]
    with shared.lock:
        if key not in shared.made:
            shared.made[key] = make()
        found: T = shared.made[key]
        return found
