"""What every `State` promises."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tailrace.errors import Invalid
from tailrace.ports import Lease
from tailrace.watchers import Connection, Request, Rights, Subscription

RIGHTS = Rights("user-7", 2_000_000_000, ("chat:*",), ("chat:42",))
LATER = 2_000_000_000


def subscription(connection: str = "c1", n: int = 1, stream: str = "s") -> Subscription:
    return Subscription(stream, connection, n, exp=LATER)


def request(connection: str = "c1", id: str = "r1", stream: str = "s") -> Request:
    return Request(
        connection, id, stream, "run", LATER, prefix=4, shift=2, sent=-2, seq=1, at=5
    )


def test_a_connection_comes_back_with_its_rights_and_streams(state: Any) -> None:
    state.put_connection(Connection("c1", RIGHTS), LATER)
    state.subscribe(subscription(n=3), LATER)
    state.subscribe(subscription(n=4, stream="t"), LATER)
    assert state.connection("c1") == Connection("c1", RIGHTS, 0, {"s": 3, "t": 4})


def test_an_unknown_connection_has_no_row_and_gets_none(state: Any) -> None:
    assert state.connection("nobody") is None
    assert state.set_rights("nobody", RIGHTS) is False
    assert state.count_bad_frame("nobody") == 0
    state.remove_connection("nobody")
    assert state.connection("nobody") is None


def test_rights_are_replaced_and_nothing_else(state: Any) -> None:
    state.put_connection(Connection("c1", RIGHTS), LATER)
    state.subscribe(subscription(), LATER)
    state.count_bad_frame("c1")
    new = Rights("user-7", LATER + 1, ("*",))
    assert state.set_rights("c1", new) is True
    assert state.connection("c1") == Connection("c1", new, 1, {"s": 1})


def test_bad_frames_are_counted(state: Any) -> None:
    state.put_connection(Connection("c1", RIGHTS), LATER)
    assert [state.count_bad_frame("c1") for _ in range(3)] == [1, 2, 3]


def test_what_a_sub_spends_is_added_up_for_each_minute(state: Any) -> None:
    assert state.spend("user-7", 10, 500, LATER) == 500
    assert state.spend("user-7", 10, 200, LATER) == 700
    assert state.spend("user-7", 11, 1, LATER) == 1
    assert state.spend("user-8", 10, 2, LATER) == 2


def test_a_removed_connection_leaves_no_row(state: Any) -> None:
    state.put_connection(Connection("c1", RIGHTS), LATER)
    state.put_connection(Connection("c2", RIGHTS), LATER)
    state.subscribe(subscription("c1"), LATER)
    state.subscribe(subscription("c2"), LATER)
    state.remove_connection("c1")
    assert state.connection("c1") is None
    assert list(state.subscribers("s")) == [subscription("c2")]
    assert state.connections_of("user-7") == ["c2"]


def test_a_connection_that_only_its_sub_knows_is_removed_by_it(state: Any) -> None:
    state.put_connection(Connection("c1", Rights("user-8", LATER)), LATER)
    state.put_connection(Connection("c1", RIGHTS), LATER)
    state.remove_connection("c1")
    assert state.connections_of("user-8") == ["c1"], "by no other is it found"
    state.remove_connection("c1", "user-8")
    assert state.connections_of("user-8") == []


def test_a_connection_of_many_streams_leaves_no_row_either(state: Any) -> None:
    state.put_connection(Connection("c1", RIGHTS), LATER)
    streams = [f"s{number}" for number in range(40)]
    for stream in streams:
        state.subscribe(subscription("c1", stream=stream), LATER)
    state.put_request(request("c1"), LATER)
    state.remove_connection("c1")
    for stream in ("s", *streams):
        assert list(state.subscribers(stream)) == []
    assert state.connection("c1") is None
    state.put_connection(Connection("c1", RIGHTS), LATER)
    assert state.connection("c1") == Connection("c1", RIGHTS)


def test_connections_are_found_by_their_sub(state: Any) -> None:
    for id in ("c1", "c2"):
        state.put_connection(Connection(id, RIGHTS), LATER)
    state.put_connection(Connection("c3", Rights("user-8", LATER)), LATER)
    assert sorted(state.connections_of("user-7")) == ["c1", "c2"]


def test_the_connections_of_a_sub_come_oldest_first(state: Any) -> None:
    for id, expires_at in (("c2", LATER + 5), ("c3", LATER), ("c1", LATER + 9)):
        state.put_connection(Connection(id, RIGHTS), expires_at)
    assert state.connections_of("user-7") == ["c3", "c2", "c1"]


def test_all_subscribers_of_a_stream_are_found(state: Any) -> None:
    wanted = [subscription(f"c{number:02}") for number in range(30)]
    for one in wanted:
        state.subscribe(one, LATER)
    state.subscribe(subscription("c99", stream="other"), LATER)
    found = state.subscribers("s")
    assert sorted(found, key=lambda one: one.connection) == wanted


def test_subscribers_are_found_page_by_page(
    state: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailrace.adapters.dynamodb._SUBSCRIBERS", 4)
    wanted = [subscription(f"c{number:02}") for number in range(12)]
    for one in wanted:
        state.subscribe(one, LATER)
    found = state.subscribers("s")
    assert sorted(found, key=lambda one: one.connection) == wanted


def test_a_late_subscribe_does_not_undo_a_later_one(state: Any) -> None:
    state.subscribe(subscription(n=5), LATER)
    state.subscribe(subscription(n=4), LATER)
    assert list(state.subscribers("s")) == [subscription(n=5)]


def test_who_subscribes_is_told_what_was_there(state: Any) -> None:
    assert state.subscribe(subscription(n=1), LATER) is None
    assert state.subscribe(subscription(n=1), LATER) == subscription(n=1)
    assert state.subscribe(subscription(n=3), LATER) == subscription(n=1)
    assert state.subscribe(subscription(n=2), LATER) == subscription(n=3)
    assert state.subscribe(subscription("c2", n=1), LATER) is None
    state.unsubscribe("s", "c1", 4)
    assert state.subscribe(subscription(n=5), LATER) is None


def test_a_late_unsubscribe_does_not_undo_a_later_subscribe(state: Any) -> None:
    state.put_connection(Connection("c1", RIGHTS), LATER)
    state.subscribe(subscription(n=5), LATER)
    state.unsubscribe("s", "c1", 4)
    assert list(state.subscribers("s")) == [subscription(n=5)]
    state.unsubscribe("s", "c1", 6)
    state.unsubscribe("s", "c1", 6)
    assert list(state.subscribers("s")) == []
    assert state.connection("c1").streams == {}


def test_a_wrong_gone_drops_only_the_version_that_was_read(state: Any) -> None:
    state.subscribe(subscription(n=1), LATER)
    (read,) = state.subscribers("s")
    state.subscribe(subscription(n=2), LATER)
    state.drop(read)
    assert list(state.subscribers("s")) == [subscription(n=2)]
    state.drop(subscription(n=2))
    assert list(state.subscribers("s")) == []


def test_who_is_slow_is_marked_also_when_it_subscribes_again(state: Any) -> None:
    state.subscribe(subscription(n=1), LATER)
    state.mark_slow(subscription(n=1), 1_764_547_200_123)
    (row,) = state.subscribers("s")
    assert row.slow_until == 1_764_547_200_123
    assert state.subscribe(subscription(n=2), LATER) == row
    state.mark_slow(subscription(n=1), 7)
    assert list(state.subscribers("s")) == [replace(row, n=2)]
    state.mark_slow(subscription(n=2), 0)
    assert list(state.subscribers("s")) == [subscription(n=2)]
    state.unsubscribe("s", "c1", 2)
    state.mark_slow(subscription(n=2), 1_764_547_200_123)
    assert list(state.subscribers("s")) == []


def test_a_request_that_is_slow_is_marked(state: Any) -> None:
    state.put_request(request(), LATER)
    state.mark_slow(request(), 1_764_547_200_123)
    (row,) = state.subscribers("s")
    assert row == state.request("s", "c1", "r1")
    assert row == replace(request(), slow_until=1_764_547_200_123)
    state.remove_request("s", "c1", "r1")
    state.mark_slow(request(), 1)
    assert list(state.subscribers("s")) == []


def test_who_is_slow_is_marked_with_all_that_the_connection_has(state: Any) -> None:
    """Its other streams would wait for it as well."""
    for id in ("c1", "c2"):
        state.put_connection(Connection(id, RIGHTS), LATER)
        state.subscribe(subscription(id, n=1), LATER)
        state.subscribe(subscription(id, n=2, stream="t"), LATER)
        state.put_request(request(id, stream="u"), LATER)
    state.mark_slow(subscription(n=2), 1_764_547_200_123)
    for stream in ("s", "t", "u"):
        assert {one.slow_until for one in state.subscribers(stream)} == {0}, "too old"
    for one, until in (
        (subscription(n=1), 1_764_547_200_123),
        (request(stream="u"), 7),
    ):
        state.mark_slow(one, until)
        for stream in ("s", "t", "u"):
            found = {
                row.connection: row.slow_until for row in state.subscribers(stream)
            }
            assert found == {"c1": until, "c2": 0}


def test_a_lease_belongs_to_one_writer_of_one_run(state: Any) -> None:
    state.put_lease("s", "r", "w", Lease(5, handed_over=False), LATER)
    state.put_lease("s", "r", "w", Lease(7, handed_over=True), LATER)
    assert state.lease("s", "r", "w") == Lease(7, handed_over=True)
    assert state.lease("s", "r", "other") is None


def test_a_key_remembers_where_its_first_call_began(state: Any) -> None:
    assert state.remember_key("s", "k", 4, LATER) == 4
    assert state.remember_key("s", "k", 9, LATER) == 4
    assert state.remember_key("t", "k", 9, LATER) == 9


def test_a_request_is_found_with_its_stream_and_its_connection(state: Any) -> None:
    state.put_connection(Connection("c1", RIGHTS), LATER)
    state.subscribe(subscription(), LATER)
    for one in (request(), request(id="r2", stream="t")):
        assert state.put_request(one, LATER) == one
    assert state.connection("c1").requests == {"r1": "s", "r2": "t"}
    assert state.connection("c1").streams == {"s": 1}
    assert state.request("s", "c1", "r1") == request()
    assert state.request("s", "c1", "r9") is None
    found = sorted(state.subscribers("s"), key=lambda one: type(one).__name__)
    assert found == [request(), subscription()]


def test_a_request_is_stored_once(state: Any) -> None:
    once = request()
    state.put_request(once, LATER)
    assert state.put_request(once, LATER) == once, "as a lost answer has it"
    state.advance(once, 7, 9, 11)
    assert state.put_request(once, LATER).sent == 7


def test_a_name_stands_for_the_request_of_one_stream(state: Any) -> None:
    """Else the one before is found by nobody, and counted by nobody."""
    state.put_connection(Connection("c1", RIGHTS), LATER)
    state.put_request(request(), LATER)
    with pytest.raises(Invalid, match="another stream"):
        state.put_request(request(stream="t"), LATER)
    assert state.connection("c1").requests == {"r1": "s"}
    assert state.request("s", "c1", "r1") == request()
    assert state.request("t", "c1", "r1") is None
    assert list(state.subscribers("t")) == []
    state.put_request(request("c2", stream="t"), LATER)
    state.remove_request("s", "c1", "r1")
    state.put_request(request(stream="t"), LATER)
    assert state.connection("c1").requests == {"r1": "t"}


def test_a_request_that_was_aborted_before_it_came_is_not_stored(state: Any) -> None:
    state.put_connection(Connection("c1", RIGHTS), LATER)
    assert state.abort_request("c1", "r1", 1) is None
    assert state.put_request(request(), LATER) is None, "it came 5 ms after 1970"
    assert state.request("s", "c1", "r1") is None
    assert list(state.subscribers("s")) == []
    assert state.connection("c1") == Connection("c1", RIGHTS), "counted among nothing"
    assert state.put_request(request("c2"), LATER) == request("c2")
    later = replace(request(), at=1_000)
    assert state.put_request(later, LATER) == later, "it is long ago"


def test_an_abort_that_came_in_time_tells_of_the_request(state: Any) -> None:
    state.put_request(request(), LATER)
    assert state.abort_request("c1", "r1", 1) == "s"
    assert state.abort_request("c1", "r2", 1) is None


def test_whatever_a_connection_aborts_the_latest_is_known(state: Any) -> None:
    for number in range(100):
        state.abort_request("c1", f"q{number}", 1)
    assert state.put_request(request(id="q99"), LATER) is None


def test_a_request_goes_on_and_never_back(state: Any) -> None:
    state.put_request(request(), LATER)
    state.advance(request(), 7, 9, 11)
    state.advance(request(), 6, 8, 12)
    there = state.request("s", "c1", "r1")
    assert (there.sent, there.seq, there.at) == (7, 9, 11)


def test_what_is_said_of_a_request_that_is_gone_does_not_bring_it_back(
    state: Any,
) -> None:
    state.put_connection(Connection("c1", RIGHTS), LATER)
    state.put_request(request(), LATER)
    state.remove_request("s", "c1", "r1")
    state.advance(request(), 7, 9, 11)
    state.renew_request(request(), LATER)
    assert state.claim_watch(request(), 1) is False
    assert state.claim_repair(request(), 20) is False
    assert state.request("s", "c1", "r1") is None
    assert list(state.subscribers("s")) == []
    assert state.connection("c1").requests == {}


def test_one_message_of_a_number_goes_on(state: Any) -> None:
    state.put_request(request(), LATER)
    assert state.claim_watch(request(), 1) is True
    assert state.claim_watch(request(), 1) is False
    assert state.claim_watch(state.request("s", "c1", "r1"), 2) is True


def test_one_repair_is_on_its_way_at_a_time(state: Any) -> None:
    state.put_request(request(), LATER)
    read = request()
    assert state.claim_repair(read, 600) is True
    assert state.claim_repair(read, 600) is True, "its answer was lost"
    assert state.claim_repair(read, 601) is False
    state.release_repair(read)
    read = state.request("s", "c1", "r1")
    assert read.repair_at == 600, "it is not the one that is done"
    assert state.claim_repair(read, 900) is True
    state.release_repair(state.request("s", "c1", "r1"))
    assert state.request("s", "c1", "r1").repair_at == 0
    assert state.claim_repair(read, 700) is True
    state.remove_request("s", "c1", "r1")
    state.release_repair(request())
    assert state.request("s", "c1", "r1") is None


def test_the_exp_of_a_request_is_renewed_and_nothing_else(state: Any) -> None:
    state.put_request(request(), LATER)
    state.advance(request(), 7, 9, 11)
    state.renew_request(request(), LATER + 60)
    there = state.request("s", "c1", "r1")
    assert (there.exp, there.sent) == (LATER + 60, 7)


def test_a_removed_connection_leaves_no_request(state: Any) -> None:
    state.put_connection(Connection("c1", RIGHTS), LATER)
    state.put_request(request(), LATER)
    state.put_request(request("c2"), LATER)
    state.remove_connection("c1")
    assert list(state.subscribers("s")) == [request("c2")]
