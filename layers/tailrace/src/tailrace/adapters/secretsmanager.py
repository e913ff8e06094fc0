"""The key ring, from Secrets Manager."""

from __future__ import annotations

import json
import time
from typing import Any

from ..errors import Unavailable
from ..tokens import KeyRing
from .calls import attempt

REREAD_SECONDS = 60


class SecretKeys:
    """Reads the ring when it is first asked for, and again at most once a minute: a
    stranger's token with a made-up `kid` must not cost a call each."""

    def __init__(self, client: Any, secret: str) -> None:
        self._client = client
        self._secret = secret
        self._ring: KeyRing | None = None
        self._read_at = 0.0

    def ring(self) -> KeyRing:
        return self._read() if self._ring is None else self._ring

    def reread(self) -> KeyRing:
        if self._ring is None or time.monotonic() - self._read_at >= REREAD_SECONDS:
            return self._read()
        return self._ring

    def _read(self) -> KeyRing:
        answer = attempt(lambda: self._client.get_secret_value(SecretId=self._secret))
        self._read_at = time.monotonic()
        try:
            ring = json.loads(answer["SecretString"])
            if not all(isinstance(value, str) for value in ring.values()):
                raise TypeError
        except (KeyError, ValueError, TypeError, AttributeError):
            raise Unavailable(
                "the key ring's secret is no flat JSON object of texts"
            ) from None
        self._ring = ring
        return self._ring
