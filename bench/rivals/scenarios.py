"""The scenarios: the same for every peer. Each returns one row of facts."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import uuid
from collections.abc import Sequence
from itertools import count
from typing import Any

from bench.rivals.children import Meter, until_quiet
from bench.rivals.peers import Peer
from bench.rivals.readers import Reader, Seen
from bench.rivals.work import now_us

Row = dict[str, Any]

LEAD_US = 150_000
FEW = 100
STRAGGLERS = 2.0
"""Seconds that a chunk may come late before it counts as missed."""

_names = count()
_tag = uuid.uuid4().hex[:8]


def new_streams(number: int) -> list[str]:
    return [f"{_tag}-{next(_names)}" for _ in range(number)]


def order(numbers: Sequence[int], n: int) -> Row:
    """Say what who appends as it comes would miss, have twice, or have misplaced."""
    seen: set[int] = set()
    doubled = misplaced = 0
    highest = -1
    for number in numbers:
        if number in seen:
            doubled += 1
        elif number < highest:
            misplaced += 1
        seen.add(number)
        highest = max(highest, number)
    return {
        "missed": n - len(seen),
        "doubled": doubled,
        "reordered": misplaced,
    }


def of(seen: Sequence[Seen], n: int) -> Row:
    return order([number for number, _, _ in seen], n)


def total(rows: Sequence[Row]) -> Row:
    return {
        name: sum(row[name] for row in rows)
        for name in ("missed", "doubled", "reordered")
    }


def percentile(sorted_values: Sequence[float], share: float) -> float:
    return sorted_values[round((len(sorted_values) - 1) * share)]


async def live(
    peer: Peer, streams: int, readers: int, rate: float, n: int, patience: float = 5
) -> Row:
    """Write `n` chunks into each stream, `rate` a second, for some readers each."""
    sids = new_streams(streams)
    await peer.prepare(sids)
    watching: dict[str, list[Reader]] = {sid: [] for sid in sids}
    for place in range(readers):
        for sid in sids:
            watching[sid].append(await peer.open(sid, n, place))
    everyone = [reader for those in watching.values() for reader in those]
    # What answers a reader's coming belongs to no chunk.
    await asyncio.sleep(0.05)
    before = sum(reader.bytes for reader in everyone)
    async with Meter(peer.pids) as meter, Meter([peer.producer.pid]) as producing:
        begun = now_us() + LEAD_US
        await peer.produce(sids, n, rate, begun, hold=False)
        await asyncio.gather(*(reader.until_done(patience) for reader in everyone))
    await peer.release(sids)
    seen = [reader.chunks() for reader in everyone]
    for reader in everyone:
        reader.cut()
    chunks = [one for those in seen for one in those]
    delays = sorted((came - made) / 1000 for _, made, came in chunks)
    early = sorted((came - made) / 1000 for i, made, came in chunks if i < n / 4)
    late = sorted((came - made) / 1000 for i, made, came in chunks if i >= n * 3 / 4)
    first = min((made for _, made, _ in chunks), default=0)
    spent = max((came for _, _, came in chunks), default=1) - first
    return {
        "streams": streams,
        "readers": readers,
        "rate": rate,
        "n": n,
        "p50": percentile(delays, 0.5) if delays else None,
        "p95": percentile(delays, 0.95) if delays else None,
        "p99": percentile(delays, 0.99) if delays else None,
        # Who cannot keep up is later and later.
        "drift": percentile(late, 0.5) - percentile(early, 0.5)
        if early and late
        else None,
        "a_second": len(chunks) / spent * 1e6,
        "cpu_us": meter.cpu * 1e6 / max(len(chunks), 1),
        "producer_cpu_us": producing.cpu * 1e6 / (n * streams),
        "memory_mib": meter.memory,
        "foreign": meter.foreign,
        "bytes": (sum(reader.bytes for reader in everyone) - before)
        / max(len(chunks), 1),
        **total([of(those, n) for those in seen]),
    }


async def burst(peer: Peer, n: int) -> Row:
    """Write as fast as the producer can, for one reader."""
    return await live(peer, 1, 1, 0, min(n, peer.most_in_a_burst), patience=40)


async def replay(peer: Peer, n: int, rate: float, times: int) -> Row:
    """Let a reader that was never there have all that was written, at some pace.

    Another one comes before, for a few chunks: a virtual machine takes from a process
    the memory that it left alone for a second, and gives it back page by page, so that
    who comes first would measure that.
    """
    n = min(n, peer.most)
    rows = []
    for _ in range(times):
        sid, few = new_streams(2)
        await peer.prepare([sid, few])
        writing = [] if peer.keeps else [await peer.open(sid, n)]
        await peer.produce([sid], n, rate, now_us(), hold=True)
        if not peer.keeps:
            writing.append(await peer.open(few, FEW))
        await peer.produce([few], FEW, 0, now_us(), hold=True)
        await until_quiet(peer.pids)
        first = await peer.late(few, FEW)
        await first.until_done(20)
        async with Meter(peer.pids) as meter:
            asked = now_us()
            reader = await peer.late(sid, n)
            await reader.until_done(20)
        seen = reader.chunks()
        done = max((came for _, _, came in seen), default=0)
        rows.append(
            {
                "ms": (done - asked) / 1000,
                "first_ms": (reader.records[0][0] - asked) / 1000 if seen else None,
                "bytes": reader.bytes,
                "messages": reader.messages,
                "cpu_us": meter.cpu * 1e6 / n,
                **of(seen, n),
            }
        )
        for one in (first, reader, *writing):
            one.cut()
        await peer.release([sid, few])
    facts = ("ms", "first_ms", "bytes", "messages", "cpu_us")
    return {
        "n": n,
        "rate": rate,
        **{fact: statistics.median(row[fact] for row in rows) for fact in facts},
        **total(rows),
    }


async def after_end(peer: Peer, n: int, *, killed: bool) -> Row:
    """Ask for all of a stream that has ended; `killed`: and whose server was killed."""
    n = min(n, peer.most)
    (sid,) = new_streams(1)
    await peer.prepare([sid])
    reader = await peer.open(sid, n)
    await peer.produce([sid], n, 0, now_us(), hold=False)
    await reader.until_done(20)
    await peer.release([sid])
    await asyncio.sleep(0.3)
    if killed:
        await peer.restart()
    reader.cut()
    seen: list[Seen] = []
    with contextlib.suppress(OSError, TimeoutError):
        reader = await peer.late(sid, n)
        await reader.until_done(4)
        seen = reader.chunks()
        reader.cut()
    return {"n": n, **of(seen, n)}


async def cut(
    peer: Peer,
    streams: int,
    rate: float,
    n: int,
    at: int,
    *,
    away: float = 0.3,
    noise: int = 0,
    ended: bool = False,
) -> Row:
    """Cut each stream's reader at about `at` chunks, and let it come back: after `away`
    seconds, after `noise` chunks through another stream, or when its stream `ended`."""
    sids, other = new_streams(streams), new_streams(1)
    noise = min(noise, peer.most_in_a_burst)
    await peer.prepare(sids + (other if noise else []))
    before = {sid: await peer.open(sid, n) for sid in sids}
    noisy = await peer.open(other[0], noise) if noise else None
    producing = asyncio.create_task(
        peer.produce(sids, n, rate, now_us() + LEAD_US, hold=False)
    )
    left = asyncio.Barrier(streams)

    async def one(place: int, sid: str) -> Row:
        reader = before[sid]
        # A little apart: who comes back does not come with all the others.
        await reader.until_count(at + 7 * place, 30)
        reader.cut()
        had = reader.chunks()
        assert len(had) < n, "it was cut too late"
        if ended:
            await producing
            await peer.release([sid])
            await asyncio.sleep(0.3)
        elif noisy is not None:
            if await left.wait() == 0:
                await peer.produce(other, noise, 0, now_us(), hold=False)
                await noisy.until_done(15)
            await left.wait()
        else:
            await asyncio.sleep(away)
        back = now_us()
        again = await peer.resume(reader, sid, n)
        if not ended:
            await producing
        await again.until_done(STRAGGLERS)
        wait_until = now_us() + STRAGGLERS * 1e6
        while True:
            got = again.chunks()
            facts = of(had + got, n)
            # The last may have overtaken a replay that is still on its way.
            if not facts["missed"] or not again.alive or now_us() > wait_until:
                break
            await asyncio.sleep(0.1)
        again.cut()
        missed = [came for _, made, came in got if made < back]
        return {
            "first_ms": (got[0][2] - back) / 1000 if got else None,
            "caught_up_ms": (max(missed) - back) / 1000 if missed else None,
            **facts,
        }

    rows = await asyncio.gather(*(one(place, sid) for place, sid in enumerate(sids)))
    await producing
    if not ended:
        await peer.release(sids)
    if noisy is not None:
        noisy.cut()
        await peer.release(other)

    def median(fact: str) -> float | None:
        known = [row[fact] for row in rows if row[fact] is not None]
        return statistics.median(known) if known else None

    return {
        "streams": streams,
        "rate": rate,
        "n": n * streams,
        "first_ms": median("first_ms"),
        "caught_up_ms": median("caught_up_ms"),
        **total(rows),
    }
