"""Puts the parts together for each function, from its environment.

Nothing is built at import; each function calls its own builder once, when Lambda starts
it. A builder imports what only its function needs: start-up pays for imports. It makes
no connection, takes no random number and reads no clock: with SnapStart, one start is
the start of many.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from .adapters.apigateway import ApiGateway
from .adapters.aws import Session as AwsSession
from .adapters.calls import config, local_clock
from .adapters.dynamodb import DynamoDBLog, DynamoDBState
from .config import Settings, from_environment

if TYPE_CHECKING:
    from .adapters.background import Background
    from .chat import Chats
    from .courier import Courier
    from .fanout import Fanout
    from .log import Log
    from .ports import Gateway, LogStore, Relay, Repairs, State
    from .publish import Publish
    from .session import Session
    from .telemetry import Telemetry

# How long an answer of the publish function waits for its pushes, at most: the bound of
# what a watcher's connection can cost an append.
_SETTLE_SECONDS = 0.5


def session(telemetry: Telemetry) -> Session:
    """Build what the websocket function needs."""
    from .adapters.secretsmanager import SecretKeys
    from .session import Session

    settings = from_environment().require(
        "log_table", "state_table", "key_ring_arn", "connections_url", "origins"
    )
    log = _log(settings, telemetry)
    return Session(
        log,
        log.state,
        _gateway(settings),
        SecretKeys(
            _session().client("secretsmanager", config=config(read_timeout=3)),
            settings.key_ring_arn,
        ),
        local_clock,
        origins=settings.origins,
        chats=partial(chats, telemetry) if settings.job_function else None,
        direct=settings.delivery == "Direct",
        count=telemetry.count,
        on_refusal=telemetry.refused,
    )


@cache
def chats(telemetry: Telemetry) -> Chats:
    """Build what the websocket function needs for chats, when the first one is met."""
    from .adapters.jobs import LambdaJobs
    from .chat import Chats

    settings = from_environment().require(
        "log_table", "state_table", "connections_url", "job_function", "repairs_url"
    )
    log, gateway = _log(settings, telemetry), _gateway(settings)
    return Chats(
        log,
        log.state,
        gateway,
        _courier(settings, log.store, log.state, gateway, telemetry),
        _repairs(settings),
        LambdaJobs(partial(_client, "lambda"), settings.job_function),
        abort_cancels=settings.chat_abort == "cancel",
        count=telemetry.count,
    )


def publish(telemetry: Telemetry) -> Publish:
    """Build what the publish function needs."""
    from .publish import Publish

    settings = from_environment().require("log_table", "state_table", "connections_url")
    if settings.delivery != "Direct":
        log = _log(settings, telemetry)
        return Publish(
            log,
            log.state,
            _gateway(settings),
            count=telemetry.count,
            on_refusal=telemetry.refused,
        )
    from .adapters.background import PUSHERS

    settings.require("fanout_function")

    gateway = _gateway(settings, PUSHERS)
    background = _background(settings, gateway, telemetry)
    log = _log(settings, telemetry, background)
    return Publish(
        log,
        log.state,
        gateway,
        count=telemetry.count,
        on_refusal=telemetry.refused,
        # Lambda stops a function that has answered.
        settle=lambda: background.settle(_SETTLE_SECONDS),
    )


def fanout(telemetry: Telemetry) -> Fanout:
    """Build what the fan-out function needs."""
    from concurrent.futures import ThreadPoolExecutor

    from .adapters.background import PUSHERS, side_by_side
    from .delivery import Delivery
    from .fanout import Fanout

    settings = from_environment().require(
        "state_table", "connections_url", "fanout_function"
    )
    client, gateway = _dynamodb(PUSHERS), _gateway(settings, PUSHERS)
    state = DynamoDBState(client, settings.state_table)
    courier: Callable[[], Courier] | None = None
    if settings.repairs_url:
        log = DynamoDBLog(client, settings.require("log_table").log_table)
        courier = partial(_courier, settings, log, state, gateway, telemetry)
    delivery = Delivery(
        state,
        gateway,
        local_clock,
        side_by_side(ThreadPoolExecutor(PUSHERS)),
        courier=courier,
        relay=_relay(settings, telemetry),
        net=settings.delivery == "Direct",
        count=telemetry.count,
        on_refusal=telemetry.refused,
    )
    return Fanout(
        delivery,
        local_clock,
        pause=lambda ms: time.sleep(ms / 1_000),
        count=telemetry.count,
    )


def _background(
    settings: Settings, gateway: ApiGateway, telemetry: Telemetry
) -> Background:
    from .adapters.background import PUSHERS, background

    return background(
        DynamoDBState(_dynamodb(PUSHERS), settings.state_table),
        gateway,
        local_clock,
        telemetry.failed,
        relay=_relay(settings, telemetry),
        ahead=False,
        count=telemetry.count,
        on_refusal=telemetry.refused,
    )


def _relay(settings: Settings, telemetry: Telemetry) -> Relay:
    from .adapters.relay import LambdaRelay

    return LambdaRelay(_invoker, settings.fanout_function, count=telemetry.count)


def _courier(
    settings: Settings,
    log: LogStore,
    state: State,
    gateway: Gateway,
    telemetry: Telemetry,
) -> Courier:
    from .courier import Courier

    repairs = _repairs(settings)
    return Courier(log, state, gateway, repairs, local_clock, count=telemetry.count)


def _repairs(settings: Settings) -> Repairs:
    from .adapters.sqs import SqsRepairs

    return SqsRepairs(partial(_client, "sqs"), settings.repairs_url)


@cache
def _log(
    settings: Settings, telemetry: Telemetry, background: Background | None = None
) -> Log:
    from .log import Log

    client = _dynamodb()
    store: LogStore = DynamoDBLog(client, settings.log_table)
    if background is not None:
        from .direct import Telling

        store = Telling(store, background.tell)
    return Log(
        store,
        DynamoDBState(client, settings.state_table),
        local_clock,
        retention=settings.retention_hours * 3600,
        lease=settings.lease_seconds,
        on_conflict=telemetry.conflict,
    )


def _dynamodb(connections: int = 1) -> Any:
    return _session().client(
        "dynamodb", config=config(read_timeout=3, connections=connections)
    )


def _gateway(settings: Settings, connections: int = 1) -> ApiGateway:
    return ApiGateway(_session(), settings.connections_url, connections=connections)


def _client(service: str, read_timeout: float = 3, connections: int = 10) -> Any:
    """Return a client that most invocations do without. Making one is not for several
    threads at a time."""
    with _making:
        return _made(service, read_timeout, connections)


def _invoker() -> Any:
    from .adapters.relay import ANSWER_SECONDS, INVOCATIONS

    return _client("lambda", ANSWER_SECONDS, INVOCATIONS)


_making = threading.Lock()


@cache
def _made(service: str, read_timeout: float, connections: int) -> Any:
    return _session().client(
        service, config=config(read_timeout=read_timeout, connections=connections)
    )


@cache
def _session() -> AwsSession:
    return AwsSession()
