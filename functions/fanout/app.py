"""The change feed of the log's table: pushes what is new to who subscribes to it. Also
pushes a share of a large audience, where another invocation hands one over."""

from __future__ import annotations

from functools import cache
from typing import Any

from tailrace import audience, wiring
from tailrace.adapters.calls import local_clock
from tailrace.config import starts_in_lambda
from tailrace.fanout import Fanout, decode
from tailrace.telemetry import Telemetry

# What must be left of an invocation when the last push begins.
RESERVE_MS = 5_000

telemetry = Telemetry()


@cache
def fanout() -> Fanout:
    return wiring.fanout(telemetry)


if starts_in_lambda():
    # The start has more CPU than an event, and SnapStart keeps what it built.
    fanout()


@telemetry.wrap
def handler(event: Any, context: Any) -> dict[str, Any]:
    deadline = local_clock() + context.get_remaining_time_in_millis() - RESERVE_MS
    share = audience.from_event(event)
    if share is not None:
        fanout().push_share(share, deadline)
        return {}
    failed = fanout().push(decode(event), deadline)
    return {"batchItemFailures": [{"itemIdentifier": number} for number in failed]}
