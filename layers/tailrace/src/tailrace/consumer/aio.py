"""The consumer for asyncio: what an application reads.

It queues what the machine delivers, and knows what was handed out, which is the cursor
that an application keeps. It knows no connection: those are the shell's.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from ..errors import Invalid, Unavailable
from ..ids import check_stream
from ..rules import PRODUCER_LOST
from .cursor import Cursor, Delivered, Output
from .events import Event, expand, failure, kept_cursor, read_cursor
from .machine import Closed, Status
from .shell import About, OnStatus, Shell, TokenSource
from .state import Fail, Settle, Tell

FULL = 1_000_000
LOW = 250_000
"""Characters that wait to be read: above FULL the server is asked for no more, below
LOW it is asked again."""

CANCEL_SECONDS = 5.0
"""How long leaving waits for the answers to cancels."""


def consume(
    url: str,
    token: TokenSource,
    stream: str,
    *,
    after: Mapping[str, Any] | None = None,
    run: str | None = None,
    follow: bool = False,
    handshake: Literal["subprotocol", "query"] = "subprotocol",
    on_status: OnStatus | None = None,
) -> Consumption:
    """Watch a stream: an async iterator of the chunks of its current run.

    It ends where the run is `completed`. Any other end is raised: `Cancelled`, or
    `StreamEnded` with its `reason` (and the `message` that is fit to show). What cannot
    be read at all is raised as the server says it (`Forbidden`, …); a broken network is
    waited for.

    `token`
        A JWT, or a function (also a coroutine function) that fetches one: called before
        the first connection, before a token expires, and after a refusal; again later,
        if it raises, or gives what can be no token.
    `after`
        Where to go on: the `cursor` of an earlier consumption.
    `run`
        The run to read, also one that has not opened yet; without it the current one.
    `follow`
        Go on through later runs; no end is raised then.
    `handshake`
        How the token travels. With `query` it ends up in access logs.
    `on_status`
        Called with each new `status`.
    """
    check_stream(stream)
    if not _leads_somewhere(url):
        raise Invalid("url: must be that of a socket: wss://… (or ws://…)")
    if not isinstance(token, str) and not callable(token):
        raise Invalid("token: must be text, or a function that fetches it")
    cursor = None if after is None else read_cursor(after)
    return Consumption(
        url,
        token,
        stream,
        cursor,
        run=run,
        follow=follow,
        handshake=handshake,
        on_status=on_status,
    )


class Consumption:
    """What `consume` returns: iterate it, once, for chunks; `events` tells more.

    Nothing happens before that. Leaving the loop stops watching, when the iterator is
    closed; as an async context manager it is closed for certain.
    """

    def __init__(
        self,
        url: str,
        token: TokenSource,
        stream: str,
        cursor: Cursor | None,
        *,
        run: str | None,
        follow: bool,
        handshake: Literal["subprotocol", "query"],
        on_status: OnStatus | None,
    ) -> None:
        self.stream = stream
        self._shell = Shell(
            url,
            token,
            by_query=handshake == "query",
            on_status=on_status,
            on_failure=self._fail,
        )
        self._cursor = cursor
        self._wanted = run
        self._follow = follow
        self._begun = False
        self._id = ""
        self._latest: str | None = None
        self.received = 0
        """The last seq received, handed out or not; 0 before anything was."""
        self._queue: deque[tuple[Output, int, int]] = deque()
        self._queued = 0
        self._paused = False
        self.error: BaseException | None = None
        """What ends the reading, once what was received is handed out."""
        self._over = False
        self._left = False
        self._cancels: set[asyncio.Future[str | None]] = set()
        self._arrival = asyncio.Event()

    @property
    def cursor(self) -> dict[str, Any] | None:
        """What to hand back as `after`: plain JSON, None until something was read."""
        return kept_cursor(self._cursor)

    @property
    def status(self) -> Status:
        """`connecting`, `replaying`, `live`, `offline`; `idle` while it is not read."""
        return self._shell.status

    @property
    def problem(self) -> Exception | None:
        """Why the last connection, or the token for it, could not be had."""
        return self._shell.problem

    # ---- reading ---------------------------------------------------------------------

    def __aiter__(self) -> AsyncGenerator[Any]:
        return self._read(chunks=True)

    def events(self) -> AsyncGenerator[Event]:
        """Yield everything that happens; how a run ended is not raised here."""
        return self._read(chunks=False)

    async def _read(self, *, chunks: bool) -> AsyncGenerator[Any]:
        """Yield all events, or the chunks alone. One generator, not one in another:
        those that the collector finds together it closes side by side, and the outer
        would fail in closing the inner."""
        if self._begun:
            raise Invalid("a consumption can be read once only")
        self._begun = True
        self._id = self._shell.open(
            "watch",
            self._take,
            self.stream,
            after=self._cursor,
            run=self._wanted,
            follow=self._follow,
        )
        try:
            while True:
                while self._queue:
                    output, received, size = self._queue.popleft()
                    for event in expand(output, received):
                        self._show(event)
                        if not chunks:
                            yield event
                        elif event.type == "chunk":
                            yield event.chunk
                        elif event.type == "end" and not self._follow:
                            if event.reason != "completed":
                                raise failure(event)
                            return
                    self._queued -= size
                    if self._paused and self._queued < LOW:
                        self._paused = False
                        self._shell.feed("resume", self._id)
                if self.error is not None:
                    raise self.error
                if self._over:
                    return
                self._arrival.clear()
                await self._arrival.wait()
        finally:
            await self.aclose()

    async def cancel(self) -> str | None:
        """Cancel the run that is being read, for everyone; return how it ended, if that
        is known. Raises `Forbidden` where the token does not grant it, `Unavailable`
        where no answer came, and `Invalid`, with nothing sent, before anything was read
        and once the reading is over."""
        if self._latest is None:
            raise Invalid("no run is known yet")
        if self._left:
            raise Invalid("the reading is over: cancel before the loop is left")
        settled: asyncio.Future[str | None]
        settled = asyncio.get_running_loop().create_future()
        self._cancels.add(settled)
        settled.add_done_callback(self._cancels.discard)

        def settle(command: About) -> None:
            # Who asked may have given up waiting.
            if settled.done():
                return
            if isinstance(command, Fail):
                error = command.error
                if isinstance(error, Closed):
                    error = Unavailable("the reading ended before the cancel's answer")
                settled.set_exception(error)
            elif isinstance(command, Settle):
                settled.set_result(command.reason)

        self._shell.open("cancel", settle, self.stream, self._latest)
        return await settled

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop watching, once the cancels that are under way are answered; it waits 5
        seconds for them at most."""
        self._over = self._left = True
        self._queue.clear()
        self._arrival.set()
        if self._begun:
            try:
                if self._cancels:
                    await asyncio.wait(self._cancels, timeout=CANCEL_SECONDS)
            finally:
                await self._shell.aclose()

    def _show(self, event: Event) -> None:
        """Move the cursor over what is handed out."""
        ended, lost = event.type == "end", event.reason == PRODUCER_LOST
        if event.seq is not None:
            self._cursor = Cursor(event.run, event.seq, ended, lost=lost)
        elif self._cursor is not None:
            self._cursor = Cursor(self._cursor.run, self._cursor.seq, ended)

    # ---- what comes ------------------------------------------------------------------

    def _take(self, command: About) -> None:
        if isinstance(command, Tell):
            self._receive(command.output)
        elif isinstance(command, Fail):
            self._fail(command.error)

    def _receive(self, output: Output) -> None:
        size = output.piece.size if isinstance(output, Delivered) else 0
        self._queue.append((output, self._shell.time(), size))
        self._queued += size
        if isinstance(output, Delivered):
            self._latest = output.piece.run
            self.received = output.piece.next - 1
            reason = (output.piece.end or {}).get("reason")
        else:
            reason = output.reason
        if reason not in (None, PRODUCER_LOST) and not self._follow:
            self._over = True
        if self._queued > FULL and not self._paused:
            self._paused = True
            self._shell.feed("pause", self._id)
        self._arrival.set()

    def _fail(self, error: BaseException) -> None:
        self.error = error
        self._arrival.set()


def _leads_somewhere(url: str) -> bool:
    try:
        at = urlsplit(url)
        (at.hostname or "").encode("idna")
        return at.scheme in ("ws", "wss") and bool(at.hostname) and at.port != 0
    except (ValueError, AttributeError):  # of its host or port, or no text at all
        return False
