"""The vectors that every client runs (tests/conformance/README.md has their format),
run by the Python consumer's machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.vectors import play

VECTORS = Path(__file__).parents[1] / "conformance"

SCENARIOS = [
    pytest.param(scenario, id=f"{path.stem}: {scenario['name']}")
    for path in sorted(VECTORS.glob("*.json"))
    for scenario in json.loads(path.read_text())
]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_vector(scenario: dict[str, Any]) -> None:
    if any("page" in step for step in scenario["steps"]):
        pytest.skip("a Python process has no page that comes and goes")
    if any("compact" in step for step in scenario["steps"]):
        pytest.skip("the Python consumer does not ask for compaction")
    if scenario.get("blind"):
        pytest.skip("a Python process sees why a handshake failed")
    play(scenario)


def test_there_are_vectors_for_every_part_of_a_consumer() -> None:
    stems = {path.stem for path in VECTORS.glob("*.json")}
    assert {"order", "positions", "runs", "connection", "tokens"} <= stems
    assert len(SCENARIOS) >= 60
