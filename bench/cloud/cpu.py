"""How much CPU our code takes, as `bench.cpu` measured it, and what Lambda makes of it.

Lambda gives a function a share of a core by its memory: a whole one at 1,769 MB
(https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

MB_A_CORE = 1_769
SLOWER = 1.5
"""How much slower than this machine's a core of Lambda is taken to be: assumed."""

FILE = Path(__file__).parents[1] / "results" / "cpu.json"


@dataclass(frozen=True)
class Cpu:
    """µs on the machine that measured: a call to a table, a push, what an invocation of
    each function takes beside those, and its start."""

    call: float
    push: float
    invocation: dict[str, float]
    start: dict[str, float]

    @classmethod
    def measured(cls, file: Path = FILE) -> Cpu:
        found = json.loads(file.read_text())["us"]
        return cls(found["call"], found["push"], found["invocation"], found["start"])


def slowness(megabytes: int) -> float:
    """Return how many times longer than here a piece of code takes on Lambda."""
    return SLOWER * max(1.0, MB_A_CORE / megabytes)
