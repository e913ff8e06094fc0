"""The AI SDK's dialect: every frame has its place, whoever works it out."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailrace import chunks, dialect, rules
from tailrace.dialect import NOTHING, START, Step, shift_of, steps
from tailrace.records import Record
from tailrace.slices import MAX_FRAME_BYTES
from tailrace.watchers import Request
from tests.support.uimessages import messages
from tests.support.worlds import STREAM, opened, run_id, stamp

R1, R2 = run_id(1), run_id(2)
LATER = 2_000_000_000
INTERRUPTED = {"type": "finish", "finishReason": "interrupted"}


def request(**values: Any) -> Request:
    whole = {
        "connection": "c1",
        "id": "r1",
        "stream": STREAM,
        "run": R1,
        "exp": LATER,
        "prefix": 1,
        "shift": 0,
        "sent": NOTHING,
        "seq": 1,
        "at": 0,
    }
    return Request(**{**whole, **values})


def delta(text: str) -> dict[str, Any]:
    return {"type": "text-delta", "id": "t", "delta": text}


def log(*pieces: Any) -> list[Record]:
    """Return a log: a list is a record of chunks, `claim` a claim, else an end."""
    records = [opened(R1)]
    for piece in pieces:
        last = records[-1]
        if isinstance(piece, list):
            texts = [chunks.encode(chunk) for chunk in piece]
            record = rules.data_after(last, chunks.join(texts), len(texts), stamp())
        elif piece == "claim":
            record = rules.claim_after(last, stamp("w2"))
        elif piece == "open":
            record = rules.open_after(last, STREAM, R2, stamp("w3"))
        else:
            reason, _, message = piece.partition(": ")
            record = rules.end_after(last, reason, stamp(), message or None)
        records.append(record)
    return records


def frames(found: Any) -> list[dict[str, Any]]:
    return [json.loads(step.frame) for step in found]


def brief(found: Any) -> list[Any]:
    """Return the frames' sequences, or types where they have none."""
    return [frame.get("sequence", frame["type"]) for frame in frames(found)]


def after(step: Step, row: Request) -> Request:
    return replace(row, sent=step.sent, seq=step.seq)


# ---- a run from its beginning --------------------------------------------------------


def test_a_run_is_a_start_its_chunks_and_an_end() -> None:
    records = log([delta("a"), delta("b")], "claim", [delta("c")], "completed")
    assert frames(steps(request(), records)) == [
        {"type": "start", "requestId": "r1"},
        *(
            {"type": "chunk", "requestId": "r1", "sequence": place, "chunk": delta(one)}
            for place, one in enumerate("abc")
        ),
        {"type": "end", "requestId": "r1"},
    ]


def test_a_run_that_goes_on_has_no_end() -> None:
    assert brief(steps(request(), log([delta("a")]))) == ["start", 0]


@pytest.mark.parametrize(
    ("end", "told"),
    [
        ("completed", [{"type": "end"}]),
        (
            "cancelled",
            [{"type": "chunk", "sequence": 1, "chunk": INTERRUPTED}, {"type": "end"}],
        ),
        (
            "open",
            [{"type": "chunk", "sequence": 1, "chunk": INTERRUPTED}, {"type": "end"}],
        ),
        ("error: No such model.", [{"type": "error", "errorText": "No such model."}]),
        ("error", [{"type": "error", "errorText": dialect.BROKE_OFF}]),
        ("producer_lost", [{"type": "error", "errorText": dialect.BROKE_OFF}]),
    ],
)
def test_an_answer_that_was_cut_short_never_looks_whole(
    end: str, told: list[dict[str, Any]]
) -> None:
    found = list(steps(request(), log([delta("a")], end)))
    assert frames(found[2:]) == [{"requestId": "r1", **frame} for frame in told]
    assert [step.last for step in found] == [False] * (len(found) - 1) + [True]


@pytest.mark.parametrize("end", ["cancelled", "open"])
def test_what_is_added_to_a_run_has_the_same_place_when_it_comes_again(
    end: str,
) -> None:
    records = log([delta("a")], end)
    found = list(steps(request(), records))
    row = after(found[2], request())
    assert steps_behind(row, records) == [step.frame for step in found[2:]]


def steps_behind(row: Request, records: list[Record]) -> list[str]:
    return [
        step.frame
        for step in steps(row, [one for one in records if one.seq >= row.seq])
    ]


@pytest.mark.parametrize("chunk", ["text", 7, None, [1], {"text": "a"}, {"type": 1}])
def test_a_chunk_that_is_none_of_the_sdks_fails_its_request_and_no_other(
    chunk: Any,
) -> None:
    """The SDK would close the socket, and so end every stream on it."""
    found = list(steps(request(), log([delta("a"), chunk, delta("b")])))
    assert brief(found) == ["start", 0, "error"]
    assert found[-1].last


def test_what_has_expired_is_an_error() -> None:
    records = log([delta("a")], [delta("b")], [delta("c")])
    row = request(sent=0, seq=3)
    assert brief(steps(row, [records[3]])) == ["error"]
    begun = request(prefix=5, shift=2)
    assert brief(steps(begun, records[2:])) == ["start", "error"]
    assert brief(steps(begun, [records[0], *records[2:]])) == ["start", "error"]
    assert brief(steps(begun, records[:2])) == ["start", "error"]


def test_a_message_and_a_name_from_anywhere_stay_json() -> None:
    records = log('error: "\\ \ud83d\n')
    (_, told) = frames(steps(request(id="a.b:c/@=+-"), records))
    assert told["requestId"] == "a.b:c/@=+-"


def test_the_longest_chunk_fits_a_frame() -> None:
    text = "x" * (chunks.MAX_CHUNKS_BYTES - len(chunks.encode(delta(""))))
    records = log([delta(text)])
    (_, step) = steps(request(id="r" * 64), records)
    assert len(step.frame) <= MAX_FRAME_BYTES - 3_000


# ---- a run that is resumed -----------------------------------------------------------


def resumed(records: list[Record], count: int) -> Request:
    """Return the request of somebody who resumes when `count` records are in."""
    prefix = records[count - 1].next
    return request(prefix=prefix, shift=shift_of(records[:count]))


def test_three_thousand_deltas_are_a_few_frames_and_what_follows_moves_up() -> None:
    many = [delta("x") for _ in range(3_000)]
    pieces = [[{"type": "start"}], *(many[i : i + 100] for i in range(0, 3_000, 100))]
    records = log(*pieces, [delta("y")], "completed")
    found = frames(steps(resumed(records, 32), records))
    assert brief(steps(resumed(records, 32), records)) == ["start", 0, 1, 2, "end"]
    assert found[2]["chunk"]["delta"] == "x" * 3_000
    assert found[3]["chunk"]["delta"] == "y"


def test_a_prefix_of_nothing_but_what_was_only_for_then() -> None:
    passing = {"type": "data-progress", "data": 1, "transient": True}
    records = log([passing], [delta("a")])
    assert brief(steps(resumed(records, 2), records)) == ["start", 0]


@settings(max_examples=50, deadline=None)
@given(messages(), st.data())
def test_wherever_it_is_cut_and_gone_on_with_the_frames_are_the_same(
    message: list[dict[str, Any]], data: st.DataObject
) -> None:
    """The row's `sent` and `seq` after any frame are enough to work out the rest."""
    pieces: list[Any] = []
    rest = list(message)
    while rest:
        size = data.draw(st.integers(1, 5))
        pieces.append(rest[:size])
        rest = rest[size:]
        if data.draw(st.integers(0, 5)) == 0:
            pieces.append("claim")
    end = data.draw(st.sampled_from(["completed", "cancelled", "open", "error"]))
    records = log(*pieces, end)
    row = resumed(records, data.draw(st.integers(1, len(records) - 1)))
    found = list(steps(row, records))
    whole = [step.frame for step in found]
    sequences = [one for one in brief(found) if isinstance(one, int)]
    assert sequences == list(range(len(sequences)))
    cut = data.draw(st.integers(0, len(found) - 2))
    again = steps_behind(after(found[cut], row), records)
    # What is added at the end does not count as sent, and comes again.
    assert again in (whole[cut + 1 :], whole[cut:])


def test_a_lower_bound_only_repeats() -> None:
    records = log([delta("a"), delta("b")], [delta("c")], "completed")
    found = list(steps(request(), records))
    row = replace(after(found[1], request()), sent=START)
    assert steps_behind(row, records) == [step.frame for step in found[1:]]
