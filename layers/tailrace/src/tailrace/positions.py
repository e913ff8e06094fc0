"""Positions: where a consumer wants to continue (PROTOCOL.md §3.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from . import ids
from .errors import Invalid


@dataclass(frozen=True, slots=True)
class Position:
    """Behind the cursor `(run, after)`; or from the `open` of `run`; or behind the seq
    `after`, whatever run that is; or, with neither, the current run from its `open`."""

    run: str | None = None
    after: int | None = None


def check_position(run: Any, after: Any) -> Position:
    """Return the position that a frame or a call names; `Invalid` if it names none."""
    if run is not None:
        ids.check_run(run)
    if after is not None and (type(after) is not int or not 0 <= after < 1 << 53):
        raise Invalid("after: must be a seq, or 0")
    return Position(run, after)
