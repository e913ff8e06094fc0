"""How long each hop takes: distributions, each with where it is from.

A hop is `published` where somebody measured it and said so, `assumed` where nobody did.
Nothing here was measured on AWS by us.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, replace
from typing import Literal

_BITE = (
    "https://bitesizedserverless.com/bite/serverless-messaging-latency-compared/"
    " (eu-west-1, 2022: put to handler p10 118, p50 213, p90 341, p99 552 ms)"
)
_DYNAMODB = (
    "AWS says single-digit ms"
    " (https://aws.amazon.com/blogs/database/understanding-amazon-dynamodb-latency/);"
    " the percentiles are ours"
)
_NOBODY = "no figure is published"


@dataclass(frozen=True)
class Delay:
    """A quantile function in ms, straight between its points."""

    kind: Literal["published", "assumed"]
    source: str
    points: tuple[tuple[float, float], ...]

    def draw(self, chance: float) -> int:
        """Return microseconds; `chance` is at random from 0 to 1."""
        at = bisect_right([share for share, _ in self.points], chance)
        (low, least), (high, most) = self.points[at - 1 : at + 1]
        share = (chance - low) / (high - low)
        return round(1000 * (least + (most - least) * share))

    def at(self, share: float) -> float:
        """Return a quantile, in ms."""
        return self.draw(share) / 1000

    def times(self, factor: float) -> Delay:
        return replace(
            self, points=tuple((share, ms * factor) for share, ms in self.points)
        )


POLL_MS = 250
"""Lambda asks each shard four times a second:
https://docs.aws.amazon.com/lambda/latest/dg/with-ddb.html"""

DELAYS = {
    # With a poll that falls anywhere in 250 ms before it, this gives the published
    # percentiles within 5 %: 115, 224, 332, 557.
    "feed": Delay(
        "published",
        "fitted to " + _BITE,
        ((0, 55), (0.1, 72), (0.5, 85), (0.9, 120), (0.97, 300), (0.99, 380), (1, 600)),
    ),
    "write": Delay(
        "assumed",
        _DYNAMODB,
        ((0, 3), (0.5, 5), (0.9, 8), (0.99, 20), (1, 60)),
    ),
    "read": Delay(
        "assumed",
        _DYNAMODB,
        ((0, 2), (0.5, 3.5), (0.9, 6), (0.99, 15), (1, 50)),
    ),
    "post": Delay(
        "assumed",
        _NOBODY,
        ((0, 4), (0.5, 10), (0.9, 18), (0.99, 45), (1, 150)),
    ),
    "invoke": Delay(
        "assumed",
        _NOBODY + "; what Lambda adds to a warm call, there and back",
        ((0, 4), (0.5, 9), (0.9, 16), (0.99, 40), (1, 120)),
    ),
    "socket": Delay(
        "assumed",
        _NOBODY + "; API Gateway to the browser, one way, same continent",
        ((0, 3), (0.5, 10), (0.9, 25), (0.99, 60), (1, 200)),
    ),
    "secret": Delay(
        "assumed",
        _NOBODY,
        ((0, 5), (0.5, 12), (0.9, 25), (0.99, 60), (1, 200)),
    ),
}
