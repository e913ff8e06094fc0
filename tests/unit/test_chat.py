"""Chats: the frames of the AI SDK's transport, and looking after its requests."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from tailrace import frames
from tailrace.adapters.memory import MemoryRepairs
from tailrace.chat import (
    COULD_NOT_START,
    MAX_REQUESTS,
    REPAIR_TRIES,
    START_SECONDS,
    Chats,
)
from tailrace.courier import Courier
from tailrace.delivery import ERRANDS_MS, PASS_OVER_MS, Delivery
from tailrace.errors import Unavailable
from tailrace.ports import Push
from tailrace.session import Session
from tailrace.watchers import Request
from tests.support.stage import ORIGIN, Stage
from tests.support.worlds import STREAM, one_by_one, run_id

CHAT = STREAM.removeprefix("chat:")


class Jobs:
    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.broken = False

    def start(self, event: dict[str, Any]) -> None:
        if self.broken:
            raise Unavailable("AWS: ResourceNotFoundException")
        self.events.append(event)


class ChatStage(Stage):
    """A stage with chats: a session, a fan-out and a queue of repairs."""

    def __init__(self, *, abort_cancels: bool = False) -> None:
        super().__init__()
        self.jobs, self.repairs = Jobs(), MemoryRepairs()
        courier = Courier(
            self.store, self.state, self.gateway, self.repairs, self.clock
        )
        self.chats = Chats(
            self.log,
            self.state,
            self.gateway,
            courier,
            self.repairs,
            self.jobs,
            abort_cancels=abort_cancels,
        )
        self.delivery = Delivery(
            self.state, self.gateway, self.clock, one_by_one, courier=lambda: courier
        )
        self.session = Session(
            self.log,
            self.state,
            self.gateway,
            self.keys,
            self.clock,
            origins=[ORIGIN],
            chats=lambda: self.chats,
            on_refusal=self.refusals.append,
        )
        self.fed = 0
        self.outcomes: list[Push] = []
        self._push = self.gateway.push
        self.gateway.push = self.push  # type: ignore[method-assign]

    def push(self, connection: str, frame: str) -> Push:
        """Push, or fail as `outcomes` says of the pushes to come."""
        outcome = self.outcomes.pop(0) if self.outcomes else Push.DONE
        return self._push(connection, frame) if outcome is Push.DONE else outcome

    def connect(self, id: str = "c1", **claims: Any) -> None:
        super().connect(id, **{"send": ["chat:*"], **claims})

    def say(self, frame: dict[str, Any], to: str = "c1") -> list[dict[str, Any]]:
        """Send a frame; return what was pushed to that connection meanwhile."""
        return self.send_text(json.dumps(frame), to)

    def feed(self) -> list[dict[str, Any]]:
        """Let the fan-out push what is new; return what the connection got."""
        before = len(self.gateway.sent["c1"])
        records = self.records()[self.fed :]
        self.fed += len(records)
        if records:
            self.delivery.deliver({STREAM: records}, self.clock() + 10_000)
        return [json.loads(frame) for frame in self.gateway.sent["c1"][before:]]

    def work(self, *texts: str, end: str | None = None) -> None:
        """Let the job of the latest event write deltas, and end."""
        event = self.jobs.events[-1]
        run, seq = event["run"], event["seq"]
        tail = self.store.last(STREAM)
        assert tail is not None
        if tail.kind == "open":
            tail = self.log.claim(STREAM, run, "job", seq, lease=30)
        for text in texts:
            chunk = json.dumps({"type": "text-delta", "id": "t", "delta": text})
            tail = self.log.append(STREAM, run, "job", tail.next, [chunk])
        if end == "cancelled":
            self.log.cancel(STREAM, run)
        elif end is not None:
            self.log.end(STREAM, run, "job", tail.next, end)  # type: ignore[arg-type]

    def look(self) -> list[dict[str, Any]]:
        """Let the queue bring what was asked for, once."""
        before = len(self.gateway.sent["c1"])
        asked, self.repairs.asked = self.repairs.asked, []
        for repair, _ in asked:
            self.chats.look_after(repair)
        return [json.loads(frame) for frame in self.gateway.sent["c1"][before:]]

    def row(self, id: str = "r1") -> Request | None:
        return self.state.request(STREAM, "c1", id)


def brief(found: list[dict[str, Any]]) -> list[Any]:
    return [frame.get("sequence", frame["type"]) for frame in found]


SEND = {
    "type": "send",
    "requestId": "r1",
    "id": CHAT,
    "trigger": "submit-message",
    "messages": [{"id": "m1", "role": "user", "parts": []}],
    "headers": {},
    "body": {"sub": "somebody else"},
}
RESUME = {"type": "resume", "requestId": "r2", "id": CHAT, "headers": {}, "body": {}}
ABORT = {"type": "abort", "requestId": "r1"}


@pytest.fixture
def stage() -> ChatStage:
    stage = ChatStage()
    stage.connect()
    return stage


# ---- send ----------------------------------------------------------------------------


def test_a_send_starts_the_job_and_shows_its_answer(stage: ChatStage) -> None:
    assert stage.say(SEND) == [{"type": "start", "requestId": "r1"}]
    (event,) = stage.jobs.events
    untrusted = event.pop("untrusted")
    (opened,) = stage.records()
    assert event == {
        "tailrace": 1,
        "stream": STREAM,
        "run": opened.run,
        "seq": 2,
        "sub": "u7",
    }
    assert untrusted == {key: SEND[key] for key in SEND if key != "type"}
    stage.work("a", "b")
    assert brief(stage.feed()) == [0, 1]
    stage.work("c", end="completed")
    assert brief(stage.feed()) == [2, "end"]
    assert stage.row() is None


def test_a_plain_send_is_answered_with_the_run_and_pushed_nothing(
    stage: ChatStage,
) -> None:
    plain = {"type": "send", "requestId": "r1", "stream": STREAM, "n": 1}
    answer = stage.ask(**plain)
    run = stage.jobs.events[0]["run"]
    assert answer == {
        "type": "sent",
        "stream": STREAM,
        "run": run,
        "seq": 1,
        "requestId": "r1",
        "n": 1,
    }
    assert stage.state.subscribers(STREAM) == []


def test_a_repeated_send_is_the_same_run_and_starts_no_second_job(
    stage: ChatStage,
) -> None:
    plain = {"type": "send", "requestId": "r1", "stream": STREAM, "n": 1}
    run = stage.ask(**plain)["run"]
    assert stage.ask(**plain)["run"] == run
    assert [event["run"] for event in stage.jobs.events] == [run, run], "not yet begun"
    stage.work("a")
    stage.connect("c2")
    assert stage.say(plain, "c2")[0]["run"] == run
    stage.work(end="completed")
    assert stage.ask(**plain)["run"] == run
    assert len(stage.jobs.events) == 2
    stage.connect("c3", sub="u8")
    assert stage.say(plain, "c3")[0]["run"] > run, "another's is another's"


def test_a_repeated_send_of_the_sdks_goes_on_where_it_is(stage: ChatStage) -> None:
    stage.say(SEND)
    stage.work("a")
    stage.feed()
    assert brief(stage.say(SEND)) == []
    stage.work("b", end="completed")
    assert brief(stage.feed()) == [1, "end"]


def test_a_later_send_supersedes_the_answer_before(stage: ChatStage) -> None:
    stage.say(SEND)
    stage.work("a")
    stage.feed()
    stage.say({**SEND, "requestId": "r9"})
    told = stage.feed()
    assert told[0]["chunk"] == {"type": "finish", "finishReason": "interrupted"}
    assert brief(told) == [1, "end"]


def test_without_a_job_function_a_send_is_refused_by_name() -> None:
    stage = Stage()
    stage.connect(send=["*"])
    (answer,) = stage.send_text(json.dumps(SEND))
    assert (answer["code"], answer["requestId"]) == ("unsupported", "r1")
    assert answer["errorText"] == answer["message"]


@pytest.mark.parametrize(
    ("claims", "frame"),
    [
        ({"send": []}, SEND),
        ({"read": []}, SEND),
        ({"send": ["chat:43"]}, {**SEND, "n": 1}),
        ({"read": []}, RESUME),
    ],
)
def test_what_is_not_granted_is_not_begun(
    claims: dict[str, Any], frame: dict[str, Any]
) -> None:
    stage = ChatStage()
    stage.connect(**claims)
    (answer,) = stage.say(frame)
    assert (answer["code"], answer["requestId"]) == ("forbidden", frame["requestId"])
    assert stage.records() == []
    assert stage.jobs.events == []


@pytest.mark.parametrize(
    "frame",
    [
        {**SEND, "id": "no chat"},
        {**SEND, "stream": STREAM},
        {**SEND, "id": 7},
        {key: SEND[key] for key in SEND if key != "id"},
        {**SEND, "requestId": "no name"},
        {**SEND, "requestId": ""},
        {**SEND, "n": "1"},
        {**RESUME, "lastSequence": 4},
        {"type": "abort"},
    ],
)
def test_a_frame_that_is_wrong_is_told_so(
    stage: ChatStage, frame: dict[str, Any]
) -> None:
    (answer,) = stage.say(frame)
    assert (answer["type"], answer["code"]) == ("error", "invalid")


def test_a_job_that_cannot_be_started_is_an_error_now_and_in_the_log(
    stage: ChatStage,
) -> None:
    stage.jobs.broken = True
    (answer,) = stage.say(SEND)
    assert (answer["code"], answer["errorText"]) == ("unavailable", COULD_NOT_START)
    (refusal,) = stage.refusals
    assert str(refusal.__cause__) == "AWS: ResourceNotFoundException"
    assert stage.records()[-1].reason == "error"
    assert stage.row() is None
    stage.jobs.broken = False
    assert brief(stage.say(SEND)) == ["start"], "and it can be sent again"


def test_a_job_that_never_comes_is_an_error_with_nobody_asking(
    stage: ChatStage,
) -> None:
    stage.say(SEND)
    stage.clock.advance(START_SECONDS + 1)
    (told,) = stage.look()
    assert (told["type"], told["requestId"]) == ("error", "r1")


def test_more_than_50_requests_at_a_time_are_too_many(stage: ChatStage) -> None:
    for number in range(MAX_REQUESTS):
        stage.say({**SEND, "requestId": f"q{number}", "id": f"c{number}"})
    (answer,) = stage.say(SEND)
    assert (answer["code"], answer["limit"]) == ("too_many", MAX_REQUESTS)


def test_a_request_id_names_a_request_for_one_stream(stage: ChatStage) -> None:
    """Else many streams are watched by it, and one of them is known."""
    stage.say(SEND)
    stage.log.open("chat:more", "w", run_id(1))
    for frame in ({**SEND, "id": "other"}, {**RESUME, "requestId": "r1", "id": "more"}):
        (answer,) = stage.say(frame)
        assert (answer["code"], answer["requestId"]) == ("invalid", "r1")
    assert stage.store.last("chat:other") is None, "nothing was begun for it"
    connection = stage.state.connection("c1")
    assert connection is not None
    assert connection.requests == {"r1": STREAM}


def test_of_two_streams_that_a_request_id_names_at_once_one_is_served(
    stage: ChatStage,
) -> None:
    put = stage.state.put_request

    def late(request: Request, expires_at: int) -> Request | None:
        put(replace(request, stream="chat:other"), expires_at)
        return put(request, expires_at)

    stage.state.put_request = late  # type: ignore[method-assign]
    (answer,) = stage.say(SEND)
    assert answer["code"] == "invalid"
    assert stage.row() is None
    assert stage.jobs.events == []


# ---- resume --------------------------------------------------------------------------


def test_a_resume_replays_compacted_and_goes_on_live(stage: ChatStage) -> None:
    stage.say(SEND)
    stage.work(*("x" * 300))
    found = stage.say(RESUME)
    assert brief(found) == ["start", 0]
    assert found[1]["chunk"]["delta"] == "x" * 300
    stage.feed()
    stage.work("y", end="completed")
    told = [frame for frame in stage.feed() if frame["requestId"] == "r2"]
    assert brief(told) == [1, "end"]


def test_what_a_resume_reads_is_accounted_and_not_what_it_sends(
    stage: ChatStage,
) -> None:
    tail = stage.log.open(STREAM, "w", run_id(1))
    data = json.dumps({"type": "data-x", "transient": True, "data": "x" * 20_000})
    for _ in range(10):
        tail = stage.log.append(STREAM, run_id(1), "w", tail.next, [data])
    assert brief(stage.say(RESUME)) == ["start"]
    assert stage.state.spend("u7", stage.clock() // 60_000, 0, 0) > 200_000


def test_an_answer_that_a_send_repeats_is_accounted(stage: ChatStage) -> None:
    """Its job counts no repeat: to show a whole answer again is to replay it."""
    stage.say(SEND)
    stage.work(*["x" * 20_000] * 250, end="completed")
    stage.feed()
    for _ in range(5):
        assert brief(stage.say(SEND))[-1] == "end"
    (refused,) = stage.say(SEND)
    assert (refused["code"], refused["requestId"]) == ("unavailable", "r1")
    stage.say({**SEND, "requestId": "r2"})
    assert len(stage.jobs.events) == 2, "what begins an answer replays nothing"
    stage.clock.advance(60)
    stage.work(end="completed")
    assert "end" in brief(stage.say({**SEND, "requestId": "r2"}))


def test_a_late_batch_is_not_taken_for_all_that_a_resume_begins_with(
    stage: ChatStage,
) -> None:
    """The feed may bring what is older than the request: of the chunks that become one
    it may have the first only."""
    stage.say({**SEND, "n": 1})
    stage.work("a", "b", "c")
    stage.outcomes = [Push.FAILED] * 2
    assert stage.say(RESUME) == []
    stage.fed = len(stage.records()) - 2  # what it has not brought yet comes later
    late, before = stage.records()[: stage.fed], len(stage.gateway.sent["c1"])
    stage.delivery.deliver({STREAM: late}, stage.clock() + 10_000)
    found = [json.loads(frame) for frame in stage.gateway.sent["c1"][before:]]
    assert brief(found) == ["start", 0]
    assert found[1]["chunk"]["delta"] == "abc"


@pytest.mark.parametrize("end", [None, "completed"])
def test_where_nothing_is_active_there_is_nothing_to_resume(
    stage: ChatStage, end: str | None
) -> None:
    if end is not None:
        stage.say(SEND)
        stage.work("a", end=end)
    assert stage.say(RESUME) == [{"type": "no-active", "requestId": "r2"}]


def test_an_answer_to_a_resume_that_is_refused_comes_later(stage: ChatStage) -> None:
    stage.outcomes = [Push.THROTTLED, Push.FAILED]
    assert stage.say(RESUME) == []
    assert stage.look() == []
    assert stage.look() == [{"type": "no-active", "requestId": "r2"}]


def test_what_is_appended_between_the_look_and_the_row_is_not_missed(
    stage: ChatStage,
) -> None:
    stage.say(SEND)
    stage.work("a")
    put = stage.state.put_request

    def late(request: Request, expires_at: int) -> Request | None:
        stage.work("b")
        stage.feed()  # the fan-out finds no row yet
        return put(request, expires_at)

    stage.state.put_request = late  # type: ignore[method-assign]
    found = [f for f in stage.say(RESUME) if f["requestId"] == "r2"]
    assert brief(found) == ["start", 0, 1]


# ---- abort ---------------------------------------------------------------------------


def test_an_abort_detaches_and_the_answer_goes_on(stage: ChatStage) -> None:
    stage.say(SEND)
    stage.work("a")
    assert stage.say(ABORT) == [{"type": "end", "requestId": "r1"}]
    stage.work("b", end="completed")
    assert stage.feed() == []


def test_an_abort_cancels_where_the_stack_says_so_and_the_token_lets_it() -> None:
    for grants, reason in ((["chat:42"], "cancelled"), ([], None)):
        stage = ChatStage(abort_cancels=True)
        stage.connect(cancel=grants)
        stage.say(SEND)
        stage.say(ABORT)
        assert stage.records()[-1].reason == reason


def test_an_abort_of_nothing_is_answered(stage: ChatStage) -> None:
    assert brief(stage.say(ABORT)) == ["end"]


class Overtaking(ChatStage):
    """An invocation beside it handles the abort, when a `send` or `resume` has looked
    at the log and is about to be stored."""

    def __init__(self, *, abort_cancels: bool = False) -> None:
        super().__init__(abort_cancels=abort_cancels)
        put = self.state.put_request

        def late(request: Request, expires_at: int) -> Request | None:
            self.session.receive("c1", json.dumps({**ABORT, "requestId": request.id}))
            return put(request, expires_at)

        self.state.put_request = late  # type: ignore[method-assign]


def test_an_abort_that_overtakes_its_send_detaches() -> None:
    stage = Overtaking()
    stage.connect()
    assert brief(stage.say(SEND)) == ["end"]
    stage.work("a", end="completed")
    assert (stage.feed(), stage.look(), stage.row()) == ([], [], None)


def test_an_abort_that_overtakes_its_send_cancels_where_the_stack_says_so() -> None:
    for grants, reason in ((["chat:42"], "cancelled"), ([], None)):
        stage = Overtaking(abort_cancels=True)
        stage.connect(cancel=grants)
        assert brief(stage.say(SEND)) == ["end"]
        assert (stage.records()[-1].reason, stage.row()) == (reason, None)
        assert len(stage.jobs.events) == (reason is None)


@pytest.mark.parametrize(("cancels", "reason"), [(True, "cancelled"), (False, None)])
def test_an_abort_that_overtakes_its_resume_counts(
    cancels: bool, reason: str | None
) -> None:
    stage = Overtaking(abort_cancels=cancels)
    stage.connect()
    stage.log.open(STREAM, "w", run_id(1))
    assert brief(stage.say(RESUME)) == ["end"]
    assert (stage.records()[-1].reason, stage.row("r2")) == (reason, None)


def test_an_abort_finds_the_request_that_was_stored_meanwhile(stage: ChatStage) -> None:
    connection = stage.state.connection("c1")
    assert connection is not None
    stage.say(SEND)
    stage.chats.abort(connection, frames.Abort("r1"))
    assert stage.row() is None


# ---- repairs -------------------------------------------------------------------------


def test_a_failed_push_is_where_it_stops_and_a_repair_goes_on(
    stage: ChatStage,
) -> None:
    stage.say(SEND)
    stage.work("a", "b", "c")
    stage.outcomes = [Push.DONE, Push.THROTTLED, Push.FAILED]
    assert brief(stage.feed()) == [0]
    stage.repairs.asked = [one for one in stage.repairs.asked if one[0].watch is None]
    assert brief(stage.look()) == [1, 2]


def test_what_lies_before_a_batch_is_read_from_the_log(stage: ChatStage) -> None:
    stage.say(SEND)
    stage.work("a", "b")
    stage.outcomes = [Push.FAILED] * 2
    assert stage.feed() == []
    stage.work("c")
    assert brief(stage.feed()) == [0, 1, 2]


def test_many_failures_are_one_repair(stage: ChatStage) -> None:
    stage.say(SEND)
    for text in "abcdef":
        stage.work(text)
        stage.outcomes = [Push.FAILED] * 2
        stage.feed()
    repairs = [one for one, _ in stage.repairs.asked if one.watch is None]
    assert len(repairs) == 1


def test_a_repair_that_fails_comes_again_with_pauses_and_then_the_watch_does(
    stage: ChatStage,
) -> None:
    stage.say(SEND)
    stage.work("a")
    stage.outcomes = [Push.FAILED] * 2
    stage.feed()
    watch = [one for one in stage.repairs.asked if one[0].watch is not None]
    pauses = []
    repairs = [one for one in stage.repairs.asked if one[0].watch is None]
    while repairs:
        ((repair, seconds),) = repairs
        pauses.append(seconds)
        stage.repairs.asked, stage.outcomes = [], [Push.THROTTLED] * 2
        stage.chats.look_after(repair)
        repairs = stage.repairs.asked
    assert pauses == [2**number for number in range(REPAIR_TRIES)]
    stage.repairs.asked = watch
    assert brief(stage.look()) == [0]


def test_a_repair_that_failed_is_on_its_way_until_its_next_try() -> None:
    """Else whoever fails meanwhile asks for another beside it, and so on."""
    stage = halfway()
    stage.outcomes = [Push.THROTTLED] * 2
    stage.work("b")
    stage.feed()
    for _ in range(4):
        ((repair, seconds),) = stage.repairs.asked
        stage.clock.advance(seconds - 0.1)
        stage.outcomes = [Push.THROTTLED] * 2
        stage.work("c")
        stage.feed()
        assert stage.repairs.asked == [(repair, seconds)]
        stage.clock.advance(0.1)
        stage.repairs.asked.clear()
        stage.outcomes = [Push.THROTTLED] * 2
        stage.chats.look_after(repair)


def test_of_two_repairs_at_a_time_one_goes_on() -> None:
    stage = halfway()
    stage.outcomes = [Push.THROTTLED] * 2
    stage.work("b")
    stage.feed()
    ((repair, seconds),) = stage.repairs.asked
    stage.repairs.asked.clear()
    stage.clock.advance(seconds)
    again = [repair]

    def meanwhile(connection: str, frame: str) -> Push:
        stage.clock.advance(0.01)
        if again:
            stage.chats.look_after(again.pop())
        return Push.THROTTLED

    stage.gateway.push = meanwhile  # type: ignore[method-assign]
    stage.chats.look_after(repair)
    assert [one.tries for one, _ in stage.repairs.asked] == [1]


def test_a_wrong_410_does_not_end_a_request_and_a_third_one_does(
    stage: ChatStage,
) -> None:
    stage.say(SEND)
    stage.work("a")
    stage.outcomes = [Push.GONE]
    stage.feed()
    stage.repairs.asked = [one for one in stage.repairs.asked if one[0].watch is None]
    for _ in range(3):
        assert stage.row() is not None
        stage.outcomes = [Push.GONE]
        stage.look()
    assert stage.row() is None
    assert stage.repairs.asked == []


def test_a_producer_that_died_ends_the_request_with_nobody_asking(
    stage: ChatStage,
) -> None:
    stage.say(SEND)
    stage.work("a")
    stage.feed()
    stage.clock.advance(61)
    told = stage.look() + stage.feed()
    assert [frame["type"] for frame in told] == ["error"]
    assert stage.row() is None


def test_a_request_is_looked_after_though_the_answer_to_its_put_was_lost(
    stage: ChatStage,
) -> None:
    """The try that follows meets its own row, as a repeated frame would."""
    put = stage.state.put_request

    def twice(request: Request, expires_at: int) -> Request | None:
        put(request, expires_at)
        return put(request, expires_at)

    stage.state.put_request = twice  # type: ignore[method-assign]
    stage.say(SEND)
    stage.work("a")
    stage.feed()
    stage.clock.advance(61)
    told = stage.look() + stage.feed()
    assert [frame["type"] for frame in told] == ["error"]


def test_the_watch_brings_what_the_feed_gave_up(stage: ChatStage) -> None:
    stage.say(SEND)
    stage.work("a", end="completed")
    assert brief(stage.look()) == [0, "end"]


def test_a_message_that_comes_twice_goes_on_as_one(stage: ChatStage) -> None:
    stage.say(SEND)
    ((watch, _),) = stage.repairs.asked
    stage.repairs.asked = []
    stage.chats.look_after(watch)
    stage.chats.look_after(watch)
    assert len(stage.repairs.asked) == 1


def test_a_silent_run_keeps_its_connection_and_no_frame_more_than_that() -> None:
    stage = ChatStage()
    stage.connect(expires_in=7_000)
    stage.say(SEND)
    stage.work("a")
    stage.feed()
    told = []
    tail = stage.store.last(STREAM)
    assert tail is not None
    for _ in range(40):
        ((_, seconds),) = stage.repairs.asked
        stage.clock.advance(seconds - 1)
        stage.log.renew(STREAM, tail.run, "job", lease=60)
        stage.clock.advance(1)
        told += [(stage.clock(), frame) for frame in stage.look()]
    assert {json.dumps(frame) for _, frame in told} == {
        '{"type": "keep-alive", "requestId": ""}'
    }
    times = [at for at, _ in told]
    pauses = [two - one for one, two in pairwise(times)]
    assert all(240_000 <= pause <= 480_000 for pause in pauses)
    assert len(pauses) >= 4


def test_past_exp_nothing_is_pushed_and_the_connection_is_closed() -> None:
    stage = ChatStage()
    stage.connect(expires_in=20)
    stage.say(SEND)
    ((_, seconds),) = stage.repairs.asked
    assert seconds <= 21
    stage.clock.advance(21)
    stage.work("a")
    assert stage.feed() == []
    assert stage.look() == []
    assert stage.gateway.disconnected == ["c1"]


def halfway() -> ChatStage:
    """Return a stage whose answer goes on, and all of which has been brought."""
    stage = ChatStage()
    stage.connect()
    stage.say(SEND)
    stage.work("a")
    stage.feed()
    stage.repairs.asked.clear()
    return stage


def hang_twice(stage: ChatStage) -> None:
    """Let four batches meet a connection that answers no push: two are tried."""
    tries: list[str] = []

    def hangs(connection: str, frame: str) -> Push:
        tries.append(frame)
        return Push.SLOW

    stage.gateway.push = hangs  # type: ignore[method-assign]
    for _ in range(4):
        stage.work("b")
        stage.feed()
    assert len(tries) == 2


def test_a_request_that_is_slow_is_left_to_repairs_for_a_while() -> None:
    """As a subscription is: whoever waits for it holds up all others of its lane."""
    stage = halfway()
    push = stage.gateway.push
    hang_twice(stage)
    ((repair, seconds),) = stage.repairs.asked
    stage.gateway.push = push  # type: ignore[method-assign]
    stage.clock.advance(seconds)
    stage.repairs.asked.clear()
    before = len(stage.gateway.sent["c1"])
    stage.chats.look_after(repair)
    assert len(stage.gateway.sent["c1"]) == before + 4
    stage.work("c")
    stage.feed()
    assert len(stage.gateway.sent["c1"]) == before + 4
    assert [one.watch for one, _ in stage.repairs.asked] == [None], "a repair brings it"
    stage.clock.advance(PASS_OVER_MS / 1_000)
    stage.work("d")
    stage.feed()
    assert len(stage.gateway.sent["c1"]) == before + 6


def test_the_requests_of_a_connection_hold_up_a_batch_for_half_a_second() -> None:
    """Who asks for 50 chunks 50 times waits for repairs, and nobody else does."""
    stage = halfway()
    stage.say(RESUME)
    stage.say({**RESUME, "requestId": "r3"})
    stage.repairs.asked.clear()
    push = stage.gateway.push

    def takes_its_time(connection: str, frame: str) -> Push:
        stage.clock.advance(0.02)
        return push(connection, frame)

    stage.gateway.push = takes_its_time  # type: ignore[method-assign]
    stage.work(*("b" * 20))
    began = stage.clock()
    stage.feed()
    assert stage.clock() - began == ERRANDS_MS
    repairs = [one for one, _ in stage.repairs.asked]
    assert sorted(one.request for one in repairs) == ["r2", "r3"]
    stage.repairs.asked.clear()
    for repair in repairs:
        stage.chats.look_after(repair)
    rows = [stage.row(id) for id in ("r1", "r2", "r3")]
    assert [row.seq for row in rows if row] == [stage.records()[-1].next] * 3


def test_all_requests_of_a_connection_that_is_slow_are_left_to_repairs() -> None:
    stage = halfway()
    for number in range(2, 10):
        stage.say({**RESUME, "requestId": f"r{number}"})
    hang_twice(stage)


def test_no_batch_reads_a_long_run_again_for_who_takes_none_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A client that does not read its socket would have each batch read, and compact,
    all of it; and whoever else is in the batch would wait."""
    stage = halfway()
    stage.work(*("b" * 200))
    stage.feed()
    stage.outcomes = [Push.DONE, Push.THROTTLED, Push.THROTTLED]
    stage.say({**RESUME, "requestId": "r2"})
    stage.state.remove_request(STREAM, "c1", "r1")
    ((repair, seconds),) = [ask for ask in stage.repairs.asked if ask[0].watch is None]
    stage.work("c", "c", "c")
    new = stage.records()[stage.fed :]
    with monkeypatch.context() as patch:
        patch.setattr(stage.store, "range", lambda *_: pytest.fail("reads the log"))
        for record in new:
            stage.delivery.deliver({STREAM: [record]}, stage.clock() + 10_000)
    stage.fed += len(new)
    stage.clock.advance(seconds)
    stage.chats.look_after(repair)
    row = stage.row("r2")
    assert row is not None
    assert row.seq == stage.records()[-1].next
    stage.work("d")
    assert brief(stage.feed()) == [4], "the head is one chunk, and three came behind"


def test_what_fails_just_after_a_repair_is_repaired_too() -> None:
    """A repair that is done is on its way no more."""
    stage = halfway()
    for text in ("b", "c"):
        stage.repairs.asked.clear()
        stage.outcomes = [Push.THROTTLED] * 2
        stage.work(text)
        stage.feed()
        ((repair, seconds),) = stage.repairs.asked
        stage.clock.advance(seconds)
        stage.chats.look_after(repair)
        assert text in stage.gateway.sent["c1"][-1]


def test_what_cannot_be_pushed_while_a_repair_ends_is_brought_by_it() -> None:
    """Nobody asks for another one as long as one is on its way."""
    stage = halfway()
    stage.outcomes = [Push.THROTTLED] * 2
    stage.work("b")
    stage.feed()
    ((repair, seconds),) = stage.repairs.asked
    stage.clock.advance(seconds)
    release = stage.state.release_repair

    def late(request: Request) -> None:
        stage.work("c", end="completed")
        stage.outcomes = [Push.THROTTLED] * 2
        stage.feed()
        release(request)

    stage.state.release_repair = late  # type: ignore[method-assign]
    stage.chats.look_after(repair)
    assert [json.loads(one)["type"] for one in stage.gateway.sent["c1"][-3:]] == [
        "chunk",
        "chunk",
        "end",
    ]


def test_past_exp_the_connection_is_closed_though_the_first_try_fails() -> None:
    """The queue brings the message again, and it must find what is left to do."""
    stage = ChatStage()
    stage.connect(expires_in=20)
    stage.say(SEND)
    stage.clock.advance(21)
    ((watch, _),) = stage.repairs.asked
    disconnect = stage.gateway.disconnect
    failures = [Unavailable("@connections: HTTP status 429")]

    def throttled(connection: str) -> None:
        if failures:
            raise failures.pop()
        disconnect(connection)

    stage.gateway.disconnect = throttled  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        stage.chats.look_after(watch)
    stage.chats.look_after(watch)
    assert stage.gateway.disconnected == ["c1"]
    assert stage.row() is None


def test_auth_counts_for_the_requests_too() -> None:
    stage = ChatStage()
    stage.connect(expires_in=20)
    stage.say(SEND)
    stage.send(type="auth", token=stage.token(send=["chat:*"]), n=1)
    stage.clock.advance(30)
    stage.work("a")
    assert brief(stage.feed()) == [0]
    told = stage.send(type="auth", token=stage.token(read=[]), n=2)
    assert [frame["type"] for frame in told] == ["error", "authorized"]
    assert stage.row() is None


def test_a_connection_that_is_gone_leaves_no_request(stage: ChatStage) -> None:
    stage.say(SEND)
    stage.session.disconnect("c1")
    assert stage.state.subscribers(STREAM) == []
    assert stage.look() == []
    assert stage.repairs.asked == []


def test_chunks_that_are_no_json_cost_whoever_asks_for_them_and_nobody_else() -> None:
    """As a record that cannot be read, of which nothing gets as far as this."""
    stage = halfway()
    stage.send(type="subscribe", stream="chat:43", n=1)
    tail = stage.store.last(STREAM)
    assert tail is not None
    bad = replace(tail, seq=tail.next, index=tail.chunks_in, chunks='{"type":')
    assert stage.store.put(bad) is None
    other = stage.log.open("chat:43", "w")
    batch = {STREAM: [bad], "chat:43": [other]}
    assert stage.delivery.deliver(batch, stage.clock() + 10_000).failed == set()
    assert json.loads(stage.gateway.sent["c1"][-1])["stream"] == "chat:43"
    assert [repair.watch for repair, _ in stage.repairs.asked] == [None]
    stage.look()
    (told,) = stage.say(RESUME)
    assert (told["code"], told["retryable"]) == ("unavailable", True)


def test_a_dead_connection_costs_one_push_however_many_requests_it_has(
    stage: ChatStage,
) -> None:
    for number in range(5):
        stage.say({**SEND, "requestId": f"q{number}"})
        stage.feed()
    stage.say(RESUME)
    stage.say({**RESUME, "requestId": "r3"})
    stage.work("a")
    pushes: list[str] = []

    def dead(connection: str, frame: str) -> Push:
        pushes.append(frame)
        return Push.FAILED

    stage.gateway.push = dead  # type: ignore[method-assign]
    stage.feed()
    assert len(pushes) == 2


def test_plain_subscriptions_share_the_socket(stage: ChatStage) -> None:
    stage.send(type="subscribe", stream=STREAM, n=1)
    stage.say(SEND)
    stage.work("a", end="completed")
    kinds = [frame["type"] for frame in stage.feed()]
    assert kinds == ["slice", "slice", "chunk", "end"]
