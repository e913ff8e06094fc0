"""Straight to the tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..errors import Invalid, from_dict
from ..log import Log
from ..ports import Gateway, Push
from ..publish import Publish
from ..records import Record
from ..rules import OnActive, Reason
from ..writers import Answer


class InProcess:
    """Straight to the tables, for jobs that have the stack's exported policy: one call
    less on the way.

    `settle` waits, in Direct delivery, for the pushes of a stream, within a bound of
    its own: after an `end`, or a handover, the process may be gone at any time.
    """

    def __init__(
        self, log: Log, settle: Callable[[str], Any] = lambda stream: None
    ) -> None:
        self._log = log
        self._settle = settle
        self._publish = Publish(log, log.state, _NoGateway())

    def clock(self) -> int:
        return self._log.clock()

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
        return _of(
            self._log.open(
                stream, writer, run, on_active=on_active, lease=lease, meta=meta
            )
        )

    def claim(
        self, stream: str, run: str, writer: str, *, seq: int | None, lease: int
    ) -> Answer:
        return _of(self._log.claim(stream, run, writer, seq, lease=lease))

    def append(
        self, stream: str, run: str, writer: str, seq: int, texts: Sequence[str]
    ) -> Answer:
        return _of(self._log.append(stream, run, writer, seq, texts))

    def end(
        self,
        stream: str,
        run: str,
        writer: str,
        seq: int,
        reason: Reason,
        message: str | None,
    ) -> Answer:
        record = self._log.end(stream, run, writer, seq, reason, message)
        self._settle(stream)
        return _of(record)

    def renew(
        self, stream: str, run: str, writer: str, *, lease: int, handed_over: bool
    ) -> Answer:
        tail, _ = self._log.renew(
            stream, run, writer, lease=lease, handed_over=handed_over
        )
        if handed_over:
            self._settle(stream)
        return _of(tail)

    def ask(self, payload: dict[str, Any]) -> dict[str, Any]:
        operation = payload.get("operation")
        if operation in _NOT_GRANTED:
            raise Invalid(f"{operation}: ask the publish function")
        answer = self._publish.handle(payload)
        if "error" in answer:
            raise from_dict(answer["error"])
        if "operation" not in payload:
            self._settle(payload["stream"])
        return answer


# Operations that need more than `PublishInProcessPolicy` grants.
_NOT_GRANTED = ("delete", "disconnect")


class _NoGateway(Gateway):
    """`disconnect` alone would need one."""

    def push(self, connection: str, frame: str) -> Push:
        return Push.FAILED

    def disconnect(self, connection: str) -> None:
        return None


def _of(record: Record) -> Answer:
    return Answer(
        run=record.run,
        next=record.next,
        epoch=record.epoch,
        already=record.chunks_in,
    )
