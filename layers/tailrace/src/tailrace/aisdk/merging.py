"""Fewer, larger deltas: a message of the AI SDK costs a client of its own transport one
frame for each chunk.

Consecutive deltas of one part become one; what a reader makes of the chunks is what it
makes of all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

from ..compaction import DELTAS
from .answer import DELTA_CHARS, Chunk


def merged(
    chunks: Iterable[Chunk],
    seconds: float = 0.1,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Chunk]:
    """Yield the chunks, with consecutive deltas of one part merged that come within so
    many seconds of the first. The first delta of a part is given at once.

    A delta that is held back goes out when the next chunk comes, of whatever kind, or
    the model's stream breaks off: where a model pauses in mid-sentence, the last few
    words wait for it, too."""
    growing: Chunk | None = None
    pieces: list[str] = []
    began = 0.0
    shown: tuple[str, str] | None = None
    try:
        for chunk in chunks:
            name, of = DELTAS.get(chunk["type"], ("", ""))
            now = clock()
            if growing is not None:
                alike = name != "" and _rest(chunk, name) == _rest(growing, name)
                size = sum(map(len, pieces)) + len(chunk.get(name, ""))
                if alike and now - began < seconds and size <= DELTA_CHARS:
                    pieces.append(chunk[name])
                    continue
                yield _join(growing, pieces)
                growing = None
            part = (chunk["type"], chunk[of]) if name else None
            if part is not None and part == shown:
                growing, pieces, began = chunk, [chunk[name]], now
            else:
                yield chunk
            shown = part
    except Exception:
        # What the model had said before it broke off was said.
        if growing is not None:
            yield _join(growing, pieces)
        raise
    if growing is not None:
        yield _join(growing, pieces)


def _rest(chunk: Chunk, name: str) -> Chunk:
    return {key: value for key, value in chunk.items() if key != name}


def _join(first: Chunk, pieces: list[str]) -> Chunk:
    name, _ = DELTAS[first["type"]]
    return {**first, name: "".join(pieces)}
