"""What must be true, each with the guarantee of PROTOCOL.md §9 that it holds.

An invariant is told of the events that could break it, right after each of them, and
looks at the truth, which no part of the system can see. Names are what PROTOCOL.md
calls them by; `tests/simulation/test_invariants.py` compares the two lists.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tailrace import chunks, rules
from tailrace.errors import (
    Busy,
    Cancelled,
    Fenced,
    StreamEnded,
    Superseded,
    TailraceError,
    Unauthorized,
)
from tailrace.ports import Lease, Push
from tailrace.records import Record
from tailrace.watchers import Share, Subscription

from .consumers import Tab
from .contents import content, merged, whose
from .kernel import Killed

if TYPE_CHECKING:
    from .callers import Caller, OneCall
    from .clients import PackageTab
    from .consumers import Reader
    from .feed import Entry
    from .gateway import Connection
    from .kernel import Process
    from .producers import Attempt
    from .pushes import Pushes
    from .world import World

Check = Callable[..., None]
ON: dict[str, list[Check]] = {}
GUARANTEES: dict[str, str] = {}

SKEW = 2_200
"""How far two clocks may be apart, ms."""
LIST = 1_000
"""How old a publisher's list of subscribers may be, ms."""
SOON = 4_000
"""Within how long who subscribes has what was put, though nothing follows, ms."""

SLOW = 10_000 + LIST + SKEW
"""For how long a connection may be passed over that was slow twice in as long, ms."""

NEVER = (-(10**9), -(10**9))

RATE = 10
"""Pushes a second to one large audience."""

RETENTION = 3_600
LONGEST = 50_000
"""Of a lease, and of a connection, seconds."""


def invariant(guarantee: str, *events: str) -> Callable[[Check], Check]:
    def note(check: Check) -> Check:
        GUARANTEES[check.__name__] = guarantee
        for event in events:
            ON.setdefault(event, []).append(check)
        return check

    return note


@dataclass
class Book:
    """What the invariants remember."""

    # What each seq of each run has ever held: a run may be opened anew when all of it
    # has expired.
    facts: dict[tuple[str, str, int], list[Any]] = field(default_factory=dict)
    runs: dict[tuple[str, str], list[Record]] = field(default_factory=dict)
    records: dict[str, list[Record]] = field(default_factory=dict)
    owner: dict[str, str] = field(default_factory=dict)
    # Since when a writer of a run may write no more; "" stands for all of them.
    over: dict[tuple[str, str, str], int] = field(default_factory=dict)
    lapsed: set[tuple[str, int]] = field(default_factory=set)
    labels: dict[tuple[str, str], str] = field(default_factory=dict)
    # When a row was last put, by which frame, and since when there is one.
    rows: dict[tuple[str, str], tuple[int, int, int]] = field(default_factory=dict)
    put_at: dict[tuple[str, int], int] = field(default_factory=dict)
    stopped: set[Process] = field(default_factory=set)
    tokens: dict[str, tuple[str, int, tuple[str, ...], tuple[str, ...]]] = field(
        default_factory=dict
    )
    # By the process of the fan-out, or the scope of a publisher's batch.
    fanning: dict[object, Fanning] = field(default_factory=dict)
    delivering: set[tuple[Pushes, str]] = field(default_factory=set)
    # When a publisher found a connection gone.
    gone: dict[tuple[Pushes, str], int] = field(default_factory=dict)
    # When the last two pushes to a connection were slow.
    slow: dict[str, tuple[int, int]] = field(default_factory=dict)
    # Until when the feed's fan-out leaves a large audience alone.
    rests: dict[str, int] = field(default_factory=dict)
    calls: dict[str, dict[str, list[Record]]] = field(default_factory=dict)
    # The runs of a stream whose cancel was asked for; `*`: whatever is active.
    cancels: dict[str, list[str]] = field(default_factory=dict)
    tabs: list[Tab | PackageTab] = field(default_factory=list)


@dataclass
class Fanning:
    """One invocation of the fan-out, or one batch of a publisher."""

    rows: dict[str, list[Subscription]]
    pushes: Pushes | None = None
    began: int = 0
    pushing: dict[tuple[str, str], str] = field(default_factory=dict)
    failed: dict[tuple[str, str], list[tuple[str, Push]]] = field(default_factory=dict)
    done: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    unanswered: set[str] = field(default_factory=set)
    # Shares that are under way, whose invocations died, and the pushes of each stream.
    shares: list[Share] = field(default_factory=list)
    lost: set[str] = field(default_factory=set)
    shared: dict[str, int] = field(default_factory=dict)

    def late(self, now: int) -> bool:
        """Whether what was left of a publisher's batch may be dropped."""
        return now >= self.began + 4_000

    def place(self, id: str, stream: str) -> tuple[str, str]:
        """Return what has one push at a time: a connection; where there are shares, a
        stream of it, because they are pushed beside its others."""
        return id, stream if self.shared else ""


# ---- the log -------------------------------------------------------------------------


@invariant("G1", "put")
def seqs_are_dense(world: World, record: Record, tail: Record | None) -> None:
    if tail is None:
        assert record.seq == 1, f"an empty stream begins at 1, not {record.seq}"
    else:
        assert record.seq == tail.next, f"{record.seq} is put behind {tail.next - 1}"
    values = chunks.decode(record.chunks) if record.kind == "data" else [None]
    assert record.count == len(values), "count is how many chunks there are"
    remember(world, record, values)


@invariant("G2", "put")
def one_run_is_active(world: World, record: Record, tail: Record | None) -> None:
    if tail is None:
        assert record.kind == "open", f"a log begins with {record.kind}"
        return
    if record.kind == "open":
        assert record.run > tail.run, "a later run has a greater id"
        assert record.prev == tail.run, "prev is the run before"
        return
    assert (record.run, record.base) == (tail.run, tail.base), (
        f"{record.kind} of {record.run} behind {tail.run}"
    )
    if tail.kind == "end":
        assert record.kind == "claim", f"{record.kind} behind an end"
        assert tail.reason == rules.PRODUCER_LOST, f"a claim behind {tail.reason}"


@invariant("G2", "put")
def nothing_but_an_open_follows_what_expired(
    world: World, record: Record, tail: Record | None
) -> None:
    if tail is not None and record.kind != "open":
        late = world.kernel.now - tail.expires_at * 1000
        assert late < 60_000, f"{record.kind} behind a tail that expired {late} ms ago"


@invariant("G3", "put")
def chunks_are_in_once_and_in_order(
    world: World, record: Record, tail: Record | None
) -> None:
    if record.kind != "open":
        assert tail is not None
        assert record.index == tail.chunks_in, "index counts the run's chunks"
    if record.kind != "data":
        return
    values = chunks.decode(record.chunks)
    run = (record.stream, record.run)
    for place, value in enumerate(values):
        label, number = whose(value)
        assert value == content(label, number), "a chunk is not what was written"
        if record.shared:
            seen = world.book.calls.setdefault(record.writer, {}).setdefault(label, [])
            if seen and not any(
                world.log.last(one.stream, one.seq) is one
                and not one.expired(world.kernel.now + SKEW)
                for one in seen
            ):
                seen.clear()  # a key is honoured for as long as its records are kept
            what = f"{str(value)[:40]} behind {len(seen)} chunks"
            assert number == len(seen), what
            seen.append(record)
        else:
            assert world.book.labels.setdefault(run, label) == label, "two answers mix"
            assert number == record.index + place, (
                f"{str(value)[:40]} is chunk {record.index + place}"
            )


@invariant("G3", "acknowledged")
def what_was_acknowledged_is_in_the_log(
    world: World, attempt: Attempt, call: Any, began: int
) -> None:
    core = attempt.core
    run = world.book.runs.get((attempt.job.stream, core.run or ""), [])
    known = sum(one.count for one in run if one.kind == "data" and one.last <= core.seq)
    assert known == core.already, (
        f"{attempt.name}: {core.already} of {known} are said to be in"
    )
    if type(call).__name__ == "End":
        assert any(one.reason == call.reason for one in run), "the end is not in"


@invariant("G3", "caller-told")
def what_a_caller_was_told_is_in_the_log(
    world: World, caller: Caller, run: str, following: int, done: int
) -> None:
    records = world.book.runs.get((caller.stream, run), [])
    known = sum(
        one.count for one in records if one.kind == "data" and one.last < following
    )
    assert known == done, f"{caller.name}: {done} of {known} are said to be in"


@invariant("G4", "published")
def a_repeated_call_appends_once(world: World, call: OneCall) -> None:
    writers = [
        seen[call.label] for seen in world.book.calls.values() if call.label in seen
    ]
    assert len(writers) == 1, f"{call.name} is in {len(writers)} times"
    assert len(writers[0]) == call.count, "a call is in, but not whole"


@invariant("G5", "refused")
def the_loser_is_told_what_befell_it(
    world: World, attempt: Attempt, call: Any, error: TailraceError, began: int
) -> None:
    stream, run = attempt.job.stream, attempt.core.run or ""
    records = world.book.runs.get((stream, run), [])
    if isinstance(error, Cancelled):
        assert any(one.reason == "cancelled" for one in records), "nobody cancelled"
    elif isinstance(error, Superseded):
        assert (stream, error.run) in world.book.runs, "no later run is in the log"
        assert error.run > run
    elif isinstance(error, Fenced):
        others = any(
            one.writer != attempt.name and one.kind != "end" for one in records
        )
        assert others or attempt.job.namesakes, "nobody fenced it"
    elif isinstance(error, StreamEnded) and error.reason not in (None, "expired"):
        assert any(one.reason == error.reason for one in records), "it has not ended"
    elif isinstance(error, Busy):
        # Refused at once, by a lease that held at some time of the call.
        assert error.until > began - SKEW or attempt.core.run == error.run, (
            f"busy by a lease that was over {began - error.until} ms before"
        )


@invariant("G6", "put")
def a_fenced_writer_gets_nothing_in(
    world: World, record: Record, tail: Record | None
) -> None:
    owner = world.book.owner
    if record.kind in ("open", "claim"):
        owner[record.stream] = record.writer
        if record.kind == "claim":
            assert tail is not None
            assert record.epoch == tail.epoch + 1, "a claim counts"
        return
    assert tail is not None
    assert record.epoch == tail.epoch, "only a claim counts"
    if record.kind == "data" and not record.shared:
        assert record.writer == owner[record.stream], f"{record.writer} is fenced"


@invariant("G6", "put")
def a_claim_waits_for_the_lease(
    world: World, record: Record, tail: Record | None
) -> None:
    if record.kind != "claim" or tail is None or not tail.active:
        return
    lease = world.state.lease(tail.stream, tail.run, tail.writer)
    assert (lease and lease.handed_over) or past_due(world, tail), (
        f"{record.writer} claims while the lease of {tail.writer} holds"
    )


@invariant("G7", "told")
def a_cancel_stops_what_it_names(
    world: World, asked: dict[str, Any], answer: dict[str, Any], began: int
) -> None:
    if asked.get("operation") != "cancel" or not answer.get("run"):
        return
    run = world.book.runs.get((asked["stream"], answer["run"]), [])
    if answer["reason"] is None:
        return
    if answer["reason"] == "superseded":
        assert any(
            name == asked["stream"] and later > answer["run"]
            for name, later in world.book.runs
        )
    else:
        assert any(one.reason == answer["reason"] for one in run), (
            f"{answer['run']} is said to be {answer['reason']}"
        )


@invariant("G7", "put")
def _note_over(world: World, record: Record, tail: Record | None) -> None:
    over, run = world.book.over, (record.stream, record.run)
    if record.kind == "end":
        over[*run, ""] = world.kernel.now
    elif record.kind == "claim":
        assert tail is not None
        over.pop((*run, ""), None)
        over[*run, tail.writer] = world.kernel.now
        over.pop((*run, record.writer), None)
    elif record.kind == "open":
        for name in [name for name in over if name[:2] == run]:
            del over[name]  # what it was before has expired
        if tail is not None:
            over[tail.stream, tail.run, ""] = world.kernel.now


@invariant("G7", "acknowledged")
def a_silent_producer_learns_that_it_is_over(
    world: World, attempt: Attempt, call: Any, began: int
) -> None:
    if type(call).__name__ == "Renew":
        run = (attempt.job.stream, call.run)
        for writer in ("", attempt.name):
            since = world.book.over.get((*run, writer), began)
            assert since >= began, f"renewed, and over for {began - since} ms"


@invariant("G7", "put")
def only_the_named_run_is_cancelled(
    world: World, record: Record, tail: Record | None
) -> None:
    if record.reason == "cancelled":
        names = world.book.cancels.get(record.stream)
        assert names is not None, "nobody asked for a cancel"
        assert "*" in names or record.run in names, f"nobody cancelled {record.run}"


@invariant("G8", "put")
def nobody_alive_is_presumed_dead(
    world: World, record: Record, tail: Record | None
) -> None:
    if record.reason == rules.PRODUCER_LOST:
        assert tail is not None
        assert past_due(world, tail), f"{tail.writer} is alive, and said to be lost"


@invariant("G8", "told")
def who_looks_after_the_lease_finds_an_end(
    world: World, asked: dict[str, Any], answer: dict[str, Any], began: int
) -> None:
    if asked.get("operation") != "tail" or not answer.get("active"):
        return
    run = world.book.runs[asked["stream"], answer["run"]]
    tail = next(one for one in run if one.last == answer["tail"])
    row = world.state.lease(tail.stream, tail.run, tail.writer)
    until = alive_until(tail, row)
    assert until > began - SKEW, f"active, and past due for {began - until} ms"


# ---- delivery ------------------------------------------------------------------------


@invariant("G16", "pushing")
def nothing_is_pushed_that_is_not_in_the_log(world: World, id: str, frame: str) -> None:
    assert len(frame.encode()) <= 32_000, f"a frame of {len(frame)} bytes"
    if not frame.startswith('{"type":"slice"'):
        if frame.startswith('{"type":"cancelled"'):
            said = json.loads(frame)
            run = world.book.runs.get((said["stream"], said["run"]), [])
            if said["reason"] not in (None, "superseded"):
                assert any(one.reason == said["reason"] for one in run), (
                    "a cancel is shown that is not in the log"
                )
        return
    slice = json.loads(frame)
    check_slice(world, slice, slice["seq"])


@invariant("G13", "let-in")
def who_has_no_token_stays_outside(
    world: World, connection: Connection, origin: str | None
) -> None:
    assert connection.tokens, f"{connection.id} has come in without a genuine token"
    assert origin in (None, world.origin), f"{connection.id} has come from {origin}"


@invariant("G13", "pushing")
def an_auth_takes_what_it_does_not_grant(world: World, id: str, frame: str) -> None:
    connection = world.api.connections.get(id)
    if not frame.startswith('{"type":"authorized"') or connection is None:
        return
    if connection.overlapped:
        return  # a `subscribe` that was begun under the old token ends with it
    expires_at = json.loads(frame)["expires_at"]
    grants = [read for exp, _, read, _ in connection.tokens if exp == expires_at]
    for stream in world.streams:
        row = world.row(stream, id)
        assert row is None or any(stream in read for read in grants), (
            f"{id} is subscribed to {stream}, which its new token does not grant"
        )


@invariant("G13", "pushing")
def nobody_is_shown_what_is_not_granted(world: World, id: str, frame: str) -> None:
    if not frame.startswith('{"type":"slice"'):
        return
    slice_ = json.loads(frame)
    stream, connection = slice_["stream"], world.api.connections[id]
    process = world.kernel.process()
    # An answer to a frame that came in time is pushed to its end.
    now = process.began - SKEW if "replay" in slice_ else process.clock()
    assert any(
        stream in read and exp * 1000 > now for exp, _, read, _ in connection.tokens
    ), f"{stream} is pushed to {id}, whose token does not grant it, or is over"


@invariant("G12", "fanning")
def _begin(world: World, entries: list[Entry]) -> None:
    now = world.kernel.now
    streams = dict.fromkeys(one.record.stream for one in entries)
    rows = {
        stream: [
            row
            for row in world.state.subscribers(stream)
            if isinstance(row, Subscription)
            if row.exp * 1000 > now + SKEW
        ]
        for stream in streams
    }
    world.book.fanning[world.kernel.scope] = Fanning(rows, None, now)


@invariant("G12", "fanning")
def a_large_audience_is_left_alone_for_a_while(
    world: World, entries: list[Entry]
) -> None:
    for one in entries:
        rest = world.book.rests.get(one.record.stream, 0)
        left = rest - world.kernel.now
        assert left <= 1, f"{one.record.stream} is pushed to {left} ms too soon"


@invariant("G12", "fanned")
def _rest(world: World, entries: list[Entry], failed: list[str]) -> None:
    fanning = world.book.fanning[world.kernel.scope]
    for stream, pushes in fanning.shared.items():
        window = min(pushes * 1_000 // RATE, 20_000)
        world.book.rests[stream] = fanning.began + window


@invariant("G12", "sharing")
def _hand_over(world: World, scope: object, share: Share) -> None:
    fanning = world.book.fanning.get(scope)
    if fanning is not None:
        fanning.shares.append(share)
        stream = share.subscriptions[0].stream
        pushes = len(share.subscriptions) * len(share.frames)
        fanning.shared[stream] = fanning.shared.get(stream, 0) + pushes


@invariant("G12", "shared")
def _end_share(
    world: World, scope: object, share: Share, error: BaseException | None
) -> None:
    fanning = world.book.fanning.get(scope)
    if fanning is not None:
        fanning.shares.remove(share)
        if error is not None:
            fanning.lost |= {one.connection for one in share.subscriptions}


@invariant("G12", "fanned", "delivered-by")
def no_batch_ends_before_its_shares(world: World, *_: object) -> None:
    fanning = world.book.fanning[world.kernel.scope]
    if world.kernel.process().dead:
        return
    assert not fanning.shares, f"{len(fanning.shares)} shares are still pushed"


@invariant("G12", "delivering")
def a_publisher_pushes_a_stream_by_one_batch_at_a_time(
    world: World, pushes: Pushes, stream: str
) -> None:
    assert (pushes, stream) not in world.book.delivering, f"two batches of {stream}"
    world.book.delivering.add((pushes, stream))
    now = world.kernel.now
    rows = [
        row
        for row in world.state.subscribers(stream)
        if isinstance(row, Subscription)
        and row.exp * 1000 > now + SKEW
        and world.book.rows[stream, row.connection][0] <= now - LIST  # its `exp`, too
        and world.book.gone.get((pushes, row.connection), 0) <= now - LIST
    ]
    world.book.fanning[world.kernel.scope] = Fanning({stream: rows}, pushes, now)


@invariant("G12", "unanswered")
def _unanswered(world: World, stream: str) -> None:
    fanning = world.book.fanning.get(world.kernel.scope)
    if fanning is not None:
        fanning.unanswered.add(stream)


@invariant("G12", "pushing")
def a_connection_is_pushed_to_in_order(world: World, id: str, frame: str) -> None:
    fanning = world.book.fanning.get(world.kernel.scope)
    if fanning is None:
        return
    slice = json.loads(frame)
    place = fanning.place(id, slice["stream"])
    assert place not in fanning.pushing, f"two pushes to {id} at a time"
    fanning.pushing[place] = frame
    failed = fanning.failed.get(place, [])
    if failed:
        assert len(failed) == 1 and failed[0][0] == frame, f"{id} misses a slice"
        assert failed[0][1] is not Push.GONE, f"{id} is gone, and pushed to"
    for before in fanning.done.get(id, []):
        if before["stream"] == slice["stream"]:
            assert before["next"] <= slice["seq"], f"{id}: {slice['seq']} is late"


@invariant("G12", "pushed")
def _note_push(world: World, id: str, frame: str, outcome: Push | None) -> None:
    if outcome is Push.SLOW:
        world.book.slow[id] = world.book.slow.get(id, NEVER)[1], world.kernel.now
    fanning = world.book.fanning.get(world.kernel.scope)
    if fanning is None:
        return
    if fanning.pushes is not None and outcome is Push.GONE:
        world.book.gone[fanning.pushes, id] = world.kernel.now
    slice = json.loads(frame)
    place = fanning.place(id, slice["stream"])
    fanning.pushing.pop(place, None)
    if outcome is Push.DONE:
        fanning.failed.pop(place, None)
        fanning.done.setdefault(id, []).append(slice)
    elif outcome is not None:
        fanning.failed.setdefault(place, []).append((frame, outcome))


@invariant("G12", "fanned")
def one_client_never_fails_a_batch(
    world: World, entries: list[Entry], failed: list[str]
) -> None:
    fanning = world.book.fanning[world.kernel.scope]
    by_number = {str(one.sequence): one for one in entries}
    for number in failed:
        stream = by_number[number].record.stream
        assert stream in fanning.unanswered, f"{stream} failed the batch"


@invariant("G12", "ran")
def neither_client_nor_record_crashes_the_fan_out(
    world: World, error: BaseException | None
) -> None:
    assert error is None or isinstance(error, Killed), f"it raised {error!r}"


@invariant("G9", "fanned")
def what_the_feed_brings_is_pushed_or_comes_again(
    world: World, entries: list[Entry], failed: list[str]
) -> None:
    process = world.kernel.process()
    fanning = world.book.fanning.pop(world.kernel.scope)
    lowest = min((int(number) for number in failed), default=None)
    late = process.clock() >= process.began + 20_000
    for one in entries:
        record = one.record
        if one.poisoned or (lowest is not None and one.sequence >= lowest):
            continue
        assert record.stream not in fanning.unanswered, (
            f"{record.stream} is not reported from its first record on"
        )
        for id in missed(world, fanning, record):
            assert late, f"{id} subscribes, and is not pushed {record.seq}"


@invariant("G9", "delivered-by")
def who_subscribes_has_what_is_put_though_nothing_follows(
    world: World, pushes: Pushes, stream: str, records: list[Record], done: bool
) -> None:
    """Also who was not on the publisher's list yet. Only at rest, and where nobody
    stood still in between: what is lost else is found by the next `sync`, which may be
    25 s away."""
    now = world.kernel.now
    if world.book.fanning[world.kernel.scope].late(now):
        return
    for row in world.state.subscribers(stream):
        if not isinstance(row, Subscription):
            continue
        connection = world.api.connections[row.connection]
        since = world.book.rows[stream, row.connection][2]
        # Before, an answer may have been lost.
        if done and world.rests_at and since > world.rests_at + SOON:
            world.kernel.after(SOON, _has, world, connection, stream, records[-1], now)


@invariant("G9", "delivered-by")
def who_has_subscribed_for_a_second_is_pushed_to(
    world: World, pushes: Pushes, stream: str, records: list[Record], done: bool
) -> None:
    world.book.delivering.discard((pushes, stream))
    fanning = world.book.fanning.pop(world.kernel.scope)
    late = fanning.late(world.kernel.now)
    for record in records if done and not late else ():
        for id in missed(world, fanning, record):
            raise AssertionError(f"{id} subscribes, and is not pushed {record.seq}")


def _has(
    world: World, connection: Connection, stream: str, record: Record, put: int
) -> None:
    tab: Any = getattr(connection.client, "tab", connection.client)
    reader = getattr(tab, "readers", {}).get(stream)
    if reader is None or reader.cursor is None or world.strict:
        return
    if stream in getattr(tab, "one_run", ()):
        return  # it was done at the end of a run, and begins again when it likes
    stays = connection.open and not connection.cut and tab.connection is connection
    awake = world.kernel.now - SOON >= tab.stalled_until  # else its timers stand still
    row = world.row(stream, connection.id)
    since = world.book.rows[stream, connection.id][2]
    if not stays or not awake or row is None or since > put:
        return
    if not record.expired(world.kernel.now) and reader.cursor[1] < record.last:
        world.fail(
            "who_subscribes_has_what_is_put_though_nothing_follows",
            f"{reader.name} is at {reader.cursor}, and {record.last} was put",
        )


def missed(world: World, fanning: Fanning, record: Record) -> list[str]:
    """Return who subscribes still, and was not even tried with all of a record."""
    return [
        row.connection
        for row in fanning.rows[record.stream]
        if row.exp * 1000 >= world.kernel.now + SKEW
        and world.row(record.stream, row.connection) is not None
        # Who left and came again meanwhile has it by the answer to that.
        and world.book.rows[record.stream, row.connection][2] <= fanning.began
        and fanning.place(row.connection, record.stream) not in fanning.failed
        and row.connection not in fanning.lost
        and not passed_over(world, row.connection, fanning.began)
        and not any(
            slice["stream"] == record.stream
            and slice["seq"] <= record.seq
            and record.next <= slice["next"]
            for slice in fanning.done.get(row.connection, [])
        )
    ]


def passed_over(world: World, connection: str, now: int) -> bool:
    """Whether a connection may be passed over: it was slow lately, and twice; or just
    now, by the clock of another."""
    before, last = world.book.slow.get(connection, NEVER)
    lately = SLOW if before >= last - 2 * SLOW else LIST + SKEW
    return last >= now - lately


@invariant("G12", "waited")
def no_append_waits_for_a_push(
    world: World, attempt: Attempt, call: Any, waited: int
) -> None:
    if type(call).__name__ == "Append" and not attempt.job.by_lambda:
        assert waited == 0, f"{attempt.name} was held up for {waited} ms"


@invariant("G8", "acknowledged")
def a_renewal_lasts_as_long_as_it_says(
    world: World, attempt: Attempt, call: Any, began: int
) -> None:
    if type(call).__name__ == "Renew":
        lease = world.state.lease(call.stream, call.run, call.writer)
        assert lease is not None, "renewed, and no row is there"
        left = lease.until - began
        assert left >= 1_000 * call.lease - SKEW, f"renewed for {left} ms"


@invariant("G9", "pushing")
def an_answer_comes_with_a_subscription(world: World, id: str, frame: str) -> None:
    """And the row was there before the log was read: nothing that was put since is
    unknown to the fan-out."""
    process = world.kernel.process()
    for stream, tail, n in answers_in(frame):
        put_at, row_n, since = world.book.rows.get((stream, id), (0, 0, 0))
        assert put_at >= process.began, f"{id} is answered, and has no row"
        following = next(
            (
                one
                for one in world.log.range(stream, tail + 1)
                if row_n == n and (stream, one.seq) in world.book.put_at
            ),
            None,
        )
        if following is not None:
            at = world.book.put_at[stream, following.seq]
            assert at >= since, f"{following.seq} is neither replayed nor pushed"


@invariant("G9", "pushing", "pushed")
def an_answer_stops_at_the_first_failed_push(
    world: World, id: str, frame: str, outcome: Push | None = Push.DONE
) -> None:
    process = world.kernel.process()
    if process.name == "websocket" and frame.startswith('{"type":"slice"'):
        assert process not in world.book.stopped, "a slice behind one that failed"
        if outcome not in (Push.DONE, None):
            world.book.stopped.add(process)


@invariant("G10", "failed")
def nobody_with_a_good_token_is_given_up(
    world: World, name: str, error: TailraceError
) -> None:
    """But where functions know a key no more, or not yet, for up to a minute. Of a
    handshake that failed nobody is told why."""
    if world.ring["current"] == "k1":
        assert type(error) is not Unauthorized, f"{name}: {error!r}"


@invariant("G10", "told")
def what_is_read_is_dense(
    world: World, asked: dict[str, Any], answer: dict[str, Any], began: int
) -> None:
    if asked.get("operation") == "read" and "slices" in answer:
        at = answer["from"]
        for text in answer["slices"]:
            slice = json.loads(text)
            assert slice["seq"] == at + 1, f"{slice['seq']} is read behind {at}"
            at = slice["next"] - 1
        assert answer["more"] or at == answer["tail"], "more is there"


@invariant("G11", "expired")
def nothing_that_is_kept_is_said_to_be_gone(
    world: World, reader: Reader, run: str, cursor: tuple[str | None, int]
) -> None:
    here = world.log.last(reader.stream, cursor[1])
    kept = is_kept(world, reader.stream, cursor[1])
    if here is not None and kept and here.run == run == cursor[0]:
        assert not is_kept(world, reader.stream, cursor[1] + 1), (
            f"{run} goes on behind {cursor[1]}, and is said to be expired"
        )


@invariant("G9", "row-gone")
def an_older_frame_does_not_unsubscribe(
    world: World, before: Subscription | None, n: int, after: Subscription | None
) -> None:
    if before is not None and before.n > n:
        assert after is not None, f"row {before.n} is removed by an older frame, {n}"


@invariant("G9", "row-dropped")
def only_the_row_that_was_read_is_dropped(
    world: World,
    before: Subscription | None,
    row: Subscription,
    after: Subscription | None,
) -> None:
    if before is not None and before.n != row.n:
        assert after is not None, "a newer row is dropped for an older one's 410"


@invariant("G10", "delivered")
def what_is_shown_is_the_log(
    world: World, reader: Reader, slice: dict[str, Any], first: int
) -> None:
    run = slice["run"]
    due = reader.trail.get(run)
    if due is None:
        opened = first == slice["seq"] and slice.get("open") is not None
        assert opened or first == reader.begins_at, f"{run} begins in the middle"
    else:
        assert first == due, f"{reader.name}: {first} is shown, {due} is next"
    check_slice(world, {**slice, "stream": reader.stream}, first)
    reader.trail[run] = slice["next"]


@invariant("G11", "superseded")
def a_run_is_shown_to_its_end(world: World, reader: Reader, run: str, at: int) -> None:
    """`at`: the seq of the open that follows."""
    end = [one for one in world.book.runs[reader.stream, run] if one.kind == "end"]
    facts = world.book.facts.get((reader.stream, run, at - 1), [])
    assert facts, f"{run} is not shown up to {at - 1}"
    # Who reads one run waits for it where it is presumed dead.
    waits = () if reader.follow else (("end", rules.PRODUCER_LOST),)
    assert not any(
        isinstance(one, tuple) and one[0] == "end" and one not in waits for one in facts
    ), f"{run} ended, {end[-1].reason if end else None}, and is shown as superseded"


@invariant("G14", "handled")
def every_frame_is_answered(
    world: World, connection: Connection, text: str, error: BaseException | None
) -> None:
    assert error is None or isinstance(error, Killed), f"a frame raised {error!r}"


@invariant("G15", "logged")
def nothing_that_was_said_is_logged(world: World, line: str) -> None:
    said = [*world.book.tokens, "planted-secret", "job", "call"]
    assert not any(one in line for one in said), "a token, a secret or a chunk"


# ---- at rest -------------------------------------------------------------------------


@invariant("G10", "rest")
def everyone_who_stays_has_all_of_it(world: World) -> None:
    for tab in Tab.of(world):
        for reader in tab.readers.values():
            tail = world.log.last(reader.stream)
            if tail is None or tail.expired(world.kernel.now):
                continue
            if reader.cursor is None:
                waits = reader.wanted is not None and reader.wanted > tail.run
                assert waits or not is_whole(world, tail), f"{reader.name} has nothing"
                continue
            assert reader.cursor[1] == tail.last, (
                f"{reader.name} is at {reader.cursor}, the log at {tail.last}"
            )


@invariant("G8", "rest")
def every_run_that_was_looked_at_has_ended(world: World) -> None:
    for tab in Tab.of(world):
        for reader in tab.readers.values():
            tail = world.log.last(reader.stream)
            assert tail is None or not tail.active or tail.expired(world.kernel.now), (
                f"{reader.stream} is watched, and {tail.run} never ends"
            )


@invariant("G9", "rest")
def the_feed_is_done(world: World) -> None:
    assert world.feed.drained, "a shard of the feed is blocked"


@invariant("G9", "rest")
def what_was_put_is_pushed(world: World) -> None:
    now = world.kernel.now
    for pushes in world.pushes:
        if not any(one.dead or one.thaws_at > now for one in pushes.processes):
            assert pushes.direct.settled(), "a publisher has forgotten to push"
            assert not pushes.owed, f"a publisher has dropped {min(pushes.owed)}"


@invariant("G9", "rest")
def what_was_given_up_is_in_the_queue(world: World) -> None:
    """Every record was in a batch that was done with, or in one that is named."""
    for entry in world.feed.entries:
        named = any(
            one["start"] <= entry.sequence <= one["end"] for one in world.feed.given_up
        )
        assert entry.done or named, f"{entry.record.seq} is lost, and not in the queue"


@invariant("G19", "rest")
def every_row_that_is_left_expires(world: World) -> None:
    """What crashed and killed functions leave behind goes by itself."""
    state, latest = world.state, world.kernel.now // 1000 + RETENTION + LONGEST
    rows = [("connection", id) for id in state._connections]
    for stream, subscribed in state._subscriptions.items():
        rows += [("subscription", f"{stream} {id}") for id in subscribed]
    rows += [("lease", " ".join(name)) for name in state._leases]
    rows += [("key", " ".join(name)) for name in state._keys]
    for row in rows:
        assert row in world.expires, f"{row} never expires"
        assert world.expires[row] <= latest, f"{row} expires in {world.expires[row]}"


def is_kept(world: World, stream: str, seq: int) -> bool:
    """Whether the record at a key can still be read."""
    record = world.log.last(stream, seq)
    return (
        record is not None
        and record.last >= seq
        and not record.expired(world.kernel.now + SKEW)
    )


def is_whole(world: World, tail: Record) -> bool:
    """Whether the tail's run is all there: TTL deletes in any order."""
    due = tail.base
    for record in world.log.range(tail.stream, tail.base):
        if record.seq != due or record.expired(world.kernel.now):
            return False
        due = record.next
    return True


# ---- the truth -----------------------------------------------------------------------


def remember(world: World, record: Record, values: list[Any]) -> None:
    book = world.book
    run = (record.stream, record.run)
    if record.kind == "open":
        values = [("open",)]
        book.runs[run] = []  # all that it was before has expired
    elif record.kind == "claim":
        values = [("claim", record.epoch)]
    elif record.kind == "end":
        values = [("end", record.reason)]
    for place, value in enumerate(values):
        book.facts.setdefault((*run, record.seq + place), []).append(value)
    book.runs.setdefault(run, []).append(record)
    book.put_at[record.stream, record.seq] = world.kernel.now


def answers_in(frame: str) -> list[tuple[str, int, int]]:
    """Return stream, tail and `n` of each answer in a frame."""
    if frame.startswith('{"type":"subscribed"'):
        one = json.loads(frame)
        return [(one["stream"], one["tail"], one["n"])]
    if frame.startswith('{"type":"synced"'):
        all = json.loads(frame)
        tails = all["tails"].items()
        return [(name, one["tail"], all["n"]) for name, one in tails if "tail" in one]
    return []


def check_slice(world: World, slice: dict[str, Any], first: int) -> None:
    """See that a slice says what the log holds, from seq `first` on."""
    stream, run = slice["stream"], slice["run"]

    def facts(seq: int) -> list[Any]:
        return world.book.facts.get((stream, run, seq), [])

    if "compact" not in slice:
        for seq, value in values_of(slice):
            if seq >= first:
                held = facts(seq)
                assert value in held, f"{run} has no {str(value)[:40]} at {seq}"
        return
    assert first == slice["seq"], "a compacted slice is taken whole"
    head = slice.get("open") is not None or slice.get("claim") is not None
    seq, counts = slice["seq"] + head, slice["counts"]
    upto = slice["next"] - (slice.get("end") is not None)
    said = slice.get("chunks", [])
    assert len(said) == len(counts), "a count for each chunk"
    assert not said or seq + sum(counts) == upto, "what is left out is counted"
    for chunk, count in zip(said or [None], counts or [upto - seq], strict=True):
        held = [facts(one) for one in range(seq, seq + count)]
        # A run that was opened anew has had two logs; which one, nobody can tell.
        if all(len(one) == 1 for one in held):
            whole = merged([one[0] for one in held], slice["compact"])
            assert chunk == whole, f"{str(chunk)[:40]} stands for {seq} and {count - 1}"
        seq += count


def values_of(slice: dict[str, Any]) -> list[tuple[int, Any]]:
    """Return what a slice says of each seq."""
    values: list[Any] = []
    if slice.get("open") is not None:
        values.append(("open",))
    if slice.get("claim") is not None:
        values.append(("claim", slice["claim"]["epoch"]))
    values.extend(slice.get("chunks", ()))
    if slice.get("end") is not None:
        values.append(("end", slice["end"]["reason"]))
    assert slice["seq"] + len(values) == slice["next"], "a slice is dense"
    return list(enumerate(values, slice["seq"]))


def past_due(world: World, tail: Record) -> bool:
    """Whether the tail's run was past due at some time since the tail was put."""
    if (tail.stream, tail.seq) in world.book.lapsed:
        return True
    lease = world.state.lease(tail.stream, tail.run, tail.writer)
    return world.kernel.now + SKEW >= alive_until(tail, lease)


def alive_until(tail: Record, lease: Lease | None) -> int:
    """Rule 6, in words of our own."""
    return max(tail.at + 1_000 * tail.lease, lease.until if lease else 0)


@invariant("G8", "renewed")
def _note_lapse(world: World, stream: str, run: str, writer: str) -> None:
    tail = world.log.last(stream)
    if tail and (tail.run, tail.writer) == (run, writer) and past_due(world, tail):
        world.book.lapsed.add((stream, tail.seq))


def describe(world: World, event: str, facts: tuple[Any, ...]) -> None:
    """Write an event into the trace."""
    if event == "put":
        record = facts[0]
        world.note(
            f"put     {record.stream} {record.seq}-{record.last} {record.kind} "
            f"{record.run[9:18]} by {record.writer} {record.reason or ''} "
            f"{record.chunks[:30]}"
        )
    elif event == "pushed":
        id, frame, outcome = facts
        world.note(f"push    {id} {outcome} {frame[:180]}")
    elif event == "taken":
        world.note(f"frame   {facts[0].id} {facts[1][:160]!a}")
    elif event == "delivered":
        reader, slice, first = facts
        world.note(
            f"shows   {reader.name} {slice['run'][9:18]} {first}-{slice['next'] - 1}"
        )
    elif event in ("acknowledged", "refused"):
        world.note(f"{event} {facts[0].name} {str(facts[1])[:100]} {facts[2:]}")
    elif event == "remove":
        world.note(f"remove  {facts}")
    elif event == "fanned":
        world.note(f"fanned  {[one.sequence for one in facts[0]]} failed {facts[1]}")
