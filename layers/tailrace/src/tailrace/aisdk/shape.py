"""Reading events whatever they are: objects of a provider's library, or dicts; from
plain iterators and async ones."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from typing import Any


def read(events: Any, plain: Callable[[Any], Any], later: Callable[[Any], Any]) -> Any:
    """Return what is made of events: by `plain`, or by `later` where they are async."""
    if not isinstance(events, AsyncIterable):
        return plain(events)
    if not isinstance(events, Iterable):
        return later(events)
    return _Both(plain(events), later(events))


class _Both:
    """Made of events that are both, as LiteLLM's are: whoever reads it says which. The
    other of its two generators is never begun."""

    def __init__(self, plain: Any, later: Any) -> None:
        self._plain = plain
        self._later = later

    def __iter__(self) -> Any:
        return self._plain

    def __next__(self) -> Any:
        return next(self._plain)

    def close(self) -> None:
        self._plain.close()

    def __aiter__(self) -> Any:
        return self._later

    async def __anext__(self) -> Any:
        return await anext(self._later)

    async def aclose(self) -> None:
        await self._later.aclose()


def get(event: Any, *path: str) -> Any:
    """Return what is at the path inside of an event, or None."""
    for step in path:
        if event is None:
            return None
        if isinstance(event, Mapping):
            event = event.get(step)
        else:
            event = getattr(event, step, None)
    return event


def text(event: Any, *path: str) -> str:
    """Return the text at the path, or an empty one."""
    found = get(event, *path)
    return found if isinstance(found, str) else ""


def items(event: Any, *path: str) -> list[Any]:
    """Return the list at the path, or an empty one."""
    found = get(event, *path)
    return list(found) if isinstance(found, list | tuple) else []
