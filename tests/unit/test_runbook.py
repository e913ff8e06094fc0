"""The runbook has an entry for each alarm, and commands that can be pasted."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tailrace.publish import Publish
from tests.support.worlds import World

ROOT = Path(__file__).parents[2]


def test_each_alarm_has_an_entry_in_the_runbook() -> None:
    template = (ROOT / "template.yaml").read_text()
    alarms = set(re.findall(r"^  (\w+Alarm):$", template, re.MULTILINE))
    headings = re.findall(
        r"^## (.*Alarm.*)$", (ROOT / "docs/runbook.md").read_text(), re.MULTILINE
    )
    assert alarms
    assert {name for heading in headings for name in heading.split(", ")} == alarms


def test_what_it_has_invoked_the_publish_function_takes() -> None:
    runbook = (ROOT / "docs/runbook.md").read_text()
    payloads = [json.loads(one) for one in re.findall(r"--payload '(.*?)'", runbook)]
    assert [one["operation"] for one in payloads] == ["disconnect", "read"]
    world = World()
    publish = Publish(world.log, world.state, world.gateway)
    for payload in payloads:
        assert "error" not in publish.handle(payload)
