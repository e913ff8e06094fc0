"""The publish API: PROTOCOL.md §4. Who may call it is IAM's decision."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from tailrace import wiring
from tailrace.config import starts_in_lambda
from tailrace.telemetry import Telemetry

if TYPE_CHECKING:
    from tailrace.publish import Publish

telemetry = Telemetry()


@cache
def publish() -> Publish:
    return wiring.publish(telemetry)


if starts_in_lambda():
    # The start has more CPU than an event, and SnapStart keeps what it built.
    publish()


@telemetry.wrap
def handler(event: Any, context: Any) -> dict[str, Any]:
    return publish().handle(event)
