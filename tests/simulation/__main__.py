"""Thousands of worlds: `make simulate`. A failing seed is shrunk, shown and replayed.

python -m tests.simulation --seeds 20000 --steps 600 --seconds 3600
python -m tests.simulation --seed 1234 --steps 600 --without users,ttl --trace
"""

# ruff: noqa: T201

from __future__ import annotations

import argparse
import collections
import sys
import time
from collections.abc import Sequence

from .faults import HAPPENINGS, KINDS
from .scenario import ACTORS, run
from .world import Violation, World


def main(arguments: Sequence[str] | None = None) -> int:
    given = _arguments(arguments)
    without = frozenset(filter(None, given.without.split(",")))
    beside = frozenset(filter(None, given.beside.split(",")))
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
    except Violation as violation:
        return violation.name
    except Exception as error:  # noqa: BLE001 - a crash is a finding, too
        return type(error).__name__
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
    hits: collections.Counter[str] = collections.Counter()
    done = steps = least = 0
    for seed in range(given.first, given.first + given.seeds):
        if time.monotonic() - began > given.seconds:
            break
        try:
            world = run(seed, given.steps, without=without, beside=beside)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is shown
            name = error.name if isinstance(error, Violation) else type(error).__name__
            print(f"\nseed {seed} fails: {error}")
            if not given.quick:
                _show(seed, given.steps, name, without, beside)
            return 1
        done += 1
        steps += world.kernel.steps
        least = min(least or world.kernel.steps, world.kernel.steps)
        hits.update(world.faults.hits)
        if sys.stdout.isatty() and done % 50 == 0:
            print(f"\r{done} seeds, {steps} steps", end="", flush=True)
    spent = time.monotonic() - began
    print(
        f"\r{done} seeds, {steps} steps (at least {least} each), {spent:.0f} s: "
        "every invariant holds"
    )
    for what, kinds in (("faults", KINDS), ("happenings", HAPPENINGS)):
        print(f"{what}: " + ", ".join(f"{kind} {hits[kind]}" for kind in kinds))
    never = [kind for kind in (*KINDS, *HAPPENINGS) if not hits[kind]]
    if never and done >= 5_000 and not without:
        print(f"never reached: {', '.join(never)}")
        return 1
    return 0


def _show(
    seed: int, steps: int, name: str, without: frozenset[str], beside: frozenset[str]
) -> None:
    print("shrinking ...", flush=True)
    steps, without = shrink(seed, steps, name, without, beside)
    left = ",".join(sorted(without))
    _replay(seed, steps, without, beside, trace=True)
    extra = f" --beside {','.join(sorted(beside))}" if beside else ""
    print(
        f"\nagain: python -m tests.simulation --seed {seed} --steps {steps}"
        f" --without {left}{extra} --trace"
    )


def _replay(
    seed: int,
    steps: int,
    without: frozenset[str],
    beside: frozenset[str],
    trace: bool,
) -> int:
    from .scenario import Scenario

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
    parser.add_argument("--seed", type=int)
    parser.add_argument("--without", default="", help="kinds of actors and faults")
    parser.add_argument(
        "--beside", default="", help="what is left out else: delete, ttl-race"
    )
    parser.add_argument("--trace", action="store_true")
    parser.add_argument("--quick", action="store_true", help="do not shrink")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
