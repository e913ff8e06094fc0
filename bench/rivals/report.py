"""The rows of a run as tables in Markdown. Of several rounds, medians; of what was
missed, doubled or reordered, the sum."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Row = dict[str, Any]
Results = Mapping[str, Mapping[str, Sequence[Row]]]
"""By peer and scenario, a row for each round."""


def number(value: float | None) -> str:
    if value is None:
        return "–"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def median(rows: Sequence[Row], fact: str) -> float | None:
    known = [row[fact] for row in rows if row.get(fact) is not None]
    return statistics.median(known) if known else None


def cells(*facts: str) -> Callable[[Sequence[Row]], str]:
    return lambda rows: " / ".join(number(median(rows, fact)) for fact in facts)


def exact(rows: Sequence[Row]) -> str:
    """What went wrong in all rounds: missed / doubled / reordered."""
    if any("error" in row for row in rows):
        return "failed"
    sums = [
        sum(row[name] for row in rows) for name in ("missed", "doubled", "reordered")
    ]
    return " / ".join(f"{one:,}" for one in sums)


def one(results: Results, prefix: str, show: Callable[[Sequence[Row]], str]) -> str:
    """A table with a column for each scenario of a kind."""
    names = [
        name
        for name in dict.fromkeys(name for found in results.values() for name in found)
        if name.startswith(prefix)
    ]
    if not names:
        return ""
    return table(
        ["", *(name.removeprefix(prefix).strip(" ,") or name for name in names)],
        [
            [peer, *(show(found[name]) if name in found else "–" for name in names)]
            for peer, found in results.items()
        ],
    )


def replayed(rows: Sequence[Row]) -> str:
    kilobytes = (median(rows, "bytes") or 0) / 1000
    values = (median(rows, "ms"), kilobytes, median(rows, "cpu_us"))
    return " / ".join(number(value) for value in values)


Show = Callable[[Sequence[Row]], str]
DELAYS, CUTS = cells("p50", "p95", "p99"), cells("first_ms", "caught_up_ms")
TABLES: tuple[tuple[str, str, Show], ...] = (
    ("From written to received, ms: p50 / p95 / p99", "live", DELAYS),
    ("CPU of the server, µs for each chunk received", "live", cells("cpu_us")),
    ("Bytes on the wire for each live chunk", "live", cells("bytes")),
    ("Memory of the server, MiB", "live", cells("memory_mib")),
    ("As fast as can be, one reader: chunks a second", "max", cells("a_second")),
    ("Replay: ms to all of it / kB / µs of CPU a chunk", "replay", replayed),
    ("Cut and back, ms: to the first / to all that was missed", "cut", CUTS),
)


def markdown(results: Results) -> str:
    parts = []
    for title, prefix, show in TABLES:
        if body := one(results, prefix, show):
            parts.append(f"{title}:\n\n{body}")
    if body := one(results, "", exact):
        parts.append(f"Chunks missed / doubled / reordered:\n\n{body}")
    return "\n\n".join(parts)
