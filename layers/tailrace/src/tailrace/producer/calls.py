"""The calls of a writer, as values: the core decides on one, a shell sends it, and one
whose outcome is unknown is sent again unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ..rules import Reason
from ..writers import Answer, Transport


class Call(Protocol):
    """One call of one writer."""

    def send(self, transport: Transport) -> Answer:
        """Make the call."""


@dataclass(frozen=True, slots=True)
class Append:
    stream: str
    run: str
    writer: str
    seq: int
    texts: tuple[str, ...]

    def send(self, transport: Transport) -> Answer:
        return transport.append(
            self.stream, self.run, self.writer, self.seq, self.texts
        )


@dataclass(frozen=True, slots=True)
class End:
    stream: str
    run: str
    writer: str
    seq: int
    reason: Reason
    message: str | None

    def send(self, transport: Transport) -> Answer:
        return transport.end(
            self.stream, self.run, self.writer, self.seq, self.reason, self.message
        )


@dataclass(frozen=True, slots=True)
class Renew:
    stream: str
    run: str
    writer: str
    lease: int
    handed_over: bool = False

    def send(self, transport: Transport) -> Answer:
        return transport.renew(
            self.stream,
            self.run,
            self.writer,
            lease=self.lease,
            handed_over=self.handed_over,
        )
