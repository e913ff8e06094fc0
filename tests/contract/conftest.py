"""Log and state, held to one suite: in memory, on moto, and on the local AWS."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config
from moto import mock_aws

from demo.local_aws import local_aws
from tailrace.adapters.calls import config
from tailrace.adapters.dynamodb import DynamoDBLog, DynamoDBState
from tailrace.adapters.memory import MemoryLog, MemoryState
from tests.support.tables import create_tables

_names = itertools.count(1)


@pytest.fixture(scope="session", params=["memory", "moto", "emulator"])
def stores(request: pytest.FixtureRequest) -> Iterator[Callable[[], tuple[Any, Any]]]:
    """Return a maker of empty pairs of a log store and a state."""
    if request.param == "memory":
        yield lambda: (MemoryLog(), MemoryState())
    elif request.param == "moto":
        with mock_aws():
            yield _stores(OneAtATime(_client(None)))
    else:
        with local_aws() as aws:
            yield _stores(_client(aws.endpoint))


class OneAtATime:
    """A client whose calls wait for each other: moto's conditional put is no atom, so
    that two threads can both win."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(**arguments: Any) -> Any:
            with self._lock:
                return getattr(self._client, name)(**arguments)

        return call


def _client(endpoint: str | None) -> Any:
    return boto3.client(
        "dynamodb",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        # In use, nobody checks what is sent.
        config=config(read_timeout=10).merge(Config(parameter_validation=True)),
    )


def _stores(client: Any) -> Callable[[], tuple[Any, Any]]:
    def make() -> tuple[Any, Any]:
        number = next(_names)
        log, state = f"log-{os.getpid()}-{number}", f"state-{os.getpid()}-{number}"
        create_tables(client, log, state)
        return DynamoDBLog(client, log), DynamoDBState(client, state)

    return make


@pytest.fixture
def store(stores: Callable[[], tuple[Any, Any]]) -> Any:
    return stores()[0]


@pytest.fixture
def state(stores: Callable[[], tuple[Any, Any]]) -> Any:
    return stores()[1]
