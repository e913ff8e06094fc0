"""Tables in Markdown, and what they say of where their figures are from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def about(found: dict[str, Any]) -> str:
    return f"{found['date']}, {found['machine']}: `{found['command']}`"
