"""What the producer costs, and how soon what it writes is on its way.

    python -m bench.producer pace        1,000 tokens at 50 a second: records, latencies
    python -m bench.producer throughput  1,000,000 chunks as fast as possible
    python -m bench.producer crowd       100 producers in threads, 1,000 in asyncio
    python -m bench.producer cancel      how soon a cancel is known, on the local stack

The log is in memory, and an append takes as long as DynamoDB in the same region, but
for `cancel`. Each prints a table, and a line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import resource
import statistics
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3

from demo.stack import LocalStack, local_stack
from tailrace import AsyncProducer, Cancelled, Producer
from tailrace.adapters.calls import local_clock
from tailrace.adapters.memory import MemoryLog, MemoryState
from tailrace.log import Log
from tailrace.producer.core import Pace
from tailrace.records import Record
from tailrace.transports.function import PublishFunction
from tailrace.transports.in_process import InProcess
from tailrace.writers import Answer, Transport

PUT_SECONDS = 0.006
STREAM = "bench"


class Memory(InProcess):
    """A transport to a log in memory."""

    def __init__(self) -> None:
        self.store = MemoryLog()
        log = Log(self.store, MemoryState(), local_clock, retention=3_600, lease=30)
        super().__init__(log)

    def records(self, stream: str = STREAM) -> list[Record]:
        return list(self.store.range(stream, 1))


class Timed(Memory):
    """Its appends take their time, and it remembers when."""

    def __init__(self) -> None:
        super().__init__()
        self.started: list[float] = []
        self.appended: list[float] = []

    def append(
        self, stream: str, run: str, writer: str, seq: int, texts: Sequence[str]
    ) -> Answer:
        self.started += [time.perf_counter()] * len(texts)
        time.sleep(PUT_SECONDS)
        answer = super().append(stream, run, writer, seq, texts)
        self.appended += [time.perf_counter()] * len(texts)
        return answer


def percentiles(milliseconds: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(milliseconds, n=100)
    return {
        "p50": round(cuts[49], 2),
        "p90": round(cuts[89], 2),
        "p99": round(cuts[98], 2),
        "max": round(max(milliseconds), 2),
    }


# ---- pace ----------------------------------------------------------------------------


def write_at_50(min_interval: float) -> dict[str, Any]:
    """Write 1,000 tokens at 50 a second."""
    transport = Timed()
    written: list[float] = []
    with Producer(STREAM, transport=transport, min_interval=min_interval) as stream:
        begun = time.perf_counter()
        for number in range(1_000):
            time.sleep(max(0.0, begun + number / 50 - time.perf_counter()))
            written.append(time.perf_counter())
            stream.write(f" token{number}")
    waits = [
        (start - at) * 1000
        for at, start in zip(written, transport.started, strict=True)
    ]
    delays = [
        (end - at) * 1000 for at, end in zip(written, transport.appended, strict=True)
    ]
    return {
        "min_interval": min_interval,
        "records": len(transport.records()),
        "first append started after ms": round(waits[0], 2),
        "write to append start": percentiles(waits),
        "write to appended": percentiles(delays),
    }


def pace() -> list[dict[str, Any]]:
    with ThreadPoolExecutor() as pool:
        results = list(pool.map(write_at_50, [Pace().min_interval, 0.1, 0.0]))
    for result in results:
        for name, value in result.items():
            print(f"  {name:32} {value}")
    return results


# ---- throughput ----------------------------------------------------------------------


def throughput() -> dict[str, Any]:
    """Write 1,000,000 chunks; the log that holds them is in the same process."""
    count = 1_000_000
    transport = Memory()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun, cpu = time.perf_counter(), time.process_time()
    with Producer(STREAM, transport=transport, min_interval=0) as stream:
        for number in range(count):
            stream.write(number)
    cpu, seconds = time.process_time() - cpu, time.perf_counter() - begun
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    records = [one for one in transport.records() if one.kind == "data"]
    numbers = iter(range(count))
    for record in records:
        assert [int(text) for text in record.chunks.split(",")] == [
            next(numbers) for _ in range(record.count)
        ]
    assert next(numbers, None) is None
    result = {
        "chunks": count,
        "records": len(records),
        "chunks per CPU second": round(count / cpu),
        "seconds": round(seconds, 2),
        "MB more than at the start": round((after - before) / 1024, 1),
        "MB of them in the log": round(
            sum(len(one.chunks) for one in records) / 1e6, 1
        ),
    }
    for name, value in result.items():
        print(f"  {name:28} {value:>12}")
    return result


# ---- crowd ---------------------------------------------------------------------------


def crowd() -> list[dict[str, Any]]:
    """Run many producers at once, each writing 200 tokens at 50 a second."""
    results = []
    for kind, count, run in (
        ("threads", 100, in_threads),
        ("asyncio", 1_000, in_asyncio),
    ):
        transport = Timed()
        cpu, begun = time.process_time(), time.perf_counter()
        run(count, transport)
        seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
        logs = [transport.records(f"{STREAM}:{number}") for number in range(count)]
        records = [record for log in logs for record in log]
        written = sum(one.count for one in records if one.kind == "data")
        assert written == count * 200
        result = {
            "kind": kind,
            "producers": count,
            "seconds": round(seconds, 1),
            "CPU seconds": round(cpu, 1),
            "records": len(records),
        }
        print("  ", result)
        results.append(result)
    return results


def in_threads(count: int, transport: Transport) -> None:
    def job(number: int) -> None:
        with Producer(f"{STREAM}:{number}", transport=transport) as stream:
            for token in range(200):
                stream.write(f" token{token}")
                time.sleep(0.02)

    with ThreadPoolExecutor(count) as pool:
        list(pool.map(job, range(count)))


def in_asyncio(count: int, transport: Transport) -> None:
    async def job(number: int) -> None:
        async with AsyncProducer(f"{STREAM}:{number}", transport=transport) as stream:
            for token in range(200):
                await stream.write(f" token{token}")
                await asyncio.sleep(0.02)

    async def main() -> None:
        await asyncio.gather(*map(job, range(count)))

    asyncio.run(main())


# ---- cancel --------------------------------------------------------------------------


def cancel(rounds: int = 10) -> dict[str, Any]:
    """Cancel producers on the local stack, and see when they know."""
    results = {}
    with local_stack() as stack:
        for pace in ("as fast as it can", "at 50 a second", "silent"):
            delays = [cancel_one(stack, pace) * 1000 for _ in range(rounds)]
            results[pace] = {
                "p50": round(statistics.median(delays)),
                "max": round(max(delays)),
            }
            print(f"  {pace:20} ms: {results[pace]}")
    return results


def cancel_one(stack: LocalStack, pace: str) -> float:
    """Return the seconds between the press of stop and the producer's knowing."""
    client = boto3.client(
        "lambda",
        endpoint_url=stack.endpoint,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",  # noqa: S106
    )
    transport = PublishFunction(client, stack.function("publish"))
    canceller = PublishFunction(stack.lambda_, stack.function("publish"))
    known = threading.Event()
    at: list[float] = []

    def on_stop(error: BaseException) -> None:
        at.append(time.perf_counter())
        known.set()

    def job() -> None:
        for _ in range(10_000_000):
            stream.write(" token")
            if pace == "at 50 a second":
                time.sleep(0.02)

    stream = Producer(
        STREAM,
        transport=transport,
        on_stop=on_stop,
        min_interval=0 if pace == "as fast as it can" else 0.05,
    ).open()
    writer = threading.Thread(target=_until_cancelled, args=[job])
    if pace != "silent":
        writer.start()
    time.sleep(1)
    pressed = time.perf_counter()
    canceller.ask({"operation": "cancel", "stream": STREAM, "run": stream.run})
    assert known.wait(30)
    if pace != "silent":
        writer.join()
    return at[0] - pressed


def _until_cancelled(job: Any) -> None:
    try:
        job()
    except Cancelled:
        return


if __name__ == "__main__":
    parts = {part.__name__: part for part in (pace, throughput, crowd, cancel)}
    for name in sys.argv[1:] or list(parts):
        print(name)
        print(json.dumps({name: parts[name]()}))
