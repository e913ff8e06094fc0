"""The guarantees of PROTOCOL.md §9, the threats of docs/threat-model.md, and the tests
that hold them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def rows(page: str, heading: str) -> list[tuple[str, str]]:
    """Return the first and the last cell of each row of the table under a heading."""
    section = (ROOT / page).read_text().partition(heading)[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    cells = [line.strip("| ").split(" | ") for line in lines[1:]]
    return [(first, last) for first, *_, last in cells]


GUARANTEES = rows("PROTOCOL.md", "## 9. Guarantees")
THREATS = rows("docs/threat-model.md", "## What they might do")


def test_guarantees_are_numbered_without_a_gap() -> None:
    numbers = [number for number, _ in GUARANTEES]
    assert numbers == [f"G{n}" for n in range(1, len(numbers) + 1)]
    assert len(numbers) >= 15


@pytest.mark.parametrize("held", [GUARANTEES, THREATS], ids=["guarantees", "threats"])
def test_each_names_tests_that_exist(held: list[tuple[str, str]]) -> None:
    assert held
    for what, held_by in held:
        named = re.findall(r"`(tests/\S+)::(\w+)`", held_by)
        assert named, f"{what}: names no test"
        for path, name in named:
            source = (ROOT / path).read_text()
            assert re.search(
                rf"^(async def|def|class) {name}\b|^{name} =", source, re.MULTILINE
            ), f"{what}: {path} has no {name}"
