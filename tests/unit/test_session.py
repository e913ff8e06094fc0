"""The websocket session: every frame gets its answer, also a bad one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tailrace.delivery import Delivery
from tailrace.direct import LIST_MS
from tailrace.errors import Forbidden, Unauthorized, Unavailable
from tailrace.ports import Push
from tailrace.quotas import ANSWER_BYTES, Quotas
from tailrace.session import (
    AGAIN_MS,
    MAX_BAD_FRAMES,
    RECENT_MS,
    Session,
)
from tailrace.watchers import Subscription
from tests.support.stage import ORIGIN, R1, RING, Stage
from tests.support.worlds import STREAM, one_by_one, run_id

UTF8: Any = {"ensure_ascii": False}
R2 = run_id(2)
ROTATED = {**RING, "current": "k2", "k2": "k2-secret-of-more-than-thirty-two-bytes"}
QUOTAS = Quotas()


@pytest.fixture
def stage() -> Stage:
    return Stage()


# ---- the handshake -------------------------------------------------------------------


def test_a_genuine_token_from_a_listed_origin_is_let_in(stage: Stage) -> None:
    stage.connect()
    assert stage.send(type="sync", streams={}, n=1)[0]["type"] == "synced"


def test_without_an_origin_there_is_none_to_check(stage: Stage) -> None:
    stage.session.connect("c1", stage.token(), None)
    assert stage.state.connection("c1") is not None


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "", ORIGIN + "."])
def test_a_foreign_origin_is_refused(stage: Stage, origin: str) -> None:
    with pytest.raises(Forbidden):
        stage.session.connect("c1", stage.token(), origin)
    assert stage.state.connection("c1") is None


def test_a_star_lets_every_origin_in(stage: Stage) -> None:
    session = Session(
        stage.log, stage.state, stage.gateway, stage.keys, stage.clock, origins=["*"]
    )
    session.connect("c1", stage.token(), "https://anywhere.example")


@pytest.mark.parametrize("token", [None, "", "nonsense"])
def test_without_a_good_token_the_door_stays_shut(
    stage: Stage, token: str | None
) -> None:
    with pytest.raises(Unauthorized):
        stage.session.connect("c1", token, ORIGIN)
    assert stage.state.connection("c1") is None


def test_an_expired_token_is_let_in_without_rights_and_told(stage: Stage) -> None:
    token = stage.token(expires_in=60)
    stage.clock.advance(61)
    stage.session.connect("c1", token, ORIGIN)
    answer = stage.ask(type="sync", streams={STREAM: None}, n=1)
    assert (answer["type"], answer["code"]) == ("error", "unauthorized")
    assert stage.state.subscribers(STREAM) == []
    assert stage.gateway.disconnected == ["c1"]


def test_an_expired_token_can_be_followed_by_a_fresh_one(stage: Stage) -> None:
    token = stage.token(expires_in=60)
    stage.clock.advance(61)
    stage.session.connect("c1", token, ORIGIN)
    answer = stage.ask(type="auth", token=stage.token(), n=1)
    assert answer["type"] == "authorized"
    assert stage.state.connections_of("u7") == ["c1"]
    assert stage.send(type="subscribe", stream=STREAM, n=2)[-1]["type"] == "subscribed"


def test_a_new_key_is_found_by_reading_the_ring_again(stage: Stage) -> None:
    stage.keys.stored = ROTATED
    stage.connect()
    assert stage.keys.known == ROTATED


def test_a_key_that_was_replaced_lets_the_honest_in_and_not_the_thief(
    stage: Stage,
) -> None:
    stolen = stage.token()
    stage.keys.stored = {"current": "k1", "k1": "another-secret-of-more-than-32-bytes"}
    stage.connect("honest")
    with pytest.raises(Unauthorized, match="another key"):
        stage.session.connect("thief", stolen, ORIGIN)


# ---- subscribing ---------------------------------------------------------------------


def test_subscribe_is_answered_by_slices_and_then_by_what_they_were(
    stage: Stage,
) -> None:
    stage.write()
    stage.connect()
    slice_, answer = stage.send(type="subscribe", stream=STREAM, n=1)
    assert (slice_["type"], slice_["chunks"], slice_["replay"]) == (
        "slice",
        ["0", "1"],
        True,
    )
    assert answer == {
        "type": "subscribed",
        "stream": STREAM,
        "n": 1,
        "run": R1,
        "tail": 3,
        "from": 0,
        "active": True,
        "more": False,
        "protocol": 1,
    }
    assert stage.counted["ReplayedChunks"] == 2


def test_between_replay_and_live_there_is_no_hole(stage: Stage) -> None:
    """The row is stored before the log is read: what is appended between is pushed."""
    stage.write()
    stage.connect()
    pushed: list[Any] = []
    stored = stage.state.subscribe

    def subscribe(*args: Any) -> Any:
        there = stored(*args)
        stage.log.append(STREAM, R1, "w", 4, ['"between"'])
        pushed.extend(stage.state.subscribers(STREAM))
        return there

    stage.state.subscribe = subscribe  # type: ignore[method-assign]
    slice_, _ = stage.send(type="subscribe", stream=STREAM, n=1)
    assert slice_["chunks"] == ["0", "1", "between"]
    assert [one.connection for one in pushed] == ["c1"]


@pytest.mark.parametrize("kind", ["subscribe", "sync"])
def test_who_was_slow_is_pushed_to_again_once_it_has_taken_an_answer(
    stage: Stage, kind: str
) -> None:
    """Who only asks, and reads nothing, would hold up the others with each question."""
    stage.write()
    stage.connect()
    ask: dict[str, Any] = {"type": kind, "stream": STREAM, "streams": {STREAM: None}}
    stage.send(**ask, n=1)
    until = stage.clock() + 10_000
    stage.state.mark_slow(Subscription(STREAM, "c1", 1, 0), until)
    push, fails = stage.gateway.push, ""

    def some_fail(connection: str, frame: str) -> Push:
        return Push.SLOW if fails in frame[:20] else push(connection, frame)

    stage.gateway.push = some_fail  # type: ignore[method-assign]
    for n, wanted in ((2, '"slice"'), (3, 'ed"')):
        fails = wanted
        stage.send(**ask, n=n)
        (row,) = stage.state.subscribers(STREAM)
        assert (row.n, row.slow_until) == (n, until)  # type: ignore[union-attr]
    fails = "nothing"
    *_, answer = stage.send(**ask, n=4)
    facts = answer["tails"][STREAM] if kind == "sync" else answer
    assert facts["again"] == AGAIN_MS, "until now nobody pushed to it"
    (row,) = stage.state.subscribers(STREAM)
    assert row.slow_until == 0
    *_, answer = stage.send(**ask, n=5)
    assert "again" not in str(answer)


def test_in_direct_delivery_a_new_watcher_of_a_fresh_log_is_to_ask_again() -> None:
    """A publisher may have listed the subscribers just before."""
    assert AGAIN_MS > LIST_MS
    stage = Stage(direct=True)
    stage.connect()
    stage.write()
    *_, answer = stage.send(type="subscribe", stream=STREAM, n=1)
    assert answer["again"] == AGAIN_MS
    *_, answer = stage.send(type="sync", streams={STREAM: [R1, answer["tail"]]}, n=2)
    assert "again" not in answer["tails"][STREAM], "it was on the list meanwhile"


def test_nobody_is_to_ask_again_where_no_list_can_be_old(stage: Stage) -> None:
    stage.connect()
    stage.write()
    *_, answer = stage.send(type="subscribe", stream=STREAM, n=1)
    assert "again" not in answer, "the fan-out makes a new list for each batch"
    direct = Stage(direct=True)
    direct.connect()
    assert "again" not in direct.ask(type="subscribe", stream=STREAM, n=1)
    direct.write()
    direct.clock.now += RECENT_MS
    direct.connect("c2")
    *_, answer = direct.send("c2", type="subscribe", stream=STREAM, n=1)
    assert "again" not in answer, "nothing was put for so long"


def test_what_is_written_in_the_moment_of_the_answer_is_pushed(stage: Stage) -> None:
    """The acknowledgement came, and the subscription did not hold yet:
    https://github.com/aws/aws-appsync-community/issues/405."""
    stage.write(chunks=1)
    stage.connect()
    delivery = Delivery(stage.state, stage.gateway, stage.clock, one_by_one)
    push = stage.gateway.push

    def written_upon(connection: str, frame: str) -> Push:
        outcome = push(connection, frame)
        if json.loads(frame)["type"] == "subscribed":
            after = stage.log.append(STREAM, R1, "w", 3, ['"after"'])
            delivery.deliver({STREAM: [after]}, stage.clock() + 1)
        return outcome

    stage.gateway.push = written_upon  # type: ignore[method-assign]
    *_, answer, live = stage.send(type="subscribe", stream=STREAM, n=1)
    assert answer["tail"] == 2
    assert (live["seq"], live["chunks"]) == (3, ["after"])


def test_a_long_answer_stops_at_its_budget_and_is_asked_on(stage: Stage) -> None:
    stage.log.open(STREAM, "w", R1)
    seq = 2
    for number in range(20):
        text = json.dumps(f"{number:02}" + "x" * 27_000)
        seq = stage.log.append(STREAM, R1, "w", seq, [text]).next
    stage.connect()
    got: list[str] = []
    position: dict[str, Any] = {}
    answers: list[bool] = []
    while True:
        *slices, answer = stage.send(
            type="subscribe", stream=STREAM, n=len(answers) + 1, **position
        )
        assert sum(len(json.dumps(one)) for one in slices) <= ANSWER_BYTES + 2_000
        got += [chunk[:2] for one in slices for chunk in one.get("chunks", [])]
        answers.append(answer["more"])
        if not answer["more"]:
            break
        position = {"run": R1, "after": slices[-1]["next"] - 1}
    assert got == [f"{number:02}" for number in range(20)]
    assert answers == [True, True, False]


def test_the_budget_of_an_answer_is_in_bytes(stage: Stage) -> None:
    stage.log.open(STREAM, "w", R1)
    for seq in range(2, 14):
        stage.log.append(STREAM, R1, "w", seq, [json.dumps("あ" * 9_000, **UTF8)])
    stage.connect()
    *slices, answer = stage.send(type="subscribe", stream=STREAM, n=1)
    sent = sum(len(json.dumps(one, **UTF8).encode()) for one in slices)
    assert (sent <= ANSWER_BYTES, answer["more"]) == (True, True)


def test_a_sync_that_takes_too_long_answers_the_rest_as_unavailable(
    stage: Stage,
) -> None:
    """Else the function runs into its time-out, and nothing is answered at all."""
    stage.connect()
    last = stage.store.last

    def slow(*args: Any) -> Any:
        stage.clock.advance(4)
        return last(*args)

    stage.store.last = slow  # type: ignore[method-assign]
    streams = [f"chat:{number}" for number in range(9)]
    answer = stage.ask(type="sync", streams=dict.fromkeys(streams), n=1)
    refused = {
        name: facts["error"]["code"]
        for name, facts in answer["tails"].items()
        if "error" in facts
    }
    assert refused == dict.fromkeys(streams[3:], "unavailable")


def test_what_the_tables_cannot_answer_is_told_with_its_n(stage: Stage) -> None:
    stage.connect()

    def throttled(id: str) -> Any:
        raise Unavailable("AWS: ThrottlingException")

    stage.state.connection = throttled  # type: ignore[method-assign]
    answer = stage.ask(type="subscribe", stream=STREAM, n=7)
    assert (answer["code"], answer["n"], answer["stream"]) == ("unavailable", 7, STREAM)


def test_a_connection_that_cannot_be_closed_now_breaks_nothing(stage: Stage) -> None:
    def throttled(connection: str) -> None:
        raise Unavailable("AWS: LimitExceededException")

    stage.gateway.disconnect = throttled  # type: ignore[method-assign]
    answer = stage.ask(type="sync", streams={}, n=1)
    assert answer["code"] == "unknown_connection"


def test_a_slow_answer_stops_at_its_deadline(stage: Stage) -> None:
    stage.log.open(STREAM, "w", R1)
    for seq in range(2, 7):
        stage.log.append(STREAM, R1, "w", seq, [json.dumps("x" * 27_000)])
    stage.connect()
    push = stage.gateway.push

    def slow(connection: str, frame: str) -> Push:
        stage.clock.advance(4)
        return push(connection, frame)

    stage.gateway.push = slow  # type: ignore[method-assign]
    *slices, answer = stage.send(type="subscribe", stream=STREAM, n=1)
    assert (len(slices), answer["more"]) == (3, True)


def test_nothing_behind_a_failed_push_is_sent(stage: Stage) -> None:
    stage.log.open(STREAM, "w", R1)
    for seq in range(2, 7):
        stage.log.append(STREAM, R1, "w", seq, [json.dumps("x" * 27_000)])
    stage.connect()
    push = stage.gateway.push
    seen: list[Any] = []

    def full(connection: str, frame: str) -> Push:
        seen.append(json.loads(frame))
        if seen[-1]["type"] == "slice" and seen[-1]["seq"] == 3:
            return Push.THROTTLED
        return push(connection, frame)

    stage.gateway.push = full  # type: ignore[method-assign]
    *slices, answer = stage.send(type="subscribe", stream=STREAM, n=1)
    assert [one["seq"] for one in slices] == [1]
    assert (answer["type"], answer["more"]) == ("subscribed", True)
    assert [one.get("seq") for one in seen] == [1, 3, None]


def test_a_connection_that_is_gone_leaves_no_row_behind(stage: Stage) -> None:
    stage.write()
    stage.connect()
    stage.gateway.gone.add("c1")
    assert stage.send(type="subscribe", stream=STREAM, n=1) == []
    assert stage.state.subscribers(STREAM) == []


def test_the_rows_last_as_long_as_the_token(stage: Stage) -> None:
    stage.connect(expires_in=60)
    stage.send(type="subscribe", stream=STREAM, n=1)
    (row,) = stage.state.subscribers(STREAM)
    assert row.exp == stage.clock() // 1000 + 60
    stage.clock.advance(60)
    answer = stage.ask(type="subscribe", stream=STREAM, n=2)
    assert answer["code"] == "unauthorized"
    assert stage.gateway.disconnected == ["c1"]


@pytest.mark.parametrize("stream", ["user:7", "chatter", "chat"])
def test_a_stream_that_is_not_granted_is_forbidden(stage: Stage, stream: str) -> None:
    stage.connect()
    answer = stage.ask(type="subscribe", stream=stream, n=1)
    assert (answer["code"], answer["stream"], answer["n"]) == ("forbidden", stream, 1)
    assert stage.state.subscribers(stream) == []
    (synced,) = stage.send(type="sync", streams={stream: None}, n=2)
    assert synced["tails"][stream]["error"]["code"] == "forbidden"
    assert stage.state.subscribers(stream) == []


def test_the_51st_stream_is_too_many(stage: Stage) -> None:
    stage.connect()
    for number in range(50):
        stage.send(type="subscribe", stream=f"chat:{number}", n=number + 1)
    assert stage.ask(type="subscribe", stream="chat:50", n=51)["code"] == "too_many"
    again = stage.send(type="subscribe", stream="chat:7", n=52)
    assert again[-1]["type"] == "subscribed"
    answer = stage.ask(type="sync", streams={"chat:51": None}, n=53)
    assert answer["code"] == "too_many"


def test_an_auth_renews_no_more_streams_than_a_connection_may_have(
    stage: Stage,
) -> None:
    """Of syncs side by side, each of 50 others, all may have found room."""
    stage.connect()
    there = stage.state.connection("c1")
    for number in range(51):
        stage.send(type="subscribe", stream=f"chat:{number}", n=number + 1)
        stage.state.connection = lambda id: there  # type: ignore[method-assign]
    del stage.state.connection
    auth = {"type": "auth", "token": stage.token(expires_in=1_800)}
    assert stage.ask(**auth, n=52)["code"] == "too_many"
    stage.send(type="unsubscribe", stream="chat:7", n=53)
    assert stage.ask(**auth, n=54)["type"] == "authorized"


def test_unsubscribe_stops_the_pushes(stage: Stage) -> None:
    stage.connect()
    stage.send(type="subscribe", stream=STREAM, n=1)
    answer = stage.ask(type="unsubscribe", stream=STREAM, n=2)
    assert answer == {"type": "unsubscribed", "stream": STREAM, "n": 2}
    assert stage.state.subscribers(STREAM) == []


def test_a_late_unsubscribe_does_not_undo_a_later_subscribe(stage: Stage) -> None:
    stage.connect()
    stage.send(type="subscribe", stream=STREAM, n=3)
    stage.send(type="unsubscribe", stream=STREAM, n=2)
    assert len(stage.state.subscribers(STREAM)) == 1


# ---- sync ----------------------------------------------------------------------------


def test_sync_puts_rows_again_replays_and_answers_every_tail(stage: Stage) -> None:
    stage.write()
    stage.connect()
    slice_, answer = stage.send(
        type="sync", streams={STREAM: [R1, 2], "chat:43": None}, n=1
    )
    assert (slice_["seq"], slice_["chunks"]) == (3, ["1"])
    assert answer["time"] == stage.clock()
    assert answer["tails"] == {
        STREAM: {"run": R1, "tail": 3, "from": 2, "active": True, "more": False},
        "chat:43": {"run": None, "tail": 0, "from": 0, "active": False, "more": False},
    }
    assert len(stage.state.subscribers("chat:43")) == 1


def test_sync_heals_a_row_that_a_wrong_410_deleted(stage: Stage) -> None:
    stage.connect()
    stage.send(type="subscribe", stream=STREAM, n=1)
    (row,) = stage.state.subscribers(STREAM)
    assert isinstance(row, Subscription)
    stage.state.drop(row)
    stage.send(type="sync", streams={STREAM: [None, 0]}, n=2)
    assert len(stage.state.subscribers(STREAM)) == 1


def test_sync_ends_a_run_whose_producer_died(stage: Stage) -> None:
    stage.write()
    stage.connect()
    stage.clock.advance(31)
    slice_, answer = stage.send(type="sync", streams={STREAM: [R1, 3]}, n=1)
    assert slice_["end"] == {"reason": "producer_lost"}
    assert answer["tails"][STREAM]["active"] is False


def test_what_a_sync_could_not_serve_is_more(stage: Stage) -> None:
    for stream in ("chat:1", "chat:2"):
        stage.log.open(stream, "w", R1)
        for seq in range(2, 9):
            stage.log.append(stream, R1, "w", seq, [json.dumps("x" * 27_000)])
    stage.connect()
    *_slices, answer = stage.send(
        type="sync", streams={"chat:1": [None, 0], "chat:2": [None, 0]}, n=1
    )
    assert [tail["more"] for tail in answer["tails"].values()] == [False, True]
    assert len(stage.state.subscribers("chat:2")) == 1


# ---- cancel --------------------------------------------------------------------------


def test_cancel_stops_the_job_and_is_answered(stage: Stage) -> None:
    stage.write()
    stage.connect()
    answer = stage.ask(type="cancel", stream=STREAM, run=R1, n=1)
    assert answer == {
        "type": "cancelled",
        "stream": STREAM,
        "run": R1,
        "reason": "cancelled",
        "n": 1,
    }


def test_cancel_of_another_run_answers_how_that_ended(stage: Stage) -> None:
    stage.write(R1)
    stage.write(R2)
    stage.connect()
    answer = stage.ask(type="cancel", stream=STREAM, run=R1, n=1)
    assert answer["reason"] == "superseded"
    unknown = run_id(0)
    assert stage.ask(type="cancel", stream=STREAM, run=unknown, n=2)["reason"] is None
    assert stage.log.look(STREAM).active


def test_cancel_wants_its_own_grant(stage: Stage) -> None:
    stage.connect()
    answer = stage.ask(type="cancel", stream="chat:43", run=R1, n=1)
    assert answer["code"] == "forbidden"
    assert stage.records("chat:43") == []


# ---- auth ----------------------------------------------------------------------------


def test_auth_lengthens_the_connection_and_its_rows(stage: Stage) -> None:
    stage.connect(expires_in=60)
    stage.send(type="subscribe", stream=STREAM, n=1)
    answer = stage.ask(type="auth", token=stage.token(expires_in=900), n=2)
    exp = stage.clock() // 1000 + 900
    assert answer == {"type": "authorized", "expires_at": exp, "n": 2}
    assert stage.state.subscribers(STREAM)[0].exp == exp
    stage.clock.advance(61)
    assert stage.send(type="sync", streams={}, n=3)[0]["type"] == "synced"


def test_auth_with_fewer_grants_drops_what_is_no_longer_granted(stage: Stage) -> None:
    stage.connect()
    stage.send(type="subscribe", stream=STREAM, n=1)
    stage.send(type="subscribe", stream="chat:43", n=2)
    dropped, answer = stage.send(type="auth", token=stage.token(read=["chat:43"]), n=3)
    assert dropped == {"type": "unsubscribed", "stream": STREAM, "reason": "forbidden"}
    assert answer["type"] == "authorized"
    assert stage.state.subscribers(STREAM) == []
    assert len(stage.state.subscribers("chat:43")) == 1


def test_auth_as_somebody_else_is_refused(stage: Stage) -> None:
    stage.connect()
    answer = stage.ask(type="auth", token=stage.token(sub="u8"), n=1)
    assert answer["code"] == "unauthorized"
    assert stage.gateway.disconnected == [], "it still has its own rights"
    connection = stage.state.connection("c1")
    assert connection is not None and connection.rights.sub == "u7"


# ---- what is no good -----------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        "not json",
        "[]",
        "{}",
        '{"type":"shout"}',
        '{"type":"$disconnect"}',
        '{"type":"subscribe","stream":"a b","n":1}',
        '{"type":"subscribe","stream":7,"n":1}',
        "[" * 20_000,
        '{"a":' * 4_000,
        " " * 32_001,
        None,
    ],
)
def test_every_bad_frame_is_answered_and_nothing_else_happens(
    stage: Stage, body: Any
) -> None:
    stage.connect()
    stage.connect("c2")
    (answer,) = stage.send_text(body)
    assert answer["type"] == "error"
    assert answer["code"] in ("invalid", "too_large")
    assert answer["retryable"] is False
    assert stage.gateway.sent["c2"] == []
    assert stage.state.connection("c1") is not None


def test_the_twentieth_bad_frame_closes_the_connection(stage: Stage) -> None:
    stage.connect()
    for _ in range(MAX_BAD_FRAMES - 1):
        stage.send_text("no")
    assert stage.gateway.disconnected == []
    stage.send_text("no")
    assert stage.gateway.disconnected == ["c1"]


def test_an_unknown_connection_is_told_and_closed(stage: Stage) -> None:
    answer = stage.ask(type="sync", streams={}, n=1)
    assert (answer["code"], answer["retryable"]) == ("unknown_connection", True)
    assert stage.gateway.disconnected == ["c1"]


def test_tables_that_do_not_answer_are_told_as_retryable(stage: Stage) -> None:
    stage.connect()

    def broken(*args: Any) -> None:
        raise Unavailable("AWS: ThrottlingException")

    stage.state.subscribe = broken  # type: ignore[method-assign]
    answer = stage.ask(type="subscribe", stream=STREAM, n=1)
    assert (answer["code"], answer["retryable"]) == ("unavailable", True)
    (answer,) = stage.send(type="sync", streams={STREAM: None}, n=2)
    assert answer["tails"][STREAM]["error"]["code"] == "unavailable"
    stage.state.connection = broken  # type: ignore[method-assign]
    assert stage.ask(type="sync", streams={}, n=3)["code"] == "unavailable"
    why = [str(refusal) for refusal in stage.refusals]
    assert why == ["AWS: ThrottlingException"] * 3, "each is told to who counts them"


def test_a_closed_connection_is_forgotten(stage: Stage) -> None:
    stage.connect()
    stage.send(type="subscribe", stream=STREAM, n=1)
    stage.session.disconnect("c1")
    assert stage.state.connection("c1") is None
    assert stage.state.subscribers(STREAM) == []


# ---- the hand-over between two runs (§3.3) -------------------------------------------


def test_a_consumer_that_lost_the_last_slices_of_a_run_gets_them_before_the_next(
    stage: Stage,
) -> None:
    """R1 ends and R2 follows at once; all pushes after seq 2 were lost."""
    stage.write(R1, chunks=3)
    stage.connect()
    stage.send(type="subscribe", stream=STREAM, n=1)
    stage.log.end(STREAM, R1, "w", 5, "completed")
    stage.write(R2, chunks=1)
    rest, following, _ = stage.send(
        type="subscribe", stream=STREAM, run=R1, after=2, n=2
    )
    assert (rest["run"], rest["chunks"], rest["end"]["reason"]) == (
        R1,
        ["1", "2"],
        "completed",
    )
    assert (following["run"], following["seq"], following["open"]["prev"]) == (
        R2,
        rest["next"],
        R1,
    )


def test_session_and_delivery_together_show_everything_once(stage: Stage) -> None:
    stage.connect()
    stage.send(type="subscribe", stream=STREAM, n=1)
    stage.write(R1, chunks=3)
    delivery = Delivery(
        stage.state,
        stage.gateway,
        stage.clock,
        one_by_one,
    )
    before = len(stage.gateway.sent["c1"])
    delivery.deliver({STREAM: stage.records()}, stage.clock() + 1)
    (live,) = map(json.loads, stage.gateway.sent["c1"][before:])
    assert live["chunks"] == ["0", "1", "2"]
    assert "replay" not in live


def test_a_sub_that_replays_too_much_waits_for_the_next_minute(stage: Stage) -> None:
    """Whatever it connects with: each answer says that there is more, and nothing of it
    comes before the minute is over."""
    stage.write(chunks=2)
    record = stage.log.store.last(STREAM)
    assert record is not None
    for _ in range(12):
        text = '"' + "x" * 27_000 + '"'
        record = stage.log.append(STREAM, R1, "w", record.next, [text])
    sent = answers = 0
    while sent < QUOTAS.replay_bytes + ANSWER_BYTES:
        answers += 1
        stage.connect(f"c{answers}")
        frames = stage.send(f"c{answers}", type="subscribe", stream=STREAM, n=1)
        assert frames[-1]["more"] is True
        if len(frames) == 1:
            break
        sent += sum(len(json.dumps(one)) for one in frames[:-1])
    assert QUOTAS.replay_bytes <= sent <= QUOTAS.replay_bytes + ANSWER_BYTES
    assert stage.counted["ReplaysThrottled"] == 1
    stage.connect("other", sub="u8")
    assert len(stage.send("other", type="subscribe", stream=STREAM, n=1)) > 1
    stage.clock.advance(60)
    assert len(stage.send(type="subscribe", stream=STREAM, n=2)) > 1


def test_many_small_answers_count_as_much_as_large_ones(stage: Stage) -> None:
    stage.write(chunks=2_000)
    stage.connect()
    minute, sent = stage.clock() // 60_000, 0
    for n in range(1, 20):
        frame, _ = stage.send(type="subscribe", stream=STREAM, n=n)
        sent += len(json.dumps(frame, separators=(",", ":")))
    assert 0 <= sent - stage.state.spend("u7", minute, 0, 0) < 64_000 < sent


def test_a_small_answer_costs_no_write(stage: Stage) -> None:
    stage.write()
    stage.connect()
    assert len(stage.send(type="subscribe", stream=STREAM, n=1)) == 2
    assert stage.state.spend("u7", stage.clock() // 60_000, 0, 0) == 0


def test_a_connection_that_sends_too_fast_is_told_and_closed(stage: Stage) -> None:
    """Before any table is asked: what it sends costs no more than the invocation."""
    stage.connect()
    for n in range(1, QUOTAS.frames + 1):
        assert stage.ask(type="sync", streams={}, n=n)["type"] == "synced"
    asked = stage.state.connection
    stage.state.connection = None  # type: ignore[method-assign]
    answer = stage.ask(type="sync", streams={}, n=QUOTAS.frames + 1)
    assert (answer["code"], answer["limit"]) == ("too_fast", QUOTAS.frames_a_second)
    assert (answer["retryable"], answer["n"]) == (True, QUOTAS.frames + 1)
    assert stage.gateway.disconnected == ["c1"]
    assert stage.counted["FramesThrottled"] == 1
    stage.state.connection = asked  # type: ignore[method-assign]
    stage.connect("c2")
    assert stage.send("c2", type="sync", streams={}, n=1)[0]["type"] == "synced"


def test_frames_at_their_pace_are_never_too_fast(stage: Stage) -> None:
    stage.connect()
    for n in range(1, 3 * QUOTAS.frames):
        assert stage.ask(type="sync", streams={}, n=n)["type"] == "synced"
        stage.clock.advance(1 / QUOTAS.frames_a_second)


def test_of_too_many_connections_of_a_sub_the_oldest_is_closed(stage: Stage) -> None:
    for number in range(QUOTAS.connections):
        stage.clock.advance(1)
        stage.connect(f"c{number}")
    stage.connect("elsewhere", sub="u8")
    assert stage.gateway.disconnected == []
    stage.connect("one-more")
    assert stage.gateway.disconnected == [], "a handshake waits for nothing else"
    stage.send("one-more", type="subscribe", stream="chat:1", n=1)
    assert stage.gateway.disconnected == ["c0"]
    (told,) = map(json.loads, stage.gateway.sent["c0"])
    assert (told["code"], told["limit"]) == ("too_many", QUOTAS.connections)
    assert stage.counted["ConnectionsEvicted"] == 1
    assert stage.state.connection("c0") is None
    assert len(stage.state.connections_of("u7")) == QUOTAS.connections


def test_connections_whose_frames_are_refused_count_as_well(stage: Stage) -> None:
    for number in range(QUOTAS.connections + 1):
        stage.clock.advance(1)
        stage.connect(f"c{number}")
        (told,) = stage.send(f"c{number}", type="subscribe", stream="other:1", n=1)
        assert told["code"] == "forbidden"
    assert stage.gateway.disconnected == ["c0"]


def test_dead_connections_that_only_their_sub_knows_keep_no_place(
    stage: Stage,
) -> None:
    """TTL, or a handshake that was answered 503, leaves one row of two."""
    for number in range(10):
        stage.connect(f"dead{number}")
        del stage.state._connections[f"dead{number}"]
    for number in range(QUOTAS.connections + 5):
        stage.clock.advance(1)
        stage.connect(f"c{number}")
        stage.send(f"c{number}", type="subscribe", stream="chat:1", n=1)
    assert len(stage.state.connections_of("u7")) == QUOTAS.connections
    assert "c4" in stage.gateway.disconnected


def test_expired_tokens_are_nobodys_and_close_nobody(stage: Stage) -> None:
    """They come in without rights, under one name for all: a stranger's old token must
    not close a user's connection."""
    old = stage.token(expires_in=5)
    stage.clock.advance(10)
    for number in range(QUOTAS.connections + 2):
        stage.session.connect(f"c{number}", old, ORIGIN)
    assert stage.gateway.disconnected == []


def test_who_comes_with_an_expired_token_is_counted_once_it_has_another(
    stage: Stage,
) -> None:
    old = stage.token(expires_in=5)
    for number in range(QUOTAS.connections):
        stage.connect(f"c{number}")
    stage.clock.advance(10)
    stage.session.connect("late", old, ORIGIN)
    stage.send("late", type="auth", token=stage.token(), n=1)
    stage.send("late", type="sync", streams={}, n=2)
    assert stage.gateway.disconnected == ["c0"]


def test_a_count_that_cannot_be_had_leaves_the_answer_as_it_is(stage: Stage) -> None:
    def unanswered(sub: str) -> list[str]:
        raise Unavailable("no answer")

    stage.state.connections_of = unanswered  # type: ignore[method-assign]
    stage.connect()
    (told,) = stage.send(type="subscribe", stream="chat:1", n=1)
    assert told["type"] == "subscribed"


def test_a_connection_that_watches_is_not_counted_again(stage: Stage) -> None:
    asked: list[str] = []
    count = stage.state.connections_of
    stage.state.connections_of = lambda sub: asked.append(sub) or count(sub)  # type: ignore[method-assign,func-returns-value]
    stage.connect()
    for n in range(1, 5):
        stage.send(type="subscribe", stream="chat:1", n=n)
    assert asked == ["u7"]
