"""Puts the parts together for each function, from its environment.

Nothing is built at import; each function calls its own builder once, when its first
event comes. A builder imports what only its function needs: start-up pays for imports.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import boto3

from .adapters.apigateway import ApiGateway
from .adapters.calls import config, local_clock
from .adapters.dynamodb import DynamoDBLog, DynamoDBState
from .config import Settings, from_environment

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

    from .fanout import Fanout
    from .log import Log
    from .publish import Publish
    from .session import Session
    from .telemetry import Telemetry

# Threads only hide the network's wait.
_PUSHERS = 16


def session(telemetry: Telemetry) -> Session:
    """Build what the websocket function needs."""
    from .adapters.secretsmanager import SecretKeys
    from .session import Session

    settings = from_environment().require(
        "log_table", "state_table", "secret", "connections_url", "origins"
    )
    log = _log(settings, telemetry)
    return Session(
        log,
        log.state,
        _gateway(settings),
        SecretKeys(
            _session().client("secretsmanager", config=config(read_timeout=3)),
            settings.secret,
        ),
        local_clock,
        origins=settings.origins,
        count=telemetry.count,
    )


def publish(telemetry: Telemetry) -> Publish:
    """Build what the publish function needs."""
    from .publish import Publish

    settings = from_environment().require("log_table", "state_table", "connections_url")
    log = _log(settings, telemetry)
    return Publish(log, log.state, _gateway(settings), count=telemetry.count)


def fanout(telemetry: Telemetry) -> Fanout:
    """Build what the fan-out function needs."""
    from concurrent.futures import ThreadPoolExecutor

    from .delivery import Delivery
    from .fanout import Fanout

    settings = from_environment().require("state_table", "connections_url")
    delivery = Delivery(
        DynamoDBState(_dynamodb(_PUSHERS), settings.state_table),
        _gateway(settings, _PUSHERS),
        local_clock,
        _side_by_side(ThreadPoolExecutor(_PUSHERS)),
        count=telemetry.count,
    )
    return Fanout(delivery, count=telemetry.count)


def _log(settings: Settings, telemetry: Telemetry) -> Log:
    from .log import Log

    client = _dynamodb()
    return Log(
        DynamoDBLog(client, settings.log_table),
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


@cache
def _session() -> boto3.Session:
    return boto3.Session()


def _side_by_side(
    pool: ThreadPoolExecutor,
) -> Callable[[Sequence[Callable[[], None]]], None]:
    def run_all(tasks: Sequence[Callable[[], None]]) -> None:
        if len(tasks) == 1:
            tasks[0]()
            return
        for future in [pool.submit(task) for task in tasks]:
            future.result()

    return run_all
