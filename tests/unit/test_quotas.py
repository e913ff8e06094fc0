"""Quotas: what one process lets one client cost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tailrace.quotas import Rate, Spent


def test_so_many_at_once_and_then_at_the_pace() -> None:
    rate = Rate(at_once=5, a_second=2)
    assert [rate.over("c", 1_000) for _ in range(7)] == [False] * 5 + [True] * 2
    assert not Rate(5, 2).over("c", 1_000)
    assert [rate.over("c", 60_000) for _ in range(6)] == [False] * 5 + [True]


def test_one_connection_costs_another_nothing() -> None:
    rate = Rate(at_once=1, a_second=1)
    assert not rate.over("a", 0)
    assert rate.over("a", 0)
    assert not rate.over("b", 0)


@given(st.lists(st.integers(0, 3_000), max_size=200))
def test_over_any_time_no_more_passes_than_the_bucket_and_its_drain(
    pauses: list[int],
) -> None:
    rate, now, passed = Rate(at_once=10, a_second=5), 0, 0
    for pause in pauses:
        now += pause
        passed += not rate.over("c", now)
    assert passed <= 10 + now * 5 / 1000


def test_it_remembers_no_more_connections_than_it_keeps() -> None:
    rate = Rate(at_once=1, a_second=1)
    for number in range(10_000):
        assert not rate.over(f"c{number}", number)
    assert len(rate._drained) == Rate._KEPT


def test_small_amounts_are_written_together_minute_by_minute() -> None:
    spent = Spent(limit=100)
    assert [spent.owe("a", 7, 30_000) for _ in range(4)] == [0, 0, 90_000, 0]
    assert spent.owe("a", 8, 63_999) == 0, "what the minute before owed is over"
    assert spent.owe("b", 8, 64_000) == 64_000
    for number in range(5_000):
        spent.owe(f"c{number}", 8, 1)
    assert len(spent._owed) == Spent._KEPT


def test_what_is_spent_is_over_for_the_minute() -> None:
    spent = Spent(limit=100)
    spent.learn("a", 7, 99)
    assert not spent.over("a", 7)
    spent.learn("a", 7, 100)
    assert (spent.over("a", 7), spent.over("a", 8)) == (True, False)
    spent.learn("b", 8, 500)
    assert (spent.over("b", 8), spent.over("b", 9)) == (True, False)
