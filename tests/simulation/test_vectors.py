"""The JavaScript client lives through what the Python one has, and does the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.simulation.vectors import SOURCE, played, written
from tests.support.vectors import play

SEEDS, STEPS = 60, 300


@pytest.fixture(scope="module")
def vectors() -> list[dict[str, Any]]:
    return [vector for seed in range(SEEDS) for vector in written(seed, STEPS)]


def test_the_javascript_client_does_as_the_python_one_did(
    vectors: list[dict[str, Any]],
) -> None:
    assert len(vectors) > SEEDS / 3
    assert played(vectors) == ""


def test_a_vector_says_all_that_matters(vectors: list[dict[str, Any]]) -> None:
    for vector in vectors:
        play(json.loads(json.dumps(vector)))


def test_what_the_javascript_client_does_otherwise_is_told(
    vectors: list[dict[str, Any]], tmp_path: Path
) -> None:
    source = tmp_path / "src"
    shutil.copytree(SOURCE, source)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    rules = (source / "cursor.js").read_text()
    right, wrong = 'next: "take", ahead: "hold"', 'next: "drop", ahead: "hold"'
    assert right in rules
    (source / "cursor.js").write_text(rules.replace(right, wrong))
    told = played(vectors, source)
    assert sum(vector["name"] in told for vector in vectors) > len(vectors) / 2
