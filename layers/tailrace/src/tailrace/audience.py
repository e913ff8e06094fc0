"""Large audiences: what of one is handed over, and how often it is pushed to.

One invocation pushes to some hundred connections between two polls of the change feed.
An audience that is larger is cut into shares, and each is pushed by an invocation of
its own, side by side. Here is what such an invocation is told.
"""

from __future__ import annotations

from typing import Any

from . import chunks
from .errors import Invalid
from .watchers import Share, Subscription

SHARE = 100
"""How many subscriptions one invocation serves."""
PUSHES_PER_SECOND = 10_000
"""How often one stream may push: all that an account may ask of API Gateway, if nobody
raised it."""


def window(pushes: int, rate: int = PUSHES_PER_SECOND) -> int:
    """Return how long (ms) after the start of so many pushes the next may start, if
    there may be `rate` a second."""
    return pushes * 1_000 // rate


def to_event(share: Share) -> str:
    """Return the event, as JSON text, that hands a share to the fan-out function."""
    return chunks.encode(
        {
            "share": {
                "subscriptions": [
                    [one.stream, one.connection, one.n, one.exp, one.slow_until]
                    for one in share.subscriptions
                ],
                "frames": list(share.frames),
                "deadline": share.deadline,
            }
        },
        "share",
    )


def from_event(event: Any) -> Share | None:
    """Return the share that an event hands over; None if it is an event of another
    kind, `Invalid` if it is a broken one of this."""
    if not isinstance(event, dict) or "share" not in event:
        return None
    try:
        told = event["share"]
        subscriptions = [
            Subscription(str(stream), str(connection), int(n), int(exp), int(slow))
            for stream, connection, n, exp, slow in told["subscriptions"]
        ]
        frames = [str(frame) for frame in told["frames"]]
        return Share(subscriptions, frames, int(told["deadline"]))
    except (KeyError, TypeError, ValueError) as error:
        raise Invalid(f"event: no share ({type(error).__name__})") from None
