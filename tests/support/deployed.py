"""The deployed stack, as a backend sees it: the publish function and tokens."""

from __future__ import annotations

import itertools
import json
import time
import uuid
from typing import Any

from demo.stack import LocalStack
from tailrace import tokens

_names = itertools.count(1)


class Deployed:
    """Calls the publish function and mints tokens for a deployed stack."""

    def __init__(self, stack: LocalStack) -> None:
        self.stack = stack
        secret = stack.secretsmanager.get_secret_value(SecretId=stack.key_ring_arn)
        self.ring: tokens.KeyRing = json.loads(secret["SecretString"])

    def new_stream(self, prefix: str = "test") -> str:
        """Return a stream name that no other test has."""
        return f"{prefix}:{uuid.uuid4().hex[:8]}-{next(_names)}"

    def call(self, **payload: Any) -> dict[str, Any]:
        """Invoke the publish function; return its answer, a refusal too."""
        invoked = self.stack.lambda_.invoke(
            FunctionName=self.stack.function("publish"), Payload=json.dumps(payload)
        )
        answer: dict[str, Any] = json.loads(invoked["Payload"].read())
        assert not invoked.get("FunctionError"), answer
        return answer

    def ask(self, operation: str, stream: str, **arguments: Any) -> dict[str, Any]:
        """Call an operation that must succeed."""
        answer = self.call(operation=operation, stream=stream, **arguments)
        assert "error" not in answer, answer
        return answer

    def token(self, *streams: str, **claims: Any) -> str:
        """Mint a token that may read and cancel the streams (all, if none is named)."""
        grants = list(streams) or ["*"]
        claims = {"sub": "somebody", "read": grants, "cancel": grants, **claims}
        return tokens.mint(self.ring, now=int(time.time()), **claims)
