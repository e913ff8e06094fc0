"""The rows of a run as tables in Markdown. Of several rounds, medians; of what was
missed, doubled or reordered, the sum."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bench.tables import table

Row = dict[str, Any]
Results = Mapping[str, Mapping[str, Sequence[Row]]]
"""By peer and scenario, a row for each round."""


def number(value: float | None) -> str:
    if value is None:
        return "–"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def median(rows: Sequence[Row], fact: str) -> float | None:
    known = [row[fact] for row in rows if row.get(fact) is not None]
    return statistics.median(known) if known else None


def cells(*facts: str) -> Callable[[Sequence[Row]], str]:
    return lambda rows: " / ".join(number(median(rows, fact)) for fact in facts)


def exact(rows: Sequence[Row]) -> str:
    """What went wrong in all rounds: missed / doubled / reordered."""
    if any("error" in row for row in rows):
        return "failed"
    if not all("missed" in row for row in rows):
        return "–"
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
            if not found.keys().isdisjoint(names)
        ],
    )


def replayed(rows: Sequence[Row]) -> str:
    kilobytes = (median(rows, "bytes") or 0) / 1000
    values = (median(rows, "ms"), kilobytes, median(rows, "cpu_us"))
    return " / ".join(number(value) for value in values)


Show = Callable[[Sequence[Row]], str]
DELAYS, CUTS = cells("p50", "p95", "p99"), cells("first_ms", "caught_up_ms")
DRIFT = cells("drift")
FLOOR = cells("handshake_ms", "answer_ms", "put_ms", "invoke_ms")
TABLES: tuple[tuple[str, str, Show], ...] = (
    ("From written to received, ms: p50 / p95 / p99", "live", DELAYS),
    ("By how much the last quarter was later than the first, ms", "live", DRIFT),
    ("CPU of the server, µs for each chunk received", "live", cells("cpu_us")),
    ("Bytes on the wire for each live chunk", "live", cells("bytes")),
    ("Memory of the server, MiB", "live", cells("memory_mib")),
    ("As fast as can be, one reader: chunks a second", "max", cells("a_second")),
    ("Replay: ms to all of it / kB / µs of CPU a chunk", "replay", replayed),
    ("Cut and back, ms: to the first / to all that was missed", "cut", CUTS),
    ("By itself, ms: handshake / frame and post / put / invocation", "floor", FLOOR),
)


def markdown(results: Results) -> str:
    parts = []
    for title, prefix, show in TABLES:
        if body := one(results, prefix, show):
            parts.append(f"{title}:\n\n{body}")
    if body := one(results, "", exact):
        parts.append(f"Chunks missed / doubled / reordered:\n\n{body}")
    return "\n\n".join(parts)


def foreign(results: Results) -> str:
    """Say how much of the machine others had, where that could be seen."""
    rows = [row for found in results.values() for all in found.values() for row in all]
    most = max((row.get("foreign", 0.0) for row in rows), default=0.0)
    return f"At most {most:.0%} of the machine was used by others meanwhile."


# ---- what was to be reached ----------------------------------------------------------

DURABLE = ("redis-ws", "redis-ws-fsync", "durable-streams-file")
Target = tuple[str, str, str, bool]
"""What, at most or at least how much, what was found, whether that is enough."""


def targets(results: Results) -> str:
    """What Tailrace was to reach beside those that keep every chunk."""
    ours, redis = results["tailrace"], results["redis-ws"]
    found: list[Target] = [_nothing_lost(ours)]
    for name in (name for name in ours if name.startswith("live")):
        found += [
            _at_most(
                f"{name}: {fact}, ms; redis-ws",
                median(ours[name], fact),
                median(redis[name], fact),
            )
            for fact in ("p50", "p95")
        ]
    found.append(_at_least("chunks a second", _max(ours), 174_000))
    for name, times in (
        ("replay 10,000 written at 1,000/s", 3),
        ("replay 10,000 written at full speed", 1),
    ):
        fastest = min(median(results[one][name], "ms") or 0 for one in DURABLE)
        what = f"{name}, ms; the fastest of them" + (f" / {times}" if times > 1 else "")
        found.append(_at_most(what, median(ours[name], "ms"), fastest / times))
    most = max(
        median(rows, "bytes") or 0
        for name, rows in ours.items()
        if name.startswith("live")
    )
    found.append(_at_most("bytes a live chunk, at any load", most, 30))
    return _shown(found)


def deployed_targets(results: Results) -> str:
    """What the deployed stack was to reach, beside the same written the obvious way."""
    ours, naive = results["tailrace deployed"], results["aws-naive"]
    found = [_nothing_lost(ours)]
    most = 10 * (_max(naive) or 0)
    found.append(_at_least("chunks a second; ten times aws-naive", _max(ours), most))
    for name in (name for name in ours if name.startswith("replay")):
        tenth = (median(naive[name], "ms") or 0) / 10
        what = f"{name}, ms; a tenth of aws-naive"
        found.append(_at_most(what, median(ours[name], "ms"), tenth))
    many = ours["live 100 × 1 at 50/s"]
    found.append(
        _at_most(
            "100 streams at 50/s: how much later after 20 s, ms; an append's interval",
            median(many, "drift"),
            1_000,
        )
    )
    durable = results["durable-streams-file"]
    for name in (name for name in ours if name.startswith("cut")):
        what = f"{name}: caught up, ms; durable-streams-file"
        theirs = median(durable[name], "caught_up_ms")
        found.append(_at_most(what, median(ours[name], "caught_up_ms"), theirs))
    return _shown(found)


def above_the_floor(results: Results) -> str:
    """How long who comes waits, beside whom handlers answer that do nothing."""
    (alone,) = results["the local AWS"].values()
    floor = sum(median(alone, fact) or 0 for fact in ("handshake_ms", "answer_ms"))
    rows = []
    for name, rows_of in results["tailrace deployed"].items():
        fact = "ms" if name.startswith("replay") else "caught_up_ms"
        if (found := median(rows_of, fact)) is not None:
            cells = [number(found), number(floor), number(found / floor)]
            rows.append([name, *cells])
    head = ["ms", "deployed", "a bare handshake and answer", "ratio"]
    return table(head, rows)


def _max(of: Mapping[str, Sequence[Row]]) -> float | None:
    return median(of["max"], "a_second")


def _nothing_lost(of: Mapping[str, Sequence[Row]]) -> Target:
    facts = ("missed", "doubled", "reordered")
    rows = [row for found in of.values() for row in found]
    lost = sum(row.get(fact, 1) for row in rows for fact in facts)
    what = "chunks missed, doubled or reordered, in all scenarios"
    return (what, "0", number(lost), lost == 0)


def _at_most(what: str, found: float | None, most: float | None) -> Target:
    met = found is not None and most is not None and found <= most
    return (what, f"≤ {number(most)}", number(found), met)


def _at_least(what: str, found: float | None, least: float) -> Target:
    met = found is not None and found >= least
    return (what, f"≥ {number(least)}", number(found), met)


def _shown(targets: Sequence[Target]) -> str:
    rows = [
        [what, wanted, found, "met" if met else "not met"]
        for what, wanted, found, met in targets
    ]
    return table(["", "wanted", "found", ""], rows)
