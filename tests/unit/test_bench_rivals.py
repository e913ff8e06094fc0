"""What the bench beside rivals says was reached."""

from __future__ import annotations

from typing import Any

import pytest

from bench.rivals import report

EXACT = {"missed": 0, "doubled": 0, "reordered": 0}
LIVE = "live 1 × 1 at 50/s"
SLOW, FAST = "replay 10,000 written at 1,000/s", "replay 10,000 written at full speed"


def peer(**facts: dict[str, float]) -> dict[str, list[dict[str, Any]]]:
    """Return rows of one round; `facts` are of `live`, `max`, `slow` and `fast`."""
    found: dict[str, dict[str, float]] = {
        LIVE: {"p50": 1.0, "p95": 2.0, "bytes": 29.0} | facts.get("live", {}),
        "max": {"a_second": 200_000.0} | facts.get("max", {}),
        SLOW: {"ms": 60.0} | facts.get("slow", {}),
        FAST: {"ms": 10.0} | facts.get("fast", {}),
    }
    return {name: [EXACT | row] for name, row in found.items()}


def said(**facts: dict[str, float]) -> list[str]:
    """Return which targets are not met by a Tailrace of these facts."""
    results = {name: peer() for name in report.DURABLE}
    results["tailrace"] = peer(**{"slow": {"ms": 20.0}, **facts})
    lines = report.targets(results).splitlines()[2:]
    assert len(lines) == 7
    return [line for line in lines if line.endswith("| not met |")]


def test_who_is_as_good_as_was_to_be_reached_has_reached_it() -> None:
    assert said() == []


@pytest.mark.parametrize(
    ("facts", "named"),
    [
        ({"live": {"missed": 1}}, "missed, doubled or reordered"),
        ({"slow": {"ms": 20.0, "doubled": 1}}, "missed, doubled or reordered"),
        ({"live": {"p50": 1.01}}, "p50"),
        ({"live": {"p95": 2.01}}, "p95"),
        ({"live": {"bytes": 30.1}}, "bytes a live chunk"),
        ({"max": {"a_second": 173_999}}, "chunks a second"),
        ({"slow": {"ms": 20.1}}, SLOW),
        ({"fast": {"ms": 10.1}}, FAST),
    ],
)
def test_what_falls_short_is_said_by_itself(
    facts: dict[str, dict[str, float]], named: str
) -> None:
    (line,) = said(**facts)
    assert named in line


def test_a_scenario_that_failed_counts_as_chunks_lost() -> None:
    results = {name: peer() for name in (*report.DURABLE, "tailrace")}
    results["tailrace"]["cut"] = [{"error": "TimeoutError()"}]
    assert "reordered, in all scenarios | 0 | 3.00 | not met |" in report.targets(
        results
    )
