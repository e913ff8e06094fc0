"""The deployed stack under load, and under trouble: nothing may be lost.

    python -m bench.load [--keep]    200 connections, 50 streams, two minutes
    python -m bench.load --connections 20 --streams 5 --seconds 20
    python -m bench.load --audience [--keep]    1,000 connections, one stream

Producers write numbered tokens into their streams, through the publish function of the
local AWS; consumers watch through a proxy. They come over some seconds, as people do:
the local AWS serves sockets one by one, and starts a process for each call of a
function that comes while all others are busy, so that a herd would measure the start of
processes. Meanwhile, from the first second, connections are cut at random, processes of
functions are killed, and the whole AWS is paused. At the end every consumer must have
every token of its stream, once, in order. Prints a table. An audience
is all there before the first token, and left in peace.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import boto3

from bench import kept
from bench.rivals.servers.deployed import make_talkative
from demo.local_aws import REGION
from demo.stack import LocalStack, local_stack
from tailrace import AsyncProducer, consume
from tailrace.adapters.calls import config
from tailrace.transports.function import PublishFunction
from tests.support.deployed import Deployed
from tests.support.proxy import Proxy

PATIENCE = 180
CONCURRENCY = 4
"""Processes of the publish function, where a call beyond is throttled and made again by
the producer; and of the one for sockets, where an event beyond waits."""


class Figures:
    """What is counted. `lags`: from `write` to shown, s."""

    def __init__(self) -> None:
        self.written = self.received = self.cuts = self.kills = self.pauses = 0
        self.lags: list[float] = []
        self.wrong: list[str] = []

    def as_dict(self) -> dict[str, Any]:
        ordered = sorted(self.lags)
        lag = {
            name: round(
                1000 * ordered[min(len(ordered) - 1, int(len(ordered) * share))]
            )
            for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1))
            if ordered
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


async def all_there(proxy: Proxy, connections: int) -> None:
    """Wait until all have come."""
    while len(proxy.living) < connections:
        await asyncio.sleep(0.1)


async def produce(
    transport: PublishFunction,
    stream: str,
    after: float,
    given: argparse.Namespace,
    figures: Figures,
) -> int:
    """Write tokens at their pace, from so many seconds on; return how many."""
    total = int(given.seconds * given.rate)
    await asyncio.sleep(after)
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
    url: str,
    deployed: Deployed,
    stream: str,
    number: int,
    after: float,
    figures: Figures,
) -> None:
    """Read a run to its end, from so many seconds on; it must be whole."""
    await asyncio.sleep(after)
    token = deployed.token(stream, sub=f"watcher-{number}", expires_in=3_000)
    expected = 0
    async for place, at in consume(url, token, stream):
        figures.lags.append(time.time() - at)
        figures.received += 1
        if place != expected:
            figures.wrong.append(f"{stream}: {place} where {expected} is next")
        expected = place + 1
    if not expected:
        figures.wrong.append(f"{stream}: a consumer that has nothing at all")


async def trouble(proxy: Proxy, figures: Figures) -> None:
    """Twice a second cut a connection; every 10 s kill a function's process, and every
    22 s let the local AWS stand still, for 3 s."""
    chance = random.Random(1)
    for tick in itertools.count(1):
        await asyncio.sleep(0.5)
        living = list(proxy.living)
        if living:
            chance.choice(living).abort()
            figures.cuts += 1
        if tick % 20 == 0:
            figures.kills += kill_one(chance)
        if tick % 44 == 0:
            await pause(3)
            figures.pauses += 1
        for link in proxy.links:  # kept for tests; here they would fill the memory
            link.sent.clear()
            link.received.clear()


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


def _cpu(pid: int) -> tuple[float, float]:
    """Return the CPU seconds of a process, and of those that it saw end."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    tick = os.sysconf("SC_CLK_TCK")
    own, ended = sum(map(int, fields[11:13])), sum(map(int, fields[13:15]))
    return own / tick, ended / tick


def spent() -> dict[str, float]:
    """Return the CPU seconds so far: of the producers, the consumers and the proxy in
    this process; of the local AWS; of the functions."""
    server = _server()
    own, ended = _cpu(server)
    functions = ended
    for pid in _children(server):
        with contextlib.suppress(OSError):
            functions += _cpu(pid)[0]
    return {"clients": _cpu(os.getpid())[0], "aws": own, "functions": functions}


async def start_functions(stack: LocalStack, deployed: Deployed) -> None:
    """Let each function start, and write the line that the local AWS waits for; but no
    more processes than the machine carries."""
    make_talkative(stack)
    stack.lambda_.put_function_concurrency(
        FunctionName=stack.function("publish"),
        ReservedConcurrentExecutions=CONCURRENCY,
    )
    stream = deployed.new_stream("warm")
    answer = deployed.call(stream=stream, chunks=[0], end=True)
    assert "error" not in answer, answer
    async for _ in consume(stack.socket_url, deployed.token(stream), stream):
        pass


async def measure(given: argparse.Namespace) -> dict[str, Any]:
    figures = Figures()
    with local_stack(
        socket_processes=CONCURRENCY,
        progress=lambda line: print(line, file=sys.stderr),
    ) as stack:
        deployed = Deployed(stack)
        await start_functions(stack, deployed)
        client = boto3.Session("test", "test", region_name=REGION).client(
            "lambda",
            endpoint_url=stack.endpoint,
            config=config(read_timeout=30, connections=64),
        )
        transport = PublishFunction(client, stack.function("publish"))
        streams = [deployed.new_stream("load") for _ in range(given.streams)]
        async with Proxy(stack.socket_url) as proxy:
            before, begun = spent(), time.monotonic()
            watchers = [
                asyncio.create_task(
                    watch(
                        proxy.url,
                        deployed,
                        streams[n % len(streams)],
                        n,
                        given.arrival * n / given.connections,
                        figures,
                    )
                )
                for n in range(given.connections)
            ]
            weather = asyncio.create_task(
                asyncio.sleep(0) if given.audience else trouble(proxy, figures)
            )
            try:
                async with asyncio.timeout(given.arrival + given.seconds + PATIENCE):
                    if given.audience:
                        await all_there(proxy, given.connections)
                    totals = await asyncio.gather(
                        *(
                            produce(
                                transport,
                                stream,
                                0
                                if given.audience
                                else given.arrival * n / given.streams,
                                given,
                                figures,
                            )
                            for n, stream in enumerate(streams)
                        )
                    )
                done = time.monotonic()
                missing = sum(totals) * given.connections / given.streams
                missing -= figures.received
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
            cpu = {name: after - before[name] for name, after in spent().items()}
            at_once = proxy.most_at_once
    expected = sum(totals[n % len(totals)] for n in range(given.connections))
    if figures.received != expected:
        figures.wrong.append(f"{figures.received} of {expected} tokens came")
    for line in figures.wrong[:10]:
        print(line, file=sys.stderr)
    return {
        "connections": given.connections,
        "at_once": at_once,
        "streams": given.streams,
        "rate": given.rate,
        "interval_ms": round(1000 * given.interval),
        "arrival_seconds": given.arrival,
        "seconds": round(done - begun, 1),
        "missing_then": round(missing),
        "settled_seconds": round(settled, 1),
        "expected": expected,
        **figures.as_dict(),
        "cpu_seconds": {name: round(value) for name, value in cpu.items()},
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.load")
    parser.add_argument("--connections", type=int, default=200)
    parser.add_argument("--streams", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=120, help="of each producer")
    parser.add_argument("--rate", type=float, default=50, help="tokens a second")
    parser.add_argument("--interval", type=float, default=2.0, help="between appends")
    parser.add_argument("--arrival", type=float, default=30.0, help="until all came")
    parser.add_argument("--audience", action="store_true", help="1,000, of one stream")
    parser.add_argument("--keep", action="store_true", help="in bench/results")
    if "--audience" in sys.argv:
        parser.set_defaults(
            connections=1_000, streams=1, seconds=30, interval=2.0, arrival=60
        )
    given = parser.parse_args()
    found = asyncio.run(measure(given))
    for name, value in found.items():
        print(f"{name:>16} {value}")
    if given.keep:
        name = "audience" if given.audience else "load"
        command = "python -m bench.load --audience --keep"
        kept.save(
            name, command if given.audience else "python -m bench.load --keep", found
        )
    return 1 if found["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
