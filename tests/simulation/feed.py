"""The change feed, and the mapping that drives the fan-out from it as Lambda does.

Each shard is served by a few lanes, each stream by one of them. A lane takes a batch,
invokes, and does not go on before the batch is done with: repeated from the lowest
record that was reported, bisected where the function failed, given up after three
retries or a minute, then named in the on-failure queue.
"""

from __future__ import annotations

import zlib
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tailrace.fanout import Fanout, decode
from tailrace.records import Record, to_item

if TYPE_CHECKING:
    from .world import World

POLL = 250
RETRIES = 3
MAX_AGE = 60_000
TIMEOUT = 30_000
RESERVE = 5_000
LANES = 2

_POISON: tuple[dict[str, Any], ...] = (
    {"seq": {"N": "none"}},
    {"seq": {"S": "1"}},
    {"run": {"S": 7}},
    {"kind": {"S": "novelty"}},
    {"count": {"N": "0"}},
)
"""What makes an image one that holds no record."""


@dataclass(slots=True)
class Entry:
    """A record in the feed. `sequence` grows within a shard."""

    sequence: int
    at: int
    image: dict[str, Any]
    record: Record
    poisoned: bool = False
    done: bool = False


@dataclass(slots=True, eq=False)
class Batch:
    entries: list[Entry]
    retries: int = 0


@dataclass(slots=True)
class Lane:
    waiting: deque[Entry] = field(default_factory=deque)
    batches: list[Batch] = field(default_factory=list)
    parent: Lane | None = None
    polling: bool = False
    busy: bool = False

    @property
    def drained(self) -> bool:
        parent = self.parent is None or self.parent.drained
        return parent and not self.waiting and not self.batches


class Feed:
    def __init__(self, world: World) -> None:
        self._world = world
        self._kernel = world.kernel
        self._dice = world.kernel.dice("feed")
        self._sequence = 100
        self._batch_size = self._dice.choice([1, 3, 10, 100])
        self._lanes = [Lane() for _ in range(LANES)]
        self.given_up: list[dict[str, Any]] = []
        self.entries: list[Entry] = []

    def inserted(self, record: Record) -> None:
        """The table tells what was put; the mapping's filter drops what others push."""
        if self._world.direct and record.kind not in ("open", "end"):
            return
        self._sequence += self._dice.choice((1, 1, 7, 900))
        image: dict[str, Any] = to_item(record)
        poisoned = self._world.faults.hit("poison", 0.3)
        if poisoned:
            image = dict(image, **self._dice.choice(_POISON))
        entry = Entry(self._sequence, self._kernel.now, image, record, poisoned)
        self.entries.append(entry)
        lane = self._lanes[zlib.crc32(record.stream.encode()) % len(self._lanes)]
        lane.waiting.append(entry)
        self._poll_soon(lane)
        if self._world.faults.hit("feed-splits", 0.1):
            self._split()

    @property
    def drained(self) -> bool:
        return all(lane.drained for lane in self._lanes)

    def _split(self) -> None:
        """Children are served once their parent is drained, so that order is kept."""
        if len(self._lanes) < 16:
            parents = self._lanes
            self._lanes = [
                Lane(parent=parents[number % len(parents)])
                for number in range(2 * len(parents))
            ]

    def _poll_soon(self, lane: Lane, delay: int | None = None) -> None:
        if not lane.polling and not lane.busy:
            lane.polling = True
            pause = self._dice.randrange(POLL) if delay is None else delay
            self._kernel.after(pause, self._poll, lane)

    def _poll(self, lane: Lane) -> None:
        lane.polling = False
        if lane.parent is not None and not lane.parent.drained:
            self._poll_soon(lane, POLL)
            return
        lane.parent = None
        if self._world.faults.hit("feed-late", 0.2):
            self._poll_soon(lane, self._dice.choice([2_000, 70_000]))
            return
        if not lane.batches:
            taken: list[Entry] = []
            while lane.waiting and len(taken) < self._batch_size:
                taken.append(lane.waiting.popleft())
            if not taken:
                return
            lane.batches.append(Batch(taken))
        self._invoke(lane)

    def _invoke(self, lane: Lane) -> None:
        batch = lane.batches[-1]
        now = self._kernel.now
        old = [one for one in batch.entries if now - one.at > MAX_AGE]
        if old and batch.retries:
            self._world.faults.note("given-up-age")
            self._give_up(old, "age")
            batch.entries = [one for one in batch.entries if now - one.at <= MAX_AGE]
        if batch.retries > RETRIES:
            self._world.faults.note("given-up-retries")
            self._give_up(batch.entries, "retries")
            batch.entries = []
        if not batch.entries:
            lane.batches.pop()
            self._poll_soon(lane, 0)
            return
        lane.busy = True
        event: dict[str, Any] = {
            "Records": [
                {
                    "eventName": "INSERT",
                    "dynamodb": {
                        "NewImage": one.image,
                        "SequenceNumber": str(one.sequence),
                    },
                }
                for one in batch.entries
            ]
        }
        # What TTL deletes is no insert; the mapping's filter may be taken away.
        removed = {"eventName": "REMOVE", "dynamodb": {"SequenceNumber": "1"}}
        event["Records"].insert(0, removed)
        failed: list[str] = []

        def play(fanout: Fanout) -> None:
            world = self._world
            world.observe("fanning", batch.entries)
            deadline = self._kernel.process().clock() + TIMEOUT - RESERVE
            failed.extend(fanout.push(decode(event), deadline))
            world.observe("fanned", batch.entries, failed)

        def done(error: BaseException | None) -> None:
            self._world.observe("ran", error)
            self._finish(lane, batch, failed, error)

        self._world.invoke("fanout", play, done)

    def _finish(
        self,
        lane: Lane,
        batch: Batch,
        failed: list[str],
        error: BaseException | None,
    ) -> None:
        """What Lambda does with the outcome."""
        lane.busy = False
        numbers = [one.sequence for one in batch.entries]
        unknown = [number for number in failed if int(number) not in numbers]
        if error is None and not unknown:
            if not failed:
                if self._world.faults.hit("feed-repeats"):
                    self._poll_soon(lane, self._dice.randrange(2_000))
                    return
                lane.batches.remove(batch)
                for one in batch.entries:
                    one.done = True
            else:
                self._world.faults.note("partial")
                lowest = min(int(number) for number in failed)
                for one in batch.entries:
                    one.done = one.sequence < lowest
                batch.entries = [one for one in batch.entries if not one.done]
                batch.retries += 1
        elif len(batch.entries) > 1:
            self._world.faults.note("bisected")
            half = len(batch.entries) // 2
            lane.batches.remove(batch)
            lane.batches.append(Batch(batch.entries[half:], batch.retries + 1))
            lane.batches.append(Batch(batch.entries[:half], batch.retries + 1))
        else:
            batch.retries += 1
        pause = 100 * 2**batch.retries if batch.retries else 0
        self._poll_soon(lane, pause)

    def _give_up(self, entries: list[Entry], why: str) -> None:
        if entries:
            self.given_up.append(
                {
                    "condition": why,
                    "batchSize": len(entries),
                    "start": entries[0].sequence,
                    "end": entries[-1].sequence,
                    "at": self._kernel.now,
                }
            )
