"""The delivery: one client costs nobody anything, and no frame overtakes another."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tailrace.delivery import PASS_OVER_MS, Delivery
from tailrace.errors import TailraceError, Unavailable
from tailrace.ports import Push
from tailrace.watchers import Connection, Rights, Subscription
from tests.support.worlds import STREAM, World, one_by_one, run_id

R1 = run_id(1)


class Stage(World):
    """A world whose records are delivered."""

    def __init__(self) -> None:
        super().__init__()
        self.counted: dict[str, int] = {}
        self.refusals: list[TailraceError] = []
        self.delivery = self.make(one_by_one)

    def make(self, run_all: Callable[[Sequence[Callable[[], None]]], Any]) -> Delivery:
        return Delivery(
            self.state,
            self.gateway,
            self.clock,
            run_all,
            count=lambda name, value: self.counted.__setitem__(
                name, self.counted.get(name, 0) + value
            ),
            on_refusal=self.refusals.append,
        )

    def subscribe(self, *ids: str, stream: str = STREAM, exp: int = 2**40) -> None:
        for id in ids:
            self.state.subscribe(Subscription(stream, id, 1, exp), 0)

    def write(self, run: str = R1, stream: str = STREAM, records: int = 3) -> None:
        seq = self.log.open(stream, "w", run).next
        for _ in range(records):
            seq = self.log.append(stream, run, "w", seq, [f'"{seq}"']).next

    def deliver(self, *streams: str) -> set[str]:
        return self.delivery.deliver(
            {stream: self.records(stream) for stream in streams or (STREAM,)},
            self.clock() + 10_000,
        ).failed

    def got(self, id: str) -> list[dict[str, Any]]:
        return [json.loads(frame) for frame in self.gateway.sent[id]]


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_a_batch_reaches_every_subscriber_as_few_slices(stage: Stage) -> None:
    stage.subscribe("c1", "c2")
    stage.write(records=50)
    assert stage.deliver() == set()
    for id in ("c1", "c2"):
        (slice_,) = stage.got(id)
        assert (slice_["seq"], slice_["next"], len(slice_["chunks"])) == (1, 52, 50)
    assert stage.counted["SlicesPushed"] == 2


def test_streams_do_not_mix(stage: Stage) -> None:
    stage.subscribe("c1")
    stage.subscribe("c2", stream="chat:43")
    stage.write()
    stage.write(stream="chat:43", records=1)
    stage.deliver(STREAM, "chat:43")
    assert [one["stream"] for one in stage.got("c1")] == [STREAM]
    assert [one["stream"] for one in stage.got("c2")] == ["chat:43"]


def test_nothing_is_pushed_past_exp(stage: Stage) -> None:
    stage.subscribe("late", exp=stage.clock() // 1000)
    stage.subscribe("fresh", exp=stage.clock() // 1000 + 1)
    stage.write()
    stage.deliver()
    assert stage.got("late") == []
    assert len(stage.got("fresh")) == 1


def test_a_push_that_comes_late_in_its_batch_is_not_past_exp_either(
    stage: Stage,
) -> None:
    stage.subscribe("slow")
    stage.subscribe("due", exp=stage.clock() // 1000 + 1)
    push = stage.gateway.push

    def waits(connection: str, frame: str) -> Push:
        if connection == "slow":
            stage.clock.advance(1)
        return push(connection, frame)

    stage.gateway.push = waits  # type: ignore[method-assign]
    stage.write()
    assert stage.deliver() == set()
    assert (len(stage.got("slow")), stage.got("due")) == (1, [])
    assert stage.counted["SlicesDropped"] == 1


def test_a_connection_that_is_gone_loses_the_row_that_was_read_only(
    stage: Stage,
) -> None:
    """And the others are served: in AWS's sample one stale connection fails every
    broadcast (https://github.com/aws-samples/simple-websockets-chat-app)."""
    stage.subscribe("c1", "c2", "c3")
    stage.gateway.gone.add("c1")
    push = stage.gateway.push

    def resubscribe_meanwhile(connection: str, frame: str) -> Push:
        if connection == "c2":
            stage.state.subscribe(Subscription(STREAM, "c2", 2, 2**40), 0)
            return Push.GONE
        return push(connection, frame)

    stage.gateway.push = resubscribe_meanwhile  # type: ignore[method-assign]
    stage.write()
    assert stage.deliver() == set()
    assert [
        (row.connection, getattr(row, "n", None))
        for row in stage.state.subscribers(STREAM)
    ] == [
        ("c2", 2),
        ("c3", 1),
    ]
    assert stage.got("c3")
    assert stage.counted["ConnectionsGone"] == 2


@pytest.mark.parametrize("outcome", [Push.THROTTLED, Push.FAILED])
def test_a_failed_push_is_tried_once_more_and_never_overtaken(
    stage: Stage, outcome: Push
) -> None:
    stage.subscribe("full", "fine")
    stage.write(records=1)
    for seq in range(3, 8):
        stage.log.append(STREAM, R1, "w", seq, [json.dumps("x" * 27_000)])
    tries: list[int] = []
    push = stage.gateway.push

    def full(connection: str, frame: str) -> Push:
        seq = json.loads(frame)["seq"]
        if connection == "full":
            tries.append(seq)
            if seq == 4:
                return outcome
        return push(connection, frame)

    stage.gateway.push = full  # type: ignore[method-assign]
    assert stage.deliver() == set(), "one client never fails the batch"
    assert tries == [1, 4, 4]
    assert [one["seq"] for one in stage.got("fine")] == [1, 4, 5, 6, 7]
    assert len(stage.state.subscribers(STREAM)) == 2
    assert stage.counted["PushesFailed"] == 2


def test_a_slow_connection_holds_up_the_others_twice(stage: Stage) -> None:
    """Two pushes that wait in vain are all; until the connection takes an answer, or
    ten seconds have passed, nobody waits for it again."""
    stage.subscribe("slow", "fine")
    stage.write()
    tries: list[str] = []
    push = stage.gateway.push

    def hangs(connection: str, frame: str) -> Push:
        if connection == "slow":
            tries.append(connection)
            return Push.SLOW
        return push(connection, frame)

    stage.gateway.push = hangs  # type: ignore[method-assign]
    for _ in range(4):
        assert stage.deliver() == set()
    assert tries == ["slow", "slow"]
    assert len(stage.got("fine")) == 4
    assert stage.counted["ConnectionsSlow"] == 2
    for count in (3, 4):
        stage.clock.advance(PASS_OVER_MS / 1_000)
        stage.deliver()
        stage.deliver()
        assert len(tries) == count, "once in ten seconds, while it is slow"
    stage.state.subscribe(Subscription(STREAM, "slow", 2, 2**40), 0)
    stage.deliver()
    assert len(tries) == 4, "who asks may still read nothing"


def test_a_slow_connection_holds_up_the_others_twice_however_many_it_watches(
    stage: Stage,
) -> None:
    """Each of its streams would wait for it anew."""
    names = [f"chat:{number}" for number in range(20)]
    stage.state.put_connection(Connection("slow", Rights("u7", 2**40)), 2**40)
    for name in names:
        stage.subscribe("slow", "fine", stream=name)
        stage.write(stream=name)
    tries: list[str] = []

    def hangs(connection: str, frame: str) -> Push:
        tries.append(connection)
        return Push.SLOW if connection == "slow" else Push.DONE

    stage.gateway.push = hangs  # type: ignore[method-assign]
    for name in names:
        stage.deliver(name)
    assert (tries.count("slow"), tries.count("fine")) == (2, 20)


def test_one_hiccup_costs_a_connection_nothing(stage: Stage) -> None:
    """A push that was given up mostly arrives, only late."""
    stage.subscribe("c1")
    stage.write()
    outcomes = [Push.SLOW, Push.DONE, Push.SLOW, Push.DONE]
    push = stage.gateway.push

    def hiccups(connection: str, frame: str) -> Push:
        push(connection, frame)
        return outcomes.pop(0)

    stage.gateway.push = hiccups  # type: ignore[method-assign]
    for _ in range(2):
        stage.deliver()
        stage.deliver()
        stage.clock.advance(PASS_OVER_MS / 1_000)
    assert len(stage.got("c1")) == 4


def test_the_subscribers_of_many_streams_are_asked_for_side_by_side(
    stage: Stage,
) -> None:
    streams = [f"chat:{number}" for number in range(3)]
    meet = threading.Barrier(len(streams))
    subscribers = stage.state.subscribers

    def together(stream: str) -> Any:
        meet.wait(10)
        return subscribers(stream)

    for stream in streams:
        stage.subscribe("c1", stream=stream)
        stage.write(stream=stream)
    stage.state.subscribers = together  # type: ignore[method-assign]
    with ThreadPoolExecutor(3) as pool:
        stage.delivery = stage.make(
            lambda tasks: list(pool.map(lambda task: task(), tasks))
        )
        assert stage.deliver(*streams) == set()
    assert [one["stream"] for one in stage.got("c1")] == streams


def test_a_row_that_cannot_be_dropped_now_fails_nothing(stage: Stage) -> None:
    stage.subscribe("c1")
    stage.gateway.gone.add("c1")

    def broken(*args: Any) -> None:
        raise Unavailable("AWS: ThrottlingException")

    stage.state.drop = broken  # type: ignore[method-assign]
    stage.write()
    assert stage.deliver() == set()


def test_one_connection_is_never_pushed_to_twice_at_a_time(stage: Stage) -> None:
    """§3.2: two posts under way to one connection have no order. It subscribes to two
    streams of the batch; the other connections are served meanwhile."""
    stage.subscribe("both", "one")
    stage.subscribe("both", "two", stream="chat:43")
    stage.write()
    stage.write(stream="chat:43")
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

    stage.gateway.push = push  # type: ignore[method-assign]
    with ThreadPoolExecutor(3) as pool:
        stage.delivery = stage.make(
            lambda tasks: list(pool.map(lambda task: task(), tasks))
        )
        assert stage.deliver(STREAM, "chat:43") == set()
    assert {"both", "one", "two"} in together


def test_who_cannot_be_looked_up_is_said_and_holds_up_nobody(stage: Stage) -> None:
    stage.subscribe("c1")
    stage.write()
    stage.write(stream="chat:43")
    subscribers = stage.state.subscribers

    def throttled(stream: str) -> Any:
        if stream == "chat:43":
            raise Unavailable("AWS: ThrottlingException")
        return subscribers(stream)

    stage.state.subscribers = throttled  # type: ignore[method-assign]
    assert stage.deliver("chat:43", STREAM) == {"chat:43"}
    assert [str(refusal) for refusal in stage.refusals] == ["AWS: ThrottlingException"]
    assert len(stage.got("c1")) == 1


def test_a_net_shows_where_runs_begin_and_end_and_no_more(stage: Stage) -> None:
    stage.subscribe("c1")
    stage.write()
    stage.log.end(STREAM, R1, "w", 5, "completed")
    net = Delivery(stage.state, stage.gateway, stage.clock, one_by_one, net=True)
    net.deliver({STREAM: stage.records()}, stage.clock() + 10_000)
    opened, ended = stage.got("c1")
    assert ("open" in opened, "chunks" in opened, opened["next"]) == (True, False, 2)
    assert (ended["seq"], ended["end"]) == (5, {"reason": "completed"})
    net.deliver({STREAM: stage.records()[1:3]}, stage.clock() + 10_000)
    assert len(stage.got("c1")) == 2


def test_a_net_has_nothing_to_do_for_whom_it_shows_nothing(stage: Stage) -> None:
    stage.subscribe("c1", "c2", "c3")
    stage.write()
    tasks: list[int] = []

    def run_all(given: Sequence[Callable[[], None]]) -> None:
        tasks.append(len(given))
        one_by_one(given)

    net = Delivery(stage.state, stage.gateway, stage.clock, run_all, net=True)
    net.deliver({STREAM: stage.records()[1:3]}, stage.clock() + 10_000)
    assert tasks == [1, 0], "the look-up, and nobody to be pushed to"
