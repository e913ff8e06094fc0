"""Thousands of worlds: `make simulate`. A failing seed is shrunk, shown and replayed.

python -m tests.simulation --seeds 20000 --steps 600 --seconds 3600 --jobs 2
python -m tests.simulation --seed 1234 --steps 600 --without users,ttl --trace
"""

# ruff: noqa: T201

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence

from . import chats, reach
from .faults import CHATS, HAPPENINGS, KINDS
from .scenario import ACTORS, Scenario, run
from .search import Found, Plan, name_of, search
from .world import World


def main(arguments: Sequence[str] | None = None) -> int:
    given = _arguments(arguments)
    without = frozenset(filter(None, given.without.split(",")))
    beside = frozenset(filter(None, given.beside.split(",")))
    if given.coverage:
        return reach.measure(
            given.first, given.seeds, given.steps, given.jobs, missing=given.missing
        )
    if given.seed is not None and given.chats:
        chats.play(given.seed)
        return 0
    if given.seed is not None:
        return _replay(given.seed, given.steps, without, beside, given.trace)
    return _search(given, without, beside)


def fails(
    seed: int,
    steps: int,
    without: frozenset[str] = frozenset(),
    beside: frozenset[str] = frozenset(),
) -> str | None:
    """Run a seed; return the name of the invariant that does not hold, if one does
    not, or of what the code raised."""
    try:
        run(seed, steps, without=without, beside=beside)
    except Exception as error:  # noqa: BLE001 - a crash is a finding, too
        return name_of(error)
    return None


def shrink(
    seed: int, steps: int, name: str, without: frozenset[str], beside: frozenset[str]
) -> tuple[int, frozenset[str]]:
    """Leave out actors and faults, then steps, as long as the same does not hold."""
    for kind in (*ACTORS, *KINDS):
        fewer = without | {kind}
        if kind not in without and fails(seed, steps, fewer, beside) == name:
            without = fewer
    low, high = 0, steps
    while low < high:
        middle = (low + high) // 2
        if fails(seed, middle, without, beside) == name:
            high = middle
        else:
            low = middle + 1
    return high, without


def _search(
    given: argparse.Namespace, without: frozenset[str], beside: frozenset[str]
) -> int:
    began = time.monotonic()
    plan = Plan(given.first, given.seeds, given.steps, given.seconds, without, beside)
    found = Found()
    for found in search(plan, given.jobs):
        if sys.stdout.isatty():
            print(f"\r{found.seeds} seeds, {found.steps} steps", end="", flush=True)
    if found.failed is not None:
        seed, name, of_chats = found.failed
        print(f"\nseed {seed} fails: {found.error}")
        if of_chats:
            print(f"again: python -m tests.simulation --seed {seed} --chats")
        elif not given.quick:
            _show(seed, given.steps, name, without, beside)
        return 1
    spent = time.monotonic() - began
    print(
        f"\r{found.seeds} seeds, {found.steps} steps (at least {found.least} each), "
        f"{found.chats} worlds of chats, {spent:.0f} s: every invariant holds"
    )
    hits = found.hits
    never = []
    for what, kinds in (
        ("faults", {kind: kind for kind in KINDS}),
        ("happenings", {kind: kind for kind in HAPPENINGS}),
        ("chats", {kind: f"chats: {kind}" for kind in CHATS}),
    ):
        print(
            f"{what}: " + ", ".join(f"{one} {hits[key]}" for one, key in kinds.items())
        )
        never += [key for key in kinds.values() if not hits[key]]
    if never and found.seeds >= 5_000 and not without:
        print(f"never reached: {', '.join(never)}")
        return 1
    return 0


def _show(
    seed: int, steps: int, name: str, without: frozenset[str], beside: frozenset[str]
) -> None:
    print("shrinking ...", flush=True)
    steps, without = shrink(seed, steps, name, without, beside)
    _replay(seed, steps, without, beside, trace=True)
    options = "".join(
        f" --{name} {','.join(sorted(kinds))}"
        for name, kinds in (("without", without), ("beside", beside))
        if kinds
    )
    print(
        f"\nagain: python -m tests.simulation --seed {seed} --steps {steps}"
        f"{options} --trace"
    )


def _replay(
    seed: int,
    steps: int,
    without: frozenset[str],
    beside: frozenset[str],
    trace: bool,
) -> int:
    scenario = Scenario(seed, without=without, beside=beside, trace=trace)
    world: World = scenario.world
    failure: Exception | None = None
    try:
        scenario.run(steps)
    except Exception as error:  # noqa: BLE001 - it is shown below
        failure = error
    for line in (world.trace or [])[-400:]:
        print(line)
    rates = ", ".join(f"{kind} {rate:g}" for kind, rate in world.faults.rates.items())
    print(f"seed {seed}: {world.kernel.steps} steps; faults: {rates or 'none'}")
    print(f"fails: {failure}" if failure else "every invariant holds")
    return 1 if failure else 0


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=2_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seconds", type=float, default=3_600)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--chats", action="store_true", help="its world of chats")
    parser.add_argument("--without", default="", help="kinds of actors and faults")
    parser.add_argument(
        "--beside", default="", help="what is left out else: delete, ttl-race"
    )
    parser.add_argument(
        "--coverage",
        action="store_true",
        help="measure how much of the core is reached",
    )
    parser.add_argument("--missing", action="store_true", help="and show what is not")
    parser.add_argument("--trace", action="store_true")
    parser.add_argument("--quick", action="store_true", help="do not shrink")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
