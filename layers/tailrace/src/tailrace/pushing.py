"""One push to one connection, as both kinds of delivery make it."""

from __future__ import annotations

from .ports import Clock, Count, Gateway, Push

_TRIES = 2


class Pusher:
    """Pushes frames, each with one retry. What is still not through then is repaired:
    by the client, or by whoever pushes, where its client cannot ask.

    What was slow is not tried again: others wait behind it.
    """

    def __init__(self, gateway: Gateway, clock: Clock, count: Count) -> None:
        self._gateway = gateway
        self._clock = clock
        self._count = count

    def push(self, connection: str, frame: str, deadline: int) -> Push:
        """Push a frame. `deadline` (ms): no try is begun after it."""
        outcome = Push.FAILED
        for _ in range(_TRIES):
            if self._clock() >= deadline:
                break
            outcome = self._gateway.push(connection, frame)
            if outcome in (Push.DONE, Push.GONE):
                break
            self._count("PushesFailed", 1)
            if outcome is Push.SLOW:
                break
        return outcome
