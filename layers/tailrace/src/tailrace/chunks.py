"""Chunks as JSON text: made once by the producer's side, parsed only by the consumer.

A record keeps its chunks as their JSON texts joined by commas, so that the fan-out and
the replay put them into frames without parsing them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from .errors import Invalid, TooLarge

MAX_CHUNKS_BYTES = 28_000
"""Limit of one record's `chunks`, in bytes of UTF-8, so that it fits one frame."""

MAX_META_BYTES = 2_000

MAX_DEPTH = 200
"""How deep a chunk may nest. Python's own parser, which a consumer may be, has room for
a thousand brackets less what called it."""

_BRACKETS = re.compile(r'[\[\]{}]|"(?:[^"\\]|\\.)*"')
_SURROGATE = re.compile("[\ud800-\udfff]")
_scan_one = json.JSONDecoder().raw_decode


def encode(value: Any, what: str = "chunk") -> str:
    """Return the JSON text of a value; `Invalid` for what JSON cannot say."""
    try:
        text = json.dumps(
            value, ensure_ascii=False, allow_nan=False, separators=(",", ":")
        )
    except (TypeError, ValueError, RecursionError) as error:
        raise Invalid(f"{what}: not JSON ({_why(error)})") from None
    if text.count("[") + text.count("{") > MAX_DEPTH and _depth(text) > MAX_DEPTH:
        raise Invalid(f"{what}: nests deeper than {MAX_DEPTH}")
    # Half an emoji, as token boundaries cut them: UTF-8 cannot carry it, JSON's
    # escape can, and the consumer's concatenation makes it whole again.
    return _SURROGATE.sub(lambda half: f"\\u{ord(half[0]):04x}", text)


def _depth(text: str) -> int:
    """Return how deep a JSON text nests."""
    depth = deepest = 0
    for found in _BRACKETS.finditer(text):
        if found[0] in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif found[0] in "]}":
            depth -= 1
    return deepest


def size(text: str) -> int:
    """Return the bytes of a text in UTF-8."""
    return len(text) if text.isascii() else len(text.encode())


def join(texts: Iterable[str]) -> str:
    """Join the chunks' texts into a record's `chunks`, within the limit."""
    chunks = ",".join(texts)
    if size(chunks) > MAX_CHUNKS_BYTES:
        raise TooLarge(
            f"chunks: more than {MAX_CHUNKS_BYTES} bytes as JSON",
            limit=MAX_CHUNKS_BYTES,
        )
    return chunks


def decode(chunks: str) -> list[Any]:
    """Return the values of a record's `chunks`."""
    values: list[Any] = json.loads(f"[{chunks}]")
    return values


def split(chunks: str) -> list[str]:
    """Return the texts that `join` joined."""
    return [text for text, _ in parsed(chunks)]


def parsed(chunks: str) -> Iterator[tuple[str, Any]]:
    """Yield the texts that `join` joined, each with its value."""
    start = 0
    while start < len(chunks):
        value, end = _scan_one(chunks, start)
        yield chunks[start:end], value
        start = end + 1


def pack(texts: Iterable[str]) -> Iterator[list[str]]:
    """Group texts, in order, into as few groups as fit one record each."""
    group: list[str] = []
    used = 0
    for text in texts:
        need = size(text) + 1
        if group and used + need > MAX_CHUNKS_BYTES + 1:
            yield group
            group, used = [], 0
        group.append(text)
        used += need
    if group:
        yield group


def encode_meta(meta: Any) -> str | None:
    """Return the JSON text of an open's `meta`, an object of at most 2,000 bytes."""
    if meta is None:
        return None
    if not isinstance(meta, dict):
        raise Invalid("meta: must be an object")
    text = encode(meta, "meta")
    if size(text) > MAX_META_BYTES:
        raise TooLarge(f"meta: more than {MAX_META_BYTES} bytes", limit=MAX_META_BYTES)
    return text


def _why(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deep, or a reference to itself"
    return str(error)
