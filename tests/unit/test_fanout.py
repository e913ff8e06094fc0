"""The fan-out: one client never fails a batch, and nothing is out of order in one."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tailrace.errors import Invalid, Unavailable
from tailrace.fanout import Change, Fanout, decode
from tailrace.ports import Push, Subscription
from tailrace.records import to_item
from tests.support.worlds import STREAM, World, run_id

R1, R2 = run_id(1), run_id(2)


class Feed(World):
    """A world whose records reach a fan-out."""

    def __init__(self) -> None:
        super().__init__()
        self.counted: dict[str, int] = {}
        self.fanout = self.make(lambda tasks: [task() for task in tasks] and None)

    def make(self, run_all: Callable[[Sequence[Callable[[], None]]], Any]) -> Fanout:
        return Fanout(
            self.state,
            self.gateway,
            self.clock,
            run_all,
            count=lambda name, value: self.counted.__setitem__(
                name, self.counted.get(name, 0) + value
            ),
        )

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


def test_a_batch_reaches_every_subscriber_as_few_slices(feed: Feed) -> None:
    feed.subscribe("c1", "c2")
    feed.write(records=50)
    assert feed.push() == []
    for id in ("c1", "c2"):
        (slice_,) = feed.got(id)
        assert (slice_["seq"], slice_["next"], len(slice_["chunks"])) == (1, 52, 50)
    assert feed.counted["SlicesPushed"] == 2


def test_what_the_feed_repeats_or_shuffles_is_pushed_once_in_order(feed: Feed) -> None:
    feed.subscribe("c1")
    feed.write(records=5)
    changes = feed.changes()
    assert feed.push(*changes[3:], *changes[:4], changes[4]) == []
    (slice_,) = feed.got("c1")
    assert slice_["chunks"] == ["2", "3", "4", "5", "6"]


def test_streams_do_not_mix(feed: Feed) -> None:
    feed.subscribe("c1")
    feed.subscribe("c2", stream="chat:43")
    feed.write()
    feed.write(stream="chat:43", records=1)
    feed.push(*feed.changes(STREAM, "chat:43"))
    assert [one["stream"] for one in feed.got("c1")] == [STREAM]
    assert [one["stream"] for one in feed.got("c2")] == ["chat:43"]


def test_nothing_is_pushed_past_exp(feed: Feed) -> None:
    feed.subscribe("late", exp=feed.clock() // 1000)
    feed.subscribe("fresh", exp=feed.clock() // 1000 + 1)
    feed.write()
    feed.push()
    assert feed.got("late") == []
    assert len(feed.got("fresh")) == 1


def test_a_connection_that_is_gone_loses_the_row_that_was_read_only(
    feed: Feed,
) -> None:
    feed.subscribe("c1", "c2")
    feed.gateway.gone.add("c1")
    push = feed.gateway.push

    def resubscribe_meanwhile(connection: str, frame: str) -> Push:
        if connection == "c2":
            feed.state.subscribe(Subscription(STREAM, "c2", 2, 2**40), 0)
            return Push.GONE
        return push(connection, frame)

    feed.gateway.push = resubscribe_meanwhile  # type: ignore[method-assign]
    feed.write()
    assert feed.push() == []
    assert [(row.connection, row.n) for row in feed.state.subscribers(STREAM)] == [
        ("c2", 2)
    ]
    assert feed.counted["ConnectionsGone"] == 2


@pytest.mark.parametrize("outcome", [Push.THROTTLED, Push.FAILED])
def test_a_failed_push_is_tried_once_more_and_never_overtaken(
    feed: Feed, outcome: Push
) -> None:
    feed.subscribe("full", "fine")
    feed.write(records=1)
    for seq in range(3, 8):
        feed.log.append(STREAM, R1, "w", seq, [json.dumps("x" * 27_000)])
    tries: list[int] = []
    push = feed.gateway.push

    def full(connection: str, frame: str) -> Push:
        seq = json.loads(frame)["seq"]
        if connection == "full":
            tries.append(seq)
            if seq == 4:
                return outcome
        return push(connection, frame)

    feed.gateway.push = full  # type: ignore[method-assign]
    assert feed.push() == [], "one client never fails the batch"
    assert tries == [1, 4, 4]
    assert [one["seq"] for one in feed.got("fine")] == [1, 4, 5, 6, 7]
    assert len(feed.state.subscribers(STREAM)) == 2
    assert feed.counted["PushesThrottled"] == 2


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


def test_the_subscribers_of_many_streams_are_asked_for_side_by_side(feed: Feed) -> None:
    streams = [f"chat:{number}" for number in range(3)]
    meet = threading.Barrier(len(streams))
    subscribers = feed.state.subscribers

    def together(stream: str) -> Any:
        meet.wait(10)
        return subscribers(stream)

    for stream in streams:
        feed.subscribe("c1", stream=stream)
        feed.write(stream=stream)
    feed.state.subscribers = together  # type: ignore[method-assign]
    with ThreadPoolExecutor(3) as pool:
        feed.fanout = feed.make(
            lambda tasks: list(pool.map(lambda task: task(), tasks))
        )
        assert feed.push(*feed.changes(*streams)) == []
    assert [one["stream"] for one in feed.got("c1")] == streams


def test_a_row_that_cannot_be_dropped_now_fails_nothing(feed: Feed) -> None:
    feed.subscribe("c1")
    feed.gateway.gone.add("c1")

    def broken(*args: Any) -> None:
        raise Unavailable("AWS: ThrottlingException")

    feed.state.drop = broken  # type: ignore[method-assign]
    feed.write()
    assert feed.push() == []


def test_the_lag_is_that_of_the_oldest_record(feed: Feed) -> None:
    feed.write()
    feed.clock.advance(0.25)
    feed.push()
    assert feed.counted["FeedLag"] == 250


def test_one_connection_is_never_pushed_to_twice_at_a_time(feed: Feed) -> None:
    """§3.2: two posts under way to one connection have no order. It subscribes to two
    streams of the batch; the other connections are served meanwhile."""
    feed.subscribe("both", "one")
    feed.subscribe("both", "two", stream="chat:43")
    feed.write()
    feed.write(stream="chat:43")
    under_way: set[str] = set()
    together: list[set[str]] = []
    lock = threading.Lock()
    meet = threading.Barrier(3)
    met: set[str] = set()

    def push(connection: str, frame: str) -> Push:
        with lock:
            assert connection not in under_way
            under_way.add(connection)
            together.append(set(under_way))
            first = connection not in met
            met.add(connection)
        if first:
            meet.wait(10)
        with lock:
            under_way.remove(connection)
        return Push.DONE

    feed.gateway.push = push  # type: ignore[method-assign]
    with ThreadPoolExecutor(3) as pool:
        feed.fanout = feed.make(
            lambda tasks: list(pool.map(lambda task: task(), tasks))
        )
        assert feed.push(*feed.changes(STREAM, "chat:43")) == []
    assert {"both", "one", "two"} in together


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


def test_removals_are_none_of_ours(feed: Feed) -> None:
    removal = {"dynamodb": {"Keys": {}, "SequenceNumber": "1"}}
    assert decode({"Records": [removal]}) == []


@pytest.mark.parametrize("event", [None, [], {}, {"Records": [{}]}, {"Records": 7}])
def test_what_is_no_event_is_refused(event: Any) -> None:
    with pytest.raises(Invalid, match="no change feed"):
        decode(event)
