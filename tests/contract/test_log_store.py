"""What every `LogStore` promises."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

from tailrace import rules
from tailrace.records import Record
from tests.support.worlds import STREAM, data, opened, run_id, stamp


def chain(store: Any, records: int) -> list[Record]:
    made = [opened(meta='{"model":"m"}')]
    while len(made) < records:
        made.append(data(made[-1], f'"{len(made)}"', "2"))
    for record in made:
        assert store.put(record) is None
    return made


def test_a_put_record_comes_back_as_it_was(store: Any) -> None:
    record = opened(meta='{"é":"\\ud83d"}', shared=True)
    end = rules.end_after(record, "error", stamp(), "sorry, é")
    assert store.put(record) is None
    assert store.put(end) is None
    assert list(store.range(STREAM, 1)) == [record, end]


def test_the_second_put_under_a_key_loses_and_is_given_the_winner(store: Any) -> None:
    first = opened(writer="first")
    assert store.put(first) is None
    assert store.put(opened(writer="second")) == first
    assert list(store.range(STREAM, 1)) == [first]


def test_last_is_the_greatest_key_as_a_number(store: Any) -> None:
    made = chain(store, 12)
    assert store.last(STREAM) == made[-1]
    assert store.last("another") is None


def test_last_at_most_is_the_record_at_or_before_a_seq(store: Any) -> None:
    made = chain(store, 4)  # keys 1, 2, 4, 6
    assert store.last(STREAM, 5) == made[2]
    assert store.last(STREAM, 4) == made[2]
    assert store.last(STREAM, 0) is None


def test_range_is_in_order_and_of_one_stream(store: Any) -> None:
    made = chain(store, 12)
    store.put(replace(opened(), stream="chat:43"))
    assert list(store.range(STREAM, 1)) == made
    assert list(store.range(STREAM, 3)) == made[2:]
    assert list(store.range(STREAM, 99)) == []


def test_range_reads_beyond_a_page_of_a_megabyte(store: Any) -> None:
    record = opened()
    assert store.put(record) is None
    text = '"' + "x" * 27_000 + '"'
    for _ in range(45):
        record = data(record, text)
        assert store.put(record) is None
    read = list(store.range(STREAM, 1))
    assert [one.seq for one in read] == list(range(1, 47))


def test_removed_records_are_gone_and_removing_twice_is_harmless(store: Any) -> None:
    made = chain(store, 3)
    store.remove(STREAM, 2)
    store.remove(STREAM, 2)
    assert list(store.range(STREAM, 1)) == [made[0], made[2]]


def test_of_many_puts_under_one_key_exactly_one_wins(store: Any) -> None:
    results: list[Record | None] = []
    start = threading.Barrier(8)

    def put(number: int) -> None:
        record = opened(run_id(number), writer=f"w{number}")
        start.wait()
        results.append(store.put(record))

    threads = [threading.Thread(target=put, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winner = store.last(STREAM)
    assert results.count(None) == 1
    assert [result for result in results if result is not None] == [winner] * 7
