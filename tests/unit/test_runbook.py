"""The runbook has an entry for each alarm."""

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
