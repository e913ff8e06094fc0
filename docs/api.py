"""Writes docs/api.md from the docstrings: `python docs/api.py`."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tailrace
from tailrace.consumer.aio import Consumption
from tailrace.consumer.events import Event
from tailrace.errors import TailraceError

WIDTH = 80
LONG = 20
PATH = Path(__file__).with_name("api.md")

HEAD = """# API

Written from the docstrings by `python docs/api.py`; a test keeps it current.
[producer.md](producer.md) and [consumer.md](consumer.md) tell what all this is for.
"""

SECTIONS: dict[str, list[Any]] = {
    "Producers": [
        tailrace.Producer,
        tailrace.AsyncProducer,
        tailrace.PublicError,
        tailrace.HandOver,
        tailrace.job,
        tailrace.Asked,
        tailrace.new_run,
        tailrace.find_transport,
    ],
    "Tokens": [tailrace.mint_token],
    "Consumers": [tailrace.consume, Consumption, Event],
}


def write() -> str:
    """Return the whole page."""
    parts = [HEAD]
    for title, things in SECTIONS.items():
        parts.append(f"## {title}\n")
        for thing in things:
            parts.extend(_describe(thing))
    parts.append("## Exceptions\n")
    parts.append("`TailraceError` is the root of all; `code` and `retryable` are class")
    parts.append("attributes, the facts of each are attributes of the exception.\n")
    parts.append("| | `code` | retryable | |\n|---|---|---|---|")
    for name in sorted(tailrace.__all__):
        error = getattr(tailrace, name)
        if isinstance(error, type) and issubclass(error, TailraceError):
            doc = " ".join(inspect.cleandoc(error.__doc__ or "").split())
            again = "yes" if error.retryable else ""
            parts.append(f"| `{name}` | `{error.code}` | {again} | {doc} |")
    return "\n".join(parts) + "\n"


def _describe(thing: Any) -> Iterator[str]:
    yield f"### `{thing.__name__}`\n"
    if not isinstance(thing, type):
        yield from _call(thing.__name__, thing)
        return
    yield _text(thing.__doc__)
    if issubclass(thing, BaseException | dict):
        return
    constructor = thing.__dict__.get("__init__") or getattr(thing, "__init__", None)
    if constructor is not None and constructor.__doc__ and thing is not Event:
        if thing is tailrace.AsyncProducer:
            yield "Its arguments and attributes are those of `Producer`.\n"
        elif thing is not Consumption:
            yield from _call(thing.__name__, constructor)
    for name, member in _members(thing):
        if isinstance(member, property):
            yield f"- **`{name}`**: {_line(member.__doc__)}"
    yield ""
    for name, member in _members(thing):
        if inspect.isfunction(member):
            begin = "await " if inspect.iscoroutinefunction(member) else ""
            yield from _call(f"{begin}{name}", member)


def _members(thing: type) -> Iterator[tuple[str, Any]]:
    inherited = thing is not tailrace.AsyncProducer
    for owner in reversed(thing.__mro__ if inherited else (thing,)):
        for name, member in vars(owner).items():
            if not name.startswith("_") and owner.__module__.startswith("tailrace"):
                yield name, member


def _call(name: str, function: Any) -> Iterator[str]:
    signature = inspect.signature(function)
    parameters: list[str] = []
    for one in signature.parameters.values():
        if one.name == "self":
            continue
        if one.kind is one.KEYWORD_ONLY and "*" not in parameters:
            parameters.append("*")
        if one.kind is one.VAR_KEYWORD:
            parameters.append(f"**{one.name}: {one.annotation}")
            continue
        default = "" if one.default is one.empty else f" = {_default(one.default)}"
        parameters.append(f"{one.name}: {one.annotation}{default}")
    result = signature.return_annotation
    arrow = "" if function.__name__ == "__init__" else f" -> {result}"
    call = f"{name}({', '.join(parameters)}){arrow}"
    if len(call) > WIDTH:
        listed = "".join(f"    {one},\n" for one in parameters)
        call = f"{name}(\n{listed}){arrow}"
    yield f"```python\n{call}\n```\n"
    yield _text(function.__doc__)


def _default(value: Any) -> str:
    return "…" if isinstance(value, str) and len(value) > LONG else repr(value)


def _text(doc: str | None) -> str:
    """Return a docstring as Markdown: its definitions become a list."""
    lines = inspect.cleandoc(doc or "").split("\n")
    out: list[str] = []
    for at, line in enumerate(lines):
        following = lines[at + 1] if at + 1 < len(lines) else ""
        if line.startswith("`") and following.startswith("    "):
            out.append(f"- **{line}**  ")
        elif line.startswith("    ") and any(one.startswith("- **") for one in out):
            out.append("  " + line.strip())
        else:
            out.append(line)
    return "\n".join(out) + "\n"


def _line(doc: str | None) -> str:
    return " ".join((doc or "").split())


if __name__ == "__main__":
    PATH.write_text(write())
    sys.stdout.write(f"{PATH.name} written\n")
