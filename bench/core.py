"""CPU of the core's hot paths, without AWS: what a chunk costs that no service takes.

    python -m bench.core          a table, and a line of JSON; with `--keep`, the
                                  figures of bench/results, too

Each is the best of seven rounds, so that whoever else uses the machine counts little.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench import kept
from tailrace.adapters.calls import local_clock
from tailrace.adapters.memory import MemoryLog, MemoryState
from tailrace.consumer import cursor, wire
from tailrace.delivery import Delivery
from tailrace.log import Log
from tailrace.ports import Push
from tailrace.positions import check_position
from tailrace.producer.calls import Append
from tailrace.producer.core import Core, Pace
from tailrace.producer.opening import Opening
from tailrace.records import Record
from tailrace.replay import Replay
from tailrace.watchers import Subscription
from tailrace.writers import Answer

ROUNDS = 7
COUNT = 10_000
STREAM = "bench:1"
TEXTS = [f'{{"i":{number},"t":{123_456_789 + number}}}' for number in range(COUNT)]
FAR = 1 << 60


class Silent:
    """A gateway that takes no time."""

    def push(self, connection: str, frame: str) -> Push:
        return Push.DONE

    def disconnect(self, connection: str) -> None:
        return None


@dataclass(frozen=True, slots=True)
class Run:
    """A run of COUNT chunks, in records of `each`."""

    log: Log
    records: list[Record]

    @classmethod
    def write(cls, each: int) -> Run:
        log = Log(MemoryLog(), MemoryState(), local_clock, retention=3_600, lease=30)
        behind = log.open(STREAM, "w")
        for at in range(0, COUNT, each):
            behind = log.append(
                STREAM, behind.run, "w", behind.next, TEXTS[at : at + each]
            )
        return cls(log, list(log.store.range(STREAM, 1)))

    def frames(self) -> list[str]:
        replay = Replay(self.log, STREAM, check_position(None, None))
        return [piece.frame(replay=True) for piece in replay.slices()]


def one_by_one(tasks: Sequence[Callable[[], None]]) -> None:
    for task in tasks:
        task()


def best(work: Callable[[], object]) -> float:
    """Return the CPU of a chunk in the best round, in µs."""
    took = []
    for _ in range(ROUNDS):
        begun = time.process_time()
        work()
        took.append(time.process_time() - begun)
    return min(took) / COUNT * 1e6


def write() -> None:
    """A producer's core: chunks in, appends out, each answered at once."""
    core = Core(
        Opening(STREAM, "w", lease=30, randomness=bytes(10)),
        Pace(min_interval=0, buffer=FAR),
    )
    now, upto = 0.0, 1
    core.step(now)
    core.answered(Answer("", upto), now)
    for number, text in enumerate(TEXTS):
        core.write(text)
        if number % 50 == 49:
            now += 1
            call = core.step(now)
            if isinstance(call, Append):
                upto += len(call.texts)
            core.answered(Answer("", upto), now)


def push(records: list[Record]) -> None:
    """The delivery: each record a batch of its own, for one subscriber."""
    state = MemoryState()
    state.subscribe(Subscription(STREAM, "c", 1, FAR), FAR)
    delivery = Delivery(state, Silent(), local_clock, one_by_one)
    for record in records:
        delivery.deliver({STREAM: [record]}, FAR)


def consume(frames: list[str]) -> None:
    """A consumer: frames in, pieces out."""
    reader = cursor.watch(STREAM, now=0)
    for frame in frames:
        piece = wire.decode(frame)
        assert piece is not None
        assert cursor.receive(reader, piece, 0)


def measure() -> dict[str, float]:
    one, many = Run.write(1), Run.write(1_000)
    return {
        "a chunk through the producer's core": best(write),
        "an appended record of one chunk": best(lambda: Run.write(1)),
        "a chunk appended in records of 1,000": best(lambda: Run.write(1_000)),
        "a pushed slice of one chunk": best(lambda: push(one.records)),
        "a replayed chunk, one a record": best(one.frames),
        "a replayed chunk, 1,000 a record": best(many.frames),
        "a chunk through the consumer": best(lambda: consume(one.frames()))
        - best(one.frames),
    }


def main() -> None:
    found = {name: round(value, 3) for name, value in measure().items()}
    for name, value in found.items():
        print(f"{name:40} {value:>8.3f} µs")
    print(json.dumps(found))
    if "--keep" in sys.argv[1:]:
        kept.save("core", "python -m bench.core --keep", {"us": found})


if __name__ == "__main__":
    main()
