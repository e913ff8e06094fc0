"""Tokens as a backend mints them; what they mean is in test_tokens.py."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import boto3
import jwt
import pytest
from moto import mock_aws

from tailrace import deployment, ids, mint_token, new_run, tokens
from tailrace.errors import Invalid

RING = {"current": "k1", "k1": "1" * 32, "k2": "2" * 32}


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Secrets Manager, with the key ring in it."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setattr(deployment, "_shared", [deployment._Shared()])
    with mock_aws():
        client = boto3.client("secretsmanager")
        client.create_secret(Name="ring", SecretString=json.dumps(RING))
        yield client


def test_a_token_grants_what_it_was_minted_for() -> None:
    now = int(time.time())
    token = mint_token(
        "user-1", read=["chat:*"], cancel=["chat:42"], expires_in=60, keys=RING
    )
    rights = tokens.verify(token, RING, now)
    assert (rights.sub, rights.read, rights.cancel) == (
        "user-1",
        ("chat:*",),
        ("chat:42",),
    )
    assert now + 60 <= rights.exp <= now + 62


def test_another_key_of_the_ring_can_be_named() -> None:
    token = mint_token("u", keys=RING, key="k2")
    assert jwt.get_unverified_header(token)["kid"] == "k2"
    with pytest.raises(Invalid, match="k3"):
        mint_token("u", keys=RING, key="k3")


def test_a_grant_that_would_not_be_understood_is_refused() -> None:
    with pytest.raises(Invalid, match="read"):
        mint_token("u", read=["user:1*"], keys=RING)


@pytest.mark.parametrize(
    "wrong", [0, -1, "900", True, float("nan"), float("inf"), 10**12]
)
def test_a_life_that_is_no_seconds_is_refused(wrong: Any) -> None:
    with pytest.raises(Invalid, match="expires_in: must be seconds"):
        mint_token("u", read=["chat:42"], expires_in=wrong, keys=RING)


def test_the_ring_may_be_in_the_environment() -> None:
    token = mint_token("u", environ={"TAILRACE_KEY_RING": json.dumps(RING)})
    assert tokens.verify(token, RING, int(time.time())).sub == "u"
    for wrong in ("[]", "k1"):
        with pytest.raises(Invalid, match="TAILRACE_KEY_RING must"):
            mint_token("u", environ={"TAILRACE_KEY_RING": wrong})


def test_the_ring_is_read_from_its_secret_once(secrets: Any) -> None:
    environ = {"TAILRACE_KEY_RING_ARN": "ring"}
    mint_token("u", environ=environ)
    secrets.delete_secret(SecretId="ring", ForceDeleteWithoutRecovery=True)
    token = mint_token("u", environ=environ)
    assert tokens.verify(token, RING, int(time.time())).sub == "u"


def test_a_run_id_is_of_now() -> None:
    run = ids.check_run(new_run())
    assert abs(ids.run_time(run) - time.time() * 1000) < 60_000
    assert new_run() != run


def test_a_ring_that_is_nowhere_is_asked_for() -> None:
    with pytest.raises(Invalid, match="TAILRACE_KEY_RING_ARN"):
        mint_token("u", environ={})


def test_a_part_of_a_second_makes_no_odd_expiry() -> None:
    token = mint_token("u", read=["chat:42"], expires_in=900.5, keys=RING)
    claims = jwt.decode(token, options={"verify_signature": False})
    assert type(claims["exp"]) is int
    assert claims["exp"] - claims["iat"] == 901
