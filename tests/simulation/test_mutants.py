"""Every rule has a mutant that breaks it, and every mutant its place in the code."""

from __future__ import annotations

import re

import pytest

from tests.simulation.mutants import MUTANTS, ROOT, RULES, Mutant

PROTOCOL = (ROOT / "PROTOCOL.md").read_text()
SECTION = PROTOCOL.partition("### 2.1 Rules")[2].partition("### 2.2")[0]
LOG = [
    f"log {number}" for number in re.findall(r"^(\d+)\. \*\*", SECTION, re.MULTILINE)
]


def test_every_rule_has_a_mutant() -> None:
    assert len(LOG) == 9
    assert {one.rule for one in MUTANTS} == {"log 0", *LOG, *RULES}


def test_the_rules_name_sections_that_exist() -> None:
    for rule in RULES.values():
        for number in re.findall(r"§([\d.]+\d|\d)", rule):
            assert re.search(rf"^##+ {re.escape(number)}[. ]", PROTOCOL, re.MULTILINE)


@pytest.mark.parametrize("mutant", [pytest.param(one, id=one.name) for one in MUTANTS])
def test_a_mutant_changes_one_place(mutant: Mutant) -> None:
    source = (ROOT / mutant.file).read_text()
    assert source.count(mutant.was) == 1
    assert source.replace(mutant.was, mutant.becomes) != source


def test_no_two_mutants_have_one_name() -> None:
    assert len({one.name for one in MUTANTS}) == len(MUTANTS)
