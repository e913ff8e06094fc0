"""The handlers, on moto, fed with the files in events/."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import boto3
import pytest
from moto import mock_aws

from tailrace.adapters.apigateway import ApiGateway
from tests.support.tables import create_tables
from tests.support.worlds import World

ROOT = Path(__file__).parents[2]
RING = {
    "current": "example",
    "example": "an example key, good for nothing but events",
}


class Context:
    """What Lambda tells a handler about its invocation."""

    aws_request_id = "8e7a1b5c-0000-4000-8000-000000000000"
    function_name = "test"

    def get_remaining_time_in_millis(self) -> int:
        return 30_000


def event(path: str) -> Any:
    """Return an event of events/."""
    return json.loads((ROOT / "events" / path).read_text())


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """The tables and the key ring on moto, and the environment of the functions."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "TAILRACE_LOG_TABLE": "Log",
        "TAILRACE_STATE_TABLE": "State",
        "TAILRACE_KEY_RING_ARN": "KeyRing",
        "TAILRACE_CONNECTIONS_URL": "https://example.invalid/live",
        "TAILRACE_FANOUT_FUNCTION": "tailrace-fanout",
        "TAILRACE_ORIGINS": "https://app.example.com",
        "TAILRACE_RETENTION_HOURS": "72",
        "TAILRACE_LEASE_SECONDS": "30",
        "TAILRACE_JOB_FUNCTION": "answers",
        "POWERTOOLS_SERVICE_NAME": "tailrace",
        "POWERTOOLS_METRICS_NAMESPACE": "Tailrace",
    }.items():
        monkeypatch.setenv(name, value)
    with mock_aws():
        client = boto3.client("dynamodb", region_name="us-east-1")
        create_tables(client, "Log", "State")
        boto3.client("secretsmanager", region_name="us-east-1").create_secret(
            Name="KeyRing", SecretString=json.dumps(RING)
        )
        queue = boto3.client("sqs", region_name="us-east-1").create_queue(
            QueueName="Repairs"
        )
        monkeypatch.setenv("TAILRACE_REPAIRS_URL", queue["QueueUrl"])
        world = World()
        # moto's own `@connections` never fails; what is pushed goes to ours.
        monkeypatch.setattr(
            ApiGateway, "push", lambda self, *args: world.gateway.push(*args)
        )
        monkeypatch.setattr(
            ApiGateway, "disconnect", lambda self, id: world.gateway.disconnect(id)
        )
        yield world


@pytest.fixture
def load(aws: World) -> Iterator[Callable[[str], ModuleType]]:
    """Return a loader of a function's app.py, fresh as in a new container."""
    loaded = []

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(
            f"app_{name}", ROOT / "functions" / name / "app.py"
        )
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        loaded.append(spec.name)
        spec.loader.exec_module(module)
        return module

    yield load
    for name in loaded:
        del sys.modules[name]


@pytest.fixture
def invoke(load: Callable[[str], ModuleType]) -> Callable[[str, Any], Any]:
    """Return a caller of handlers; one container for each function."""
    containers: dict[str, ModuleType] = {}

    def invoke(name: str, payload: Any) -> Any:
        if name not in containers:
            containers[name] = load(name)
        return containers[name].handler(payload, Context())

    return invoke
