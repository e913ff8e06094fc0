"""Chunks as JSON text."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace import chunks
from tailrace.errors import Invalid, TooLarge
from tests.support.strategies import ANY_TEXT, JSON


@given(st.lists(JSON, min_size=1))
def test_what_is_joined_comes_apart_again(values: list[Any]) -> None:
    texts = [chunks.encode(value) for value in values]
    joined = chunks.join(texts)
    assert chunks.decode(joined) == values
    assert chunks.split(joined) == texts


@given(ANY_TEXT)
def test_any_text_can_be_stored_also_half_an_emoji(text: str) -> None:
    encoded = chunks.encode(text)
    encoded.encode("utf-8")
    assert json.loads(encoded) == text


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), [float("-inf")], object(), {1, 2}, b"x"]
)
def test_what_json_cannot_say_is_refused(value: object) -> None:
    with pytest.raises(Invalid, match="not JSON"):
        chunks.encode(value)


def test_a_chunk_nested_too_deep_is_refused() -> None:
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(Invalid, match="nested too deep"):
        chunks.encode(nested)


def test_a_chunk_that_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(Invalid, match="not JSON"):
        chunks.encode(loop)


def test_sizes_are_bytes_not_characters() -> None:
    text = chunks.encode("é" * 13_999)
    assert chunks.size(text) == chunks.MAX_CHUNKS_BYTES
    assert chunks.join([text]) == text
    with pytest.raises(TooLarge) as told:
        chunks.join([text, "1"])
    assert told.value.limit == chunks.MAX_CHUNKS_BYTES


@given(st.lists(st.integers(1, 12_000), max_size=12))
def test_packed_groups_fit_and_no_two_neighbours_would_fit_together(
    sizes: list[int],
) -> None:
    texts = ["7" * size for size in sizes]
    groups = list(chunks.pack(texts))
    assert [text for group in groups for text in group] == texts
    for group in groups:
        chunks.join(group)
    for group, following in itertools.pairwise(groups):
        with pytest.raises(TooLarge):
            chunks.join([*group, following[0]])


def test_meta_is_a_small_object() -> None:
    assert chunks.encode_meta(None) is None
    assert chunks.encode_meta({"model": "m"}) == '{"model":"m"}'
    with pytest.raises(Invalid, match="meta: must be an object"):
        chunks.encode_meta(["m"])
    with pytest.raises(TooLarge, match="meta"):
        chunks.encode_meta({"model": "m" * 2000})
