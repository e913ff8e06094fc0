"""Where AWS's limits are reached, looked for in simulation: docs/operations.md says
where they should be.

The real code runs in virtual time (`bench.cloud`) with one limit set at a time, and
more and more of what it limits; the knee is where the figure leaves its straight line.

    .venv/bin/python -m bench.limits [--keep]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from bench import kept
from bench.cloud.cloud import Cloud
from bench.cloud.cpu import Cpu
from bench.cloud.limits import Bucket, Limits
from bench.cloud.people import Answer, Seat, Watcher

SECOND = 1_000_000
PAGES = 1_000
Rows = list[dict[str, Any]]


def cloud(limits: Limits | None = None, lanes: int | None = None) -> Cloud:
    return Cloud(3, cpu=Cpu.measured(), limits=limits, lanes=lanes)


def answers(
    world: Cloud, count: int, *, seconds: float, way: str = "in-process"
) -> list[Answer]:
    """Begin answers of 50 tokens a second, an append every 100 ms, not all at once."""
    found = []
    for number in range(count):
        world.run_for(100 / count)
        found.append(
            Answer(
                world,
                f"chat:{number}",
                world.transport(way),
                tokens=[" word"] * round(50 * seconds),
                rate=50,
                interval=0.1,
            )
        )
    return found


def _until(world: Cloud, people: Sequence[object], what: str) -> None:
    """Let things happen until it is so of all."""
    left = list(people)

    def done() -> bool:
        while left and getattr(left[-1], what):
            left.pop()
        return not left

    world.run(done)


def median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def one_stream() -> Rows:
    """One stream, written as fast as it goes, by the size of a chunk: 1,000 write units
    a second are what its partition takes."""
    rows = []
    for size in (200, 1_000, 2_000, 4_000, 8_000):
        limits = Limits(partition_writes=1_000)
        world = cloud(limits)
        with world.open():
            answer = Answer(
                world,
                "chat:1",
                world.transport("in-process"),
                tokens=["x" * (size - 2)] * 30_000,
                rate=3_000,
                interval=0,
            )
            # What may be taken at once is gone by then.
            world.run_for(2_000)
            before, at = world.tally["log.stored_bytes"], world.kernel.now
            world.run_for(4_000)
            rate = (world.tally["log.stored_bytes"] - before) * SECOND
            rows.append(
                {
                    "offered KB/s": size * 3,
                    "taken KB/s": round(rate / (world.kernel.now - at) / 1_000),
                    "throttled": limits.refused.get("log write", 0),
                    "failed calls": answer.failures,
                }
            )
    return rows


def one_lane() -> Rows:
    """Answers that share one lane of the feed: 100 records a batch, four a second."""
    rows = []
    for count in (10, 20, 30, 40, 50, 60):
        world = cloud(lanes=1)
        with world.open():
            began = answers(world, count, seconds=8)
            _until(world, began, "done")
            lags = [after - put for put, after, _ in world.feed.seen]
            half = len(lags) // 2
            rows.append(
                {
                    "answers": count,
                    "records/s": count * 10,
                    "lag p50, ms": round(median(lags[half:]) / 1_000),
                }
            )
    return rows


def one_audience() -> Rows:
    """Watchers of one stream, which one batch at a time is pushed to."""
    rows = []
    for count in (50, 100, 200, 400, 1_000, 2_500, 10_000):
        world = cloud()
        with world.open():
            seen = _show(world, _seated(world, count))
            rows.append({"watchers": count, **seen})
    return rows


def trouble_in_an_audience() -> Rows:
    """What slow and dead clients cost the others of a stream."""
    rows = []
    for count in (100, 1_000):
        world = cloud()
        with world.open():
            watchers = _seated(world, count)
            few = count // 100
            for trouble in ("none", "1 % slow", "1 % dead"):
                failing = [] if trouble == "none" else watchers[:few]
                for watcher in failing:
                    assert isinstance(watcher, Watcher)
                    watcher.fail(slow="slow" in trouble)
                watchers = watchers[len(failing) :]
                seen = _show(world, watchers)
                rows.append({"watchers": count, "trouble": trouble, **seen})
    return rows


def _seated(world: Cloud, count: int) -> list[Watcher | Seat]:
    """Let watchers of one stream come, twenty at a time. Beyond a thousand, they are
    seats: a page that comes takes the simulation 10 ms, and more and more."""
    watchers: list[Watcher] = []
    while len(watchers) < min(count, PAGES):
        some = [
            Watcher(world, "chat:0", f"user{len(watchers) + n}", follow=True)
            for n in range(min(20, count - len(watchers)))
        ]
        _until(world, some, "live")
        watchers += some
    seats = [Seat(world, "chat:0") for _ in range(count - len(watchers))]
    # The functions that a large audience needs are warm.
    _show(world, [*watchers, *seats], seconds=2)
    return [*watchers, *seats]


def _show(
    world: Cloud, watchers: Sequence[Watcher | Seat], seconds: float = 8
) -> dict[str, Any]:
    """Show an answer; say how it came. Nobody may miss, double or misplace a token."""
    world.tally.clear()
    for watcher in watchers:
        watcher.shown.clear()
        watcher.first_shown.clear()
        watcher.ended = False
    (answer,) = answers(world, 1, seconds=seconds)
    _until(world, watchers, "ended")
    assert answer.done
    assert all(len(one.shown) == len(answer.written) for one in watchers)
    assert not any(one.disordered for one in watchers)
    lags = [
        (at - world.put_at["chat:0", seq]) / 1_000
        for watcher in watchers[:: max(1, len(watchers) // 50)]
        for seq, at in watcher.first_shown.items()
        if ("chat:0", seq) in world.put_at
    ]
    # What the feed still waits for.
    world.run(lambda: world.feed.drained)
    return {
        "slices a watcher": round(world.tally["gateway.frames_down"] / len(watchers)),
        "invocations": world.tally["lambda.fanout.requests"],
        "log to shown p50, ms": round(median(lags)),
        "p99, ms": round(sorted(lags)[int(len(lags) * 0.99)]),
    }


def posts() -> Rows:
    """Watchers of active streams, under a tenth of API Gateway's 10,000 requests/s."""
    rows = []
    for count in (100, 200, 250, 300, 400):
        limits = Limits()
        world = cloud(limits)
        with world.open():
            streams = count // 10
            watchers = [
                Watcher(world, f"chat:{n % streams}", f"user{n}") for n in range(count)
            ]
            _until(world, watchers, "live")
            limits.posts = Bucket(1_000, 500)
            began = answers(world, streams, seconds=6)
            _until(world, watchers, "ended")
            assert all(one.done for one in began)
            asked = limits.refused.get("post", 0) + world.tally["gateway.frames_down"]
            rows.append(
                {
                    "watchers": count,
                    "posts refused, %": round(
                        100 * limits.refused.get("post", 0) / asked, 1
                    ),
                    "frames from watchers": world.tally["gateway.frames_up"],
                }
            )
    return rows


def handshakes() -> Rows:
    """Pages that come back at once, under a tenth of 500 new connections a second."""
    rows = []
    for count in (25, 50, 100, 200):
        refused, seconds, _ = come_back(count, reachable=False)
        *_, gave_up = come_back(count, reachable=True)
        rows.append(
            {
                "pages": count,
                "handshakes refused": refused,
                "all are back after, s": seconds,
                "give up, where probes are answered": gave_up,
            }
        )
    return rows


def come_back(count: int, *, reachable: bool) -> tuple[int, float, int]:
    """Let pages come all at once; return how many handshakes were refused, after how
    many seconds all were in, and how many pages gave up."""
    limits = Limits(handshakes=Bucket(50, 50))
    world = cloud(limits)
    with world.open():
        began = world.kernel.now
        watchers = [
            Watcher(world, f"chat:{n}", f"user{n}", reachable=reachable)
            for n in range(count)
        ]
        for watcher in watchers:
            while not (watcher.live or watcher.gave_up):
                world.run_for(10)
        seconds = round((world.kernel.now - began) / SECOND, 1)
    gave_up = sum(1 for one in watchers if one.gave_up)
    return limits.refused.get("handshake", 0), seconds, gave_up


WHAT: dict[str, Callable[[], Rows]] = {
    "one stream's partition": one_stream,
    "one lane of the feed": one_lane,
    "one stream's audience": one_audience,
    "trouble in an audience": trouble_in_an_audience,
    "API Gateway's requests (a tenth)": posts,
    "API Gateway's new connections (a tenth)": handshakes,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.limits")
    parser.add_argument("--keep", action="store_true")
    keep = parser.parse_args().keep
    found: dict[str, Any] = {}
    for name, measure in WHAT.items():
        found[name] = measure()
        print(name)
        for row in found[name]:
            print("   ", ", ".join(f"{key} {value}" for key, value in row.items()))
    if keep:
        kept.save("limits", "python -m bench.limits --keep", {"limits": found})


if __name__ == "__main__":
    main()
