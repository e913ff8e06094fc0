"""The change feed as Lambda polls it: four times a second, batch by batch."""

from __future__ import annotations

import json
import zlib
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .delays import POLL_MS
from .template import parameter, resource

if TYPE_CHECKING:
    from .cloud import Cloud

MS = 1_000


@dataclass
class Lane:
    """What one fan-out at a time takes: a shard, or its share of one."""

    phase: int
    waiting: deque[tuple[int, int, dict[str, Any]]] = field(default_factory=deque)
    """When each was put, when it can be seen, and the entry."""

    busy: bool = False
    slot: int = -1
    delay: int = 0


class Feed:
    def __init__(self, cloud: Cloud, lanes: int | None) -> None:
        self._cloud = cloud
        self._count = lanes
        self._lanes: dict[Any, Lane] = {}
        self._sequence = 0
        self._batch = int(parameter("FeedBatchSize"))
        self._filter = kinds(cloud.environment.get("TAILRACE_DELIVERY", "Feed"))
        self.seen: list[tuple[int, int, int]] = []
        """Of each record: when it was put, when a handler had it (µs), and its seq."""

    def inserted(self, item: dict[str, Any]) -> None:
        if not any(matches(one, item) for one in self._filter):
            return
        self._sequence += 1
        stream = item["stream"]["S"]
        name = zlib.crc32(stream.encode()) % self._count if self._count else stream
        lane = self._lanes.get(name)
        if lane is None:
            phase = self._cloud.kernel.dice("feed").randrange(POLL_MS * MS)
            lane = self._lanes[name] = Lane(phase)
        now = self._cloud.kernel.now
        if now // (POLL_MS * MS) != lane.slot:
            # What is slow is slow for all that is put at about the same time.
            lane.slot = now // (POLL_MS * MS)
            lane.delay = self._cloud.draw("feed")
        seen_at = max(now + lane.delay, lane.waiting[-1][1] if lane.waiting else 0)
        lane.waiting.append((now, seen_at, self._entry(item)))
        self._schedule(lane)

    @property
    def drained(self) -> bool:
        return not any(one.waiting or one.busy for one in self._lanes.values())

    def _entry(self, item: dict[str, Any]) -> dict[str, Any]:
        return {
            "eventID": f"{self._sequence:032x}",
            "eventName": "INSERT",
            "eventVersion": "1.1",
            "eventSource": "aws:dynamodb",
            "awsRegion": "us-east-1",
            "dynamodb": {
                "ApproximateCreationDateTime": self._cloud.clock() // 1000,
                "Keys": {name: item[name] for name in ("stream", "seq")},
                "NewImage": item,
                "SequenceNumber": str(10**20 + self._sequence),
                "StreamViewType": "NEW_IMAGE",
            },
        }

    def _schedule(self, lane: Lane) -> None:
        """Poll on, four times a second, as long as there is something."""
        if lane.busy or not lane.waiting:
            return
        lane.busy = True
        now, every = self._cloud.kernel.now, POLL_MS * MS
        self._cloud.kernel.after(every - (now - lane.phase) % every, self._poll, lane)

    def _poll(self, lane: Lane) -> None:
        lane.busy = False
        now = self._cloud.kernel.now
        taken: list[tuple[int, int, dict[str, Any]]] = []
        while lane.waiting and len(taken) < self._batch and lane.waiting[0][1] <= now:
            taken.append(lane.waiting.popleft())
        if taken:
            lane.busy = True
            self._invoke(lane, [entry for *_, entry in taken], [at for at, *_ in taken])
        else:
            self._schedule(lane)

    def _invoke(
        self, lane: Lane, entries: list[dict[str, Any]], times: list[int]
    ) -> None:
        def done(answer: dict[str, Any]) -> None:
            if answer["batchItemFailures"]:
                raise RuntimeError("nothing was to go wrong")
            lane.busy = False
            self._schedule(lane)

        self._cloud.functions.invoke("fanout", {"Records": entries}, done)
        now = self._cloud.kernel.now
        self.seen += [
            (at, now, int(entry["dynamodb"]["Keys"]["seq"]["N"]))
            for at, entry in zip(times, entries, strict=True)
        ]


def kinds(delivery: str) -> list[Any]:
    """Return the template's rule for the `kind` of what reaches the fan-out."""
    (rule,) = resource("FanoutFunctionChangeFeed")["FilterCriteria"]["Filters"]
    pattern = rule["Pattern"]
    if isinstance(pattern, list):
        condition, direct, feed = pattern
        assert condition == "FeedIsNet"
        pattern = direct if delivery == "Direct" else feed
    found: list[Any] = json.loads(pattern)["dynamodb"]["NewImage"]["kind"]["S"]
    return found


def matches(rule: Any, item: dict[str, Any]) -> bool:
    """Whether one of a filter's alternatives lets an item pass."""
    if rule == {"exists": True}:
        return "kind" in item
    assert isinstance(rule, str)
    kind: str = item["kind"]["S"]
    return kind == rule
