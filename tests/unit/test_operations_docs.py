"""The runbook has an entry for each alarm; the threat model names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_each_alarm_has_an_entry_in_the_runbook() -> None:
    template = (ROOT / "template.yaml").read_text()
    alarms = set(re.findall(r"^  (\w+Alarm):$", template, re.MULTILINE))
    headings = re.findall(
        r"^## (.*Alarm.*)$", (ROOT / "docs/runbook.md").read_text(), re.MULTILINE
    )
    assert alarms
    assert {name for heading in headings for name in heading.split(", ")} == alarms


def test_each_threat_names_tests_that_exist() -> None:
    text = (ROOT / "docs/threat-model.md").read_text()
    threats = text.partition("## What they might do")[2].partition("\n## ")[0]
    rows = [row for row in threats.splitlines() if row.startswith("| ")][2:]
    assert rows
    for row in rows:
        paths = re.findall(r"`(tests/[^`]+)`", row)
        assert paths, f"no test: {row}"
        for path, name in (named.split("::") for named in paths):
            source = (ROOT / path).read_text()
            assert re.search(
                rf"^(async def|def|class) {name}\b", source, re.MULTILINE
            ), f"{path} has no {name}"
