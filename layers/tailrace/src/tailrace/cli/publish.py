"""`tailrace publish`: lines become chunks."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import select
import socket
import time
from collections.abc import Iterator
from typing import Any, TextIO, cast

from rich.console import Console
from rich.status import Status
from rich.text import Text

from ..errors import Invalid
from ..producer.sync import Producer
from ..writers import Transport

# The progress is for people: a few times a second is enough.
_SHOW_SECONDS = 0.1


def publish(
    transport: Transport,
    *,
    stream: str,
    file: TextIO,
    as_json: bool,
    rate: float | None,
    **options: Any,
) -> int:
    """Publish a file as one run; return the exit code."""
    console = Console(stderr=True, highlight=False, emoji=False)
    name = str(getattr(file, "name", ""))
    as_json = as_json or name.endswith((".jsonl", ".ndjson"))
    over, stop = socket.socketpair()
    lines = _lines(_until(over, file), name)
    chunks = _values(lines) if as_json else lines
    options["on_stop"] = lambda _: stop.close()
    # A spinner and somebody who types would write into the same line.
    quiet = console.status("") if not file.isatty() else contextlib.nullcontext()
    with (
        over,
        stop,
        Producer(stream, transport=transport, **options) as producer,
        quiet as status,
    ):
        shown_at = 0.0
        first = producer.already
        if first:
            console.print(f"[dim]{first} lines are in: going on behind them[/dim]")
        try:
            for chunk in _paced(itertools.islice(chunks, first, None), rate):
                producer.write(chunk)
                now = time.monotonic()
                if status is not None and now - shown_at >= _SHOW_SECONDS:
                    shown_at = now
                    _show(status, producer)
        except Invalid:
            # Of a line that the end of the run has cut.
            if producer.error is not None:
                raise producer.error from None
            raise
    written = producer.already - first
    console.print(
        f"[green]completed[/green] {producer.run} "
        f"[dim]({written} chunks, up to seq {producer.seq})[/dim]"
    )
    return 0


class _Until(io.RawIOBase):
    """A file that ends when `over` does, too: whoever waits for its next line is told
    at once that the run is over."""

    def __init__(self, over: socket.socket, file: int) -> None:
        self._over, self._file = over.fileno(), file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        ready, _, _ = select.select([self._over, self._file], [], [])
        return 0 if self._over in ready else os.readv(self._file, [buffer])


def _until(over: socket.socket, file: TextIO) -> TextIO:
    """Return the file as one that ends with `over`, where it can be. Its line breaks
    are left as they are."""
    if os.name == "posix":  # elsewhere, `select` takes sockets only
        with contextlib.suppress(OSError):  # it is none of the system's
            raw = _Until(over, file.fileno())
            return io.TextIOWrapper(
                io.BufferedReader(raw), encoding="utf-8", newline=""
            )
    cast(io.TextIOWrapper, file).reconfigure(newline="")
    return file


def _lines(file: TextIO, name: str) -> Iterator[str]:
    try:
        yield from file
    except UnicodeDecodeError:
        raise Invalid(f"{name}: not UTF-8") from None


def _values(lines: Iterator[str]) -> Iterator[Any]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield json.loads(line)
        except (ValueError, RecursionError) as error:
            raise Invalid(f"line {number}: not JSON ({error})") from None


def _paced(chunks: Iterator[Any], rate: float | None) -> Iterator[Any]:
    begun = time.monotonic()
    for number, chunk in enumerate(chunks):
        if rate is not None:
            time.sleep(max(0.0, begun + number / rate - time.monotonic()))
        yield chunk


def _show(status: Status, producer: Producer) -> None:
    text = f"{producer.stream} [dim]{producer.run}[/dim] {producer.already} chunks"
    status.update(Text.from_markup(text, emoji=False))
