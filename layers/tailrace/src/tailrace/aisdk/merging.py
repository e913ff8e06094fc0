"""Fewer, larger deltas: a message of the AI SDK costs a client of its own transport one
frame for each chunk.

Consecutive deltas of one part become one; what a reader makes of the chunks is what it
makes of all.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from functools import partial
from typing import Any, overload

from ..compaction import DELTAS
from .answer import DELTA_CHARS, Chunk
from .shape import read


@overload
def merged(
    chunks: Iterable[Chunk],
    seconds: float = 0.1,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Chunk]: ...
@overload
def merged(
    chunks: AsyncIterable[Chunk],
    seconds: float = 0.1,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncIterator[Chunk]: ...
def merged(
    chunks: Any,
    seconds: float = 0.1,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> Any:
    """Yield the chunks, with consecutive deltas of one part merged that come within so
    many seconds of the first. The first delta of a part is given at once.

    A delta that is held back goes out when the next chunk comes, of whatever kind, or
    the model's stream breaks off: where a model pauses in mid-sentence, the last few
    words wait for it, too."""
    merging = _Merging(seconds, clock)
    return read(chunks, partial(_plain, merging), partial(_async, merging))


def _plain(merging: _Merging, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
    try:
        for chunk in chunks:
            yield from merging.take(chunk)
    except Exception:
        # What the model had said before it broke off was said.
        yield from merging.rest()
        raise
    finally:
        # Nobody else does at once, where this is left early.
        if callable(close := getattr(chunks, "close", None)):
            close()
    yield from merging.rest()


async def _async(
    merging: _Merging, chunks: AsyncIterable[Chunk]
) -> AsyncIterator[Chunk]:
    try:
        async for chunk in chunks:
            for one in merging.take(chunk):
                yield one
    except Exception:  # as above
        for one in merging.rest():
            yield one
        raise
    finally:
        if callable(close := getattr(chunks, "aclose", None)):
            await close()
    for one in merging.rest():
        yield one


class _Merging:
    """The delta that grows, if one does: what is held back."""

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._clock = clock
        self._growing: Chunk | None = None
        self._pieces: list[str] = []
        self._began = 0.0
        self._shown: tuple[str, str] | None = None

    def take(self, chunk: Chunk) -> Iterator[Chunk]:
        """Take a chunk; yield what goes out with it."""
        name, of = DELTAS.get(chunk["type"], ("", ""))
        now = self._clock()
        if self._growing is not None:
            alike = name != "" and _rest(chunk, name) == _rest(self._growing, name)
            size = sum(map(len, self._pieces)) + len(chunk.get(name, ""))
            soon = now - self._began < self._seconds
            if alike and soon and size <= DELTA_CHARS:
                self._pieces.append(chunk[name])
                return
            yield from self.rest()
        part = (chunk["type"], chunk[of]) if name else None
        if part is not None and part == self._shown:
            self._growing, self._pieces, self._began = chunk, [chunk[name]], now
        else:
            yield chunk
        self._shown = part

    def rest(self) -> Iterator[Chunk]:
        """Yield what is held back."""
        if self._growing is not None:
            grown, self._growing = self._growing, None
            yield _join(grown, self._pieces)


def _rest(chunk: Chunk, name: str) -> Chunk:
    return {key: value for key, value in chunk.items() if key != name}


def _join(first: Chunk, pieces: list[str]) -> Chunk:
    name, _ = DELTAS[first["type"]]
    return {**first, name: "".join(pieces)}
