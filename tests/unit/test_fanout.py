"""The fan-out: what the feed brings is delivered, and reported where it cannot be."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tailrace.delivery import Delivery
from tailrace.errors import Invalid, Unavailable
from tailrace.fanout import Change, Fanout, decode
from tailrace.ports import Push
from tailrace.records import to_item
from tailrace.watchers import Subscription
from tests.support.worlds import STREAM, World, one_by_one, run_id

R1 = run_id(1)


class Feed(World):
    """A world whose records reach a fan-out."""

    def __init__(self) -> None:
        super().__init__()
        self.counted: dict[str, int] = {}
        self.fanout = Fanout(
            Delivery(
                self.state, self.gateway, self.clock, one_by_one, count=self.count
            ),
            self.clock,
            count=self.count,
        )

    def count(self, name: str, value: int) -> None:
        self.counted[name] = self.counted.get(name, 0) + value

    def subscribe(self, *ids: str, stream: str = STREAM, exp: int = 2**40) -> None:
        for id in ids:
            self.state.subscribe(Subscription(stream, id, 1, exp), 0)

    def write(self, run: str = R1, stream: str = STREAM, records: int = 3) -> None:
        seq = self.log.open(stream, "w", run).next
        for _ in range(records):
            seq = self.log.append(stream, run, "w", seq, [f'"{seq}"']).next

    def changes(self, *streams: str) -> list[Change]:
        return [
            Change(f"{stream}/{record.seq}", record)
            for stream in streams or (STREAM,)
            for record in self.records(stream)
        ]

    def push(self, *changes: Change) -> list[str]:
        return self.fanout.push(changes or self.changes(), self.clock() + 10_000)

    def got(self, id: str) -> list[dict[str, Any]]:
        return [json.loads(frame) for frame in self.gateway.sent[id]]


@pytest.fixture
def feed() -> Feed:
    return Feed()


def test_what_the_feed_repeats_or_shuffles_is_pushed_once_in_order(feed: Feed) -> None:
    feed.subscribe("c1")
    feed.write(records=5)
    changes = feed.changes()
    assert feed.push(*changes[3:], *changes[:4], changes[4]) == []
    (slice_,) = feed.got("c1")
    assert slice_["chunks"] == ["2", "3", "4", "5", "6"]


def test_what_the_tables_cannot_answer_fails_from_its_first_record_on(
    feed: Feed,
) -> None:
    feed.subscribe("c1")
    feed.write()
    feed.write(stream="chat:43")
    subscribers = feed.state.subscribers

    def throttled(stream: str) -> Any:
        if stream == "chat:43":
            raise Unavailable("AWS: ThrottlingException")
        return subscribers(stream)

    feed.state.subscribers = throttled  # type: ignore[method-assign]
    assert feed.push(*feed.changes("chat:43", STREAM)) == ["chat:43/1"]
    assert len(feed.got("c1")) == 1, "the others do not wait for it"


def test_nothing_is_pushed_after_the_deadline(feed: Feed) -> None:
    """Else the function is stopped in the middle, and the whole batch comes again, as
    slowly as before. Who missed something repairs itself."""
    feed.subscribe("slow", "late")
    feed.write()
    tries: list[str] = []

    def slow(connection: str, frame: str) -> Push:
        tries.append(connection)
        feed.clock.advance(1)
        return Push.FAILED

    feed.gateway.push = slow  # type: ignore[method-assign]
    assert feed.fanout.push(feed.changes(), feed.clock() + 1_000) == []
    assert tries == ["slow"]
    assert feed.counted["SlicesDropped"] == 2


def test_the_lag_is_that_of_the_oldest_record(feed: Feed) -> None:
    feed.write()
    feed.clock.advance(0.25)
    feed.push()
    assert feed.counted["FeedLag"] == 250


# ---- the event -----------------------------------------------------------------------


def entry(image: Any, number: str = "1") -> dict[str, Any]:
    return {"dynamodb": {"NewImage": image, "SequenceNumber": number}}


def test_a_poisoned_record_is_passed_over_and_counted(feed: Feed) -> None:
    feed.subscribe("c1")
    feed.write()
    good = [to_item(record) for record in feed.records()]
    poisoned: list[Any] = [
        {},
        {"stream": {"S": STREAM}},
        {**good[0], "seq": {"N": "x"}},
    ]
    changes = decode({"Records": [entry(image) for image in [*poisoned, *good]]})
    assert [change.record is None for change in changes] == [True] * 3 + [False] * 4
    assert feed.push(*changes) == []
    assert feed.counted["PoisonedRecords"] == 3
    assert len(feed.got("c1")) == 1


def test_removals_are_none_of_ours() -> None:
    removal = {"dynamodb": {"Keys": {}, "SequenceNumber": "1"}}
    assert decode({"Records": [removal]}) == []


@pytest.mark.parametrize("event", [None, [], {}, {"Records": [{}]}, {"Records": 7}])
def test_what_is_no_event_is_refused(event: Any) -> None:
    with pytest.raises(Invalid, match="no change feed"):
        decode(event)
