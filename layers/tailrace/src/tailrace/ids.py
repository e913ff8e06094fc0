"""Names and ids: what a stream, a run, a writer and a key may be called.

Pure: the clock and the random bytes of a new run id are the caller's.
"""

from __future__ import annotations

import re
from typing import Any

from .errors import Invalid

_STREAM = re.compile(r"[A-Za-z0-9._:/@=+-]{1,200}")
_WRITER = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_REQUEST = re.compile(r"[A-Za-z0-9._:/@=+-]{1,64}")
_RUN = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
)

MAX_AHEAD_MS = 5 * 60 * 1000
"""How far ahead of AWS time a run id may be. Later ids must be greater, so that one
bad clock would close the stream to all others until its time has come."""


def check_stream(name: Any) -> str:
    """Return `name` if a stream may have it; else raise `Invalid`."""
    return _check(_STREAM, "stream", name)


def check_writer(name: Any) -> str:
    """Return `name` if a writer may have it; else raise `Invalid`."""
    return _check(_WRITER, "writer", name)


def check_key(name: Any) -> str:
    """Return `name` if it can be the `key` of a one-call publish; else raise."""
    return _check(_STREAM, "key", name)


def check_request(name: Any) -> str:
    """Return `name` if it can be the `requestId` of a frame; else raise."""
    return _check(_REQUEST, "requestId", name)


def check_sub(sub: Any) -> str:
    """Return `sub` if a token may name it; else raise `Invalid`."""
    if not isinstance(sub, str) or not 1 <= len(sub) <= 200:
        raise Invalid("sub: must be text of 1 to 200 characters")
    if sub != sub.encode("utf-8", "replace").decode():
        raise Invalid("sub: must be text that UTF-8 can carry")
    return sub


def check_run(run: Any, now: int | None = None) -> str:
    """Return `run` if it is a UUIDv7 in canonical text, and not from a future clock.

    `now` (ms, AWS time) is given where the run is about to be opened.
    """
    if not isinstance(run, str) or not _RUN.fullmatch(run):
        raise Invalid("run: must be a UUIDv7: make it with tailrace.new_run()")
    if now is not None and run_time(run) > now + MAX_AHEAD_MS:
        raise Invalid("run: its time is more than 5 minutes ahead of AWS time")
    return run


def run_time(run: str) -> int:
    """Return the time in a run id, in ms."""
    return int(run[:8] + run[9:13], 16)


def new_run(at: int, randomness: bytes, after: str | None = None) -> str:
    """Make a run id for time `at` (ms) that is greater than `after`, from 10 bytes."""
    if after is not None:
        at = max(at, run_time(after) + 1)
    low = int.from_bytes(randomness[:10], "big")
    value = (at & (1 << 48) - 1) << 80 | 0x7 << 76 | (low >> 64 & 0xFFF) << 64
    value |= 0b10 << 62 | low & (1 << 62) - 1
    text = f"{value:032x}"
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def _check(pattern: re.Pattern[str], what: str, value: Any) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise Invalid(f"{what}: must be text that matches {pattern.pattern}")
    return value
