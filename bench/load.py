"""The deployed stack under load, and under trouble: nothing may be lost.

    python -m bench.load          200 connections, 50 streams, two minutes
    python -m bench.load --connections 20 --streams 5 --seconds 20

Producers write numbered tokens into their streams, through the publish function of the
local AWS; consumers watch through a proxy. Meanwhile connections are cut at random,
processes of functions are killed, and the whole AWS is paused. At the end every
consumer must have every token of its stream, once, in order. Prints a table, and a
line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from demo.stack import LocalStack, local_stack
from tailrace import AsyncProducer, consume
from tailrace.transports.function import PublishFunction
from tests.support.deployed import Deployed
from tests.support.proxy import Proxy

PATIENCE = 180


class Figures:
    """What is counted."""

    def __init__(self) -> None:
        self.written = self.received = self.cuts = self.kills = self.pauses = 0
        self.lags: list[float] = []
        self.wrong: list[str] = []

    def as_dict(self) -> dict[str, Any]:
        cuts = statistics.quantiles(self.lags, n=100) if len(self.lags) > 1 else []
        lag = {
            f"p{n}": round(1000 * cuts[n - 1]) for n in (50, 90, 99) if len(cuts) > 90
        }
        return {
            "written": self.written,
            "received": self.received,
            "wrong": len(self.wrong),
            "cuts": self.cuts,
            "kills": self.kills,
            "pauses": self.pauses,
            "lag_ms": lag,
        }


async def produce(
    stack: LocalStack, stream: str, given: argparse.Namespace, figures: Figures
) -> int:
    """Write tokens at their pace; return how many."""
    transport = PublishFunction(stack.lambda_, stack.function("publish"))
    total = int(given.seconds * given.rate)
    begun = time.monotonic()
    async with AsyncProducer(
        stream,
        transport=transport,
        min_interval=given.interval,
        give_up_after=PATIENCE,
        lease=300,
    ) as producer:
        for number in range(total):
            await asyncio.sleep(max(0, begun + number / given.rate - time.monotonic()))
            await producer.write([number, time.time()])
            figures.written += 1
    return total


async def watch(
    url: str, deployed: Deployed, stream: str, sub: str, figures: Figures
) -> None:
    """Read a run to its end; it must be whole."""
    token = deployed.token(stream, sub=sub, expires_in=3_000)
    expected = 0
    async for number, at in consume(url, token, stream):
        figures.lags.append(time.time() - at)
        figures.received += 1
        if number != expected:
            figures.wrong.append(f"{stream}: {number} where {expected} is next")
        expected = number + 1
    figures.wrong += (
        [] if expected else [f"{stream}: a consumer that has nothing at all"]
    )


async def trouble(proxy: Proxy, figures: Figures) -> None:
    """Cut a few connections a second, kill a function now and then, pause all."""
    chance = random.Random(1)
    for tick in range(1, 1_000_000):
        await asyncio.sleep(0.5)
        living = list(proxy.living)
        for link in chance.sample(living, min(len(living), 1 + len(living) // 100)):
            link.abort()
            figures.cuts += 1
        if tick % 20 == 0:
            figures.kills += kill_one(chance)
        if tick % 44 == 0:
            await pause(3)
            figures.pauses += 1


def kill_one(chance: random.Random) -> int:
    """Kill the process of some function; the next event starts another."""
    workers = _children(_server())
    if not workers:
        return 0
    os.kill(chance.choice(workers), signal.SIGKILL)
    return 1


async def pause(seconds: float) -> None:
    """Let the local AWS stand still."""
    server = _server()
    os.kill(server, signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        os.kill(server, signal.SIGCONT)


def _server() -> int:
    """Return the process of the local AWS: a child of this one."""
    return next(
        pid for pid in _children(os.getpid()) if "local_aws_server" in _command(pid)
    )


def _children(pid: int) -> list[int]:
    """Return the processes below a process."""
    listed = subprocess.run(
        ["ps", "--ppid", str(pid), "-o", "pid="],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    )
    below = [int(line) for line in listed.stdout.split()]
    return below + [one for child in below for one in _children(child)]


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


async def measure(given: argparse.Namespace) -> dict[str, Any]:
    figures = Figures()
    with local_stack(progress=lambda line: print(line, file=sys.stderr)) as stack:
        deployed = Deployed(stack)
        streams = [deployed.new_stream("load") for _ in range(given.streams)]
        async with Proxy(stack.socket_url) as proxy:
            begun = time.monotonic()
            watchers = [
                asyncio.create_task(
                    watch(
                        proxy.url,
                        deployed,
                        streams[n % len(streams)],
                        f"watcher-{n}",
                        figures,
                    )
                )
                for n in range(given.connections)
            ]
            weather = asyncio.create_task(trouble(proxy, figures))
            try:
                async with asyncio.timeout(given.seconds + PATIENCE):
                    producers = [produce(stack, s, given, figures) for s in streams]
                    totals = await asyncio.gather(*producers)
                done = time.monotonic()
                weather.cancel()
                _, waiting = await asyncio.wait(watchers, timeout=PATIENCE)
                if waiting:
                    figures.wrong.append(f"{len(waiting)} consumers never had the end")
                for watcher in set(watchers) - waiting:
                    watcher.result()
            finally:
                weather.cancel()
                for task in watchers:
                    task.cancel()
            settled = time.monotonic() - done
    expected = sum(totals[n % len(totals)] for n in range(given.connections))
    if figures.received != expected:
        figures.wrong.append(f"{figures.received} of {expected} tokens came")
    for line in figures.wrong[:10]:
        print(line, file=sys.stderr)
    return {
        "connections": given.connections,
        "streams": given.streams,
        "seconds": round(done - begun),
        "settled_seconds": round(settled, 1),
        "expected": expected,
        **figures.as_dict(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.load")
    parser.add_argument("--connections", type=int, default=200)
    parser.add_argument("--streams", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--rate", type=float, default=50, help="tokens a second")
    parser.add_argument("--interval", type=float, default=1.0, help="between appends")
    found = asyncio.run(measure(parser.parse_args()))
    for name, value in found.items():
        print(f"{name:>16} {value}")
    print(json.dumps(found))
    return 1 if found["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
