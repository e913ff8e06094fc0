"""Reading events whatever they are: objects of a provider's library, or dicts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


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
