"""Writes docs/api.md from the docstrings: `python docs/api.py`."""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import is_dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, get_overloads, is_typeddict

import tailrace
from tailrace import aisdk
from tailrace.aisdk.streams import Options
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
    "The AI SDK's chunks (`tailrace.aisdk`)": [
        aisdk.from_openai,
        aisdk.from_anthropic,
        aisdk.from_bedrock,
        aisdk.from_text,
        Options,
        aisdk.merged,
        aisdk.Answer,
        aisdk.ToolCall,
        aisdk.UpstreamError,
    ],
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
    if is_typeddict(thing) or is_dataclass(thing):
        fields = inspect.get_annotations(thing)
        listed = "\n".join(
            f"{name}: {_bare(one)}"
            for name, one in fields.items()
            if not name.startswith("_")
        )
        yield f"```python\n{listed}\n```\n"
    if issubclass(thing, BaseException | dict):
        return
    constructor = thing.__init__
    if constructor.__doc__ and thing is not Event:
        if thing is tailrace.AsyncProducer:
            yield "Its arguments and attributes are those of `Producer`.\n"
        elif thing is not Consumption:
            yield from _call(thing.__name__, constructor)
    elif thing is aisdk.Answer:
        yield from _call(thing.__name__, constructor)
    for name, doc in _attributes(constructor):
        yield f"- **`{name}`**: {_line(doc)}"
    for name, member in _members(thing):
        if isinstance(member, property):
            yield f"- **`{name}`**: {_line(member.__doc__)}"
    yield ""
    for name, member in _members(thing):
        if inspect.isfunction(member):
            begin = "await " if inspect.iscoroutinefunction(member) else ""
            yield from _call(f"{begin}{name}", member)


def _attributes(constructor: Any) -> Iterator[tuple[str, str]]:
    """Yield the public attributes that have a docstring, and that."""
    if not inspect.isfunction(constructor):
        return
    try:
        source = inspect.getsource(constructor)
    except OSError:  # made by `dataclass`
        return
    definition = ast.parse(textwrap.dedent(source)).body[0]
    assert isinstance(definition, ast.FunctionDef)
    for one, following in pairwise(definition.body):
        match one, following:
            case (
                ast.Assign(targets=[ast.Attribute(attr=name)])
                | ast.AnnAssign(target=ast.Attribute(attr=name)),
                ast.Expr(value=ast.Constant(value=str(doc))),
            ) if not name.startswith("_"):
                yield name, doc


def _members(thing: type) -> Iterator[tuple[str, Any]]:
    inherited = thing is not tailrace.AsyncProducer
    for owner in reversed(thing.__mro__ if inherited else (thing,)):
        for name, member in vars(owner).items():
            if not name.startswith("_") and owner.__module__.startswith("tailrace"):
                yield name, member


def _call(name: str, function: Any) -> Iterator[str]:
    calls = [_signature(name, one) for one in get_overloads(function) or [function]]
    yield "```python\n" + "\n".join(calls) + "\n```\n"
    if function.__doc__:
        yield _text(function.__doc__)


def _signature(name: str, function: Any) -> str:
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
    if len(call) <= WIDTH:
        return call
    listed = "".join(f"    {one},\n" for one in parameters)
    return f"{name}(\n{listed}){arrow}"


def _bare(annotation: Any) -> str:
    """Return an annotation as it was written; a TypedDict has references."""
    return str(getattr(annotation, "__forward_arg__", annotation)).replace("'", '"')


def _default(value: Any) -> str:
    if callable(value):
        return f"{value.__module__}.{value.__name__}"
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
