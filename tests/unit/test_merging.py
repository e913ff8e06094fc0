"""Merging deltas when publishing: fewer chunks, and the same message."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailrace.aisdk import merged
from tests.support.uimessages import messages, sdk_reader


class Clock:
    """Time that goes on a little with each chunk."""

    def __init__(self, pace: float) -> None:
        self.now, self.pace = 0.0, pace

    def __call__(self) -> float:
        self.now += self.pace
        return self.now


def delta(text: str, id: str = "t", **more: Any) -> dict[str, Any]:
    return {"type": "text-delta", "id": id, "delta": text, **more}


def run(chunks: list[dict[str, Any]], pace: float = 0.01) -> list[dict[str, Any]]:
    return list(merged(chunks, 0.1, clock=Clock(pace)))


def test_the_first_delta_is_given_at_once_and_the_next_together() -> None:
    many = [delta(str(number)) for number in range(5)]
    assert run(many) == [delta("0"), delta("1234")]


def test_a_delta_waits_no_longer_than_it_is_said() -> None:
    many = [delta("x") for _ in range(21)]
    assert [len(one["delta"]) for one in run(many, 0.03)] == [1, 4, 4, 4, 4, 4]


def test_what_comes_slowly_is_not_held_up_beyond_the_next() -> None:
    given = [delta(one) for one in "abc"]
    assert run(given, pace=1.0) == given


def test_what_is_not_alike_stays_apart() -> None:
    chunks = [
        delta("a"),
        delta("b"),
        delta("c", "u"),
        delta("d", "u"),
        delta("e", "u", providerMetadata={"p": {"q": 1}}),
        {"type": "text-end", "id": "u"},
    ]
    assert run(chunks) == chunks


def test_what_was_held_back_when_the_model_broke_off_is_given_before_its_error() -> (
    None
):
    def breaking_off() -> Iterator[dict[str, Any]]:
        yield from (delta(one) for one in "abc")
        raise ConnectionError("upstream")

    chunks = merged(breaking_off(), 0.1, clock=Clock(0.01))
    assert [next(chunks), next(chunks)] == [delta("a"), delta("bc")]
    with pytest.raises(ConnectionError, match="upstream"):
        next(chunks)


async def streamed(chunks: list[dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:
    for chunk in chunks:
        yield chunk


async def test_an_async_stream_gives_what_a_plain_one_gives() -> None:
    chunks = [*(delta(one) for one in "abcd"), {"type": "text-end", "id": "t"}]
    chunks += [delta(one, "u") for one in "efg"]
    fewer = merged(streamed(chunks), 0.1, clock=Clock(0.01))
    assert [one async for one in fewer] == run(chunks)


async def test_what_an_async_stream_held_back_is_given_before_its_error() -> None:
    async def breaking_off() -> AsyncIterator[dict[str, Any]]:
        for one in "abc":
            yield delta(one)
        raise ConnectionError("upstream")

    chunks = merged(breaking_off(), 0.1, clock=Clock(0.01))
    assert [await anext(chunks), await anext(chunks)] == [delta("a"), delta("bc")]
    with pytest.raises(ConnectionError, match="upstream"):
        await anext(chunks)


async def test_who_leaves_an_async_stream_early_closes_it() -> None:
    closed = False

    async def endless() -> AsyncIterator[dict[str, Any]]:
        nonlocal closed
        try:
            while True:
                yield delta("x")
        finally:
            closed = True

    fewer: Any = merged(endless())
    async with contextlib.aclosing(fewer) as chunks:
        await anext(chunks)
    assert closed


@settings(max_examples=30, deadline=None)
@given(st.lists(messages(), min_size=4, max_size=4), st.sampled_from([0.01, 0.06]))
def test_the_sdk_makes_the_same_of_it(
    given_: list[list[dict[str, Any]]], pace: float
) -> None:
    fewer = [run(one, pace) for one in given_]
    with sdk_reader() as read:
        assert read(7, fewer) == read(7, given_)
