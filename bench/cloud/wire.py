"""The wire under botocore: every request that a client sends is counted, takes its
time, and is answered.

The tables are those of the local AWS, called in this process: expressions and
conditions are evaluated as there, and cost no network.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import botocore.handlers
from botocore.awsrequest import AWSResponse
from ministack.services import dynamodb

from tests.support.tables import create_tables

from .tally import READ_STEP, WRITE_STEP, Tally, item_size, units

LOG = "Log"
STATE = "State"
_NAMES = {LOG: "log", STATE: "state"}
_WRITES = {"PutItem", "DeleteItem", "UpdateItem"}

Answer = tuple[int, bytes]


class Backend(Protocol):
    """What lies behind the wire, but for the tables."""

    tally: Tally

    def travel(self, hop: str, work: Callable[[], Answer]) -> Answer:
        """Let the time of a call pass for the running task, and do the work midway."""

    def admit_write(self, table: str, partition: str, amount: int) -> bool:
        """Whether a table's partition takes so many units now; if not, it throttles."""

    def inserted(self, item: dict[str, Any]) -> None:
        """The log has a new item."""

    def call(self, service: str, operation: str, url: str, body: bytes) -> Answer:
        """Answer a request that is not for the tables."""


class _Raw:
    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self, *_: Any, **__: Any) -> Iterator[bytes]:
        yield self._body

    def read(self, *_: Any, **__: Any) -> bytes:
        body, self._body = self._body, b""
        return body


@contextlib.contextmanager
def wired(backend: Backend) -> Iterator[None]:
    """Lead every botocore session that is made inside to the backend. Its tables are
    new, and empty."""

    def send(request: Any, event_name: str, **_: Any) -> AWSResponse:
        service, operation = event_name.split(".")[1:]
        body = request.body or b""
        if isinstance(body, str):
            body = body.encode()
        if service == "dynamodb":
            status, raw = _table(backend, operation, json.loads(body))
        else:
            status, raw = backend.call(service, operation, request.url, body)
        headers: Any = {}
        return AWSResponse(request.url, status, headers, _Raw(raw))

    handler = ("before-send", send)
    botocore.handlers.BUILTIN_HANDLERS.append(handler)
    try:
        for table in _NAMES:
            _perform("DeleteTable", {"TableName": table})
        create_tables(_Tables(), LOG, STATE)
        yield
    finally:
        botocore.handlers.BUILTIN_HANDLERS.remove(handler)


class _Tables:
    """A client that only makes tables."""

    def create_table(self, **table: Any) -> None:
        _perform("CreateTable", table)


def put_row(pk: str, sk: str, numbers: Mapping[str, int]) -> None:
    """Put a row into the state's table: nobody asked, and nothing is counted."""
    attributes = {name: {"N": str(value)} for name, value in numbers.items()}
    item = {"pk": {"S": pk}, "sk": {"S": sk}, **attributes}
    status, answer = _perform("PutItem", {"TableName": STATE, "Item": item})
    if status != 200:
        raise RuntimeError(answer.decode())


def _perform(operation: str, body: Mapping[str, Any]) -> Answer:
    """Have the local AWS's tables do something. It never waits: one step is all."""
    request = dynamodb.handle_request(
        "POST",
        "/",
        {"x-amz-target": f"DynamoDB_20120810.{operation}"},
        json.dumps(body).encode(),
        {},
    )
    try:
        request.send(None)
    except StopIteration as done:
        status, _, answer = done.value
        return status, answer if isinstance(answer, bytes) else answer.encode()
    raise RuntimeError("the tables wait for something")


def _table(backend: Backend, operation: str, body: dict[str, Any]) -> Answer:
    if operation == "BatchWriteItem":
        ((table, requests),) = body["RequestItems"].items()
        backend.tally[f"{_NAMES[table]}.{operation}"] += 1
        return backend.travel("write", lambda: _batch(backend, table, requests))
    name = _NAMES[body["TableName"]]
    backend.tally[f"{name}.{operation}"] += 1
    if operation in _WRITES:
        return backend.travel("write", lambda: _write(backend, name, operation, body))
    return backend.travel("read", lambda: _read(backend, name, operation, body))


def _write(backend: Backend, name: str, operation: str, body: dict[str, Any]) -> Answer:
    item = body.get("Item", {})
    key = body.get("Key") or {field: item[field] for field in _keys(name)}
    before = _peek(body["TableName"], key)
    size = max(item_size(item), item_size(before))
    partition = key[_keys(name)[0]]["S"]
    if not backend.admit_write(name, partition, units(size, WRITE_STEP)):
        return _THROTTLED
    status, answer = _perform(operation, body)
    after = _peek(body["TableName"], key)
    size = max(size, item_size(after))
    # Also where the condition failed.
    backend.tally[f"{name}.write_units"] += units(size, WRITE_STEP)
    if status == 200:
        backend.tally[f"{name}.stored_bytes"] += item_size(after) - item_size(before)
        if name == "log" and operation == "PutItem":
            backend.tally["log.items"] += 1
            backend.inserted(body["Item"])
    else:
        backend.tally[f"{name}.failed_conditions"] += 1
    return status, answer


def _batch(backend: Backend, table: str, requests: list[dict[str, Any]]) -> Answer:
    refused = []
    for request in requests:
        ((kind, body),) = request.items()
        operation = kind.removesuffix("Request") + "Item"
        answer = _write(backend, _NAMES[table], operation, {"TableName": table, **body})
        if answer is _THROTTLED:
            refused.append(request)
    left = {table: refused} if refused else {}
    return 200, json.dumps({"UnprocessedItems": left}).encode()


def _read(backend: Backend, name: str, operation: str, body: dict[str, Any]) -> Answer:
    status, answer = _perform(operation, body)
    found = json.loads(answer)
    items = found.get("Items", [])
    if "Item" in found:
        items = [found["Item"]]
    amount = units(sum(map(item_size, items)), READ_STEP)
    if not body.get("ConsistentRead"):
        raise ValueError("a read that is not consistent costs half: not counted here")
    backend.tally[f"{name}.read_units"] += amount
    return status, answer


_THROTTLED = (
    400,
    json.dumps({"__type": "ProvisionedThroughputExceededException"}).encode(),
)


def _keys(name: str) -> tuple[str, str]:
    return ("stream", "seq") if name == "log" else ("pk", "sk")


def _peek(table: str, key: dict[str, Any]) -> dict[str, Any]:
    _, answer = _perform("GetItem", {"TableName": table, "Key": key})
    item: dict[str, Any] = json.loads(answer).get("Item", {})
    return item
