"""The consumer for asyncio: feeds the machine, and carries out its commands.

Everything happens in one event loop.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import inspect
import itertools
import json
import logging
import random
import re
import time
from collections import deque
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Coroutine,
    Mapping,
)
from functools import partial
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from ..errors import Invalid, TailraceError, TooLarge, Unauthorized
from ..ids import check_stream
from ..rules import PRODUCER_LOST
from .cursor import Cursor, Delivered, Output
from .events import Event, expand, failure, kept_cursor, read_cursor
from .machine import Machine, Status
from .sockets import CLOSE_SECONDS, Socket
from .state import (
    Close,
    Command,
    Connect,
    Fail,
    FetchToken,
    Probe,
    Send,
    Settle,
    Tell,
)
from .wire import Frame, encode

_log = logging.getLogger("tailrace")

OnStatus = Callable[[Status], None]
TokenSource = str | Callable[[], str | Awaitable[str]]

FULL = 1_000_000
LOW = 250_000
"""Characters that wait to be read: above FULL the server is asked for no more, below
LOW it is asked again."""

_TOKEN = re.compile(r"[A-Za-z0-9_.-]+")
_READER = "reader"
_CANCEL = "cancel"


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
        self._url = url
        self._token = token
        self._cursor = cursor
        self._wanted = run
        self._follow = follow
        self._by_query = handshake == "query"
        self._on_status = on_status
        self._told: Status = "idle"
        self._machine = Machine()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._sockets: dict[int, Socket] = {}
        self._events: deque[tuple[str, tuple[Any, ...], dict[str, Any]]] = deque()
        self._busy = False
        self._reachable = False
        self._fetched = False
        self._latest: str | None = None
        self.received = 0
        """The last seq received, handed out or not; 0 before anything was."""
        self._queue: deque[tuple[Output, int, int]] = deque()
        self._queued = 0
        self._paused = False
        self.error: BaseException | None = None
        """What ends the reading, once what was received is handed out."""
        self.problem: Exception | None = None
        """Why the last connection, or the token for it, could not be had."""
        self._complained = False
        self._over = False
        self._arrival = asyncio.Event()
        self._cancels: dict[str, asyncio.Future[str | None]] = {}
        self._numbers = itertools.count()

    @property
    def cursor(self) -> dict[str, Any] | None:
        """What to hand back as `after`: plain JSON, None until something was read."""
        return kept_cursor(self._cursor)

    @property
    def status(self) -> Status:
        """`connecting`, `replaying`, `live`, `offline`; `idle` while it is not read."""
        return self._machine.status

    # ---- reading ---------------------------------------------------------------------

    async def __aiter__(self) -> AsyncGenerator[Any]:
        async with contextlib.aclosing(self.events()) as events:
            async for event in events:
                if event.type == "chunk":
                    yield event.chunk
                elif event.type == "end" and not self._follow:
                    if event.reason != "completed":
                        raise failure(event)
                    return

    async def events(self) -> AsyncGenerator[Event]:
        """Yield everything that happens; how a run ended is not raised here."""
        if self._loop is not None:
            raise Invalid("a consumption can be read once only")
        self._loop = asyncio.get_running_loop()
        self._dispatch(
            "watch",
            _READER,
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
                        yield event
                    self._queued -= size
                    if self._paused and self._queued < LOW:
                        self._paused = False
                        self._dispatch("resume", _READER)
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
        is known. Raises `Forbidden` where the token does not grant it."""
        if self._latest is None or self._loop is None:
            raise Invalid("no run is known yet")
        settled: asyncio.Future[str | None] = self._loop.create_future()
        id = f"{_CANCEL}{next(self._numbers)}"
        self._cancels[id] = settled
        self._dispatch("cancel", id, self.stream, self._latest)
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
        """Stop watching."""
        self._over = True
        self._queue.clear()
        self._arrival.set()
        if self._loop is not None and self._machine.status != "closed":
            self._dispatch("close")
        if self._timer is not None:
            self._timer.cancel()
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSE_SECONDS)
        for task in tasks:
            task.cancel()

    def _show(self, event: Event) -> None:
        """Move the cursor over what is handed out."""
        ended, lost = event.type == "end", event.reason == PRODUCER_LOST
        if event.seq is not None:
            self._cursor = Cursor(event.run, event.seq, ended, lost=lost)
        elif self._cursor is not None:
            self._cursor = Cursor(self._cursor.run, self._cursor.seq, ended)

    def _time(self) -> int:
        """Return AWS time in ms; before the first answer, this machine's."""
        aws = self._machine.aws_time(_now())
        return int(time.time() * 1000 if aws is None else aws)

    # ---- the machine -----------------------------------------------------------------

    def _dispatch(self, event: str, *arguments: Any, **options: Any) -> None:
        """Feed the machine: one event at a time, also where carrying out a command
        brings the next."""
        self._events.append((event, arguments, options))
        if self._busy:
            return
        self._busy = True
        try:
            while self._events:
                name, given, named = self._events.popleft()
                step = getattr(self._machine, name)
                for command in step(
                    *given, **named, now=_now(), chance=random.random()
                ):
                    self._carry_out(command)
        finally:
            self._busy = False
        self._arm()
        if self._told != self.status:
            self._told = self.status
            if self._on_status is not None:
                self._on_status(self._told)

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self._machine.deadline
        if self._loop is not None and due < float("inf"):
            delay = max(0.0, (due - _now()) / 1000)
            self._timer = self._loop.call_later(delay, self._dispatch, "tick")

    def _carry_out(self, command: Command) -> None:
        match command:
            case Tell(_, output):
                self._receive(output)
            case Fail(id, error) if id == _READER:
                self.error = error
                self._arrival.set()
            case Fail(id, error):
                if not (settled := self._cancels.pop(id)).done():
                    settled.set_exception(error)
            case Settle(id, reason):
                # Who asked may have given up waiting.
                if not (settled := self._cancels.pop(id)).done():
                    settled.set_result(reason)
            case Send(number, frame):
                self._send(number, frame)
            case Close(number):
                self._sockets.pop(number).close()
            case Connect(number, token):
                socket = Socket(self._url, token, by_query=self._by_query)
                self._sockets[number] = socket
                self._start(self._keep(number, socket))
            case FetchToken():
                self._start(self._fetch_token())
            case Probe():
                self._dispatch("probed", self._reachable)

    def _receive(self, output: Output) -> None:
        size = output.piece.size if isinstance(output, Delivered) else 0
        self._queue.append((output, self._time(), size))
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
            self._dispatch("pause", _READER)
        self._arrival.set()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        assert self._loop is not None
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.error = error
            self._arrival.set()

    # ---- sockets and tokens ----------------------------------------------------------

    def _send(self, socket: int, frame: Frame) -> None:
        try:
            text = encode(frame)
        except TooLarge as error:
            refusal = {"type": "error", "n": frame["n"], **error.as_dict()}
            self._dispatch("frame", socket, refusal)
            return
        if at := self._sockets.get(socket):
            at.send(text)

    async def _keep(self, number: int, socket: Socket) -> None:
        """Run a socket to its end."""
        try:
            self._reachable = await socket.run(
                partial(self._dispatch, "opened", number),
                partial(self._dispatch, "frame", number),
            )
        finally:
            self.problem = socket.problem
            if self._sockets.pop(number, None) is not None:
                self._dispatch("lost", number)

    async def _fetch_token(self) -> None:
        try:
            token, exp = await self._new_token()
        except Exception as error:  # noqa: BLE001 - the application's; asked again later
            self.problem = error
            fatal = isinstance(error, TailraceError) and not error.retryable
            if not fatal and not self._complained:
                self._complained = True
                _log.warning("no token yet: %s", type(error).__name__)
            self._dispatch("tokenless", error if fatal else None)
        else:
            self._dispatch("token", token, exp)

    async def _new_token(self) -> tuple[str, int | None]:
        if isinstance(self._token, str):
            if self._fetched:
                raise Unauthorized("the token was refused; give a function to renew it")
            if not _TOKEN.fullmatch(self._token):
                raise Unauthorized("the text given as a token is none")
            self._fetched = True
            return self._token, None
        token = self._token()
        if inspect.isawaitable(token):
            token = await token
        # What else a backend says in its place, the handshake may refuse for good.
        if not isinstance(token, str) or not _TOKEN.fullmatch(token):
            raise ValueError("what was fetched is no token")
        return token, expiry_of(token)


def _leads_somewhere(url: str) -> bool:
    try:
        at = urlsplit(url)
        (at.hostname or "").encode("idna")
        return at.scheme in ("ws", "wss") and bool(at.hostname) and at.port != 0
    except (ValueError, AttributeError):  # of its host or port, or no text at all
        return False


def expiry_of(token: str) -> int | None:
    """Return when a JWT expires, in seconds; None where that cannot be read."""
    try:
        body = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        exp = claims["exp"]
        # Any number is a NumericDate.
        return int(exp) if type(exp) in (int, float) else None
    except (IndexError, ValueError, KeyError, TypeError, OverflowError):
        return None


def _now() -> float:
    return time.monotonic() * 1000
