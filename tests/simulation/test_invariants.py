"""The invariants and the guarantees of PROTOCOL.md §9 name each other."""

from __future__ import annotations

import re
from pathlib import Path

import tests.simulation.chats  # noqa: F401 - it has invariants of its own
from tests.simulation import invariants

ROOT = Path(__file__).parents[2]
SECTION = (ROOT / "PROTOCOL.md").read_text().partition("## 9. Guarantees")[2]
ROWS = re.findall(r"^\| (G\d+) \| .+ \| (.+) \|$", SECTION, re.MULTILINE)


def test_each_invariant_is_named_by_its_guarantee_and_no_other() -> None:
    named = {
        (name, guarantee)
        for guarantee, held_by in ROWS
        for name in re.findall(r"`tests/simulation/\w+\.py::(\w+)`", held_by)
        if not name.startswith("test_")
    }
    ours = {
        (name, guarantee)
        for name, guarantee in invariants.GUARANTEES.items()
        if not name.startswith("_")
    }
    assert named == ours


def test_each_guarantee_has_an_invariant() -> None:
    assert {guarantee for guarantee, _ in ROWS} == set(invariants.GUARANTEES.values())
