"""The publish API: every operation, every refusal, every repeat (PROTOCOL.md §4)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.errors import TailraceError, Unavailable
from tailrace.publish import Publish
from tailrace.watchers import Connection, Rights, Subscription
from tests.support.strategies import JSON
from tests.support.worlds import NOW, STREAM, World, run_id

R1, R2 = run_id(1), run_id(2)
BASE = {"stream": STREAM, "run": R1, "writer": "w"}


class Api(World):
    """A world behind the publish API; each call may reach another container."""

    def __init__(self) -> None:
        super().__init__()
        self.counted: dict[str, int] = {}
        self.refusals: list[TailraceError] = []

    def call(self, operation: str | None = None, **arguments: Any) -> dict[str, Any]:
        payload = (
            arguments
            if operation is None
            else {
                "operation": operation,
                **arguments,
            }
        )
        return self.handle(payload)

    def handle(self, payload: Any) -> dict[str, Any]:
        publish = Publish(
            self.new_log(),
            self.state,
            self.gateway,
            count=lambda name, value: self.counted.__setitem__(
                name, self.counted.get(name, 0) + value
            ),
            on_refusal=self.refusals.append,
        )
        answer = publish.handle(payload)
        # As Lambda's runtime does it: what UTF-8 cannot carry kills the process.
        json.dumps(answer, ensure_ascii=False).encode()
        return answer

    def slices(self, **arguments: Any) -> list[dict[str, Any]]:
        read = self.call("read", stream=STREAM, **arguments)
        return [json.loads(text) for text in read["slices"]]

    def refusal(self, operation: str | None, **arguments: Any) -> dict[str, Any]:
        answer = self.call(operation, **arguments)
        assert set(answer) == {"error"}
        error: dict[str, Any] = answer["error"]
        return error


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
def opened(api: Api) -> Api:
    api.call("open", **BASE)
    return api


@pytest.mark.parametrize(
    ("call", "looks"),
    [
        ({"operation": "open", "run": R2, "writer": "v"}, True),
        ({"operation": "tail"}, True),
        ({"operation": "read"}, True),
        ({"chunks": ["more"]}, True),
        ({"operation": "claim", "run": R1, "writer": "v"}, False),
        ({"operation": "renew", "run": R1, "writer": "w"}, False),
        ({"operation": "watchers"}, False),
    ],
)
def test_who_looks_ends_a_run_that_is_past_due(
    api: Api, call: dict[str, Any], looks: bool
) -> None:
    api.call("open", **BASE, lease=10)
    api.clock.advance(10)
    assert "error" not in api.handle({"stream": STREAM, **call})
    ends = [record.reason for record in api.records() if record.kind == "end"]
    assert ends == (["producer_lost"] if looks else [])


def test_a_run_from_open_to_end(api: Api) -> None:
    assert api.call("open", **BASE, meta={"model": "m"}, lease=60) == {
        "stream": STREAM,
        "run": R1,
        "next": 2,
        "seq": 1,
        "epoch": 0,
        "already": 0,
    }
    assert api.call("append", **BASE, seq=2, chunks=["a", {"b": None}]) == {
        "stream": STREAM,
        "run": R1,
        "next": 4,
        "seq": 2,
    }
    assert api.call("tail", stream=STREAM) == {
        "stream": STREAM,
        "run": R1,
        "next": 4,
        "tail": 3,
        "active": True,
        "seq": 2,
        "kind": "data",
        "writer": "w",
        "epoch": 0,
        "index": 2,
        "at": NOW,
    }
    assert api.call("end", **BASE, seq=4, reason="error", message="sorry") == {
        "stream": STREAM,
        "run": R1,
        "next": 5,
        "seq": 4,
        "reason": "error",
    }
    assert api.call("tail", stream=STREAM)["reason"] == "error"
    assert api.counted["ChunksAppended"] == 2


REPEATABLE: list[tuple[str, dict[str, Any]]] = [
    ("open", {**BASE}),
    ("append", {**BASE, "seq": 2, "chunks": ["a"]}),
    ("renew", {**BASE, "lease": 60}),
    ("end", {**BASE, "seq": 3, "reason": "completed"}),
    ("tail", {"stream": STREAM}),
    ("read", {"stream": STREAM}),
    ("cancel", {"stream": STREAM, "run": R1}),
]


def test_every_call_can_be_repeated(api: Api) -> None:
    for operation, arguments in REPEATABLE:
        first = api.call(operation, **arguments)
        assert "error" not in first
        records = api.records()
        assert api.call(operation, **arguments) == first
        assert api.records() == records


def test_what_a_newer_caller_adds_to_a_call_is_ignored(api: Api) -> None:
    """But not an operation of which this version knows nothing."""
    opened = api.call("open", **BASE, newer=True)
    assert opened == api.call("open", **BASE)
    assert api.call("newer", **BASE)["error"]["code"] == "invalid"


def test_a_claim_tells_what_is_in_and_can_be_repeated(opened: Api) -> None:
    opened.call("append", **BASE, seq=2, chunks=["a", "b"])
    claim = {**BASE, "writer": "w2", "seq": 4}
    expected = {
        "stream": STREAM,
        "run": R1,
        "next": 5,
        "seq": 4,
        "epoch": 1,
        "already": 2,
    }
    assert opened.call("claim", **claim) == expected
    assert opened.call("claim", **claim) == expected


def test_an_open_that_comes_again_tells_what_is_in(opened: Api) -> None:
    """Else a job that names its writer itself, and is tried again, would write its
    first chunks a second time."""
    opened.call("append", **BASE, seq=2, chunks=["a", "b"])
    again = opened.call("open", **BASE)
    assert (again["seq"], again["next"], again["already"]) == (1, 4, 2)


def test_a_handed_over_run_is_claimed_at_once(opened: Api) -> None:
    claim = {**BASE, "writer": "w2"}
    assert opened.refusal("claim", **claim)["code"] == "busy"
    opened.call("renew", **BASE, handed_over=True)
    assert opened.call("claim", **claim)["epoch"] == 1


@pytest.mark.parametrize(
    ("code", "facts", "befall"),
    [
        ("cancelled", {"run": R1}, lambda api: api.log.cancel(STREAM, R1)),
        ("superseded", {"run": R2}, lambda api: api.log.open(STREAM, "w2", R2)),
        (
            "fenced",
            {"run": R1, "epoch": 1},
            lambda api: api.log.claim(STREAM, R1, "w2", 2),
        ),
        (
            "ended",
            {"run": R1, "reason": "producer_lost"},
            lambda api: (api.clock.advance(31), api.log.look(STREAM)),
        ),
    ],
)
@pytest.mark.parametrize(
    ("operation", "arguments"),
    [
        ("append", {"seq": 2, "chunks": ["a"]}),
        ("end", {"seq": 2, "reason": "completed"}),
        ("renew", {}),
    ],
)
def test_each_loser_is_told_what_befell_it(
    opened: Api, operation: str, arguments: Any, code: str, facts: Any, befall: Any
) -> None:
    befall(opened)
    error = opened.refusal(operation, **BASE, **arguments)
    assert error["code"] == code
    assert error["retryable"] is False
    assert {name: error[name] for name in facts} == facts


def test_busy_is_retryable_and_says_until_when(opened: Api) -> None:
    error = opened.refusal("open", stream=STREAM, run=R2, writer="w2", on_active="fail")
    assert (error["code"], error["retryable"], error["until"]) == (
        "busy",
        True,
        NOW + 30_000,
    )


@pytest.mark.parametrize(
    ("why", "payload"),
    [
        ("payload: must", None),
        ("payload: must", []),
        ("operation: must", {"operation": "explode"}),
        ("operation: must", {"operation": None}),
        ("operation: must", {"operation": ["open"]}),
        ("stream: must", {"operation": "tail"}),
        ("stream: must", {"operation": "tail", "stream": "a b"}),
        ("stream: must", {}),
        ("writer: must", {"operation": "open", "stream": STREAM}),
        ("writer: must", {"operation": "open", "stream": STREAM, "writer": "a b"}),
        ("run: must", {"operation": "open", **BASE, "run": "x"}),
        ("on_active: must", {"operation": "open", **BASE, "on_active": "join"}),
        ("lease: must", {"operation": "open", **BASE, "lease": 0}),
        ("meta: must", {"operation": "open", **BASE, "meta": "m"}),
        ("5 minutes", {"operation": "open", **BASE, "run": run_id(1, NOW * 2)}),
        ("seq: must", {"operation": "append", **BASE, "chunks": ["a"]}),
        ("seq: must", {"operation": "append", **BASE, "chunks": ["a"], "seq": 0}),
        ("seq: must", {"operation": "append", **BASE, "chunks": ["a"], "seq": "2"}),
        ("seq: is 7", {"operation": "append", **BASE, "chunks": ["a"], "seq": 7}),
        ("seq: is 1", {"operation": "append", **BASE, "chunks": ["a"], "seq": 1}),
        ("chunks: must", {"operation": "append", **BASE, "seq": 2}),
        ("chunks: must", {"operation": "append", **BASE, "seq": 2, "chunks": []}),
        ("chunks: must", {"operation": "append", **BASE, "seq": 2, "chunks": "a"}),
        (
            "not JSON",
            {"operation": "append", **BASE, "seq": 2, "chunks": [float("nan")]},
        ),
        ("reason: must", {"operation": "end", **BASE, "seq": 2}),
        ("reason: must", {"operation": "end", **BASE, "seq": 2, "reason": "cancelled"}),
        (
            "message: must",
            {"operation": "end", **BASE, "seq": 2, "reason": "error", "message": 7},
        ),
        ("handed_over: must", {"operation": "renew", **BASE, "handed_over": "yes"}),
        ("limit: must", {"operation": "read", "stream": STREAM, "limit": 0}),
        ("after: must", {"operation": "read", "stream": STREAM, "after": "1"}),
        ("sub: must", {"operation": "disconnect"}),
        ("sub: must", {"operation": "disconnect", "sub": "\ud83d"}),
        ("chunks: must", {"stream": STREAM}),
        ("chunks: must", {"stream": STREAM, "chunks": []}),
        ("end: must", {"stream": STREAM, "chunks": ["a"], "end": "maybe"}),
        ("key: must", {"stream": STREAM, "chunks": ["a"], "key": "a b"}),
    ],
)
def test_bad_arguments_are_told_what_is_wrong(
    opened: Api, why: str, payload: Any
) -> None:
    before = opened.records()
    answer = opened.handle(payload)
    assert answer["error"]["code"] == "invalid"
    assert why in answer["error"]["message"]
    assert opened.records() == before


def test_sizes_over_the_limit_are_too_large(opened: Api) -> None:
    error = opened.refusal("append", **BASE, seq=2, chunks=["x" * 28_000])
    assert (error["code"], error["limit"]) == ("too_large", 28_000)
    error = opened.refusal("open", stream=STREAM, writer="w2", meta={"m": "x" * 2_000})
    assert (error["code"], error["limit"]) == ("too_large", 2_000)


def test_half_an_emoji_is_stored_and_read(opened: Api) -> None:
    opened.call("append", **BASE, seq=2, chunks=["\ud83d", "\ude00"])
    (slice_,) = opened.slices()
    assert slice_["chunks"] == ["\ud83d", "\ude00"]


def test_half_an_emoji_does_not_keep_a_run_from_ending(opened: Api) -> None:
    opened.call("end", **BASE, seq=2, reason="error", message="sorry \ud83d")
    assert opened.slices()[0]["end"] == {"reason": "error", "message": "sorry ?"}
    opened.call(None, stream=STREAM, chunks=["a"], end="error", message="\ude00")
    assert opened.slices()[0]["end"] == {"reason": "error", "message": "?"}


def test_read_stops_at_its_limit_and_says_so(opened: Api) -> None:
    for seq in range(2, 7):
        opened.call("append", **BASE, seq=seq, chunks=["x" * 27_000])
    first = opened.call("read", stream=STREAM, limit=60_000)
    assert (len(first["slices"]), first["more"], first["from"]) == (2, True, 0)
    after = json.loads(first["slices"][-1])["next"] - 1
    rest = opened.call("read", stream=STREAM, run=R1, after=after)
    assert (rest["from"], rest["more"], rest["next"]) == (after, False, 7)
    tiny = opened.call("read", stream=STREAM, limit=1)
    assert len(tiny["slices"]) == 1, "always something, or nobody gets on"


def test_the_limit_of_read_is_in_bytes(opened: Api) -> None:
    for seq in range(2, 5):
        opened.call("append", **BASE, seq=seq, chunks=["あ" * 9_000])
    read = opened.call("read", stream=STREAM, limit=60_000)
    assert (len(read["slices"]), read["more"]) == (2, True)


def test_an_empty_stream_has_a_tail_of_nothing(api: Api) -> None:
    assert api.call("tail", stream=STREAM) == {
        "stream": STREAM,
        "run": None,
        "next": 1,
        "tail": 0,
        "active": False,
    }


def test_watchers_counts_who_still_may_see(opened: Api) -> None:
    for id, exp in (("c1", NOW // 1000 + 9), ("c2", NOW // 1000 + 9), ("old", 5)):
        opened.state.subscribe(Subscription(STREAM, id, 1, exp), 0)
    assert opened.call("watchers", stream=STREAM)["watchers"] == 2


def test_disconnect_closes_all_connections_of_a_sub(api: Api) -> None:
    for id, sub in (("c1", "u7"), ("c2", "u7"), ("c3", "u8")):
        api.state.put_connection(Connection(id, Rights(sub, 2**40)), 0)
        api.state.subscribe(Subscription(STREAM, id, 1, 2**40), 0)
    assert api.call("disconnect", sub="u7") == {"disconnected": 2}
    assert sorted(api.gateway.disconnected) == ["c1", "c2"]
    assert [row.connection for row in api.state.subscribers(STREAM)] == ["c3"]
    assert api.call("disconnect", sub="u7") == {"disconnected": 0}


def test_a_disconnect_removes_a_connection_that_only_its_sub_knows(api: Api) -> None:
    api.state.put_connection(Connection("c1", Rights("u7", 2**40)), 2**40)
    del api.state._connections["c1"]
    assert api.call("disconnect", sub="u7") == {"disconnected": 1}
    assert api.call("disconnect", sub="u7") == {"disconnected": 0}


def test_a_disconnect_that_was_refused_halfway_is_done_by_its_repeat(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frame that is handled meanwhile may leave a row; it leads to nobody."""
    for id in ("c1", "c2"):
        api.state.put_connection(Connection(id, Rights("u7", 2**40)), 0)
    disconnect, failures = api.gateway.disconnect, [Unavailable("HTTP status 429")]

    def throttled(connection: str) -> None:
        if connection == "c2" and failures:
            raise failures.pop()
        disconnect(connection)
        api.state.subscribe(Subscription(STREAM, connection, 1, 2**40), 0)

    monkeypatch.setattr(api.gateway, "disconnect", throttled)
    assert api.refusal("disconnect", sub="u7")["code"] == "unavailable"
    assert api.call("disconnect", sub="u7") == {"disconnected": 1}
    assert api.gateway.disconnected == ["c1", "c2"]
    assert api.state.subscribers(STREAM) == []


def test_a_connection_that_cannot_be_closed_keeps_no_other_of_its_sub(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    for id in ("c1", "c2", "c3"):
        api.state.put_connection(Connection(id, Rights("u7", 2**40)), 0)
    disconnect = api.gateway.disconnect

    def broken(connection: str) -> None:
        if connection == "c1":
            raise Unavailable("HTTP status 500")
        disconnect(connection)

    monkeypatch.setattr(api.gateway, "disconnect", broken)
    assert api.refusal("disconnect", sub="u7")["code"] == "unavailable"
    assert [str(refusal) for refusal in api.refusals] == ["HTTP status 500"]
    assert api.gateway.disconnected == ["c2", "c3"]
    assert api.state.connections_of("u7") == ["c1"]


def test_delete_leaves_the_end(opened: Api) -> None:
    opened.call("append", **BASE, seq=2, chunks=["a"])
    assert opened.call("delete", stream=STREAM) == {"stream": STREAM, "deleted": 2}
    assert opened.kinds() == ["end"]


def test_cancel_without_a_run_takes_what_is_active(opened: Api) -> None:
    assert opened.call("cancel", stream=STREAM)["reason"] == "cancelled"
    assert opened.call("cancel", stream="chat:none") == {
        "stream": "chat:none",
        "run": None,
        "next": None,
        "reason": None,
    }


def test_one_call_is_a_whole_answer(api: Api) -> None:
    answer = api.call(None, stream=STREAM, chunks=["all", "at once"], end=True)
    assert (answer["next"], answer["reason"]) == (5, "completed")
    assert api.call(None, stream=STREAM, end="error")["error"]["code"] == "invalid"


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "operation": st.sampled_from(
                ["open", "claim", "append", "end", "cancel", "renew", "tail", "read"]
            )
            | JSON,
            "stream": st.just(STREAM) | JSON,
            "run": st.just(R1) | JSON,
            "writer": st.just("w") | JSON,
            "seq": st.integers(-1, 3) | JSON,
            "chunks": st.lists(JSON, max_size=3) | JSON,
            "reason": st.just("completed") | JSON,
            "end": JSON,
            "key": JSON,
            "lease": JSON,
            "meta": JSON,
            "after": JSON,
            "limit": JSON,
        },
    )
)
def test_any_payload_gets_an_answer(payload: Any) -> None:
    answer = Api().handle(payload)
    if "error" in answer:
        assert answer["error"]["code"] != "error"
