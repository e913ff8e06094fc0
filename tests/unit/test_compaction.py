"""Compaction keeps what a consumer makes of the chunks, and every seq."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailrace import chunks as chunk_texts
from tailrace.compaction import READ_BYTES, Compacted, Mode, compact
from tailrace.errors import Unavailable
from tailrace.records import Record
from tailrace.slices import MAX_FRAME_BYTES, merge
from tests.support.uimessages import MAJORS, Read, messages, sdk_reader

RUN = "0193a000-0000-7000-8000-000000000001"


def records_of(chunks: Sequence[Any], sizes: Sequence[int] = ()) -> list[Record]:
    """A run of these chunks, `sizes` of them in each of its records, and its end."""
    found: list[Record] = []

    def put(kind: Any, count: int, chunks: str = "") -> None:
        found.append(
            Record(
                stream="s",
                seq=found[-1].next if found else 1,
                kind=kind,
                run=RUN,
                base=1,
                writer="w",
                epoch=0,
                count=count,
                index=found[-1].chunks_in if found else 0,
                at=len(found),
                lease=30,
                expires_at=1 << 40,
                chunks=chunks,
                reason="completed" if kind == "end" else None,
            )
        )

    put("open", 1)
    rest = [chunk_texts.encode(chunk) for chunk in chunks]
    sizes = [*sizes, *[1] * len(rest)]
    for size in sizes:
        if rest:
            put("data", len(rest[:size]), ",".join(rest[:size]))
            rest = rest[size:]
    put("end", 1)
    return found


def behind(records: list[Record], after: int) -> list[Record]:
    """What lies behind a cursor, as a replay reads it."""
    rest = [record for record in records if record.last > after]
    if rest and rest[0].seq <= after:
        rest[0] = rest[0].behind(after)
    return rest


def shown(records: Sequence[Record], mode: Mode) -> list[Any]:
    """The chunks of what compaction leaves."""
    return [
        value
        for record in compact(records, mode)
        if record.kind == "data"
        for value in chunk_texts.decode(record.chunks)
    ]


def compacted(chunks: Sequence[Any], mode: Mode = "ui-message") -> list[Any]:
    return shown(records_of(chunks), mode)


def text(delta: str, id: str = "t", **more: Any) -> dict[str, Any]:
    return {"type": "text-delta", "id": id, "delta": delta, **more}


# ---- what merges -------------------------------------------------------------------


def test_a_long_answer_becomes_a_handful_of_chunks() -> None:
    answer = [
        {"type": "start", "messageId": "m"},
        {"type": "text-start", "id": "t"},
        *[text(f"word{i} ") for i in range(3000)],
        {"type": "text-end", "id": "t"},
        {"type": "finish"},
    ]
    records = records_of(answer)
    few = shown(records, "ui-message")
    assert len(few) <= 7
    assert "".join(c.get("delta", "") for c in few) == "".join(
        c.get("delta", "") for c in answer
    )
    frames = [piece.frame() for piece in merge(compact(records, "ui-message"))]
    assert len(frames) <= 2


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (text("a"), text("b", id="u")),
        (text("a"), {"type": "reasoning-delta", "id": "t", "delta": "b"}),
        (text("a"), text("b", providerMetadata={"x": {"y": 1}})),
        (
            text("a", providerMetadata={"x": {"y": 1}}),
            text("b", providerMetadata={"x": {"y": True}}),
        ),
        ({"type": "data-x", "data": 1, "id": "i"}, {"type": "data-x", "data": 2}),
        (text("a"), {"type": "text-delta", "id": "t"}),
        (text("a"), {"type": "text-delta", "id": 5, "delta": "b"}),
        ("a", "b"),
        (1, 1),
    ],
)
def test_what_is_not_the_same_part_does_not_merge(first: Any, second: Any) -> None:
    assert compacted([first, second]) == [first, second]


def test_tool_inputs_merge_too() -> None:
    deltas = [
        {"type": "tool-input-delta", "toolCallId": "c", "inputTextDelta": piece}
        for piece in ('{"a":', "1", "}")
    ]
    assert compacted(deltas) == [{**deltas[0], "inputTextDelta": '{"a":1}'}]


def test_equal_metadata_does_not_stand_in_the_way() -> None:
    more: dict[str, Any] = {"providerMetadata": {"x": {"y": 1}}}
    assert compacted([text("a", **more), text("b", **more)]) == [text("ab", **more)]


def test_transient_data_is_left_out_and_its_seq_is_counted() -> None:
    transient = {"type": "data-progress", "data": 1, "transient": True}
    kept = {"type": "data-progress", "data": 1, "transient": False}
    chunks = [transient, text("a"), transient, text("b"), kept, transient]
    records = records_of(chunks)
    assert shown(records, "ui-message") == [text("ab"), kept]
    (data,) = (r for r in compact(records, "ui-message") if isinstance(r, Compacted))
    assert data.counts == (4, 2)
    assert compacted([transient, transient]) == []


def test_an_emoji_cut_in_two_is_whole_again() -> None:
    (whole,) = compacted([text("\ud83d"), text("\ude00")])
    assert json.loads(json.dumps(whole))["delta"] == "😀"


def test_texts_merge_in_the_mode_for_texts() -> None:
    chunks = ["Hel", "lo", {"text": "a"}, {"text": "b"}, {"delta": "c"}, 1, "x"]
    assert compacted(chunks, "text") == [
        "Hello",
        {"text": "ab"},
        {"delta": "c"},
        1,
        "x",
    ]
    assert compacted([{"text": "a", "at": 1}, {"text": "b", "at": 2}], "text") == [
        {"text": "a", "at": 1},
        {"text": "b", "at": 2},
    ]


@pytest.mark.parametrize(
    "chunks",
    [
        '{"type":',
        "1x2",
        "[" * 9_000,
        '{"type":"text-delta","id":"t","delta":"a","n":1e999}',
    ],
)
def test_chunks_that_nobody_can_have_written_are_no_fault_of_whoever_asks(
    chunks: str,
) -> None:
    opened, data, end = records_of(["x"])
    with pytest.raises(Unavailable):
        list(compact([opened, replace(data, chunks=chunks), end], "ui-message"))


def test_a_chunk_that_nothing_merges_with_keeps_its_very_text() -> None:
    opened, data, end = records_of(["x"])
    odd = '{"type": "data-x",  "data": 1.0}'
    (_, kept, _) = compact([opened, replace(data, chunks=odd), end], "ui-message")
    assert kept.chunks == odd


# ---- properties --------------------------------------------------------------------

SIZES = st.lists(st.integers(1, 40), max_size=20)


@pytest.fixture(scope="module")
def read() -> Iterator[Read]:
    with sdk_reader() as ask:
        yield ask


@pytest.mark.parametrize("major", MAJORS)
@settings(max_examples=40)
@given(chunks=messages(), sizes=SIZES)
def test_the_sdks_reader_makes_the_same_of_it_from_every_cursor(
    read: Read, major: int, chunks: list[Any], sizes: list[int]
) -> None:
    """Compacted and plain replay, behind whatever prefix was shown: deep-equal."""
    records = records_of(chunks, sizes)
    replays = [
        [*chunks[:after], *shown(behind(records, after + 1), "ui-message")]
        for after in range(len(chunks) + 1)
    ]
    whole, *others = read(major, [chunks, *replays])
    for after, other in enumerate(others):
        assert other == whole, f"replayed behind {after}"


def test_the_readers_show_what_they_are_given(read: Read) -> None:
    """The comparison above would hold for readers that show nothing."""
    hello = [
        {"type": "start", "messageId": "m"},
        {"type": "text-start", "id": "t"},
        text("Hel"),
        text("lo"),
    ]
    for major in MAJORS:
        (found,) = read(major, [hello])
        assert found["message"]["id"] == "m"
        assert found["message"]["parts"][-1]["text"] == "Hello"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
ANY = JSON | st.builds(text, st.text(), st.sampled_from("tu")) | st.just(
    {"type": "data-x", "data": 0, "transient": True}
)  # fmt: skip


BULKY = st.builds(
    lambda size: {"type": "data-x", "transient": True, "data": "x" * size},
    st.sampled_from([10, 20_000, 27_000]),
)
FEW = st.lists(
    BULKY | st.builds(text, st.sampled_from(["a", "b" * 20_000])) | st.just(1),
    max_size=40,
)


@given(FEW)
def test_a_slice_stands_for_a_bounded_piece_of_the_log_and_counts_it(
    chunks: list[Any],
) -> None:
    records = records_of(chunks)
    expected = 1
    for piece in merge(compact(records, "ui-message", READ_BYTES)):
        assert piece.read <= READ_BYTES
        slice_ = json.loads(piece.frame(replay=True))
        assert slice_["seq"] == expected
        expected = slice_["next"]
        others = ("open" in slice_) + ("end" in slice_)
        counts = slice_.get("counts", [1] * len(slice_.get("chunks", [])))
        assert len(counts) == len(slice_.get("chunks", []))
        stood_for = slice_["next"] - slice_["seq"] - others
        assert sum(counts) == stood_for or slice_["counts"] == []
    assert expected == records[-1].next


@given(st.lists(ANY, max_size=40), SIZES, st.sampled_from(["ui-message", "text"]))
def test_every_seq_is_counted_once_and_in_order(
    chunks: list[Any], sizes: list[int], mode: Mode
) -> None:
    records = records_of(chunks, sizes)
    few = list(compact(records, mode))
    assert [few[0].kind, few[-1].kind] == ["open", "end"]
    expected = 1
    for record in few:
        assert record.seq == expected
        expected = record.next
        if isinstance(record, Compacted):
            assert len(record.counts) == len(chunk_texts.decode(record.chunks))
            assert not record.counts or sum(record.counts) == record.count
    assert expected == records[-1].next


@given(
    st.lists(st.integers(1, 9000), min_size=1, max_size=30),
    st.sampled_from("aé\n😀\ud83d"),
)
def test_a_slice_of_compacted_chunks_fits_a_frame_and_says_what_it_stands_for(
    lengths: list[int], sign: str
) -> None:
    chunks = [text(sign * (n // len(sign.encode("utf-8", "replace")))) for n in lengths]
    chunks = [c for c in chunks if chunk_texts.size(chunk_texts.encode(c)) < 28_000]
    expected = 1
    found = ""
    for piece in merge(compact(records_of(chunks), "ui-message")):
        frame = piece.frame(replay=True)
        assert len(frame.encode()) <= MAX_FRAME_BYTES
        slice_ = json.loads(frame)
        assert slice_["seq"] == expected
        expected = slice_["next"]
        counts = slice_.get("counts", [1] * len(slice_.get("chunks", [])))
        assert len(counts) == len(slice_.get("chunks", []))
        others = ("open" in slice_) + ("end" in slice_)
        assert sum(counts) + others == slice_["next"] - slice_["seq"]
        found += "".join(c["delta"] for c in slice_.get("chunks", []))
    assert found == "".join(c["delta"] for c in chunks)
