"""Writes the tables of bench/README.md, between their markers, and the plots, from the
files in bench/results. A test holds the README to them.

    .venv/bin/python -m bench.report
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench import kept, plots
from bench.cloud.template import memory
from bench.prices import FREE, MONTHLY, PRICES, RIVALS
from bench.rivals import report as rivals

FOLDER = Path(__file__).parent
README = FOLDER / "README.md"
OPERATIONS = FOLDER.parent / "docs" / "operations.md"
PLOTS = FOLDER / "plots"

INTERVALS = (0, 50, 100, 250)
WATCHERS = (1, 3, 100)
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

Row = list[str]


def table(head: Row, rows: list[Row]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def about(found: dict[str, Any]) -> str:
    return f"{found['date']}, {found['machine']}: `{found['command']}`"


# ---- cost ----------------------------------------------------------------------------


def find(cases: list[dict[str, Any]], **wanted: Any) -> dict[str, Any]:
    """Return the one case that is as wanted, and plain in all else."""
    plain = {
        "mode": "feed",
        "way": "in-process",
        "interval_ms": 100,
        "push_ms": 0,
        "watchers": 1,
        "shape": "text",
        "abreast": 1,
    }
    for one in cases:
        if all(one["case"][name] == v for name, v in {**plain, **wanted}.items()):
            return one
    raise KeyError(wanted)


def dollars(value: float) -> str:
    return f"${value:.3f}" if value < 10 else f"${value:.2f}"


def cost_totals() -> str:
    cases = kept.load("cost")["cases"]
    rows = []
    for watchers in WATCHERS:
        for (mode, way), name in NAMES.items():
            totals = [
                find(cases, mode=mode, way=way, interval_ms=ms, watchers=watchers)
                for ms in INTERVALS
            ]
            rows.append(
                [str(watchers), name, *(dollars(one["total"]) for one in totals)]
            )
    head = ["watchers", "", *(f"{ms} ms" for ms in INTERVALS)]
    return f"{about(kept.load('cost'))}\n\n{table(head, rows)}"


def cost_targets() -> str:
    cases = kept.load("cost")["cases"]
    rows = []
    for name, target, wanted in TARGETS:
        found = find(cases, **wanted)["total"]
        missed = "" if found <= target else f"{100 * (found / target - 1):.0f} % over"
        rows.append([name, f"${target:.2f}", dollars(found), missed or "met"])
    return table(["one watcher", "at most", "counted", ""], rows)


def cost_lines() -> str:
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


def cost_others() -> str:
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


def cost_durations() -> str:
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


def cost_rivals() -> str:
    """What others ask for the same events, by their price lists."""
    cases = kept.load("cost")["cases"]
    rows = []
    writes = find(cases)["dollars"]["log: writes"]
    for (mode, way), name in NAMES.items():
        totals = [
            find(cases, mode=mode, way=way, watchers=n)["total"] for n in WATCHERS
        ]
        rows.append([name, "counted", *map(dollars, totals), "yes"])
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


def cost_prices() -> str:
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


# ---- latency -------------------------------------------------------------------------


def latency() -> str:
    found = kept.load("latency")
    rows = []
    for (mode, way), name in NAMES.items():
        for ms in INTERVALS:
            cells = [name, f"{ms} ms"]
            for factor in (1.0, 2.0):
                one = next(
                    one["ms"]
                    for one in found["cases"]
                    if one["assumed_times"] == factor
                    and (one["case"]["mode"], one["case"]["way"]) == (mode, way)
                    and one["case"]["interval_ms"] == ms
                )
                cells += [_ms(one["shown"]), _ms(one["delivered"])]
            rows.append(cells)
    head = [
        "p50 / p90 / p99, ms",
        "interval",
        "`write` to shown",
        "log to shown",
        "… assumed hops twice as slow",
        "",
    ]
    return f"{about(found)}\n\n{table(head, rows)}"


def latency_targets() -> str:
    """Return what was to be reached, and whether it is, of the hops as they are."""
    cases = [
        one for one in kept.load("latency")["cases"] if one["assumed_times"] == 1.0
    ]
    rows = []
    for one in cases:
        case, ms = one["case"], one["ms"]
        name = f"{NAMES[case['mode'], case['way']]}, {case['interval_ms']} ms"
        if case["mode"] == "direct":
            what, found, most = "`write` to shown", ms["shown"][0], 50
        else:
            what, found, most = "handler to shown", ms["beyond the poll"][0], 30
        met = "met" if found <= most else "not met"
        rows.append([name, what, f"{most} ms", f"{found:.1f} ms", met])
    return table(["p50", "", "at most", "modelled", ""], rows)


def latency_poll() -> str:
    found = kept.load("latency")
    rows = [["published", "", "213 / 341 / 552", ""]]
    for one in found["cases"]:
        if one["case"]["mode"] != "feed" or one["assumed_times"] != 1.0:
            continue
        case, ms = one["case"], one["ms"]
        rows.append(
            [
                NAMES[case["mode"], case["way"]],
                f"{case['interval_ms']} ms",
                _ms(ms["poll"]),
                _ms(ms["beyond the poll"]),
            ]
        )
    head = ["p50 / p90 / p99, ms", "interval", "put to handler", "handler to shown"]
    return table(head, rows)


def latency_hops() -> str:
    rows = [
        [one["hop"], _ms(one["ms"]), f"{one['kind']}: {one['source']}"]
        for one in kept.load("latency")["hops"]
    ]
    return table(["hop", "p50 / p90 / p99, ms", ""], rows)


def _ms(values: list[float]) -> str:
    return " / ".join(f"{value:.0f}" for value in values)


# ---- CPU -----------------------------------------------------------------------------


def cpu() -> str:
    found = kept.load("cpu")
    us = found["us"]
    rows = [
        ["a record appended, in-process", us["call"], "boto3's put"],
        ["… by the publish function", us["whole"]["publish"], "boto3's put"],
        ["a slice pushed", us["push"], "signing, and the socket"],
        ["a batch of the feed, one watcher", us["whole"]["fanout"], "boto3's query"],
        ["a frame of a client, or its coming or going", us["whole"]["websocket"],
         f"boto3's {us['calls']['websocket']:.1f} calls"],
        ["a chunk replayed, 5 a record", us["replayed_chunk"], "boto3's page of items"],
    ]  # fmt: skip
    return f"{about(found)}\n\n" + table(
        ["", "CPU", "bound by"],
        [[what, f"{value:,g} µs", why] for what, value, why in rows],
    )


# ---- limits --------------------------------------------------------------------------


def limits() -> str:
    found = kept.load("limits")
    tables = [
        f"{name[0].upper()}{name[1:]}:\n\n"
        + table(
            list(rows[0]), [[_shown(value) for value in row.values()] for row in rows]
        )
        for name, rows in found["limits"].items()
    ]
    return "\n\n".join([about(found), *tables])


def _shown(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:,g}"


def core() -> str:
    found = kept.load("core")
    rows = [[what, f"{value:,.2g} µs"] for what, value in found["us"].items()]
    return f"{about(found)}\n\n{table(['', 'CPU'], rows)}"


# ---- rivals --------------------------------------------------------------------------


def rivals_measured(name: str) -> str:
    found = kept.load(name)
    peers = found["peers"]
    return f"{about(found)}. {rivals.foreign(peers)}\n\n{rivals.markdown(peers)}"


# ---- what is written -----------------------------------------------------------------


def load(name: str) -> str:
    found = kept.load(name)
    lag, spent = found["lag_ms"], found["cpu_seconds"]
    rows = [
        ["connections, streams", f"{found['connections']}, {found['streams']}"],
        ["tokens a second into each stream", f"{found['rate']:g}"],
        ["until all had come; until all was written, s",
         f"{found['arrival_seconds']:g}; {found['seconds']:g}"],
        ["between two appends", f"{found['interval_ms']:,} ms"],
        ["connections cut; processes killed; pauses of 3 s",
         f"{found['cuts']}; {found['kills']}; {found['pauses']}"],
        ["tokens to be shown", f"{found['expected']:,}"],
        ["shown, each once and in order", f"{found['received']:,}"],
        ["lost, doubled or out of order", f"{found['wrong']}"],
        ["from `write` to shown, p50 / p90 / p99 / longest",
         " / ".join(f"{lag[name]:,}" for name in ("p50", "p90", "p99", "max")) + " ms"],
        ["not yet shown when all was written", f"{found['missing_then']:,}"],
        ["… and shown after", f"{found['settled_seconds']:g} s"],
        ["CPU of the clients; the local AWS; the functions",
         f"{spent['clients']}; {spent['aws']}; {spent['functions']} s"],
    ]  # fmt: skip
    return f"{about(found)}\n\n{table(['', ''], rows)}"


PARTS: dict[str, Callable[[], str]] = {
    "cost: targets": cost_targets,
    "cost: totals": cost_totals,
    "cost: lines": cost_lines,
    "cost: others": cost_others,
    "cost: durations": cost_durations,
    "cost: rivals": cost_rivals,
    "cost: prices": cost_prices,
    "latency": latency,
    "latency: targets": latency_targets,
    "latency: poll": latency_poll,
    "latency: hops": latency_hops,
    "cpu": cpu,
    "load": lambda: load("load"),
    "audience": lambda: load("audience"),
    "core": core,
    "rivals: targets": lambda: rivals.targets(kept.load("rivals")["peers"]),
    "rivals": lambda: rivals_measured("rivals"),
    "deployed: targets": lambda: rivals.deployed_targets(
        kept.load("deployed")["peers"]
    ),
    "deployed: floor": lambda: rivals.above_the_floor(kept.load("deployed")["peers"]),
    "deployed": lambda: rivals_measured("deployed"),
}

PAGES = {README: PARTS, OPERATIONS: {"limits": limits}}


def drawn() -> dict[str, str]:
    """Return the plots by the name of their file."""
    cases = kept.load("cost")["cases"]
    over = [
        (
            name,
            [
                find(cases, mode=mode, way=way, interval_ms=ms)["total"]
                for ms in INTERVALS
            ],
        )
        for (mode, way), name in NAMES.items()
    ]
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
    model = kept.load("latency")["cases"]
    shown = [
        (
            name,
            [
                next(
                    one["ms"]["shown"][0]
                    for one in model
                    if one["assumed_times"] == 1.0
                    and (one["case"]["mode"], one["case"]["way"]) == (mode, way)
                    and one["case"]["interval_ms"] == ms
                )
                for ms in INTERVALS
            ],
        )
        for (mode, way), name in NAMES.items()
    ]
    across = [f"{ms} ms" for ms in INTERVALS]
    return {
        "cost.svg": plots.lines(
            "1,000 answers of 1,000 tokens to one watcher, by interval",
            across,
            over,
            unit="$",
        ),
        "cost-lines.svg": plots.bars(
            "What they are made of, at 100 ms", groups, unit="$"
        ),
        "latency.svg": plots.lines(
            "write to shown, p50, modelled, by interval", across, shown, unit="ms"
        ),
    }


def _group(line: str) -> str:
    if line.startswith("log: "):
        return "log"
    if "message" in line:
        return "messages"
    if line.endswith("function"):
        return "functions"
    return "logs" if line == "logs" else "all else"


def filled(text: str, parts: Mapping[str, Callable[[], str]] = PARTS) -> str:
    """Return a page with its tables made anew."""
    for name, make in parts.items():
        begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        here = pattern.search(text)
        if here is None:
            raise KeyError(f"there is no place for {name}")
        made = f"{begin}\n{make()}\n{end}"
        text = text[: here.start()] + made + text[here.end() :]
    return text


def main() -> None:
    for page, parts in PAGES.items():
        page.write_text(filled(page.read_text(), parts))
    PLOTS.mkdir(exist_ok=True)
    for name, svg in drawn().items():
        (PLOTS / name).write_text(svg)


if __name__ == "__main__":
    main()
