"""Writers: what one asks of the log, and is answered (PROTOCOL.md §4.2).

Pure: which way a call goes is for `transports`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from .rules import OnActive, Reason


@dataclass(frozen=True, slots=True)
class Answer:
    """What is so after a call. `next`: the seq of the next append; `already`: how many
    chunks of the run are in; `epoch`: how many claims it has seen."""

    run: str
    next: int
    epoch: int = 0
    already: int = 0


class Transport(Protocol):
    """Carries the calls of PROTOCOL.md §4.2. Safe to share between threads.

    Every call may raise any `TailraceError`. After `Unavailable` what was asked may or
    may not have happened; the same call, repeated, settles it.
    """

    def clock(self) -> int:
        """Return AWS time in ms, as well as it is known."""

    def open(
        self,
        stream: str,
        run: str,
        writer: str,
        *,
        on_active: OnActive,
        lease: int,
        meta: dict[str, Any] | None,
    ) -> Answer:
        """Open the run."""

    def claim(
        self, stream: str, run: str, writer: str, *, seq: int | None, lease: int
    ) -> Answer:
        """Take the run over."""

    def append(
        self, stream: str, run: str, writer: str, seq: int, texts: Sequence[str]
    ) -> Answer:
        """Append chunks, given as their JSON texts, at `seq`."""

    def end(
        self,
        stream: str,
        run: str,
        writer: str,
        seq: int,
        reason: Reason,
        message: str | None,
    ) -> Answer:
        """End the run."""

    def renew(
        self, stream: str, run: str, writer: str, *, lease: int, handed_over: bool
    ) -> Answer:
        """Keep the silent run alive, or hand it over."""

    def ask(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Perform any other operation, given and answered as the publish API does."""
