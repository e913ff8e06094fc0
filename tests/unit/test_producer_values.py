"""What a job may write."""

from __future__ import annotations

import enum
import json
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import pytest

from tailrace.errors import Invalid
from tailrace.producer.values import encode


@dataclass
class Delta:
    text: str
    index: int = 0
    parts: list[Any] = field(default_factory=list)


class Model:
    """As pydantic's."""

    def model_dump(self, *, mode: str, by_alias: bool, exclude_unset: bool) -> Any:
        assert (mode, by_alias) == ("json", True)
        return {"type": "delta", **({} if exclude_unset else {"default": None})}


class Generated(Model):
    """As those of the OpenAI and Anthropic libraries."""

    def to_dict(self) -> Any:
        raise AssertionError("has times in it that are no JSON")


class Plain:
    def to_dict(self) -> Any:
        return {"delta": Delta("a")}


class Colour(enum.StrEnum):
    RED = "red"


@pytest.mark.parametrize(
    ("chunk", "value"),
    [
        ("text", "text"),
        ("", ""),
        (None, None),
        (3, 3),
        (1.5, 1.5),
        (True, True),
        ({"contentBlockDelta": {"delta": {"text": "x"}}},) * 2,
        ([1, ["a"]], [1, ["a"]]),
        ((1, 2), [1, 2]),
        (Colour.RED, "red"),
        (Delta("a"), {"text": "a", "index": 0, "parts": []}),
        (Model(), {"type": "delta", "default": None}),
        (Generated(), {"type": "delta"}),
        (Plain(), {"delta": {"text": "a", "index": 0, "parts": []}}),
        ([Model(), Delta("b", parts=[Generated()])],
         [{"type": "delta", "default": None},
          {"text": "b", "index": 0, "parts": [{"type": "delta"}]}]),
        (OrderedDict(a=Generated()), {"a": {"type": "delta"}}),
        ("½ emoji \ud83d", "½ emoji \ud83d"),
    ],
)  # fmt: skip
def test_becomes_json(chunk: Any, value: Any) -> None:
    text = encode(chunk)
    assert json.loads(text) == value
    text.encode()


@pytest.mark.parametrize(
    "chunk", [object(), b"bytes", {1, 2}, float("nan"), [float("inf")], Model, Delta]
)
def test_what_has_no_json_is_refused(chunk: Any) -> None:
    with pytest.raises(Invalid, match="chunk: not JSON"):
        encode(chunk)


@pytest.mark.parametrize("error", [KeyError("id"), ValueError("Circular"), TypeError()])
def test_what_cannot_say_itself_is_refused(error: Exception) -> None:
    """The run goes on, as with all that is no JSON; the rest is in its cause."""

    class Broken:
        def to_dict(self) -> Any:
            raise error

    with pytest.raises(Invalid, match=type(error).__name__) as refused:
        encode(Broken())
    assert refused.value.__cause__ is error


@pytest.mark.parametrize("depth", [200, 201])
def test_what_readers_could_not_read_is_refused(depth: int) -> None:
    """A reader in Python has no room for a thousand brackets."""
    chunk: Any = "[[{"
    for number in range(depth):
        chunk = {"a": chunk} if number % 2 else [chunk]
    if depth <= 200:
        assert json.loads(encode(chunk)) == chunk
    else:
        with pytest.raises(Invalid, match="deeper than 200"):
            encode(chunk)


def test_what_contains_itself_is_refused() -> None:
    chunk: list[Any] = []
    chunk.append(chunk)
    with pytest.raises(Invalid, match="chunk: not JSON"):
        encode(chunk)
