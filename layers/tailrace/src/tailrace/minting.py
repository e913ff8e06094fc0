"""What the user's backend makes before a job begins: tokens and run ids."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Iterable, Mapping

from . import ids, tokens
from .adapters.secretsmanager import REREAD_SECONDS
from .deployment import find, find_keys
from .errors import Invalid
from .tokens import KeyRing

MAX_LIFE_SECONDS = 366 * 86_400


def mint_token(
    sub: str,
    *,
    read: Iterable[str] = (),
    cancel: Iterable[str] = (),
    send: Iterable[str] = (),
    expires_in: float = 900,
    key: str | None = None,
    keys: KeyRing | None = None,
    stack: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> str:
    """Return a token that lets `sub` watch, stop and ask, for `expires_in` seconds.

    `read`, `cancel` and `send` list stream names, or prefixes followed by `*` where the
    prefix is empty or ends in `:` or `/`. An id in a prefix must have no separator of
    its own: `user:bob:chat:*`, for a user `bob:chat`, covers chats of `bob`.

    A client refreshes its token by itself, so that it may be short-lived; a year is the
    most. `Invalid` for what would not be understood.

    `keys` is the key ring, `key` the name of the key to sign with if not the ring's
    `current`. Where no ring is given, it is the JSON text in TAILRACE_KEY_RING, or is
    read from Secrets Manager (`stack`, TAILRACE_KEY_RING_ARN, TAILRACE_STACK) and again
    at most once a minute, the one at hand being kept where that fails: all else happens
    offline.
    """
    if type(expires_in) not in (int, float) or not 0 < expires_in <= MAX_LIFE_SECONDS:
        raise Invalid(
            f"expires_in: must be seconds, more than 0, at most {MAX_LIFE_SECONDS}"
        )
    environ = os.environ if environ is None else environ
    return tokens.mint(
        _ring(stack, environ) if keys is None else keys,
        sub=sub,
        now=int(time.time()),
        expires_in=expires_in,
        read=read,
        cancel=cancel,
        send=send,
        key=key,
    )


def new_run() -> str:
    """Return the id of a run that is going to be opened, to be shown to the browser and
    given to the job. Of two runs in a stream the later one must have the greater id, as
    it has if it was made a millisecond later; this machine's clock must be right, give
    or take 5 minutes."""
    return ids.new_run(time.time_ns() // 1_000_000, secrets.token_bytes(10))


def _ring(stack: str | None, environ: Mapping[str, str]) -> KeyRing:
    if stack is None and (given := environ.get("TAILRACE_KEY_RING")):
        try:
            ring = json.loads(given)
        except ValueError:
            ring = None
        if not isinstance(ring, dict):
            raise Invalid("environment: TAILRACE_KEY_RING must be a JSON object")
        return ring
    key_ring_arn = find(stack, environ).key_ring_arn
    if not key_ring_arn:
        raise Invalid(
            'no key ring is known: give `keys` or `stack="<name>"`, or set'
            " TAILRACE_STACK, TAILRACE_KEY_RING_ARN or TAILRACE_KEY_RING"
        )
    return find_keys(key_ring_arn).ring(REREAD_SECONDS)
