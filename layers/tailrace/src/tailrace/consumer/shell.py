"""The shell around the machine, for asyncio: feeds it, and carries out its commands
with sockets, a timer and the application's token. It knows no reader.

Everything happens in one event loop.
"""

from __future__ import annotations

import asyncio
import base64
import inspect
import itertools
import json
import logging
import random
import re
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

from ..errors import TailraceError, TooLarge, Unauthorized
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
About = Tell | Fail | Settle
"""A command about a reader or a cancel."""
Sink = Callable[[About], None]

_TOKEN = re.compile(r"[A-Za-z0-9_.-]+")


class Shell:
    """A client: one connection, or two while rotating, for whoever wants something.

    `on_failure`: called with an exception of which the machine knows nothing: what a
    proxy lacks, or what `on_status` raised.
    """

    def __init__(
        self,
        url: str,
        token: TokenSource,
        *,
        by_query: bool,
        on_status: OnStatus | None,
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self._url = url
        self._by_query = by_query
        self._tokens = Tokens(token)
        self._on_status = on_status
        self._on_failure = on_failure
        self._told: Status = "idle"
        self._machine = Machine()
        self._events: deque[tuple[str, tuple[Any, ...], dict[str, Any]]] = deque()
        self._busy = False
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._sockets: dict[int, Socket] = {}
        self._reachable = False
        self._sinks: dict[str, Sink] = {}
        self._ids = itertools.count()
        self.problem: Exception | None = None
        """Why the last connection, or the token for it, could not be had."""
        self._complained = False

    @property
    def status(self) -> Status:
        return self._machine.status

    def time(self) -> int:
        """Return AWS time in ms; before the first answer, this machine's."""
        aws = self._machine.aws_time(_now())
        return int(time.time() * 1000 if aws is None else aws)

    def open(self, event: str, sink: Sink, *arguments: Any, **options: Any) -> str:
        """Give the machine a reader or a cancel, and `sink` what it says about it;
        return its id."""
        id = str(next(self._ids))
        self._sinks[id] = sink
        self.feed(event, id, *arguments, **options)
        return id

    def feed(self, event: str, *arguments: Any, **options: Any) -> None:
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

    async def aclose(self) -> None:
        """End all, for good."""
        if self.status != "closed":
            self.feed("close")
        if self._timer is not None:
            self._timer.cancel()
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSE_SECONDS)
        for task in tasks:
            task.cancel()

    # ---- the machine's commands ------------------------------------------------------

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self._machine.deadline
        if due < float("inf"):
            delay = max(0.0, (due - _now()) / 1000)
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(delay, self.feed, "tick")

    def _carry_out(self, command: Command) -> None:
        match command:
            case Tell(id):
                self._sinks[id](command)
            case Fail(id) | Settle(id):
                self._sinks.pop(id)(command)
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
                self.feed("probed", self._reachable)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_failure(error)

    # ---- sockets and tokens ----------------------------------------------------------

    def _send(self, socket: int, frame: Frame) -> None:
        try:
            text = encode(frame)
        except TooLarge as error:
            refusal = {"type": "error", "n": frame["n"], **error.as_dict()}
            self.feed("frame", socket, refusal)
            return
        if at := self._sockets.get(socket):
            at.send(text)

    async def _keep(self, number: int, socket: Socket) -> None:
        """Run a socket to its end."""
        try:
            self._reachable = await socket.run(
                partial(self.feed, "opened", number),
                partial(self.feed, "frame", number),
            )
        finally:
            self.problem = socket.problem
            if self._sockets.pop(number, None) is not None:
                self.feed("lost", number)

    async def _fetch_token(self) -> None:
        try:
            token, exp = await self._tokens.fetch()
        except Exception as error:  # noqa: BLE001 - the application's; asked again later
            self.problem = error
            fatal = isinstance(error, TailraceError) and not error.retryable
            if not fatal and not self._complained:
                self._complained = True
                _log.warning("no token yet: %s", type(error).__name__)
            self.feed("tokenless", error if fatal else None)
        else:
            self.feed("token", token, exp)


class Tokens:
    """What the application gave: a token, or a function that fetches one."""

    def __init__(self, source: TokenSource) -> None:
        self._source = source
        self._given = False

    async def fetch(self) -> tuple[str, int | None]:
        """Return a token and, if it came of a function, when it expires, in seconds."""
        if isinstance(self._source, str):
            if self._given:
                raise Unauthorized("the token was refused; give a function to renew it")
            if not _TOKEN.fullmatch(self._source):
                raise Unauthorized("the text given as a token is none")
            self._given = True
            return self._source, None
        token = self._source()
        if inspect.isawaitable(token):
            token = await token
        # What else a backend says in its place, the handshake may refuse for good.
        if not isinstance(token, str) or not _TOKEN.fullmatch(token):
            raise ValueError("what was fetched is no token")
        return token, expiry_of(token)


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
