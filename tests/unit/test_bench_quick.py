"""What `make bench-quick` lets pass, and what it does not."""

from __future__ import annotations

import pytest

from bench import kept, quick
from bench.cloud.cpu import Cpu
from bench.cost import CORNER, Case


def counted_before(case: Case, cpu: Cpu) -> dict[str, int]:
    found: dict[str, int] = next(
        one["counted"]
        for one in kept.load("cost")["cases"]
        if Case(**one["case"]) == case
    )
    return dict(found)


def test_the_same_counts_are_no_regression(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quick, "count", counted_before)
    assert quick.compare_counted() == 0


def test_one_unit_more_is_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def dearer(case: Case, cpu: Cpu) -> dict[str, int]:
        found = counted_before(case, cpu)
        found["log.write_units"] += 1
        return found

    monkeypatch.setattr(quick, "count", dearer)
    assert quick.compare_counted() == len(CORNER)
    assert "log.write_units" in capsys.readouterr().out


def test_what_is_slower_is_flagged_beyond_the_tolerance_only() -> None:
    then = {"a": 1.0, "b": 1.0}
    assert quick.compare_measured({"a": 1.2, "b": 1.4}, then) == 1
