"""How much of the core the worlds reach: `make reach`.

The core is what the import contracts (pyproject.toml) keep free of I/O, clock and
chance, and what they let reach those through its ports only. Not `aisdk`: it turns what
a vendor's library streams into chunks, before there is anything to lose; nor a
consumer's events, which are made of what nothing more can happen to.

Some of it no world reaches, and it counts as missed all the same: 20, 50 or 300 races
lost in a row (`the stream changes faster than …`); what is forgotten beyond a thousand
streams, writers or clients of one process; guards against what a caller's type, API
Gateway or the change feed rules out (a frame that is no text, an event without records,
a key ring that is none, a request longer than a frame); the pickling of errors.
"""

# ruff: noqa: T201

from __future__ import annotations

import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import coverage

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "layers/tailrace/src/tailrace"
LEAST = 95.0
_CONTRACTS = (
    "The core has no I/O, clock, chance or environment, and knows only itself",
    "The logic reaches AWS, the clock and the environment through its ports only",
)


def core() -> list[Path]:
    """Return the files of the core."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = {
        one["name"]: one["source_modules"]
        for one in settings["tool"]["importlinter"]["contracts"]
        if "source_modules" in one
    }
    modules = [name for contract in _CONTRACTS for name in contracts[contract]]
    away = ("tailrace.aisdk.", "tailrace.consumer.events")
    kept = [name for name in modules if not name.startswith(away)]
    files = [PACKAGE.joinpath(*name.split(".")[1:]).with_suffix(".py") for name in kept]
    return sorted(files)


def measure(first: int, seeds: int, steps: int, jobs: int, *, missing: bool) -> int:
    """Try worlds, and print what of each file was reached; 1 if one of them fails, or
    less than `LEAST` per cent of the lines and branches were reached in all."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "settings"
        files = core()
        settings.write_text(_settings(folder, files))
        share = -(-seeds // jobs)
        command = [sys.executable, "-m", "coverage", "run", f"--rcfile={settings}"]
        command += ["-m", "tests.simulation", "--jobs=1", f"--steps={steps}"]
        running = [
            subprocess.Popen(
                [
                    *command,
                    f"--first={at}",
                    f"--seeds={min(share, first + seeds - at)}",
                ],
                cwd=ROOT,
            )
            for at in range(first, first + seeds, share)
        ]
        # All of them, also behind one that failed.
        failed = [one for one in running if one.wait()]
        if failed:
            return 1
        measured = coverage.Coverage(config_file=str(settings))
        measured.combine([folder])
        reached = measured.report(show_missing=missing)
    print(f"of the core, {reached:.1f} % of the lines and branches were reached")
    return 0 if reached >= LEAST else 1


def _settings(folder: str, files: list[Path]) -> str:
    listed = "".join(f"\n    {file}" for file in files)
    return (
        f"[run]\nbranch = true\nparallel = true\nconcurrency = greenlet\n"
        f"data_file = {folder}/data\ninclude ={listed}\n"
        "[report]\nprecision = 1\nexclude_also =\n    if TYPE_CHECKING:\n"
    )
