"""Tokens: what is let in, and with which rights."""

from __future__ import annotations

import base64
import json
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace import tokens
from tailrace.errors import Invalid, Unauthorized
from tailrace.tokens import ExpiredToken, UnknownKey

NOW = 1_764_547_200
SECRET = "k1-secret-of-more-than-thirty-two-bytes"
RING = {
    "current": "k2",
    "k1": SECRET,
    "k2": "k2-secret-of-more-than-thirty-two-bytes",
}


def forge(
    *, secret: str = SECRET, algorithm: str = "HS256", kid: Any = "k1", **claims: Any
) -> str:
    """Sign whatever claims; None removes one."""
    payload = {"sub": "u", "aud": "tailrace", "exp": NOW + 60, "read": ["*"], **claims}
    payload = {name: value for name, value in payload.items() if value is not None}
    headers = {} if kid is None else {"kid": kid}
    return jwt.encode(payload, secret, algorithm=algorithm, headers=headers)


def test_what_is_minted_is_verified() -> None:
    token = tokens.mint(
        RING,
        sub="user-7",
        now=NOW,
        expires_in=60,
        read=["chat:42", "user:7/*"],
        cancel=["*"],
    )
    rights = tokens.verify(token, RING, NOW)
    assert (rights.sub, rights.exp) == ("user-7", NOW + 60)
    assert (rights.read, rights.cancel, rights.send) == (
        ("chat:42", "user:7/*"),
        ("*",),
        (),
    )
    assert jwt.get_unverified_header(token)["kid"] == "k2"


def test_a_token_is_good_until_its_second() -> None:
    token = forge()
    assert tokens.verify(token, RING, NOW + 59)
    with pytest.raises(ExpiredToken):
        tokens.verify(token, RING, NOW + 60)


def test_an_old_key_still_verifies_while_it_is_in_the_ring() -> None:
    token = tokens.mint(RING, sub="u", now=NOW, key="k1")
    assert tokens.verify(token, RING, NOW)
    with pytest.raises(UnknownKey):
        tokens.verify(token, {"current": "k2", "k2": RING["k2"]}, NOW)


def test_alg_none_is_refused() -> None:
    header = base64.urlsafe_b64encode(b'{"alg":"none","kid":"k1"}').rstrip(b"=")
    payload = base64.urlsafe_b64encode(
        json.dumps({"sub": "u", "aud": "tailrace", "exp": NOW + 60}).encode()
    ).rstrip(b"=")
    for signature in (b"", base64.urlsafe_b64encode(b"x" * 32).rstrip(b"=")):
        with pytest.raises(Unauthorized):
            tokens.verify(b".".join((header, payload, signature)).decode(), RING, NOW)


@pytest.mark.parametrize(
    ("why", "token"),
    [
        ("forged", forge(secret="another secret of more than thirty-two bytes")),
        ("another algorithm", forge(algorithm="HS512", secret=SECRET * 2)),
        ("no kid", forge(kid=None)),
        ("the ring's own word as kid", forge(kid="current")),
        ("wrong audience", forge(aud="another")),
        ("a list of audiences", forge(aud=["tailrace", "another"])),
        ("no audience", forge(aud=None)),
        ("no sub", forge(sub=None)),
        ("empty sub", forge(sub="")),
        ("a long sub", forge(sub="u" * 201)),
        ("no exp", forge(exp=None)),
        ("a text exp", forge(exp="never")),
        ("an infinite exp", forge(exp=float("inf"))),
        ("an exp that no table takes", forge(exp=10**40)),
        ("not yet valid", forge(nbf=NOW + 31)),
        ("issued in the future", forge(iat=NOW + 31)),
        ("a grant that is no text", forge(read=[7])),
        ("grants that are no list", forge(read="*")),
        ("a prefix that also matches others", forge(read=["user:1*"])),
        ("a star inside", forge(read=["user:*:x"])),
        ("too many grants", forge(read=["a"] * 60, cancel=["a"] * 41)),
        ("nothing", ""),
        ("dots", "..."),
        ("no token", "not a token"),
        ("two parts", forge().rpartition(".")[0]),
    ],
)
def test_refused(why: str, token: str) -> None:
    with pytest.raises(Unauthorized) as told:
        tokens.verify(token, RING, NOW)
    assert not isinstance(told.value, ExpiredToken), why
    assert len(token) < 20 or token not in str(told.value)


def test_clocks_may_disagree_a_little() -> None:
    assert tokens.verify(forge(nbf=NOW + 30, iat=NOW + 30), RING, NOW)


@given(st.text() | st.binary().map(lambda raw: raw.decode("latin-1")))
def test_whatever_comes_is_refused_and_nothing_breaks(token: str) -> None:
    with pytest.raises(Unauthorized):
        tokens.verify(token, RING, NOW)


@pytest.mark.parametrize(
    ("grants", "stream", "expected"),
    [
        (["chat:42"], "chat:42", True),
        (["chat:42"], "chat:421", False),
        (["chat:*"], "chat:42", True),
        (["chat:*"], "chat", False),
        (["user:1/*"], "user:12/x", False),
        (["user:1/*"], "user:1/x", True),
        (["*"], "anything", True),
        ([], "anything", False),
    ],
)
def test_grants_by_name_and_by_prefix(
    grants: list[str], stream: str, expected: bool
) -> None:
    assert tokens.granted(grants, stream) is expected


@pytest.mark.parametrize(
    "wrong",
    [
        {"read": ["user:1*"]},
        {"read": ["a b"]},
        {"read": ["a"] * 101},
        {"sub": ""},
        {"sub": "half \ud83d"},
        {"key": "k9"},
        {"key": "current"},
        {"read": "chat:*"},
        {"cancel": "chat:42"},
        {"send": b"*"},
    ],
)
def test_a_token_that_would_not_be_understood_is_not_minted(wrong: Any) -> None:
    with pytest.raises(Invalid):
        tokens.mint(RING, **{"sub": "u", "now": NOW, **wrong})


def test_a_short_secret_signs_nothing() -> None:
    ring = {"current": "k", "k": "a key that holds 31 characters,"}
    with pytest.raises(Invalid, match="shorter than 32 bytes"):
        tokens.mint(ring, sub="u", now=NOW)
    with pytest.warns(jwt.InsecureKeyLengthWarning):
        token = forge(secret=ring["k"], kid="k")
    with pytest.raises(UnknownKey):
        tokens.verify(token, ring, NOW)


@pytest.mark.parametrize(
    ("ring", "said"),
    [
        ({}, "no `current`"),
        ({"k1": SECRET}, "no `current`"),
        ({"current": "k1"}, "no key 'k1'"),
        ({"current": "k1", "k1": 7}, "'k1' is no text"),
        ([SECRET], "must be a key ring"),
        (SECRET, "must be a key ring"),
    ],
)
def test_what_is_no_key_ring_is_said_to_be_none(ring: Any, said: str) -> None:
    with pytest.raises(Invalid, match=said):
        tokens.mint(ring, sub="u", now=NOW)
