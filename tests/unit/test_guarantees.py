"""The guarantees of PROTOCOL.md §9 and the tests that they name."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
SECTION = (ROOT / "PROTOCOL.md").read_text().partition("## 9. Guarantees")[2]
ROWS = re.findall(r"^\| (G\d+) \| (.+) \| (.+) \|$", SECTION, re.MULTILINE)


def test_guarantees_are_numbered_without_a_gap() -> None:
    assert [row[0] for row in ROWS] == [f"G{n}" for n in range(1, len(ROWS) + 1)]
    assert len(ROWS) >= 15


def test_each_guarantee_names_tests_that_exist() -> None:
    for number, _, held_by in ROWS:
        named = re.findall(r"`(tests/\S+\.py)::(\w+)`", held_by)
        assert named, f"{number} names no test"
        for path, name in named:
            source = (ROOT / path).read_text()
            assert re.search(
                rf"^(async def|def|class) {name}\b|^{name} =", source, re.MULTILINE
            ), f"{number}: {path} has no {name}"
