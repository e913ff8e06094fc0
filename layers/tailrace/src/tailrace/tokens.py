"""Tokens: what a browser may do, minted by the user's backend, verified at the door.

Pure: `now` is given and the key ring is a plain dict. PROTOCOL.md §6 has the claims.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import jwt

from .errors import Invalid, Unauthorized
from .ids import check_stream, check_sub
from .watchers import Rights

AUDIENCE = "tailrace"
ALGORITHM = "HS256"
LEEWAY_SECONDS = 30
MAX_GRANTS = 100
_MIN_SECRET_BYTES = 32

KeyRing = Mapping[str, str]
"""`{"current": "k1", "k1": "<secret>"}`: flat, so that Secrets Manager can generate
the first key into it."""


class ExpiredToken(Unauthorized):
    """The token is genuine, but its time is over."""


class UnknownKey(Unauthorized):
    """The token was signed with a key that the ring at hand does not have, or has
    another value of."""


def mint(
    ring: KeyRing,
    *,
    sub: str,
    now: int,
    expires_in: float = 900,
    read: Iterable[str] = (),
    cancel: Iterable[str] = (),
    send: Iterable[str] = (),
    key: str | None = None,
) -> str:
    """Return a token. `now` and `expires_in` are seconds; `key` is the ring's current
    key unless given. `Invalid` for a grant that would not be understood."""
    kid, secret = _signing(ring, key)
    claims: dict[str, Any] = {
        "aud": AUDIENCE,
        "sub": check_sub(sub),
        "iat": now,
        "exp": math.ceil(now + expires_in),
    }
    for name, grants in (("read", read), ("cancel", cancel), ("send", send)):
        # A text is iterable, too: "chat:*" would be seven grants, the last of them "*".
        listed = grants if isinstance(grants, str | bytes) else list(grants)
        listed = _check_grants(name, listed)
        if listed:
            claims[name] = listed
    _check_count(claims)
    return jwt.encode(claims, secret, algorithm=ALGORITHM, headers={"kid": kid})


def verify(token: str, ring: KeyRing, now: int) -> Rights:
    """Return the rights that a token gives at `now` (seconds).

    Raises `UnknownKey` (the ring may be out of date), `ExpiredToken` (genuine), and
    `Unauthorized` for everything else that is wrong with it.
    """
    try:
        kid = jwt.get_unverified_header(token).get("kid")
        if not isinstance(kid, str) or kid == "current":
            raise Unauthorized("token: names no key")
        secret = ring.get(kid) or ""
        # What is shorter can be guessed, by whoever has a token; or is no key, but a
        # note that somebody has left in the ring.
        if len(secret.encode()) < _MIN_SECRET_BYTES:
            raise UnknownKey("token: signed with an unknown key")
        claims = jwt.decode(
            token,
            secret,
            algorithms=[ALGORITHM],
            audience=AUDIENCE,
            options={
                "require": ["exp", "sub", "aud"],
                "strict_aud": True,
                # Against the caller's clock, below.
                "verify_exp": False,
                "verify_nbf": False,
                "verify_iat": False,
            },
        )
    except jwt.InvalidSignatureError:
        raise UnknownKey("token: signed with another key") from None
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
        raise Unauthorized(f"token: {type(error).__name__}") from None
    try:
        _check_count(claims)
        rights = Rights(
            sub=check_sub(claims["sub"]),
            exp=_seconds(claims, "exp"),
            read=tuple(_check_grants("read", claims.get("read", []))),
            cancel=tuple(_check_grants("cancel", claims.get("cancel", []))),
            send=tuple(_check_grants("send", claims.get("send", []))),
        )
        for name in ("nbf", "iat"):
            if name in claims and _seconds(claims, name) > now + LEEWAY_SECONDS:
                raise Unauthorized("token: not valid yet")
    except Invalid as error:
        raise Unauthorized(f"token: {error.message}") from None
    if rights.exp <= now:
        raise ExpiredToken("token: expired")
    return rights


def granted(grants: Iterable[str], stream: str) -> bool:
    """Whether one of the grants covers the stream."""
    return any(
        stream.startswith(grant[:-1]) if grant.endswith("*") else stream == grant
        for grant in grants
    )


def _signing(ring: KeyRing, key: str | None) -> tuple[str, str]:
    """Return the name of the key to sign with, and its secret."""
    if not isinstance(ring, Mapping):
        raise Invalid('keys: must be a key ring, {"current": "k1", "k1": "<secret>"}')
    if key is None and "current" not in ring:
        raise Invalid(
            "keys: the ring has no `current`, which names the key to sign with"
        )
    kid = ring["current"] if key is None else key
    secret = ring.get(kid)
    if kid == "current" or not secret:
        raise Invalid(f"key: the ring has no key {kid!r}")
    if not isinstance(secret, str):
        raise Invalid(f"key: {kid!r} is no text")
    if len(secret.encode()) < _MIN_SECRET_BYTES:
        raise Invalid(f"key: {kid!r} is shorter than {_MIN_SECRET_BYTES} bytes")
    return kid, secret


def _check_grants(name: str, grants: Any) -> list[str]:
    if not isinstance(grants, list):
        raise Invalid(f'{name}: must be an array of grants, such as ["chat:42"]')
    for grant in grants:
        prefix = grant[:-1] if isinstance(grant, str) and grant[-1:] == "*" else grant
        if prefix != grant:
            # `user:1*` would match `user:12`.
            if prefix and prefix[-1] not in ":/":
                raise Invalid(f"{name}: `*` must stand alone or follow `:` or `/`")
            if not prefix:
                continue
        try:
            check_stream(prefix)
        except Invalid as refused:
            raise Invalid(f"{name}: {refused.message}") from None
    return [str(grant) for grant in grants]


def _check_count(claims: Mapping[str, Any]) -> None:
    lists = [claims.get(name, []) for name in ("read", "cancel", "send")]
    if sum(len(grants) for grants in lists if isinstance(grants, list)) > MAX_GRANTS:
        raise Invalid(f"more than {MAX_GRANTS} grants")


def _seconds(claims: Mapping[str, Any], name: str) -> int:
    value = claims[name]
    if type(value) not in (int, float) or not abs(value) < 1 << 53:
        raise Invalid(f"{name}: must be seconds")
    return int(value)
