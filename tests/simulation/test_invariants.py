"""The invariants and the guarantees of PROTOCOL.md §9 name each other."""

from __future__ import annotations

import re
from pathlib import Path

import tests.simulation.chats  # noqa: F401 - it has invariants of its own
from tailrace import rules
from tailrace.watchers import Subscription
from tests.simulation import invariants
from tests.simulation.world import World

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


def test_who_leaves_and_comes_again_during_a_fan_out_is_not_missed() -> None:
    """It was asked who subscribes while there was no row; the row's own answer, which
    is read after it was put, has the record."""
    world = World(1)
    exp = world.kernel.now // 1000 + 900
    row = Subscription("s1", "c1", 1, exp)
    world.subscribe(row, exp)
    stamp = rules.Stamp("w", world.kernel.now, 20, exp)
    record = rules.open_after(None, "s1", "run", stamp)
    fanning = invariants.Fanning({"s1": [row]}, None, world.kernel.now)
    assert invariants.missed(world, fanning, record) == ["c1"]
    world.kernel.now += 5
    world.unsubscribe("s1", "c1", 2)
    world.subscribe(Subscription("s1", "c1", 3, exp), exp)
    assert invariants.missed(world, fanning, record) == []
