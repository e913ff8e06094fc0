"""The key ring is read from Secrets Manager, and not as often as strangers like."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    ReadTimeoutError,
)

from tailrace.adapters import secretsmanager
from tailrace.adapters.secretsmanager import (
    REREAD_SECONDS,
    STALE_SECONDS,
    SecretKeys,
)
from tailrace.errors import Unavailable

RING = {"current": "k1", "k1": "a secret of more than thirty-two bytes"}


class Secret:
    """Answers as Secrets Manager's client does, and counts."""

    def __init__(self) -> None:
        self.reads = 0
        self.text: str | None = json.dumps(RING)

    def get_secret_value(self, **_: Any) -> dict[str, str]:
        self.reads += 1
        if self.text is None:
            raise Unavailable("AWS: no answer")
        if self.text == "denied":
            raise ClientError({"Error": {"Code": "AccessDenied"}}, "GetSecretValue")
        return {"SecretString": self.text}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that a test moves."""
    now = [1_000.0]
    clock = SimpleNamespace(monotonic=lambda: now[0])
    monkeypatch.setattr(secretsmanager, "time", clock)
    return now


def test_the_ring_is_read_once_and_again_at_most_once_a_minute(
    clock: list[float],
) -> None:
    secret = Secret()
    keys = SecretKeys(secret, "ring")
    assert keys.ring() == keys.ring() == RING
    for _ in range(100):
        assert keys.reread() == RING
    assert secret.reads == 1, "strangers' tokens cost a call each"
    secret.text = json.dumps({**RING, "k2": RING["k1"]})
    clock[0] += REREAD_SECONDS
    assert "k2" in keys.reread()
    assert (keys.reread(), secret.reads) == (keys.ring(), 2)


def test_a_key_that_was_removed_is_forgotten_after_some_minutes(
    clock: list[float],
) -> None:
    secret = Secret()
    keys = SecretKeys(secret, "ring")
    keys.ring()
    secret.text = json.dumps({"current": "k2", "k2": RING["k1"]})
    clock[0] += STALE_SECONDS - 1
    assert "k1" in keys.ring()
    clock[0] += 1
    assert "k1" not in keys.ring()
    assert "k1" not in keys.ring()
    assert secret.reads == 2, "every handshake costs a call"


@pytest.mark.parametrize("text", [None, "no JSON", "denied"])
def test_a_ring_that_cannot_be_read_again_is_kept_and_told_once(
    clock: list[float], caplog: pytest.LogCaptureFixture, text: str | None
) -> None:
    secret = Secret()
    keys = SecretKeys(secret, "ring")
    keys.ring()
    secret.text = text
    for _ in range(30):
        clock[0] += STALE_SECONDS / 20
        assert keys.ring() == RING
    assert secret.reads <= 1 + 30 * 30 // 60, (
        "while it does not answer, all wait for it"
    )
    assert len(caplog.records) == 1
    with pytest.raises(Unavailable):
        keys.reread()
    secret.text = json.dumps({"current": "k2", "k2": RING["k1"]})
    clock[0] += REREAD_SECONDS
    assert "k1" not in keys.ring()
    secret.text = text
    for _ in range(2):
        clock[0] += STALE_SECONDS
        assert "k2" in keys.ring()
    assert len(caplog.records) == 2, "another outage"


@pytest.mark.parametrize(
    "error", [ReadTimeoutError(endpoint_url="https://x"), NoCredentialsError()]
)
def test_whoever_has_a_ring_waits_for_one_call_in_vain_whatever_that_lacks(
    clock: list[float], monkeypatch: pytest.MonkeyPatch, error: BotoCoreError
) -> None:
    secret = Secret()
    keys = SecretKeys(secret, "ring")
    keys.ring()

    def fail(**_: Any) -> None:
        secret.reads += 1
        raise error

    monkeypatch.setattr(secret, "get_secret_value", fail)
    clock[0] += STALE_SECONDS
    assert keys.ring() == RING
    assert secret.reads == 2, "it may take seconds each"


def test_a_ring_that_was_not_read_again_is_not_said_to_be_without_a_key(
    clock: list[float],
) -> None:
    secret = Secret()
    keys = SecretKeys(secret, "ring")
    keys.ring()
    secret.text = None
    clock[0] += REREAD_SECONDS
    for _ in range(3):
        with pytest.raises(Unavailable):
            keys.reread()
    assert secret.reads == 2


@pytest.mark.parametrize("text", ["no JSON", "[]", '{"current": 1}', "null"])
def test_what_is_no_key_ring_is_unavailable_and_not_quoted(text: str) -> None:
    secret = Secret()
    secret.text = text
    with pytest.raises(Unavailable, match="no flat JSON object") as told:
        SecretKeys(secret, "ring").ring()
    assert text not in str(told.value)
