"""What must be true of a log at any moment (PROTOCOL.md §2)."""

from __future__ import annotations

from collections.abc import Sequence

from tailrace import chunks
from tailrace.records import Record


def check_log(records: Sequence[Record]) -> None:
    """Assert that the records, all of a stream in order, obey the rules."""
    tail: Record | None = None
    owner = ""
    for record in records:
        if tail is None:
            assert record.seq == 1, "a log begins at 1"
            assert record.kind == "open", "a log begins with an open"
        else:
            assert record.seq == tail.next, f"hole or overlap at {tail.next}"
        if record.kind == "open":
            _check_open(record, tail)
            owner = record.writer
        else:
            assert tail is not None
            assert (record.run, record.base) == (tail.run, tail.base), "one run a time"
            assert record.index == tail.chunks_in, "index counts the run's chunks"
            if tail.kind == "end":
                assert record.kind == "claim", "nothing follows an end but an open"
                assert tail.reason == "producer_lost", "a claim after the only guess"
            if record.kind == "claim":
                assert record.epoch == tail.epoch + 1, "a claim counts"
                owner = record.writer
            else:
                assert record.epoch == tail.epoch, "only a claim counts"
            if record.kind == "data" and not record.shared:
                assert record.writer == owner, "a fenced writer got a record in"
        values = chunks.decode(record.chunks)
        assert record.count == (len(values) if record.kind == "data" else 1)
        tail = record


def _check_open(record: Record, tail: Record | None) -> None:
    assert record.base == record.seq
    assert (record.epoch, record.index) == (0, 0)
    assert record.prev == (tail.run if tail else None), "prev is the run before"
    if tail is not None:
        assert record.run > tail.run, "a later run has a greater id"
