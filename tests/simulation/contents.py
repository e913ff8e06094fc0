"""What is said in a world: chunk `index` of label `label` is `content(label, index)`.

So a resumed attempt goes on exactly, and the log itself shows what is missing or
doubled. Labels that begin with `fat` make records, slices and replays meet their
limits; `ui` and `obj` say it in chunks that compaction knows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_TEXTS = ("delta", "inputTextDelta", "data", "text")


def content(label: str, index: int) -> Any:
    text = f"{label}.{index}"
    if label.startswith("fat"):
        return text + "x" * 13_000 if index % 3 else text
    if label.startswith("obj"):
        return {"text": f"{text} "}
    if label.startswith("ui"):
        match index % 8:
            case 5:
                return {"type": "data-mood", "transient": True, "data": text}
            case 6 | 7:
                kind = {"type": "tool-input-delta", "toolCallId": "c1"}
                return {**kind, "inputTextDelta": f"{text} "}
            case _:
                kind = {"type": "text-delta", "id": "t1"}
                return {**kind, "delta": f"{text} "}
    return text


@dataclass
class _Said:
    """As libraries have it."""

    text: str


class _Model:
    """As those libraries have it that are generated."""

    def __init__(self, facts: dict[str, Any]) -> None:
        self._facts = facts

    def to_dict(self) -> dict[str, Any]:
        return self._facts

    def model_dump(self, **how: Any) -> dict[str, Any]:
        return self._facts


def said(label: str, index: int) -> Any:
    """Return a chunk as a job has it in hand, of which `content` is what is written."""
    value = content(label, index)
    if not isinstance(value, dict) or index % 2:
        return value
    if list(value) == ["text"]:
        return _Said(value["text"])
    return _Model(value)


def whose(value: Any) -> tuple[str, int]:
    """Return label and index of a chunk."""
    assert isinstance(value, str | dict), f"{value!r} is nobody's chunk"
    if isinstance(value, dict):
        value = next(value[name] for name in _TEXTS if name in value)
    label, _, number = value.rstrip("x ").rpartition(".")
    return label, int(number)


def merged(values: list[Any], mode: str) -> Any:
    """Return the chunk that stands for these by PROTOCOL.md §3.6, or None where all of
    them are left out."""
    if mode == "ui-message":
        values = [
            one
            for one in values
            if not (isinstance(one, dict) and one.get("transient") is True)
        ]
    if len(values) < 2:
        return values[0] if values else None
    if all(isinstance(one, str) for one in values):
        assert mode == "text", "texts are merged for who did not ask for it"
        return "".join(values)
    name = next(name for name in _TEXTS if name in values[0])
    alike = {key: item for key, item in values[0].items() if key != name}
    for one in values:
        rest = {key: item for key, item in one.items() if key != name}
        assert rest == alike, f"{one} is merged with {values[0]}"
    return {**alike, name: "".join(one[name] for one in values)}
