"""`tailrace tail`: a stream in a terminal."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import re
import statistics
import sys
from typing import Any

import click
from rich.console import Console
from rich.markup import escape

from ..consumer.aio import consume
from ..consumer.events import Event
from ..consumer.machine import Status
from ..consumer.shell import TokenSource
from ..errors import Unauthorized
from . import failures
from .status import COLOURS, ago

COMPLETED = "completed"
# By these a model could say something to the terminal, not to who reads it: all but
# tab and newline.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def tail(
    url: str,
    token: TokenSource,
    *,
    stream: str,
    from_start: bool,
    run: str | None,
    follow: bool,
    as_json: bool,
) -> int:
    """Show a stream until its run ends; return the exit code."""
    show = Json() if as_json else Text(stream)
    return asyncio.run(
        _tail(
            url,
            token,
            stream,
            show,
            run=run,
            follow=follow,
            from_start=from_start or run is not None,
        )
    )


async def _tail(
    url: str,
    token: TokenSource,
    stream: str,
    show: Json | Text,
    *,
    run: str | None,
    follow: bool,
    from_start: bool,
) -> int:
    before: int | None = None  # what lies up to here was there when we came

    def on_status(status: Status) -> None:
        nonlocal before
        if status == "live" and before is None:
            before = 0 if from_start else watching.received
        if watching.error is None:
            show.status(status, watching.problem)

    watching = consume(url, token, stream, run=run, follow=True, on_status=on_status)
    last = None
    try:
        async with contextlib.aclosing(watching.events()) as events:
            async for event in events:
                if not from_start and (before is None or _is_within(event, before)):
                    continue
                show.event(event)
                if event.type == "end":
                    last = event.reason
                    if not follow:
                        break
    except Unauthorized:
        if not isinstance(token, str):
            raise
        # The consumer's words are for programs: a command line gives no function.
        raise Unauthorized("the token was refused, or has expired") from None
    return 0 if last == COMPLETED else failures.ENDED


class Json:
    """Prints each event as a line of JSON."""

    def event(self, event: Event) -> None:
        facts = dataclasses.asdict(event)
        facts["latency"] = _latency(event)
        always = ("chunk",) if event.type == "chunk" else ()
        kept = {k: v for k, v in facts.items() if v is not None or k in always}
        click.echo(_json(kept))

    def status(self, status: Status, problem: Exception | None) -> None:
        """Nothing: it is no event of the stream."""


class Text:
    """Prints texts as they come, and other chunks as JSON, a line each; says on
    standard error what else happens."""

    def __init__(self, stream: str) -> None:
        self._console = Console(stderr=True, highlight=False, emoji=False)
        self._stream = stream
        self._at_line_start = True
        self._latencies: list[int] = []
        self._chunks = 0
        self._began: int | None = None
        self._timed = False
        self._waits_for: str | None = None
        self._half = ""  # of an emoji, as token boundaries cut them

    def event(self, event: Event) -> None:
        latency = _latency(event)
        if latency is not None:
            self._latencies.append(latency)
        if event.type == "chunk":
            self._chunk(event.chunk)
        elif event.type == "open":
            self._chunks, self._latencies, self._began = 0, [], event.at
            # Else `at` is when the last of its slice was put.
            self._timed = event.via == "live"
            about = "" if not event.meta else f" {escape(json.dumps(event.meta))}"
            self._say(f"[cyan]run[/cyan] [dim]{event.run}{about}[/dim]")
        elif event.type == "claim":
            self._say(f"[cyan]taken over[/cyan] [dim]epoch {event.epoch}[/dim]")
        else:
            self._end(event)

    def status(self, status: Status, problem: Exception | None) -> None:
        if status == "offline":
            why = "" if problem is None else f"{escape(_reason(problem))}; "
            if why != self._waits_for:  # each attempt ends offline
                self._waits_for = why
                self._say(f"[yellow]offline[/yellow] [dim]{why}trying again …[/dim]")
        elif status == "live" and (self._waits_for is not None or self._began is None):
            self._say(f"[dim]watching {self._stream}[/dim]")
            self._waits_for = None

    def _chunk(self, chunk: Any) -> None:
        self._chunks += 1
        if isinstance(chunk, str):
            self._text(chunk)
            self._at_line_start = chunk.endswith("\n") or (
                self._at_line_start and not chunk
            )
        else:
            self._new_line()
            click.echo(_json(chunk))

    def _text(self, chunk: str) -> None:
        chunk = self._half + chunk
        self._half = chunk[-1:] if "\ud800" <= chunk[-1:] <= "\udbff" else ""
        whole = chunk.removesuffix(self._half).encode("utf-16", "surrogatepass")
        text = whole.decode("utf-16", "replace")
        # Without `color`, click takes out of a pipe's text what looks like a colour.
        tamed = _tame(text) if sys.stdout.isatty() else text
        click.echo(tamed, nl=False, color=True)

    def _end(self, event: Event) -> None:
        reason = str(event.reason)
        facts = [f"{self._chunks} chunks"]
        if self._timed and self._began is not None and event.at is not None:
            facts.append(ago(event.at - self._began))
        if self._latencies:
            middle = statistics.median(self._latencies)
            facts.append(f"latency {middle:.0f} ms, at most {max(self._latencies)}")
        about = f": {escape(_tame(event.message))}" if event.message else ""
        colour = COLOURS.get(reason, "yellow")
        self._say(f"[{colour}]{reason}[/]{about} [dim]({', '.join(facts)})[/dim]")

    def _say(self, text: str) -> None:
        self._new_line()
        self._console.print(text)

    def _new_line(self) -> None:
        if not self._at_line_start:
            click.echo()
            self._at_line_start = True


def _reason(problem: Exception) -> str:
    said = problem.strerror if isinstance(problem, OSError) else None
    return " ".join((said or str(problem) or type(problem).__name__).split())


def _tame(text: str) -> str:
    return _CONTROLS.sub("\ufffd", text)


def _json(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    # JSON itself leaves some as they are.
    text = _CONTROLS.sub(lambda control: f"\\u{ord(control[0]):04x}", text)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:  # half an emoji, or a terminal that has no such sign
        return json.dumps(value)
    return text


def _is_within(event: Event, seq: int) -> bool:
    return event.seq is not None and event.seq <= seq


def _latency(event: Event) -> int | None:
    """Return how long it took from being appended to being here, in ms."""
    if event.at is None or event.via != "live":
        return None
    return max(0, event.received - event.at)
