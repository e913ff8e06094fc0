"""How long from `write` to shown, on AWS, and from coming back to all that was missed:
a MODEL, not a measurement.

The real producer, functions and consumer run in virtual time (`bench.cloud`); each hop
takes what `bench.cloud.delays` says, and our code the CPU that `bench.cpu` measured, on
Lambda's share of a core. All functions are warm.

    .venv/bin/python -m bench.latency [--keep]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, Literal, get_args

from bench import kept
from bench.cloud.cloud import Cloud
from bench.cloud.cpu import SLOWER, Cpu
from bench.cloud.delays import DELAYS, Delay
from bench.cloud.people import Answer, Watcher
from bench.cost import (
    INTERVALS,
    RATE,
    STAY_MS,
    TOKENS,
    WARMING,
    Case,
    Mode,
    environment,
    words,
)

ANSWERS = 6
QUANTILES = (0.5, 0.9, 0.99)


def quantiles(values: Sequence[float]) -> list[float]:
    """Return p50, p90 and p99."""
    ordered = sorted(values)
    return [
        round(ordered[min(len(ordered) - 1, int(len(ordered) * share))], 1)
        for share in QUANTILES
    ]


def run(case: Case, delays: dict[str, Delay]) -> dict[str, list[float]]:
    """Return ms: from `write` to shown; from the log to shown; and, by the feed, from
    the log to the handler (the poll's own), and from there to shown."""
    shown: list[float] = []
    polls: list[float] = []
    beyond: list[float] = []
    delivered: list[float] = []
    for seed in range(ANSWERS):
        cloud = _cloud(seed, case, delays)
        with cloud.open():
            _play(cloud, case, "warm", WARMING)
            cloud.feed.seen.clear()
            answer, watcher = _play(cloud, case, "chat", TOKENS)
        pairs = zip(answer.written, watcher.shown, strict=True)
        shown += [(after - before) / 1000 for before, after in pairs]
        delivered += [
            (watcher.first_shown[seq] - put) / 1000
            for (stream, seq), put in cloud.put_at.items()
            if stream == watcher.stream
        ]
        seen = cloud.feed.seen
        polls += [(entered - put) / 1000 for put, entered, _ in seen]
        by_seq = {seq: entered for _, entered, seq in seen}
        beyond += [
            (at - by_seq[seq]) / 1000
            for seq, at in watcher.first_shown.items()
            if seq in by_seq
        ]
    return {
        "shown": shown,
        "poll": polls,
        "beyond the poll": beyond,
        "delivered": delivered,
    }


def _cloud(seed: int, case: Case, delays: dict[str, Delay]) -> Cloud:
    return Cloud(seed, cpu=Cpu.measured(), delays=delays, environment=environment(case))


def _play(
    cloud: Cloud, case: Case, stream: str, length: int, *, watchers: int = 1
) -> tuple[Answer, Watcher]:
    """Let an answer be written and watched; return it, and one who watched."""
    there = [Watcher(cloud, f"{stream}:1", f"user-{n}") for n in range(watchers)]
    cloud.run(lambda: all(one.live for one in there))
    answer = _answer(cloud, case, f"{stream}:1", length)
    cloud.run(lambda: answer.done and all(one.ended for one in there))
    cloud.run_for(STAY_MS)
    for one in there:
        one.leave()
    cloud.run_for(3_000)
    return answer, there[0]


def _answer(cloud: Cloud, case: Case, stream: str, length: int) -> Answer:
    return Answer(
        cloud,
        stream,
        cloud.transport(case.way),
        tokens=words(1, case.shape, length),
        rate=RATE,
        interval=case.interval_ms / 1000,
    )


Return = Literal["cut", "reload", "late"]
"""A connection that breaks in mid-answer; a page that is loaded again, and comes a
second after it went; one that comes when the answer has ended."""

RETURNS = 5
"""In each answer."""

SETTLED_MS = 10_000
"""A connection that lived so long is made anew without the patience that grows with
each that did not (PROTOCOL.md §3.5, rule 8)."""


def come_back(kind: Return, case: Case, delays: dict[str, Delay]) -> list[float]:
    """Return ms: from a break to the first that was written behind it, and with it all
    else that was missed; from a page's coming to all that the log had by then."""
    waits: list[float] = []
    for seed in range(ANSWERS):
        cloud = _cloud(seed, case, delays)
        with cloud.open():
            # Two at once, as are who goes and who comes.
            _play(cloud, case, "warm", WARMING, watchers=2)
            waits += _returns(cloud, kind, case)
    return waits


def _returns(cloud: Cloud, kind: Return, case: Case) -> Iterator[float]:
    pause = SETTLED_MS if kind == "cut" else 1_000
    length = RATE * RETURNS * (pause // 1_000 + 3)
    watcher = _watch(cloud)
    cloud.run(lambda: watcher.live)
    answer = _answer(cloud, case, "chat:1", length)
    if kind == "late":
        cloud.run(lambda: answer.done)
    for _ in range(RETURNS):
        cloud.run_for(pause + 1_000 * cloud.kernel.dice("return").random())
        if kind == "cut":
            begun = cloud.kernel.now
            watcher.cut()
            last = _next(cloud)
        else:
            watcher.leave()
            cloud.run_for(1_000)
            begun, last = cloud.kernel.now, _last(cloud)
            watcher = _watch(cloud)
        shown_at = _shown(cloud, watcher, last)
        # TCP and TLS, a round trip each.
        secured = sum(cloud.draw("socket") for _ in range(4))
        yield (shown_at - begun + secured) / 1000


def _watch(cloud: Cloud) -> Watcher:
    return Watcher(cloud, "chat:1", "user")


def _shown(cloud: Cloud, watcher: Watcher, seq: int) -> int:
    """Wait until a watcher is shown what is at `seq`; return when (µs)."""
    cloud.run(lambda: seq in watcher.first_shown)
    return watcher.first_shown[seq]


def _last(cloud: Cloud) -> int:
    """Return where the last record begins of the stream that is watched here."""
    return max(seq for stream, seq in cloud.put_at if stream == "chat:1")


def _next(cloud: Cloud) -> int:
    """Wait for another record; return where it begins."""
    before = _last(cloud)
    cloud.run(lambda: _last(cloud) > before)
    return _last(cloud)


def slower(factor: float) -> dict[str, Delay]:
    """Return the delays with those that nobody has published so many times as long."""
    return {
        name: one.times(factor) if one.kind == "assumed" else one
        for name, one in DELAYS.items()
    }


CASES = [
    *(Case("direct", "in-process", interval) for interval in INTERVALS),
    *(Case("direct", "function", interval) for interval in INTERVALS),
    *(Case("feed", "in-process", interval) for interval in INTERVALS),
    *(Case("feed", "function", interval) for interval in INTERVALS),
]


def measure(given: list[Case]) -> list[dict[str, Any]]:
    found = []
    for case in given:
        for factor in (1.0, 2.0):
            result = run(case, slower(factor))
            if case.mode == "direct":
                del result["poll"], result["beyond the poll"]
            ms = {name: quantiles(values) for name, values in result.items()}
            print(f"{case.name:40} delays x {factor:g}: {ms}", flush=True)
            found.append({"case": asdict(case), "assumed_times": factor, "ms": ms})
    return found


def measure_returns() -> list[dict[str, Any]]:
    found = []
    for mode in get_args(Mode):
        for kind in get_args(Return):
            case = Case(mode, "in-process", 50)
            ms = [
                quantiles(come_back(kind, case, slower(factor)))
                for factor in (1.0, 2.0)
            ]
            print(f"{case.name:40} {kind}: {ms}", flush=True)
            found.append({"mode": mode, "kind": kind, "ms": ms})
    return found


def hops() -> list[dict[str, Any]]:
    return [
        {
            "hop": name,
            "kind": one.kind,
            "source": one.source,
            "ms": [one.at(share) for share in QUANTILES],
        }
        for name, one in DELAYS.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.latency")
    parser.add_argument("--keep", action="store_true")
    keep = parser.parse_args().keep
    found = measure(CASES)
    returns = measure_returns()
    if keep:
        kept.save(
            "latency",
            "python -m bench.latency --keep",
            {"slower": SLOWER, "hops": hops(), "cases": found, "returns": returns},
        )


if __name__ == "__main__":
    main()
