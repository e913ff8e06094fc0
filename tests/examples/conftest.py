"""Examples as they stand: their providers are stand-ins, their log is in memory."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tailrace import chunks
from tailrace.adapters.calls import local_clock
from tailrace.adapters.memory import MemoryLog, MemoryState
from tailrace.log import Log
from tailrace.producer import aio, sync
from tailrace.records import Record
from tailrace.transports.in_process import InProcess
from tests.examples.providers import Provider

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    with Provider().listening() as provider:
        for name, value in {
            "OPENAI_API_KEY": "sk-test",
            "OPENAI_BASE_URL": f"{provider.url}/v1",
            "ANTHROPIC_API_KEY": "sk-test",
            "ANTHROPIC_BASE_URL": provider.url,
            "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": provider.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "NO_PROXY": "127.0.0.1",
        }.items():
            monkeypatch.setenv(name, value)
        yield provider


class Streams:
    """The log of a test's stack."""

    def __init__(self) -> None:
        state = MemoryState()
        store = MemoryLog()
        self.log = Log(store, state, local_clock, retention=3_600, lease=30)
        self.transport = InProcess(self.log)

    def records(self, stream: str) -> list[Record]:
        return list(self.log.store.range(stream, 1))

    def chunks(self, stream: str, run: str | None = None) -> list[Any]:
        return [
            value
            for record in self.records(stream)
            if run in (None, record.run)
            for value in chunks.decode(record.chunks)
        ]

    def end(self, stream: str) -> str | None:
        return self.records(stream)[-1].reason

    def cancel(self, stream: str) -> None:
        self.log.cancel(stream)


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> Streams:
    """A stack that every producer finds."""
    streams = Streams()
    for shell in (sync, aio):
        monkeypatch.setattr(shell, "find_transport", lambda *_, **__: streams.transport)
    return streams


@pytest.fixture
def example() -> Callable[[str], ModuleType]:
    """Return a loader of examples, each time anew."""

    def load(path: str) -> ModuleType:
        name = "example_" + path.removesuffix(".py").replace("/", "_")
        spec = importlib.util.spec_from_file_location(name, EXAMPLES / path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module

    return load
