"""A large audience: handed over in shares, waited for, and then left alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tailrace.audience import from_event, to_event, window
from tailrace.delivery import Delivery
from tailrace.errors import Invalid, Unavailable
from tailrace.fanout import Change, Fanout
from tailrace.ports import Push
from tailrace.watchers import Request, Share, Subscription
from tests.support.worlds import STREAM, World, one_by_one, run_id

R1 = run_id(1)
EXP = 2**40


class Theatre(World):
    """A world whose fan-out serves two subscriptions of a stream, and hands over what
    is more. Its pauses are the world's time."""

    def __init__(self) -> None:
        super().__init__()
        self.counted: dict[str, int] = {}
        self.shares: list[Share] = []
        self.waited = 0
        self.refuses: Callable[[Share], bool] = lambda share: False
        self.delivery = Delivery(
            self.state,
            self.gateway,
            self.clock,
            one_by_one,
            courier=lambda: self,  # type: ignore[arg-type, return-value]
            relay=self,
            share=2,
            rate=10,
            count=self.count,
        )
        self.pauses: list[int] = []
        self.fanout = Fanout(self.delivery, self.clock, pause=self.pauses.append)
        self.brought: list[Request] = []

    def count(self, name: str, value: int) -> None:
        self.counted[name] = self.counted.get(name, 0) + value

    def hand_over(self, share: Share) -> Callable[[], bool]:
        if self.refuses(share):
            return lambda: False
        self.shares.append(share)

        def wait() -> bool:
            self.waited += 1
            told = from_event(json.loads(to_event(share)))
            assert told is not None
            self.fanout.push_share(told, self.clock() + 10_000)
            return True

        return wait

    def bring(self, request: Request, records: Any, deadline: int) -> Any:
        self.brought.append(request)
        return self

    outcome = Push.DONE

    def audience(self, count: int, exp: int = EXP) -> None:
        for number in range(count):
            self.state.subscribe(Subscription(STREAM, f"c{number}", 1, exp), 0)

    def write(self, records: int = 3) -> None:
        seq = self.log.open(STREAM, "w", R1).next
        for _ in range(records):
            seq = self.log.append(STREAM, R1, "w", seq, [f'"{seq}"']).next

    def push(self) -> list[str]:
        changes = [Change(str(one.seq), one) for one in self.records()]
        return self.fanout.push(changes, self.clock() + 10_000)

    def got(self) -> dict[str, int]:
        return {id: len(frames) for id, frames in self.gateway.sent.items() if frames}


@pytest.fixture
def theatre() -> Theatre:
    return Theatre()


def test_an_audience_that_one_invocation_serves_is_not_handed_over(
    theatre: Theatre,
) -> None:
    theatre.audience(2)
    theatre.write()
    assert theatre.push() == []
    assert theatre.got() == {"c0": 1, "c1": 1}
    assert theatre.shares == []
    assert theatre.pauses == []


def test_a_large_audience_is_handed_over_share_by_share(theatre: Theatre) -> None:
    theatre.audience(7)
    theatre.write()
    assert theatre.push() == []
    assert [len(share.subscriptions) for share in theatre.shares] == [2, 2, 2, 1]
    assert theatre.waited == 4, "a batch is over when its shares are"
    assert theatre.got() == {f"c{number}": 1 for number in range(7)}
    assert theatre.counted["SharesHandedOver"] == 4


def test_what_nobody_takes_is_pushed_here(theatre: Theatre) -> None:
    theatre.refuses = lambda share: share.subscriptions[0].connection == "c2"
    theatre.audience(5)
    theatre.write()
    assert theatre.push() == []
    assert len(theatre.shares) == 2
    assert theatre.got() == {f"c{number}": 1 for number in range(5)}
    assert theatre.counted["SharesRefused"] == 1


def test_shares_are_handed_over_while_the_next_page_is_read(theatre: Theatre) -> None:
    theatre.audience(5)
    subscribers = theatre.state.subscribers(STREAM)
    handed: list[int] = []

    def page_by_page(stream: str) -> Any:
        for one in subscribers:
            handed.append(len(theatre.shares))
            yield one

    theatre.state.subscribers = page_by_page  # type: ignore[method-assign]
    theatre.write()
    theatre.push()
    assert handed == [0, 0, 0, 1, 2]


def test_a_page_that_cannot_be_read_fails_the_stream_when_its_shares_are_done(
    theatre: Theatre,
) -> None:
    theatre.audience(5)
    subscribers = theatre.state.subscribers(STREAM)

    def broken(stream: str) -> Any:
        yield from subscribers[:4]
        raise Unavailable("AWS: ThrottlingException")

    theatre.state.subscribers = broken  # type: ignore[method-assign]
    theatre.write()
    assert theatre.push() == ["1"]
    assert theatre.waited == len(theatre.shares) == 2


def test_the_next_batch_of_a_large_audience_waits_its_turn(theatre: Theatre) -> None:
    """§7: so that one stream does not take the quota of the whole account."""
    theatre.audience(7)
    theatre.write()
    theatre.push()
    assert theatre.pauses == [700], "seven pushes at ten a second"


def test_no_batch_waits_beyond_its_deadline(theatre: Theatre) -> None:
    theatre.audience(300)
    theatre.write()
    theatre.push()
    assert theatre.pauses == [10_000]


def test_ten_thousand_are_pushed_to_once_a_second() -> None:
    assert window(10_000) == 1_000
    assert window(250) == 25


def test_nothing_of_a_share_is_pushed_past_exp(theatre: Theatre) -> None:
    theatre.audience(5, exp=theatre.clock() // 1000 + 1)
    theatre.write()
    hand_over = theatre.delivery._relay.hand_over  # type: ignore[union-attr]

    def late(share: Share) -> Callable[[], bool]:
        theatre.clock.advance(1)
        return hand_over(share)

    theatre.hand_over = late  # type: ignore[method-assign]
    theatre.push()
    assert theatre.got() == {}


def test_a_connection_of_a_share_that_is_gone_loses_its_row(theatre: Theatre) -> None:
    theatre.audience(3)
    theatre.gateway.gone.add("c1")
    theatre.write()
    theatre.push()
    rows = theatre.state.subscribers(STREAM)
    assert [one.connection for one in rows] == ["c0", "c2"]


def test_a_slow_connection_is_not_handed_over_for_a_while(theatre: Theatre) -> None:
    """One share would wait for it in vain, and the whole audience for the share."""
    theatre.audience(5)
    theatre.state.mark_slow(
        Subscription(STREAM, "c1", 1, EXP), theatre.clock() + 10_000
    )
    theatre.write()
    theatre.push()
    assert theatre.got() == {f"c{number}": 1 for number in (0, 2, 3, 4)}
    theatre.clock.advance(10)
    theatre.push()
    assert theatre.got()["c1"] == 1


def test_requests_of_the_ai_sdk_stay_with_the_courier(theatre: Theatre) -> None:
    theatre.audience(5)
    request = Request("c9", "r", STREAM, R1, EXP, 1, 0, -2, 1, 0)
    theatre.state.put_request(request, 0)
    theatre.write()
    theatre.push()
    assert theatre.brought == [request]
    assert len(theatre.shares) == 3


def test_a_net_with_nothing_to_show_hands_nothing_over(theatre: Theatre) -> None:
    theatre.audience(5)
    theatre.write()
    net = Delivery(
        theatre.state,
        theatre.gateway,
        theatre.clock,
        one_by_one,
        relay=theatre,
        share=2,
        net=True,
    )
    net.deliver({STREAM: theatre.records()[1:]}, theatre.clock() + 10_000)
    assert theatre.shares == []


def test_a_share_ends_with_the_invocation_that_pushes_it(theatre: Theatre) -> None:
    now = theatre.clock()
    share = Share([Subscription(STREAM, "c1", 1, EXP)], ["{}"], now + 10_000)
    theatre.fanout.push_share(share, now)
    assert theatre.got() == {}


# ---- the event -----------------------------------------------------------------------


def test_a_share_comes_whole_through_its_event() -> None:
    share = Share(
        (Subscription(STREAM, "Zm9v=", 3, EXP), Subscription(STREAM, "c2", 1, 5)),
        ['{"type":"slice","chunks":["é\\ud83d"]}', "{}"],
        1_764_547_200_000,
    )
    told = from_event(json.loads(to_event(share)))
    assert told is not None
    assert list(told.subscriptions) == list(share.subscriptions)
    assert (told.frames, told.deadline) == (share.frames, share.deadline)


@pytest.mark.parametrize("event", [None, [], {}, {"Records": []}, "share"])
def test_another_event_is_no_share(event: Any) -> None:
    assert from_event(event) is None


@pytest.mark.parametrize(
    "share",
    [
        None,
        7,
        {},
        {"subscriptions": 7, "frames": [], "deadline": 1},
        {"subscriptions": [["s", "c", 1, 9]], "frames": [], "deadline": 1},
        {"subscriptions": [["s", "c", "x", 1, 0]], "frames": [], "deadline": 1},
        {"subscriptions": [], "frames": None, "deadline": 1},
        {"subscriptions": [], "frames": [], "deadline": None},
    ],
)
def test_a_broken_share_is_refused(share: Any) -> None:
    with pytest.raises(Invalid, match="no share"):
        from_event({"share": share})
