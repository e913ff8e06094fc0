"""Tailrace beside its rivals: the same work, the same readers, in turns.

    make rivals                                  what the rivals need, once
    python -m bench.rivals                       the core, on sockets of its own
    python -m bench.rivals --deployed            the stack, on a local AWS
    python -m bench.rivals --peers tailrace,redis-ws --only live,cut --rounds 3

Every peer runs all the time; each scenario is given to one after the other. Prints
tables, and with `--keep` also replaces the figures in bench/results.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import uvloop

from bench import kept
from bench.rivals import report
from bench.rivals import scenarios as do
from bench.rivals.children import until_quiet
from bench.rivals.deployed import DEPLOYED
from bench.rivals.floor import Floor, floor
from bench.rivals.peers import PEERS, Peer

Scenario = Callable[[Any], Awaitable[do.Row]]

TRIES = 3
CALM = 0.1
"""The share of the machine that others may have."""

LIVE = [(1, 1, 50, 200), (1, 1, 200, 400), (20, 1, 50, 100), (20, 3, 50, 100)]
LIVE += [(100, 1, 50, 100)]


def scenarios() -> dict[str, Scenario]:
    """Name all scenarios, in order. A killed server comes last: it is a new process."""
    found: dict[str, Scenario] = {}
    for streams, readers, rate, n in LIVE:
        found[f"live {streams} × {readers} at {rate}/s"] = partial(
            do.live, streams=streams, readers=readers, rate=rate, n=n
        )
    found["max"] = partial(do.burst, n=20_000)
    for n, rate, times in ((1_000, 0, 3), (10_000, 0, 3), (1_000, 500, 3)):
        pace = f"at {rate}/s" if rate else "at full speed"
        found[f"replay {n:,} written {pace}"] = partial(
            do.replay, n=n, rate=rate, times=times
        )
    found["replay 10,000 written at 1,000/s"] = partial(
        do.replay, n=10_000, rate=1_000, times=3
    )
    found["cut"] = partial(do.cut, streams=10, rate=200, n=300, at=100)
    found["cut, another stream busy"] = partial(
        do.cut, streams=3, rate=50, n=170, at=30, noise=11_000
    )
    found["cut, back after the end"] = partial(
        do.cut, streams=5, rate=400, n=250, at=100, ended=True
    )
    found["all asked for after the end"] = partial(do.after_end, n=1_000, killed=False)
    found["all asked for after kill -9"] = partial(do.after_end, n=500, killed=True)
    return found


def deployed_scenarios() -> dict[str, Scenario]:
    """Name those for which a local AWS is fast enough, or should be."""
    found: dict[str, Scenario] = {}
    for streams, n in ((1, 200), (20, 200), (100, 1_000)):
        found[f"live {streams} × 1 at 50/s"] = partial(
            do.live, streams=streams, readers=1, rate=50, n=n
        )
    found["max"] = partial(do.burst, n=20_000)
    for n, times in ((1_000, 3), (10_000, 1)):
        found[f"replay {n:,} written at full speed"] = partial(
            do.replay, n=n, rate=0, times=times
        )
    found["cut"] = partial(do.cut, streams=8, rate=20, n=100, at=30)
    found["cut, back after the end"] = partial(
        do.cut, streams=4, rate=40, n=100, at=30, ended=True
    )
    found["all asked for after the end"] = partial(do.after_end, n=1_000, killed=False)
    found["floor"] = floor
    return found


def fits(peer: Peer, name: str, scenario: Scenario) -> bool:
    """Whether a peer can stand it at all."""
    given: dict[str, Any] = getattr(scenario, "keywords", {})
    offered = given.get("streams", 1) * given.get("rate", 0)
    return name.startswith(peer.given) and offered <= peer.most_a_second


async def measure(given: argparse.Namespace) -> dict[str, dict[str, list[do.Row]]]:
    results: dict[str, dict[str, list[do.Row]]] = {name: {} for name in given.peers}
    wanted = {
        name: scenario
        for name, scenario in given.scenarios.items()
        if not given.only or any(name.startswith(one) for one in given.only)
    }
    running = asyncio.current_task()
    assert running is not None
    # Who is told to stop stops what it has started.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    async with AsyncExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        peers = []
        for name in given.peers:
            directory = scratch / name
            directory.mkdir()
            peer = given.choice[name](directory)
            stack.push_async_callback(peer.stop)
            await peer.start()
            if "live" in peer.given:  # to warm it
                await do.live(peer, 2, 1, min(300, peer.most_a_second // 50), 100)
            peers.append(peer)
        for _ in range(given.rounds):
            for name, scenario in wanted.items():
                for peer in peers:
                    if fits(peer, name, scenario):
                        row = await attempt(peer, name, scenario)
                        results[peer.name].setdefault(name, []).append(row)
    return results


async def attempt(peer: Peer, name: str, scenario: Scenario) -> do.Row:
    """Run a scenario. A peer that fails has a second try, and so has one at whose turn
    others had the machine; of several, the least disturbed counts."""
    rows: list[do.Row] = []
    for _ in range(TRIES):
        gc.collect()
        gc.disable()
        try:
            rows.append(await asyncio.wait_for(scenario(peer), 120))
        except Exception as error:  # noqa: BLE001 - that it fails is a result
            traceback.print_exc()
            rows.append({"error": repr(error)})
        finally:
            gc.enable()
        await until_quiet(peer.pids)
        if "error" not in rows[-1] and rows[-1].get("foreign", 0) <= CALM:
            break
    row = min(rows, key=lambda row: ("error" in row, row.get("foreign", 0)))
    shown = {
        fact: round(value, 2) if isinstance(value, float) else value
        for fact, value in row.items()
    }
    print(f"{peer.name:22} {name:34} {shown}", file=sys.stderr, flush=True)
    return row


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.rivals")
    parser.add_argument("--deployed", action="store_true")
    parser.add_argument("--peers", type=lambda text: text.split(","))
    parser.add_argument("--only", type=lambda text: text.split(","), default=[])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="into bench/results")
    given = parser.parse_args(argv)
    given.choice = {**DEPLOYED, Floor.name: Floor} if given.deployed else PEERS
    given.scenarios = deployed_scenarios() if given.deployed else scenarios()
    unasked = [name for name, peer in given.choice.items() if peer.unasked]
    given.peers = given.peers or unasked
    return given


def main() -> int:
    given = arguments(sys.argv[1:])
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        results = runner.run(measure(given))
    print(report.markdown(results))
    if given.keep:
        name = "deployed" if given.deployed else "rivals"
        command = " ".join(["python -m bench.rivals", *sys.argv[1:]])
        kept.save(name, command, {"peers": results})
    print(f"\n{report.foreign(results)}")
    return 0


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    sys.exit(main())
