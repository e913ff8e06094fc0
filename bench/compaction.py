"""What a replay costs, plain and compacted: frames, bytes, and the CPU to make them.

An answer as a job writes it, six words a record, over a log in memory: what is measured
is the compaction, not DynamoDB.

    .venv/bin/python -m bench.compaction [words] [--keep]
"""

from __future__ import annotations

import argparse
import time

from bench import kept
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
MODES: dict[str, Mode | None] = {"plain": None, "ui-message": "ui-message"}


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
    """Return frames, bytes and milliseconds of CPU of one replay from the start."""
    begun = time.process_time()
    for _ in range(ROUNDS):
        replay = Replay(log, STREAM, Position(), mode)
        frames = [piece.frame(replay=True) for piece in replay.slices()]
    took = (time.process_time() - begun) / ROUNDS
    return len(frames), sum(map(chunks.size, frames)), took * 1000


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.compaction")
    parser.add_argument("words", type=int, nargs="?", default=3000)
    parser.add_argument("--keep", action="store_true")
    given = parser.parse_args()
    log = written(given.words)
    replays = {}
    for name, mode in MODES.items():
        frames, size, took = measure(log, mode)
        print(f"{name:>10}: {frames} frames, {size} bytes, {took:.1f} ms")
        replays[name] = {"frames": frames, "bytes": size, "ms": round(took, 1)}
    if given.keep:
        found = {"words": given.words, "replays": replays}
        kept.save("compaction", "python -m bench.compaction --keep", found)


if __name__ == "__main__":
    main()
