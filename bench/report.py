"""Writes the tables of bench/README.md, between their markers, and the plots, from the
files in bench/results. A test holds the README to them.

    .venv/bin/python -m bench.report
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench import cost_tables, kept, plots
from bench.cost import INTERVALS
from bench.cost_tables import NAMES
from bench.rivals import report as rivals
from bench.tables import about, table

FOLDER = Path(__file__).parent
README = FOLDER / "README.md"
OPERATIONS = FOLDER.parent / "docs" / "operations.md"
PLOTS = FOLDER / "plots"


# ---- latency -------------------------------------------------------------------------


def modelled(mode: str, way: str, interval: int, factor: float) -> dict[str, Any]:
    """Return the ms of a case, where the assumed hops take so many times as long."""
    found: dict[str, Any] = next(
        one["ms"]
        for one in kept.load("latency")["cases"]
        if one["assumed_times"] == factor
        and (one["case"]["mode"], one["case"]["way"]) == (mode, way)
        and one["case"]["interval_ms"] == interval
    )
    return found


def latency() -> str:
    found = kept.load("latency")
    rows = []
    for (mode, way), name in NAMES.items():
        for ms in INTERVALS:
            cells = [name, f"{ms} ms"]
            for factor in (1.0, 2.0):
                one = modelled(mode, way, ms, factor)
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


def latency_returns() -> str:
    names = {
        "cut": "a connection breaks in mid-answer, and the page knows",
        "reload": "a page is loaded again in mid-answer",
        "late": "a page comes when the answer has ended",
    }
    rows = [
        [
            names[one["kind"]],
            NAMES[one["mode"], "in-process"],
            *(_ms(ms) for ms in one["ms"]),
        ]
        for one in kept.load("latency")["returns"]
    ]
    head = ["p50 / p90 / p99, ms", "", "", "… assumed hops twice as slow"]
    return table(head, rows)


def latency_hops() -> str:
    rows = [
        [one["hop"], _ms(one["ms"]), f"{one['kind']}: {one['source']}"]
        for one in kept.load("latency")["hops"]
    ]
    return table(["hop", "p50 / p90 / p99, ms", ""], rows)


def _ms(values: list[float]) -> str:
    return " / ".join(f"{value:.0f}" for value in values)


def latency_plot() -> str:
    return plots.lines(
        "write to shown, p50, modelled, by interval",
        [f"{ms} ms" for ms in INTERVALS],
        [
            (name, [modelled(mode, way, ms, 1.0)["shown"][0] for ms in INTERVALS])
            for (mode, way), name in NAMES.items()
        ],
        unit="ms",
    )


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


def posts() -> str:
    found = kept.load("posts")
    rows = [
        [client, f"{ms:.3f} ms", f"{1000 / ms:,.0f}"]
        for client, ms in found["ms"].items()
    ]
    return (
        f"{about(found)}, medians of {found['rounds']} rounds of {found['pushes']:,}"
        " in turns\n\n"
        f"{table(['', 'CPU of a push', 'pushes a CPU second'], rows)}\n\n"
        f"{found['ratio']:.2f} times as many."
    )


def startup() -> str:
    found = kept.load("startup")
    rows = [
        [
            f"`{name}`",
            f"{one['floor']:,} ms",
            f"{one['ours']:,} ms",
            f"{one['ratio']:.2f}",
        ]
        for name, one in found["functions"].items()
    ]
    return (
        f"{about(found)}, medians of {found['rounds']} pairs\n\n"
        f"{table(['function', 'floor', 'ours', 'ratio'], rows)}"
    )


def compaction() -> str:
    found = kept.load("compaction")
    rows = [
        [name, f"{one['frames']}", f"{one['bytes']:,}", f"{one['ms']:.1f} ms"]
        for name, one in found["replays"].items()
    ]
    head = [f"a replay of {found['words']:,} words", "frames", "bytes", "CPU"]
    return f"{about(found)}\n\n{table(head, rows)}"


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
    **cost_tables.PARTS,
    "latency": latency,
    "latency: targets": latency_targets,
    "latency: poll": latency_poll,
    "latency: returns": latency_returns,
    "latency: hops": latency_hops,
    "cpu": cpu,
    "load": lambda: load("load"),
    "audience": lambda: load("audience"),
    "core": core,
    "posts": posts,
    "startup": startup,
    "compaction": compaction,
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
    return {**cost_tables.drawn(), "latency.svg": latency_plot()}


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
