"""The key ring is read from Secrets Manager, and not as often as strangers like."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from tailrace.adapters import secretsmanager
from tailrace.adapters.secretsmanager import REREAD_SECONDS, SecretKeys
from tailrace.errors import Unavailable

RING = {"current": "k1", "k1": "a secret of more than thirty-two bytes"}


class Secret:
    """Answers as Secrets Manager's client does, and counts."""

    def __init__(self) -> None:
        self.reads = 0
        self.text = json.dumps(RING)

    def get_secret_value(self, **_: Any) -> dict[str, str]:
        self.reads += 1
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


@pytest.mark.parametrize("text", ["no JSON", "[]", '{"current": 1}', "null"])
def test_what_is_no_key_ring_is_unavailable_and_not_quoted(text: str) -> None:
    secret = Secret()
    secret.text = text
    with pytest.raises(Unavailable, match="no flat JSON object") as told:
        SecretKeys(secret, "ring").ring()
    assert text not in str(told.value)
