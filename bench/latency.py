"""How long from `write` to shown, on AWS: a MODEL, not a measurement.

The real producer, functions and consumer run in virtual time (`bench.cloud`); each hop
takes what `bench.cloud.delays` says, and our code the CPU that `bench.cpu` measured, on
Lambda's share of a core. All functions are warm.

    .venv/bin/python -m bench.latency [--keep]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

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
        cloud = Cloud(
            seed, cpu=Cpu.measured(), delays=delays, environment=environment(case)
        )
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


def _play(cloud: Cloud, case: Case, stream: str, length: int) -> tuple[Answer, Watcher]:
    watcher = Watcher(cloud, f"{stream}:1", "user")
    cloud.run(lambda: watcher.live)
    answer = Answer(
        cloud,
        f"{stream}:1",
        cloud.transport(case.way),
        tokens=words(1, case.shape)[:length],
        rate=RATE,
        interval=case.interval_ms / 1000,
    )
    cloud.run(lambda: answer.done and watcher.ended)
    cloud.run_for(STAY_MS)
    watcher.leave()
    cloud.run_for(3_000)
    return answer, watcher


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
    if keep:
        kept.save(
            "latency",
            "python -m bench.latency --keep",
            {"slower": SLOWER, "hops": hops(), "cases": found},
        )


if __name__ == "__main__":
    main()
