"""Has anything become slower or dearer? In two minutes, against the kept figures.

What is counted must be as it was, to the last unit: the exit code says so. What is
measured is told as a ratio, in units of a piece of plain Python that is timed beside
it, so that another machine compares; more than `TOLERANCE` is flagged, and to be looked
at.

    .venv/bin/python -m bench.quick
    .venv/bin/python -m bench.quick --keep      these are the figures from now on
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from typing import Any

from bench import core, kept
from bench.cloud.cpu import Cpu
from bench.cost import CORNER, Case, count, lines, total

TOLERANCE = 1.3


def plain() -> float:
    """Return the microseconds of CPU of the piece of Python that is the unit."""
    took = []
    for _ in range(7):
        begun = time.process_time()
        for number in range(2_000):
            json.loads(json.dumps({"number": number, "texts": ["a", "b", str(number)]}))
        took.append(time.process_time() - begun)
    return min(took) / 2_000 * 1e6


def tool(*command: str) -> str:
    """Return what another benchmark prints."""
    done = subprocess.run(
        [sys.executable, "-m", *command], capture_output=True, text=True, check=True
    )
    return done.stdout


def measured() -> dict[str, float]:
    """Return figures of which less is better, none with a unit of this machine."""
    unit = plain()
    found = {name: value / unit for name, value in core.measure().items()}
    throughput = json.loads(tool("bench.producer", "throughput").splitlines()[-1])
    rate = throughput["throughput"]["chunks per CPU second"]
    found["a chunk written by a producer"] = 1e6 / rate / unit
    times = re.search(r"([\d.]+) times as many", tool("bench.posts", "3"))
    assert times is not None
    found["CPU of a push, of boto3's"] = 1 / float(times[1])
    starts = json.loads(tool("bench.startup", "3").splitlines()[-1])
    for name, ratio in starts.items():
        found[f"start of {name}, of the floor's"] = ratio
    return {name: round(value, 6) for name, value in found.items()}


def compare_measured(found: dict[str, float], then: dict[str, float]) -> int:
    """Print each ratio to what is kept; return how many are out of tolerance."""
    slower = 0
    print(f"\n{'measured, less is better':45} {'kept':>8} {'now':>8} {'ratio':>6}")
    for name, value in found.items():
        if name not in then:
            print(f"{name:45} {'':8} {value:8.4f}    new")
            continue
        ratio = value / then[name]
        flag = ""
        if ratio > TOLERANCE:
            slower += 1
            flag = "  SLOWER"
        print(f"{name:45} {then[name]:8.4f} {value:8.4f} {ratio:6.2f}{flag}")
    return slower


def compare_counted() -> int:
    """Count the table's corner anew, with the durations that it was made with; print
    what differs, and return in how many cases."""
    cpu = Cpu.measured(kept.FOLDER / "cost.json")
    then = {Case(**one["case"]).name: one for one in kept.load("cost")["cases"]}
    different = 0
    print(f"{'counted, $ of 1,000 answers':45} {'kept':>8} {'now':>8} {'ratio':>6}")
    for corner in CORNER:
        before = then[corner.name]
        case = Case(**before["case"])
        counted = count(case, cpu)
        now = total(lines(counted, case.answers))
        ratio = now / before["total"]
        same = counted == before["counted"]
        flag = "" if same else "  COUNTS DIFFER"
        print(f"{case.name:45} {before['total']:8.4f} {now:8.4f} {ratio:6.2f}{flag}")
        if not same:
            different += 1
            _tell(before["counted"], counted)
    return different


def _tell(before: dict[str, int], after: dict[str, int]) -> None:
    for name in sorted(before.keys() | after.keys()):
        was, now = before.get(name, 0), after.get(name, 0)
        if was != now:
            print(f"      {name}: {was} before, {now} now")


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.quick")
    parser.add_argument("--keep", action="store_true")
    keep = parser.parse_args().keep
    different = compare_counted()
    found = measured()
    if keep:
        about: dict[str, Any] = {"ratios": found}
        kept.save("quick", "python -m bench.quick --keep", about)
    slower = compare_measured(found, kept.load("quick")["ratios"])
    print()
    if different:
        print(
            f"{different} counts differ from those in bench/results/cost.json. If that"
            " is meant, `python -m bench.cost --keep` and `python -m bench.report`."
        )
    if slower:
        print(f"{slower} figures are slower than kept. Look again on a quiet machine.")
    if not different and not slower:
        print("Nothing has become dearer or slower.")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
