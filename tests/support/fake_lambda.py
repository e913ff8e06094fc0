"""A boto3 Lambda client that runs the publish function in this process."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

from tailrace.publish import Publish


class _Events:
    def register(self, name: str, handler: Callable[..., None]) -> None:
        self.handler = handler


class _Meta:
    def __init__(self) -> None:
        self.events = _Events()


class FakeLambda:
    """`before` and `after` are called around each invocation, and may raise what boto3
    would; `crash` makes the function itself fail."""

    def __init__(self, publish: Publish) -> None:
        self.meta = _Meta()
        self.publish = publish
        self.payloads: list[dict[str, Any]] = []
        self.before: Callable[[], None] = lambda: None
        self.after: Callable[[], None] = lambda: None
        self.crash = False
        self.crashed = b'{"errorMessage": "Task timed out after 60.00 seconds"}'
        self.body: bytes | None = None

    def invoke(self, *, FunctionName: str, Payload: bytes) -> dict[str, Any]:  # noqa: N803
        assert FunctionName == "tailrace-publish"
        self.before()
        payload = json.loads(Payload)
        self.payloads.append(payload)
        if self.crash:
            body = io.BytesIO(self.crashed)
            return {"Payload": body, "FunctionError": "Unhandled"}
        answer = json.dumps(self.publish.handle(payload)).encode()
        self.after()
        return {"Payload": io.BytesIO(answer if self.body is None else self.body)}
