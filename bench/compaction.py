"""What a replay costs, plain and compacted: frames, bytes, and the time to make them.

An answer as a job writes it, six words a record, over a log in memory: what is measured
is the compaction, not DynamoDB.

    .venv/bin/python -m bench.compaction [words]
"""

from __future__ import annotations

import sys
import time

from tailrace import chunks
from tailrace.adapters.memory import MemoryLog, MemoryState
from tailrace.aisdk import from_text
from tailrace.compaction import Mode
from tailrace.log import Log
from tailrace.positions import Position
from tailrace.replay import Replay

STREAM = "bench:1"
CHUNKS_A_RECORD = 6
ROUNDS = 20


def written(words: int) -> Log:
    """A log with one answer of so many words."""
    log = Log(
        MemoryLog(),
        MemoryState(),
        lambda: time.time_ns() // 1_000_000,
        retention=3600,
        lease=30,
    )
    texts = [
        chunks.encode(chunk)
        for chunk in from_text((f"word{n} " for n in range(words)), message_id="m")
    ]
    record = log.open(STREAM, "w")
    run = record.run
    for start in range(0, len(texts), CHUNKS_A_RECORD):
        piece = texts[start : start + CHUNKS_A_RECORD]
        record = log.append(STREAM, run, "w", record.next, piece)
    log.end(STREAM, run, "w", record.next, "completed")
    return log


def measure(log: Log, mode: Mode | None) -> tuple[int, int, float]:
    """Return frames, bytes and milliseconds of one replay from the start."""
    begun = time.perf_counter()
    for _ in range(ROUNDS):
        replay = Replay(log, STREAM, Position(), mode)
        frames = [piece.frame(replay=True) for piece in replay.slices()]
    took = (time.perf_counter() - begun) / ROUNDS
    return len(frames), sum(map(chunks.size, frames)), took * 1000


def main() -> None:
    words = int(sys.argv[1]) if len(sys.argv) > 1 else 3000
    log = written(words)
    for name, mode in (("plain", None), ("ui-message", "ui-message")):
        frames, size, took = measure(log, mode)  # type: ignore[arg-type]
        print(f"{name:>10}: {frames} frames, {size} bytes, {took:.1f} ms")


if __name__ == "__main__":
    main()
