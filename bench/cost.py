"""What 1,000 answers of 1,000 tokens cost, counted from the running code.

The producer, the publish function, the log, the change feed, the fan-out, the sessions
and the consumers run in virtual time (`bench.cloud`); every request, unit, byte, line
and message is counted where it crosses the wire, and priced from `bench.prices`. What
is modelled is only how long an invocation takes: CPU as `bench.cpu` measured it, on
Lambda's share of a core, and the delays of `bench.cloud.delays`.

    .venv/bin/python -m bench.cost            the table's corner: seconds
    .venv/bin/python -m bench.cost --keep     the whole table: minutes
"""

from __future__ import annotations

import argparse
import random
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any, Literal

from bench import kept
from bench.cloud.cloud import Cloud
from bench.cloud.cpu import Cpu
from bench.cloud.people import Answer, Watcher
from bench.cloud.tally import ITEM_OVERHEAD
from bench.cloud.template import memory, parameter
from bench.prices import PRICES

TOKENS = 1_000
RATE = 50
WARMING = 20
STAY_MS = 38_000
"""A watcher connects just before the answer, and stays for a minute."""

ANSWERS = 1_000
MONTH_HOURS = 730

Mode = Literal["feed", "direct"]
Way = Literal["in-process", "function"]


@dataclass(frozen=True)
class Case:
    mode: Mode = "feed"
    way: Way = "in-process"
    interval_ms: int = 100
    push_ms: int = 0
    """Of a producer that pushes itself, in-process: `PushInterval`."""

    watchers: int = 1
    shape: Literal["text", "ui-message"] = "text"
    abreast: int = 1
    """How many answers run at the same time, over one shard of the feed."""

    answers: int = 1
    """How many are run; the figures are scaled to 1,000."""

    @property
    def name(self) -> str:
        parts = [self.mode, self.way, f"{self.interval_ms} ms", f"{self.watchers} w"]
        if self.push_ms:
            parts.insert(3, f"posts {self.push_ms} ms")
        if self.shape != "text":
            parts.append(self.shape)
        if self.abreast > 1:
            parts.append(f"{self.abreast} abreast")
        return ", ".join(parts)


def words(number: int, shape: str, length: int) -> list[Any]:
    """Return an answer's tokens: about 5 bytes each, as English has them."""
    dice = random.Random(number)
    letters = "etaoinshrdlu"
    found: list[Any] = []
    for _ in range(length):
        size = dice.choice((2, 3, 3, 4, 4, 4, 5, 7))
        word = " " + "".join(dice.choice(letters) for _ in range(size))
        if shape == "ui-message":
            found.append({"type": "text-delta", "id": "0", "delta": word})
        else:
            found.append(word)
    return found


def count(case: Case, cpu: Cpu) -> dict[str, int]:
    """Run a case; return what was counted for its answers, and nothing else: an answer
    before them has warmed the functions."""
    lanes = int(parameter("FeedParallelization")) if case.abreast > 1 else None
    cloud = Cloud(7, cpu=cpu, lanes=lanes, environment=environment(case))
    with cloud.open():
        _play(cloud, case, 0, case.abreast, WARMING)
        before = Counter(cloud.tally)
        for first in range(0, case.answers, case.abreast):
            _play(cloud, case, case.abreast + first, case.abreast, TOKENS)
        cloud.tally.subtract(before)
    return {name: value for name, value in sorted(cloud.tally.items()) if value}


def environment(case: Case) -> dict[str, str]:
    """Return what the template's parameters tell functions and producers."""
    if case.mode == "feed":
        return {}
    return {
        "TAILRACE_DELIVERY": "Direct",
        "TAILRACE_PUSH_INTERVAL": str(case.push_ms),
    }


def _play(cloud: Cloud, case: Case, number: int, abreast: int, length: int) -> None:
    """Let some answers be written and watched, side by side."""
    watchers: list[Watcher] = []
    for one in range(number, number + abreast):
        stream = f"chat:{one:08d}"
        watchers += [
            Watcher(cloud, stream, f"user-{one:08d}-{page:03d}")
            for page in range(case.watchers)
        ]
    cloud.run(lambda: all(watcher.live for watcher in watchers))
    answers = [
        Answer(
            cloud,
            f"chat:{one:08d}",
            cloud.transport(case.way),
            tokens=words(one, case.shape, length),
            rate=RATE,
            interval=case.interval_ms / 1000,
        )
        for one in range(number, number + abreast)
    ]
    cloud.run(lambda: all(one.ended for one in watchers))
    cloud.run(lambda: all(one.done for one in answers))
    assert all(len(one.shown) == length for one in watchers)
    cloud.run_for(STAY_MS)
    for watcher in watchers:
        watcher.leave()
    cloud.run_for(3_000)
    assert cloud.feed.drained


# ---- prices --------------------------------------------------------------------------


def lines(counted: dict[str, int], answers: int) -> dict[str, float]:
    """Return the dollars of 1,000 answers, line by line."""
    n = Counter(counted)
    hours = int(parameter("RetentionHours"))
    stored = n["log.stored_bytes"] + ITEM_OVERHEAD * n["log.items"]
    logged = sum(value for name, value in n.items() if name.endswith("logged_bytes"))
    log_months = int(parameter("LogRetentionDays")) * 24 / MONTH_HOURS

    def function(name: str) -> float:
        ms = n[f"lambda.{name}.ms"]
        return PRICES["request"].of(n[f"lambda.{name}.requests"]) + PRICES[
            "compute"
        ].of(ms * memory(name))

    starts = sum(
        n[f"lambda.{name}.start_ms"] * memory(name)
        for name in ("publish", "fanout", "websocket")
    )
    found = {
        "log: writes": PRICES["write"].of(n["log.write_units"]),
        "log: reads": PRICES["read"].of(n["log.read_units"]),
        "log: storage": PRICES["table"].of(stored * hours / MONTH_HOURS),
        "state: writes": PRICES["write"].of(n["state.write_units"]),
        "state: reads": PRICES["read"].of(n["state.read_units"]),
        "publish function": function("publish"),
        "fan-out function": function("fanout"),
        "websocket function": function("websocket"),
        "cold starts": PRICES["compute"].of(starts),
        "messages to watchers": PRICES["message"].of(n["gateway.messages_down"]),
        "messages from watchers": PRICES["message"].of(n["gateway.messages_up"]),
        "connects and disconnects, if messages": PRICES["message"].of(
            n["gateway.handshakes"] + n["gateway.closes"]
        ),
        "connection minutes": PRICES["minute"].of(n["gateway.minutes"]),
        "logs": PRICES["log"].of(logged) + PRICES["kept log"].of(logged * log_months),
        "bytes to the internet": PRICES["out"].of(n["gateway.bytes_down"]),
        "key ring": PRICES["secret call"].of(n["secrets.calls"]),
    }
    return {name: value * ANSWERS / answers for name, value in found.items()}


def total(found: dict[str, float]) -> float:
    return sum(found.values())


# ---- the table -----------------------------------------------------------------------

INTERVALS = (0, 50, 100, 250)
WATCHERS = (1, 3, 100)


def cases(modes: tuple[Mode, ...] = ("feed", "direct")) -> list[Case]:
    """Return all that is in the table."""
    found = [
        Case(
            mode,
            way,
            interval,
            watchers=watchers,
            answers={1: 4, 3: 2, 100: 1}[watchers],
        )
        for mode in modes
        for way in ("in-process", "function")
        for interval in INTERVALS
        for watchers in WATCHERS
    ]
    if "direct" in modes:
        found += [
            Case("direct", interval_ms=100, push_ms=250, watchers=watchers, answers=2)
            for watchers in (1, 3)
        ]
    found += [Case(mode, shape="ui-message", answers=4) for mode in modes]
    found += [Case(mode, abreast=20, answers=40) for mode in modes]
    return found


CORNER = (
    Case("feed", "in-process"),
    Case("feed", "function"),
    Case("feed", "in-process", watchers=3),
    Case("direct", "in-process"),
    Case("direct", "function"),
    Case("direct", "in-process", push_ms=250),
)


def measure(given: list[Case]) -> list[dict[str, Any]]:
    cpu = Cpu.measured()
    found = []
    for case in given:
        counted = count(case, cpu)
        priced = lines(counted, case.answers)
        print(f"{case.name:45} ${total(priced):.4f}", flush=True)
        found.append(
            {
                "case": asdict(case),
                "counted": counted,
                "dollars": {name: round(value, 6) for name, value in priced.items()},
                "total": round(total(priced), 4),
            }
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.cost")
    parser.add_argument("--keep", action="store_true")
    given = parser.parse_args()
    found = measure(cases() if given.keep else list(CORNER))
    if given.keep:
        # With the durations that they were made with: `bench.quick` counts anew.
        us = asdict(Cpu.measured())
        kept.save("cost", "python -m bench.cost --keep", {"us": us, "cases": found})
        return
    for one in found:
        print()
        for name, value in one["dollars"].items():
            print(f"  {name:40} {value:.4f}")


if __name__ == "__main__":
    main()
