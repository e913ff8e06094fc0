"""Direct delivery: what was put is pushed, in order, and holds up nobody."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tailrace.adapters.background import Background, side_by_side
from tailrace.delivery import Delivery
from tailrace.direct import AHEAD_MS, LIST_MS, Direct, RecentSubscribers, Telling
from tailrace.errors import Unavailable
from tailrace.log import Log
from tailrace.ports import Push
from tailrace.records import Record
from tailrace.watchers import Share, Subscription
from tests.support.worlds import STREAM, World, one_by_one, run_id

R1, R2 = run_id(1), run_id(2)


class Publisher(World):
    """A world whose log tells a `Direct` of what is put."""

    def __init__(self, interval: int = 0) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.due: list[int | None] = []
        subscribers = self.state.subscribers

        def ask(stream: str) -> Any:
            self.asked.append(stream)
            return subscribers(stream)

        self.state.subscribers = ask  # type: ignore[method-assign]
        self.recent = RecentSubscribers(self.state, self.clock)
        delivery = Delivery(self.recent, self.gateway, self.clock, one_by_one)
        self.direct = Direct(delivery, self.clock, interval=interval)
        self.log = self.telling(lambda record: self.due.append(self.direct.put(record)))
        self.watch("c1")

    def telling(self, tell: Any) -> Log:
        store = Telling(self.store, tell)
        return Log(store, self.state, self.clock, retention=3600, lease=30)

    def watch(self, *ids: str) -> None:
        for id in ids:
            self.state.subscribe(Subscription(STREAM, id, 1, 2**40), 0)

    def open(self, run: str = R1) -> int:
        return self.log.open(STREAM, "w", run).next

    def append(self, seq: int, text: str = "x", run: str = R1) -> int:
        return self.log.append(STREAM, run, "w", seq, [json.dumps(text)]).next

    def push(self) -> int | None:
        return self.direct.push(STREAM)

    def got(self, id: str = "c1") -> list[tuple[int, int]]:
        frames = [json.loads(frame) for frame in self.gateway.sent[id]]
        return [(frame["seq"], frame["next"]) for frame in frames]


@pytest.fixture
def publisher() -> Publisher:
    return Publisher()


# ---- what is told --------------------------------------------------------------------


def test_a_record_is_told_of_once_it_is_in() -> None:
    world = World()
    told: list[Record] = []

    def tell(record: Record) -> None:
        assert world.store.last(STREAM) == record, "told before it is in"
        told.append(record)

    log = Log(
        Telling(world.store, tell), world.state, world.clock, retention=3600, lease=30
    )
    next = log.open(STREAM, "w", R1).next
    next = log.append(STREAM, R1, "w", next, ["1"]).next
    log.end(STREAM, R1, "w", next, "completed")
    assert [record.kind for record in told] == ["open", "data", "end"]


def test_what_an_earlier_put_got_in_is_told_of_and_what_others_put_is_not(
    publisher: Publisher,
) -> None:
    told: list[Record] = []
    mine, other = publisher.telling(told.append), World(store=publisher.store).log
    next = mine.open(STREAM, "w", R1).next
    # The answer to the first append was lost.
    other.append(STREAM, R1, "w", next, ["1"])
    assert mine.append(STREAM, R1, "w", next, ["1"]).next == next + 1
    assert [record.chunks for record in told] == ["", "1"]
    other.cancel(STREAM, R1)
    with pytest.raises(Exception, match="cancelled"):
        mine.append(STREAM, R1, "w", next + 1, ["2"])
    assert len(told) == 2


# ---- when it is pushed ---------------------------------------------------------------


def test_without_an_interval_each_put_is_due_at_once(publisher: Publisher) -> None:
    seq = publisher.open()
    assert publisher.push() is None
    publisher.append(seq)
    assert publisher.push() is None
    assert publisher.due == [0, publisher.clock()]
    assert publisher.got() == [(1, 2), (2, 3)]


def test_what_is_put_within_an_interval_is_one_slice() -> None:
    publisher = Publisher(interval=100)
    seq = publisher.open()
    publisher.push()
    began = publisher.clock()
    for _ in range(3):
        publisher.clock.advance(0.01)
        seq = publisher.append(seq)
    assert publisher.due == [0, began + 100, None, None]
    assert publisher.push() == began + 100, "it was woken too early"
    publisher.clock.now = began + 100
    assert publisher.push() is None
    assert publisher.got() == [(1, 2), (2, 5)]


def test_an_end_waits_for_no_interval() -> None:
    publisher = Publisher(interval=100)
    seq = publisher.open()
    publisher.push()
    seq = publisher.append(seq)
    publisher.log.end(STREAM, R1, "w", seq, "completed")
    assert publisher.due[-1] == 0
    publisher.push()
    assert publisher.got() == [(1, 2), (2, 4)]


def test_a_slow_connection_is_passed_over_also_in_a_list_that_is_kept(
    publisher: Publisher,
) -> None:
    publisher.watch("c2")
    tries: list[str] = []

    def hangs(connection: str, frame: str) -> Push:
        tries.append(connection)
        return Push.SLOW if connection == "c1" else Push.DONE

    publisher.gateway.push = hangs  # type: ignore[method-assign]
    seq = publisher.open()
    publisher.push()
    for _ in range(2):
        seq = publisher.append(seq)
        publisher.push()
    assert sorted(tries) == ["c1", "c1", "c2", "c2", "c2"]
    assert publisher.asked == [STREAM]
    slow, fine = publisher.state.subscribers(STREAM)
    assert isinstance(slow, Subscription)
    assert slow.slow_until > publisher.clock()
    assert fine == Subscription(STREAM, "c2", 1, 2**40)


def crowded() -> Publisher:
    """Return a publisher with three watchers, who are a large audience."""
    publisher = Publisher(interval=100)
    publisher.watch("c2", "c3")
    publisher.direct = Direct(
        Delivery(
            publisher.recent,
            publisher.gateway,
            publisher.clock,
            one_by_one,
            relay=_Refusing(),
            share=2,
            rate=10,
        ),
        publisher.clock,
        interval=100,
    )
    return publisher


def test_a_large_audience_makes_the_interval_longer_but_for_an_end() -> None:
    publisher = crowded()
    seq = publisher.open()
    publisher.push()
    seq = publisher.append(seq)
    assert publisher.push() == publisher.clock() + 300
    publisher.log.end(STREAM, R1, "w", seq, "completed")
    publisher.push()
    assert publisher.got("c3") == [(1, 2), (2, 4)]


def test_an_end_that_is_put_during_a_push_waits_for_no_interval_either() -> None:
    publisher = crowded()
    seq = publisher.open()
    push = publisher.gateway.push

    def meanwhile(connection: str, frame: str) -> Push:
        if "end" not in publisher.kinds():
            publisher.log.end(STREAM, R1, "w", seq, "completed")
        return push(connection, frame)

    publisher.gateway.push = meanwhile  # type: ignore[method-assign]
    again = publisher.push()
    assert again is not None
    assert again <= publisher.clock()
    publisher.push()
    assert publisher.got("c3") == [(1, 2), (2, 3)]


class _Refusing:
    """Lambda, when it takes nothing more."""

    def hand_over(self, share: Share) -> Callable[[], bool]:
        return lambda: False


def test_a_stream_is_pushed_by_one_batch_at_a_time(publisher: Publisher) -> None:
    """Else two posts to one connection are under way, and have no order."""
    seq = publisher.open()
    push = publisher.gateway.push

    def meanwhile(connection: str, frame: str) -> Push:
        if json.loads(frame)["seq"] == 1:
            publisher.append(seq)
            assert publisher.push() is None, "a second batch was begun"
            assert not publisher.direct.settled(STREAM)
        return push(connection, frame)

    publisher.gateway.push = meanwhile  # type: ignore[method-assign]
    again = publisher.push()
    assert again is not None, "what came meanwhile is forgotten"
    assert again <= publisher.clock()
    assert publisher.due == [0, None]
    assert publisher.push() is None
    assert publisher.got() == [(1, 2), (2, 3)]
    assert publisher.direct.settled(STREAM)


def test_a_lookup_that_failed_is_repeated_and_nothing_is_lost(
    publisher: Publisher,
) -> None:
    seq = publisher.open()
    subscribers = publisher.state.subscribers

    def throttled(stream: str) -> Any:
        raise Unavailable("AWS: ThrottlingException")

    publisher.state.subscribers = throttled  # type: ignore[method-assign]
    again = publisher.push()
    assert again is not None
    assert again > publisher.clock()
    assert not publisher.direct.settled()
    publisher.append(seq)
    publisher.state.subscribers = subscribers  # type: ignore[method-assign]
    publisher.clock.now = again
    assert publisher.push() is None
    assert publisher.got() == [(1, 3)]


def test_a_push_that_raises_is_dropped_and_the_next_goes_on(
    publisher: Publisher,
) -> None:
    seq = publisher.open()
    push = publisher.gateway.push

    def refused(connection: str, frame: str) -> Push:
        raise RuntimeError("403")

    publisher.gateway.push = refused  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="403"):
        publisher.push()
    assert publisher.direct.settled(STREAM)
    publisher.gateway.push = push  # type: ignore[method-assign]
    publisher.append(seq)
    publisher.push()
    assert publisher.got() == [(2, 3)]


def test_who_is_far_behind_starts_anew_at_what_is_new(publisher: Publisher) -> None:
    seq = publisher.open()
    for _ in range(45):
        seq = publisher.append(seq, "x" * 27_000)
    publisher.push()
    (first, _), *_, (_, last) = publisher.got()
    assert first > 30
    assert last == seq


def test_what_was_told_long_ago_takes_no_memory(publisher: Publisher) -> None:
    for number in range(1_100):
        publisher.log.open(f"chat:{number}", "w", R1)
        publisher.direct.push(f"chat:{number}")
        publisher.clock.advance(0.001)
    assert len(publisher.direct._queues) <= 1_000
    assert len(publisher.recent._lists) <= 1_000


def test_what_waits_or_is_being_pushed_is_not_forgotten_for_others(
    publisher: Publisher,
) -> None:
    def others(name: str) -> None:
        for number in range(1_100):
            publisher.log.open(f"{name}:{number}", "w", R1)
            publisher.direct.push(f"{name}:{number}")

    push = publisher.gateway.push

    def meanwhile(connection: str, frame: str) -> Push:
        if json.loads(frame)["seq"] == 1:
            others("during")
            assert not publisher.direct.settled(STREAM)
            publisher.append(seq)
            assert publisher.push() is None, "a second batch was begun"
        return push(connection, frame)

    publisher.gateway.push = meanwhile  # type: ignore[method-assign]
    seq = publisher.open()
    others("before")
    publisher.push()
    publisher.push()
    assert publisher.got() == [(1, 2), (2, 3)]


# ---- the list of subscribers ---------------------------------------------------------


def test_the_list_of_subscribers_is_never_older_than_a_second(
    publisher: Publisher,
) -> None:
    seq = publisher.open()
    publisher.push()
    publisher.watch("c2")
    publisher.clock.now += LIST_MS - 1
    seq = publisher.append(seq)
    publisher.push()
    assert publisher.asked == [STREAM]
    assert publisher.got("c2") == []
    publisher.clock.now += 1
    publisher.append(seq)
    publisher.push()
    assert publisher.asked == [STREAM, STREAM]
    assert publisher.got("c2") == [(3, 4)]


def test_a_list_is_asked_for_anew_before_it_is_too_old(publisher: Publisher) -> None:
    publisher.recent.subscribers(STREAM)
    publisher.clock.now += AHEAD_MS - 1
    publisher.recent.refresh(STREAM)
    assert publisher.asked == [STREAM]
    publisher.clock.now += 1
    publisher.recent.refresh(STREAM)
    assert publisher.asked == [STREAM, STREAM]
    publisher.clock.now += LIST_MS - 1
    publisher.recent.subscribers(STREAM)
    assert publisher.asked == [STREAM, STREAM], "no push waits for it"


def test_the_list_is_as_old_as_its_question(publisher: Publisher) -> None:
    """Whoever subscribes while the answer is on its way is in the next list."""
    subscribers = publisher.state.subscribers

    def slow(stream: str) -> Any:
        found = subscribers(stream)
        publisher.clock.advance(0.9)
        return found

    publisher.state.subscribers = slow  # type: ignore[method-assign]
    publisher.recent.subscribers(STREAM)
    publisher.clock.advance(0.1)
    publisher.recent.subscribers(STREAM)
    assert publisher.asked == [STREAM, STREAM]


def test_who_is_gone_is_not_tried_again_within_the_second(publisher: Publisher) -> None:
    publisher.gateway.gone.add("c1")
    seq = publisher.open()
    publisher.push()
    assert publisher.state.subscribers(STREAM) == []
    tries: list[str] = []

    def push(connection: str, frame: str) -> Push:
        tries.append(connection)
        return Push.DONE

    publisher.gateway.push = push  # type: ignore[method-assign]
    publisher.append(seq)
    publisher.push()
    assert tries == []


# ---- on threads ----------------------------------------------------------------------


class Threads(Publisher):
    """The same, pushed in the background."""

    def __init__(self, interval: int = 0) -> None:
        super().__init__(interval)
        self.errors: list[Exception] = []
        self.background = Background(self.direct, self.clock, self.errors.append)
        self.log = self.telling(self.background.tell)


def test_an_append_is_not_held_up_and_the_end_waits_for_its_pushes() -> None:
    publisher = Threads()
    stuck, free = threading.Event(), threading.Event()
    push = publisher.gateway.push

    def slow(connection: str, frame: str) -> Push:
        stuck.set()
        assert free.wait(10)
        return push(connection, frame)

    publisher.gateway.push = slow  # type: ignore[method-assign]
    seq = publisher.open()
    assert stuck.wait(10)
    for _ in range(3):
        seq = publisher.append(seq)
    assert publisher.got() == [], "nothing waits for a push"
    assert not publisher.background.settle(0.01, STREAM), "the wait has a bound"
    free.set()
    assert publisher.background.settle(10, STREAM)
    assert publisher.got() == [(1, 2), (2, 5)]


def test_one_stream_does_not_wait_for_another() -> None:
    publisher = Threads()
    free, met = threading.Event(), threading.Event()
    publisher.state.subscribe(Subscription("chat:43", "c2", 1, 2**40), 0)

    def push(connection: str, frame: str) -> Push:
        if connection == "c1":
            assert free.wait(10)
        else:
            met.set()
        return Push.DONE

    publisher.gateway.push = push  # type: ignore[method-assign]
    publisher.open()
    publisher.log.open("chat:43", "w", R1)
    assert met.wait(10)
    free.set()
    assert publisher.background.settle(10)


def test_what_goes_wrong_is_told_and_fails_no_append() -> None:
    publisher = Threads()
    push = publisher.gateway.push

    def refused(connection: str, frame: str) -> Push:
        raise RuntimeError("403")

    publisher.gateway.push = refused  # type: ignore[method-assign]
    seq = publisher.open()
    assert publisher.background.settle(10)
    publisher.gateway.push = push  # type: ignore[method-assign]
    publisher.append(seq)
    assert publisher.background.settle(10)
    assert [str(error) for error in publisher.errors] == ["403"]
    assert publisher.got() == [(2, 3)]


def test_what_is_done_behind_a_push_holds_up_none_and_may_fail() -> None:
    publisher = Threads()
    free, told = threading.Event(), threading.Event()

    def behind(stream: str) -> None:
        assert free.wait(10)
        raise RuntimeError(stream)

    def tell(error: Exception) -> None:
        publisher.errors.append(error)
        told.set()

    publisher.background = Background(
        publisher.direct, publisher.clock, tell, behind=behind
    )
    publisher.log = publisher.telling(publisher.background.tell)
    seq = publisher.open()
    publisher.append(seq)
    assert publisher.background.settle(10)
    assert publisher.got()[-1][1] == seq + 1
    assert publisher.errors == []
    free.set()
    assert told.wait(10)
    assert str(publisher.errors[0]) == STREAM


def test_what_is_due_later_is_pushed_then() -> None:
    publisher = Threads(interval=20)
    seq = publisher.open()
    assert publisher.background.settle(10)
    seq = publisher.append(seq)
    publisher.append(seq)
    publisher.clock.advance(0.02)
    assert publisher.background.settle(10)
    assert publisher.got() == [(1, 2), (2, 4)]


def test_a_process_without_a_thread_to_spare_pushes_what_is_due_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    publisher = Threads(interval=20)
    start, spare = threading.Thread.start, threading.Event()

    def scarce(thread: threading.Thread) -> None:
        if thread.name == "tailrace-push-later" and not spare.is_set():
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", scarce)
    seq = publisher.open()
    for _ in range(2):
        assert publisher.background.settle(10)
        seq = publisher.append(seq)
        publisher.clock.advance(0.02)
        spare.set()
    assert publisher.background.settle(10)
    assert publisher.got() == [(1, 2), (2, 3), (3, 4)]


def test_what_one_of_many_raised_is_raised() -> None:
    def broken() -> None:
        raise RuntimeError("403")

    with ThreadPoolExecutor(2) as pool, pytest.raises(RuntimeError, match="403"):
        side_by_side(pool)([broken, lambda: None])
