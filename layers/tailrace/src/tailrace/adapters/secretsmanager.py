"""The key ring, from Secrets Manager."""

from __future__ import annotations

import json
import logging
import time
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from ..errors import Unavailable
from ..tokens import KeyRing
from .calls import TRIES, attempt, code

# A stranger's token with a made-up `kid`, or signature, must not cost a call each.
REREAD_SECONDS = 60
# How long a key that was removed from the ring, or has another value, still counts
# where no token has the ring read again.
STALE_SECONDS = 600

_log = logging.getLogger("tailrace")


class SecretKeys:
    """Keeps the ring, once it was read: an outage of the secret's is none of all
    handshakes."""

    def __init__(self, client: Any, secret: str) -> None:
        self._client = client
        self._secret = secret
        self._ring: KeyRing | None = None
        self._read_at = 0.0
        self._tried_at = 0.0

    def ring(self, stale: float = STALE_SECONDS) -> KeyRing:
        """Return the ring, read again if it is so many seconds old; the old one where
        that fails."""
        ring = self._ring
        if ring is None:
            return self._read()
        now = time.monotonic()
        if now - self._read_at < stale or now - self._tried_at < REREAD_SECONDS:
            return ring
        told = self._tried_at > self._read_at
        try:
            # Once: somebody waits for it, and there is a ring.
            return self._read(tries=1)
        except (Unavailable, BotoCoreError, ClientError) as error:
            if not told:
                why = _why(error)
                _log.warning("the key ring cannot be read; the old one counts: %s", why)
            return ring

    def reread(self) -> KeyRing:
        """Return the ring, read anew unless that was done, or tried in vain, within the
        last minute."""
        ring = self._ring
        if ring is None or time.monotonic() - self._tried_at >= REREAD_SECONDS:
            return self._read()
        if self._tried_at > self._read_at:
            raise Unavailable("the key ring cannot be read")
        return ring

    def _read(self, tries: int = TRIES) -> KeyRing:
        # Before the call: of several threads one makes it.
        self._tried_at = tried_at = time.monotonic()
        answer = attempt(
            lambda: self._client.get_secret_value(SecretId=self._secret), tries
        )
        try:
            ring: KeyRing = json.loads(answer["SecretString"])
            if not all(isinstance(value, str) for value in ring.values()):
                raise TypeError
        except (KeyError, ValueError, TypeError, AttributeError):
            raise Unavailable(
                "the key ring's secret is no flat JSON object of texts"
            ) from None
        self._ring, self._read_at = ring, tried_at
        return ring


def _why(error: Unavailable | BotoCoreError | ClientError) -> str:
    if isinstance(error, ClientError):
        return code(error)
    return error.message if isinstance(error, Unavailable) else type(error).__name__
