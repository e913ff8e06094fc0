"""`tailrace status`: what goes on in a stream."""

from __future__ import annotations

import json
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from ..writers import Transport

COLOURS = {
    "active": "green",
    "completed": "green",
    "error": "red",
    "producer_lost": "red",
    "cancelled": "yellow",
}


def status(transport: Transport, stream: str, *, as_json: bool) -> int:
    """Show the tail of a stream and who watches; return the exit code."""
    tail = transport.ask({"operation": "tail", "stream": stream})
    watching = transport.ask({"operation": "watchers", "stream": stream})["watchers"]
    if as_json:
        click.echo(json.dumps({**tail, "watchers": watching}))
        return 0
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", justify="right")
    table.add_column()
    for name, value in _rows(tail, watching, transport.clock()):
        table.add_row(name, value)
    Console(highlight=False, emoji=False).print(table)
    return 0


def _rows(tail: dict[str, Any], watching: int, now: int) -> list[tuple[str, str]]:
    rows = [("stream", tail["stream"])]
    if tail["run"] is None:
        rows.append(("run", "[dim]none[/dim]"))
    else:
        state = "active" if tail["active"] else tail.get("reason", "ended")
        rows += [
            ("run", tail["run"]),
            ("state", f"[{COLOURS.get(state, 'default')}]{state}[/]"),
            ("chunks", str(tail["index"])),
            ("writer", f"{tail['writer']} [dim](epoch {tail['epoch']})[/dim]"),
            ("last", f"{tail['kind']}, {ago(now - tail['at'])} ago"),
        ]
    return [*rows, ("seq", str(tail["tail"])), ("watchers", str(watching))]


def ago(milliseconds: float) -> str:
    """Return a duration as people say it."""
    seconds = max(0, milliseconds) / 1000
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
