"""Worlds by the thousand, over as many processes as there are cores.

Seeds are tried in parts. What is told of them is told in the order of the seeds, so
that the first that fails is the same one, however many processes look for it.
"""

from __future__ import annotations

import collections
import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field

from . import chats
from .scenario import run
from .world import Violation

PART = 20
CHATS = 25
"""Each so-manieth seed plays a world of chats, too."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Which worlds to try; `seconds`: after which no further part is begun."""

    first: int
    seeds: int
    steps: int
    seconds: float
    without: frozenset[str] = frozenset()
    beside: frozenset[str] = frozenset()


@dataclass(slots=True)
class Found:
    """What came of some seeds; `failed`: the first that failed, if one did, with the
    name of what does not hold and whether it is a world of chats."""

    seeds: int = 0
    chats: int = 0
    steps: int = 0
    least: int = 0
    hits: collections.Counter[str] = field(default_factory=collections.Counter)
    failed: tuple[int, str, bool] | None = None
    error: str = ""

    def add(self, more: Found) -> None:
        self.seeds += more.seeds
        self.chats += more.chats
        self.steps += more.steps
        self.least = min(self.least or more.least, more.least or self.least)
        self.hits.update(more.hits)
        self.failed, self.error = more.failed, more.error


def search(plan: Plan, jobs: int) -> Iterator[Found]:
    """Yield what is found so far, part by part, up to the first failure."""
    total = Found()
    for part in _parts(plan, jobs):
        total.add(part)
        yield total
        if total.failed is not None:
            return


def name_of(error: Exception) -> str:
    """Return the invariant that does not hold, or the kind of what the code raised."""
    return error.name if isinstance(error, Violation) else type(error).__name__


def try_part(plan: Plan, first: int, seeds: int) -> Found:
    found = Found()
    for seed in range(first, first + seeds):
        of_chats = False
        try:
            world = run(seed, plan.steps, without=plan.without, beside=plan.beside)
            found.seeds += 1
            found.steps += world.kernel.steps
            found.least = min(found.least or world.kernel.steps, world.kernel.steps)
            found.hits.update(world.faults.hits)
            if seed % CHATS == 0 and not plan.without and not plan.beside:
                of_chats = True
                hits = chats.play(seed).faults.hits
                found.hits.update({f"chats: {kind}": n for kind, n in hits.items()})
                found.chats += 1
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
            found.failed = (seed, name_of(error), of_chats)
            found.error = str(error)
            break
    return found


def _parts(plan: Plan, jobs: int) -> Iterator[Found]:
    until = time.monotonic() + plan.seconds
    end = plan.first + plan.seeds
    parts = ((at, min(PART, end - at)) for at in range(plan.first, end, PART))
    if jobs == 1:
        for first, seeds in parts:
            if time.monotonic() > until:
                return
            yield try_part(plan, first, seeds)
        return
    with ProcessPoolExecutor(jobs) as pool:
        waiting: collections.deque[Future[Found]] = collections.deque()
        try:
            for first, seeds in parts:
                if time.monotonic() > until:
                    break
                waiting.append(pool.submit(try_part, plan, first, seeds))
                if len(waiting) > 2 * jobs:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
