"""What answers cost, from bench/results/cost.json, as tables and plots."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from bench import kept, plots
from bench.cloud.template import memory
from bench.cost import INTERVALS, WATCHERS, Case
from bench.prices import FREE, MONTHLY, PRICES, RIVALS
from bench.tables import about, table

NAMES = {
    ("feed", "in-process"): "Feed, in-process",
    ("feed", "function"): "Feed, publish function",
    ("direct", "in-process"): "Direct, in-process",
    ("direct", "function"): "Direct, publish function",
}
TARGETS: tuple[tuple[str, float, dict[str, Any]], ...] = (
    ("Feed, in-process, 100 ms", 0.30, {}),
    ("Feed, publish function, 100 ms", 0.45, {"way": "function"}),
    ("Direct, in-process, 100 ms", 0.34, {"mode": "direct"}),
    (
        "Direct, in-process, puts at 100 ms, posts at 250 ms",
        0.20,
        {"mode": "direct", "push_ms": 250},
    ),
    (
        "Direct, in-process, puts and posts at 250 ms",
        0.20,
        {"mode": "direct", "interval_ms": 250},
    ),
)


def find(cases: list[dict[str, Any]], **wanted: Any) -> dict[str, Any]:
    """Return the one case that is as wanted, and plain in all else."""
    case = Case(**wanted)
    for one in cases:
        if replace(case, answers=one["case"]["answers"]) == Case(**one["case"]):
            return one
    raise KeyError(case.name)


def dollars(value: float) -> str:
    return f"${value:.3f}" if value < 10 else f"${value:.2f}"


def totals() -> str:
    cases = kept.load("cost")["cases"]
    rows = []
    for watchers in WATCHERS:
        for (mode, way), name in NAMES.items():
            found = [
                find(cases, mode=mode, way=way, interval_ms=ms, watchers=watchers)
                for ms in INTERVALS
            ]
            rows.append(
                [str(watchers), name, *(dollars(one["total"]) for one in found)]
            )
    head = ["watchers", "", *(f"{ms} ms" for ms in INTERVALS)]
    return f"{about(kept.load('cost'))}\n\n{table(head, rows)}"


def targets() -> str:
    cases = kept.load("cost")["cases"]
    rows = []
    for name, target, wanted in TARGETS:
        found = find(cases, **wanted)["total"]
        missed = "" if found <= target else f"{100 * (found / target - 1):.0f} % over"
        rows.append([name, f"${target:.2f}", dollars(found), missed or "met"])
    return table(["one watcher", "at most", "counted", ""], rows)


def lines() -> str:
    cases = kept.load("cost")["cases"]
    parts = []
    for watchers in WATCHERS:
        columns = [
            find(cases, mode=mode, way=way, watchers=watchers) for mode, way in NAMES
        ]
        rows = [
            [line, *(f"{one['dollars'][line]:.4f}" for one in columns)]
            for line in columns[0]["dollars"]
        ]
        rows.append(["**all**", *(f"**{one['total']:.4f}**" for one in columns)])
        head = [f"$, {watchers} watching, 100 ms", *NAMES.values()]
        parts.append(table(head, rows))
    return "\n\n".join(parts)


def others() -> str:
    cases = kept.load("cost")["cases"]
    rows = []
    for mode in ("feed", "direct"):
        plain = find(cases, mode=mode)["total"]
        for name, wanted in (
            ("as the AI SDK's chunks, 40 bytes a token", {"shape": "ui-message"}),
            ("20 at a time, over one shard of the feed", {"abreast": 20}),
        ):
            other = find(cases, mode=mode, **wanted)["total"]
            label = f"{NAMES[mode, 'in-process']}: {name}"
            rows.append([label, dollars(other), dollars(plain)])
    return table(["100 ms, one watcher", "", "plain"], rows)


def durations() -> str:
    """What follows if every invocation takes half, or twice, as long as modelled."""
    cases = kept.load("cost")["cases"]
    rows = []
    for (mode, way), name in NAMES.items():
        one = find(cases, mode=mode, way=way)
        spent = sum(
            PRICES["compute"].of(ms * memory(part.split(".")[1]))
            for part, ms in one["counted"].items()
            if part.startswith("lambda.") and part.endswith(".ms")
        )
        spent *= 1_000 / one["case"]["answers"]
        found = (one["total"] + spent * more for more in (-0.5, 0, 1))
        rows.append([name, *map(dollars, found)])
    head = ["100 ms, one watcher", "half", "as modelled", "twice"]
    return table(head, rows)


def rivals() -> str:
    """What others ask for the same events, by their price lists."""
    cases = kept.load("cost")["cases"]
    rows = []
    writes = find(cases)["dollars"]["log: writes"]
    for (mode, way), name in NAMES.items():
        found = [find(cases, mode=mode, way=way, watchers=n)["total"] for n in WATCHERS]
        rows.append([name, "counted", *map(dollars, found), "yes"])
    for rival in RIVALS:
        prices = [rival.of(200, watchers, 1_000, 1) for watchers in WATCHERS]
        rows.append(
            [
                f"[{rival.name}]({rival.source})",
                "computed",
                *map(dollars, prices),
                rival.kept,
            ]
        )
        if rival.name == "AppSync Events":
            stored = [dollars(price + writes) for price in prices]
            label = "… and the log's writes to DynamoDB"
            rows.append([label, "computed", *stored, "yes"])
    notes = "\n".join(f"- {one.name}: {one.note}." for one in RIVALS)
    head = ["", "", *(f"{n} watching" for n in WATCHERS), "kept for replay"]
    return f"{table(head, rows)}\n\n{notes}"


def prices() -> str:
    rows = [
        [f"${price.dollars:g} for {price.per:,.0f}", price.unit, price.source]
        for price in PRICES.values()
    ]
    monthly = [
        [f"${price:.2f} a month", what, source]
        for what, (price, source) in MONTHLY.items()
    ]
    free = [["nothing", what, why] for what, why in FREE.items()]
    return table(["", "of", "source"], rows + monthly + free)


PARTS: dict[str, Callable[[], str]] = {
    "cost: targets": targets,
    "cost: totals": totals,
    "cost: lines": lines,
    "cost: others": others,
    "cost: durations": durations,
    "cost: rivals": rivals,
    "cost: prices": prices,
}


def drawn() -> dict[str, str]:
    """Return the plots by the name of their file."""
    return {"cost.svg": _by_interval(), "cost-lines.svg": _by_line()}


def _by_interval() -> str:
    cases = kept.load("cost")["cases"]
    return plots.lines(
        "1,000 answers of 1,000 tokens to one watcher, by interval",
        [f"{ms} ms" for ms in INTERVALS],
        [
            (
                name,
                [
                    find(cases, mode=mode, way=way, interval_ms=ms)["total"]
                    for ms in INTERVALS
                ],
            )
            for (mode, way), name in NAMES.items()
        ],
        unit="$",
    )


def _by_line() -> str:
    cases = kept.load("cost")["cases"]
    groups = []
    for (mode, way), name in NAMES.items():
        found = find(cases, mode=mode, way=way)["dollars"]
        grouped = {
            "log": 0.0,
            "messages": 0.0,
            "functions": 0.0,
            "logs": 0.0,
            "all else": 0.0,
        }
        for line, value in found.items():
            grouped[_group(line)] += value
        groups.append((name.replace(", ", "\n"), list(grouped.items())))
    return plots.bars("What they are made of, at 100 ms", groups, unit="$")


def _group(line: str) -> str:
    if line.startswith("log: "):
        return "log"
    if "message" in line:
        return "messages"
    if line.endswith("function"):
        return "functions"
    return "logs" if line == "logs" else "all else"
