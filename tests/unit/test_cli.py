"""The command, against a server on loopback: what it prints, and its exit codes."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    HTTPClientError,
    InvalidRegionError,
    NoCredentialsError,
    NoRegionError,
    ProfileNotFound,
    UnauthorizedSSOTokenError,
)
from rich.console import Console
from rich.status import Status

from tailrace import minting, new_run, tokens
from tailrace.cli import app, failures
from tailrace.cli.failures import explain
from tailrace.cli.publish import _show
from tailrace.cli.status import ago
from tailrace.deployment import Deployment, NoStack
from tailrace.errors import (
    Busy,
    Cancelled,
    Fenced,
    Forbidden,
    Invalid,
    StreamEnded,
    Unauthorized,
    Unavailable,
)
from tailrace.producer.sync import Producer
from tailrace.transports.function import NoAnswer
from tests.support.local_server import RING, LocalServer

STREAM = "chat:42"
Run = Callable[..., tuple[int, str, str]]


class Background:
    """A server in a thread of its own: the command has the main one's event loop."""

    def __init__(self) -> None:
        self.server = LocalServer()
        self._ready = threading.Event()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    def __enter__(self) -> LocalServer:
        self._thread.start()
        assert self._ready.wait(10)
        return self.server

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.server.in_loop = self._loop
        async with self.server.listening():
            self._ready.set()
            await self._stop.wait()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalServer]:
    """A server that the command finds as the stack `tailrace`."""
    for name in ("TAILRACE_STACK", "TAILRACE_TOKEN", "TAILRACE_KEY_RING"):
        monkeypatch.delenv(name, raising=False)
    with Background() as server:

        def find(stack: str | None = None, environ: Any = None) -> Deployment:
            if stack not in (None, "tailrace"):
                raise NoStack(f"stack: there is no {stack!r}")
            return Deployment(socket_url=server.url, key_ring_arn="ring")

        monkeypatch.setattr(app, "find", find)
        monkeypatch.setattr(app, "find_transport", lambda *_, **__: server.publish)
        monkeypatch.setenv("TAILRACE_KEY_RING", json.dumps(RING))
        yield server


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command; return its exit code, standard output and standard error."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str, stdin: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        code = app.run(arguments)
        out, err = capsys.readouterr()
        return code, out, err

    return run


def written(server: LocalServer, stream: str = STREAM) -> list[Any]:
    slices = server.publish.ask({"operation": "read", "stream": stream})["slices"]
    return [chunk for text in slices for chunk in json.loads(text).get("chunks", [])]


def produce(
    server: LocalServer, *chunks: Any, stream: str = STREAM, **options: Any
) -> None:
    with Producer(stream, transport=server.publish, **options) as producer:
        for chunk in chunks:
            producer.write(chunk)


# ---- publish -------------------------------------------------------------------------


def test_publish_makes_each_line_a_chunk(server: LocalServer, run: Run) -> None:
    code, out, err = run("publish", STREAM, stdin="a\n\nb")
    assert (code, out) == (0, "")
    assert written(server) == ["a\n", "\n", "b"]
    assert "completed" in err
    assert "3 chunks, up to seq 5" in err


def test_publish_keeps_the_line_breaks_as_they_are(
    server: LocalServer, run: Run, tmp_path: Path
) -> None:
    text = "a\r\nb\rc\n"
    path = tmp_path / "answer.txt"
    path.write_bytes(text.encode())
    for given in ([str(path)], []):
        assert run("publish", STREAM, *given, stdin=text)[0] == 0
        assert written(server) == ["a\r\n", "b\r", "c\n"]


def test_publish_takes_json_lines(
    server: LocalServer, run: Run, tmp_path: Path
) -> None:
    path = tmp_path / "answer.jsonl"
    path.write_text('{"a":1}\n\n"b"\nnull\n')
    assert run("publish", STREAM, str(path))[0] == 0
    assert written(server) == [{"a": 1}, "b", None]
    meta = '{"model":"m"}'
    assert run("publish", STREAM, "--json", "--meta", meta, stdin="[1]")[0] == 0
    assert written(server) == [[1]]
    (first, *_) = server.publish.ask({"operation": "read", "stream": STREAM})["slices"]
    assert json.loads(first)["open"]["meta"] == {"model": "m"}


def test_publish_goes_on_behind_the_lines_that_are_in(
    server: LocalServer, run: Run
) -> None:
    stream = Producer(STREAM, transport=server.publish, lease=1).open()
    stream.write("a\n")
    stream.hand_over()
    resume = ("--run", stream.run, "--resume", "continue")
    assert run("publish", STREAM, *resume, stdin="a\nb\n")[0] == 0
    assert written(server) == ["a\n", "b\n"]


def test_publish_at_a_rate_takes_its_time(server: LocalServer, run: Run) -> None:
    assert run("publish", STREAM, "--rate", "100", stdin="a\nb\nc\n")[0] == 0
    records = list(server.log.store.range(STREAM, 1))
    assert records[-1].at - records[0].at >= 18


def test_what_is_no_json_ends_the_run_as_an_error(
    server: LocalServer, run: Run
) -> None:
    code, _, err = run("publish", STREAM, "--json", stdin="1\n{\n")
    assert code == failures.WRONG
    assert err.startswith("tailrace: line 2: not JSON")
    assert written(server) == [1]
    tail = server.log.store.last(STREAM)
    assert tail is not None
    assert tail.reason == "error"


def test_what_nests_too_deep_is_refused(server: LocalServer, run: Run) -> None:
    deep = "[" * 100_000
    code, _, err = run("publish", STREAM, "--json", stdin=deep)
    assert code == failures.WRONG
    assert "line 1: not JSON" in err
    assert run("publish", STREAM, "--meta", deep)[0] == failures.WRONG


def test_a_standard_input_that_is_closed_is_told(
    server: LocalServer,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert app.run(("publish", STREAM)) == failures.WRONG
    assert "standard input is closed" in capsys.readouterr().err


def test_what_is_no_utf8_is_refused(
    server: LocalServer, run: Run, tmp_path: Path
) -> None:
    path = tmp_path / "answer.txt"
    path.write_bytes(b"a\n\xff\n")
    code, out, err = run("publish", STREAM, str(path))
    assert (code, out) == (failures.WRONG, "")
    assert "answer.txt: not UTF-8" in err.splitlines()[-1]


@pytest.mark.parametrize("open_both", [os.pipe, lambda: os.openpty()[::-1]])
def test_publish_ends_with_its_run_while_its_input_is_silent(
    server: LocalServer,
    monkeypatch: pytest.MonkeyPatch,
    open_both: Callable[[], tuple[int, int]],
) -> None:
    def renew(*_: Any, **__: Any) -> Any:
        raise Cancelled("stop")

    monkeypatch.setattr(server.publish, "renew", renew)
    reading, writing = open_both()
    os.write(writing, "a\nö\n".encode())
    in_vain = threading.Timer(30, os.close, [writing])
    in_vain.start()
    with os.fdopen(reading, encoding="utf-8") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        code = app.run(("publish", STREAM, "--lease", "1"))
    assert in_vain.is_alive()
    in_vain.cancel()
    os.close(writing)
    assert code == failures.ENDED
    assert written(server) == ["a\n", "ö\n"]


@pytest.mark.parametrize(
    ("half", "options"), [(b'{"half":', ("--json",)), (b"\xc3", ())]
)
def test_a_line_that_the_end_of_the_run_has_cut_is_no_malformed_one(
    server: LocalServer,
    monkeypatch: pytest.MonkeyPatch,
    half: bytes,
    options: tuple[str, ...],
) -> None:
    def renew(*_: Any, **__: Any) -> Any:
        raise Cancelled("stop")

    monkeypatch.setattr(server.publish, "renew", renew)
    reading, writing = os.pipe()
    os.write(writing, b'"a"\n' + half)
    with os.fdopen(reading, encoding="utf-8") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        code = app.run(("publish", STREAM, "--lease", "1", *options))
    os.close(writing)
    assert code == failures.ENDED


def test_publish_says_what_stands_in_its_way(server: LocalServer, run: Run) -> None:
    with Producer(STREAM, transport=server.publish):
        code, _, err = run("publish", STREAM, "--on-active", "fail", stdin="a")
    assert code == failures.BUSY
    assert "hint: wait until it ends" in err


# ---- tail ----------------------------------------------------------------------------


def test_tail_shows_the_run_from_its_start(server: LocalServer, run: Run) -> None:
    produce(server, "Hello, ", "world", {"tool": "ü"}, "!\n", meta={"model": "[m]"})
    code, out, err = run("tail", STREAM, "--from-start")
    assert (code, out) == (0, 'Hello, world\n{"tool": "ü"}\n!\n')
    assert '{"model": "[m]"}' in err
    assert "completed (4 chunks)" in err, "of a replay, nobody knows when it began"


def test_tail_shows_what_comes_from_now_on(server: LocalServer, run: Run) -> None:
    produce(server, "an answer of before")
    stream = Producer(STREAM, transport=server.publish, min_interval=0).open()
    stream.write("before ")
    stream.flush()

    def go_on() -> None:
        stream.write("after")
        stream.end()

    thread = when_watched(server, go_on)
    code, out, err = run("tail", STREAM)
    thread.join()
    assert (code, out) == (0, "after\n")
    assert "watching chat:42" in err
    assert "latency" in err


def test_tail_waits_for_the_next_run(server: LocalServer, run: Run) -> None:
    produce(server, "an answer of before")
    thread = when_watched(server, lambda: produce(server, "the next"))
    code, out, err = run("tail", STREAM)
    thread.join()
    assert (code, out) == (0, "the next\n")
    assert re.search(r"completed \(1 chunks, 0\.\d s, latency", err)


def when_watched(server: LocalServer, act: Callable[[], Any]) -> threading.Thread:
    """Do something as soon as somebody watches the stream, and was told its tail."""

    def wait() -> None:
        watched = threading.Event()
        while not server.answered and not watched.wait(0.002):
            pass
        watched.wait(0.1)
        act()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


@pytest.mark.parametrize(
    ("error", "message", "says"),
    [(ValueError(), "Try again [later].", "error: Try again [later]."), (None, "", "")],
)
def test_tail_tells_how_the_run_ended(
    server: LocalServer, run: Run, error: Exception | None, message: str, says: str
) -> None:
    stream = Producer(STREAM, transport=server.publish, error_message=message).open()
    if error is None:
        server.log.cancel(STREAM)
        says = "cancelled (0 chunks"
    else:
        stream.__exit__(type(error), error, None)
    code, _, err = run("tail", STREAM, "--from-start")
    assert code == failures.ENDED
    assert says in err
    if error is None:
        with pytest.raises(Cancelled):
            stream.end()


def test_tail_prints_events_as_json(server: LocalServer, run: Run) -> None:
    produce(server, "a", None)
    code, out, err = run("tail", STREAM, "--from-start", "--json")
    events = [json.loads(line) for line in out.splitlines()]
    assert (code, err) == (0, "")
    assert [event["type"] for event in events] == ["open", "chunk", "chunk", "end"]
    assert [event["seq"] for event in events] == [1, 2, 3, 4]
    assert (events[1]["chunk"], events[2]["chunk"]) == ("a", None)
    assert events[3]["reason"] == "completed"


def test_tail_shows_an_emoji_that_came_in_halves(server: LocalServer, run: Run) -> None:
    """As token boundaries cut them."""
    produce(server, "a \ud83d", "\ude00 b", {"half": "\ud83d"}, "\ud83d")
    code, out, _ = run("tail", STREAM, "--from-start")
    assert code == 0
    assert out.startswith('a 😀 b\n{"half": "\\ud83d"}\n')
    code, out, _ = run("tail", STREAM, "--from-start", "--json")
    assert code == 0
    assert json.loads(out.splitlines()[1])["chunk"] == "a \ud83d"


@pytest.mark.parametrize(
    ("chunk", "shown"),
    [("a 🚀", b"a ?\n"), ({"a": "🚀"}, b'{"a": "\\ud83d\\ude80"}\n')],
)
def test_tail_shows_what_a_terminal_cannot_show_in_another_way(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch, chunk: Any, shown: bytes
) -> None:
    produce(server, chunk)
    out = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out, encoding="latin-1"))
    assert app.run(("tail", STREAM, "--from-start")) == 0
    sys.stdout.flush()
    assert out.getvalue() == shown


class Terminal(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


ESCAPES = "\x1b]0;title\x07\x1b[1A\x1b[2K\x9b2K\x7f\r"


def test_tail_lets_no_answer_command_the_terminal(
    server: LocalServer, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    produce(server, f"a\tb\n{ESCAPES}c", {"tool": ESCAPES})
    out = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", Terminal(out, encoding="utf-8"))
    assert app.run(("tail", STREAM, "--from-start")) == 0
    assert app.run(("tail", STREAM, "--from-start", "--json")) == 0
    sys.stdout.flush()
    shown = out.getvalue().decode()
    assert shown.startswith("a\tb\n�]0;title��[1A�[2K�2K��c\n")
    assert not [one for one in shown if not one.isprintable() and one not in "\t\n"]
    tool = json.loads(shown.splitlines()[-2])["chunk"]["tool"]
    assert tool == ESCAPES, "JSON says it all the same"


def test_tail_gives_a_pipe_what_the_answer_says(server: LocalServer, run: Run) -> None:
    text = f"a{ESCAPES}\x1b[31mred\x1b[0m\n"
    produce(server, text)
    assert run("tail", STREAM, "--from-start")[1] == text


def test_tail_lets_no_error_message_command_the_terminal(
    server: LocalServer, run: Run
) -> None:
    message = f"Try again.{ESCAPES}"
    stream = Producer(STREAM, transport=server.publish, error_message=message).open()
    stream.__exit__(ValueError, ValueError(), None)
    _, _, err = run("tail", STREAM, "--from-start")
    assert "error: Try again.�]0;title��[1A�[2K�2K�� (0 chunks" in err


def test_tail_follows_through_later_runs(server: LocalServer, run: Run) -> None:
    produce(server, "a\n")

    def more() -> None:
        produce(server, "b\n")
        server.refuse_frames = Unauthorized("enough")
        server.cut()

    thread = when_watched(server, more)
    code, out, err = run(
        "tail", STREAM, "--from-start", "-f", "--token", server.token()
    )
    thread.join()
    assert out == "a\nb\n"
    assert code == failures.NOT_ALLOWED
    assert "mint a fresh token" in err


def test_tail_uses_the_token_and_url_that_it_is_given(
    server: LocalServer, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    produce(server, "a\n")
    monkeypatch.setattr(app, "find", None)
    token = server.token(read=["chat:1"])
    where = ("--url", server.url, "--token")
    code, _, err = run("tail", STREAM, "--from-start", *where, token)
    assert code == failures.NOT_ALLOWED
    assert "hint: mint a token that grants this stream" in err
    assert run("tail", STREAM, "--from-start", *where, server.token())[0] == 0


def test_tail_ends_where_no_token_can_be_had(
    server: LocalServer, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_keys(key_ring_arn: str) -> None:
        raise NoCredentialsError

    monkeypatch.delenv("TAILRACE_KEY_RING")
    monkeypatch.setenv("TAILRACE_KEY_RING_ARN", "ring")
    monkeypatch.setattr(minting, "find_keys", no_keys)
    code, out, err = run("tail", STREAM, "--url", server.url)
    assert (code, out) == (failures.NOT_ALLOWED, "")
    assert "no AWS credentials" in err
    assert server.handshakes == []


def test_tail_says_once_why_it_is_offline(server: LocalServer, run: Run) -> None:
    produce(server, "a\n")
    server.refuse = HTTPStatus.SERVICE_UNAVAILABLE

    def recover() -> None:
        while len(server.handshakes) < 4:
            time.sleep(0.005)
        server.refuse = None

    thread = threading.Thread(target=recover)
    thread.start()
    code, out, err = run("tail", STREAM, "--from-start")
    thread.join()
    assert (code, out) == (0, "a\n")
    assert err.count("offline") == 1
    assert "HTTP 503" in err


def test_a_token_that_has_expired_is_not_to_be_a_function(
    server: LocalServer, run: Run
) -> None:
    code, _, err = run("tail", STREAM, "--token", server.token(expires_in=-10))
    assert code == failures.NOT_ALLOWED
    assert "expired" in err.splitlines()[0]
    assert "function" not in err


# ---- cancel, status, token -----------------------------------------------------------


def test_cancel_stops_what_is_active(server: LocalServer, run: Run) -> None:
    assert run("cancel", STREAM)[:2] == (0, "nothing to cancel\n")
    stream = Producer(STREAM, transport=server.publish).open()
    assert run("cancel", STREAM)[:2] == (0, f"cancelled {stream.run}\n")
    with pytest.raises(Cancelled):
        stream.end()
    produce(server, "a")
    code, out, _ = run("cancel", STREAM)
    assert code == 0
    assert out.startswith("nothing to cancel: ")
    assert out.endswith("is completed\n")


def test_cancel_names_a_run(server: LocalServer, run: Run) -> None:
    to_come = server.log.new_run(None)
    assert run("cancel", STREAM, "--run", to_come)[:2] == (0, f"cancelled {to_come}\n")
    code, _, err = run("cancel", STREAM, "--run", "x")
    assert code == failures.WRONG
    assert err.startswith("tailrace: run: must be")


def test_status_tells_what_goes_on(server: LocalServer, run: Run) -> None:
    assert "none" in run("status", STREAM)[1]
    stream = Producer(STREAM, transport=server.publish).open()
    stream.write("a")
    stream.flush()
    code, out, _ = run("status", STREAM)
    assert code == 0
    rows = dict(line.split(None, 1) for line in out.splitlines())
    assert (rows["run"].strip(), rows["state"].strip()) == (stream.run, "active")
    assert (rows["chunks"].strip(), rows["watchers"].strip()) == ("1", "0")
    stream.end()
    told = json.loads(run("status", STREAM, "--json")[1])
    assert (told["active"], told["reason"], told["watchers"]) == (
        False,
        "completed",
        0,
    )


def test_a_streams_name_is_no_emoji(server: LocalServer, run: Run) -> None:
    name = "chat:cat:1"
    run("publish", name, stdin="a")
    assert name in run("status", name)[1]
    watched = when_watched(server, lambda: produce(server, stream=name))
    assert name in run("tail", name)[2]
    watched.join()
    spinner = Status("", console=Console(file=io.StringIO()))
    _show(spinner, Producer(name, run=new_run()))
    assert name in str(spinner.renderable.text)


def test_token_grants_what_it_is_asked_to(server: LocalServer, run: Run) -> None:
    grants = ("--read", "chat:*", "--read", "x", "--cancel", "*")
    code, out, _ = run("token", *grants, "--sub", "me", "--expires-in", "60")
    rights = tokens.verify(out.strip(), RING, int(time.time()))
    assert code == 0
    assert (rights.sub, rights.read, rights.cancel) == ("me", ("chat:*", "x"), ("*",))


# ---- what goes wrong -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["token"], "a token without grants"),
        (["publish"], "Missing argument 'STREAM'"),
        (["publish", "s", "/nowhere"], "No such file"),
        (["publish", "s", "--meta", "[]"], "no JSON object"),
        (["publish", "s", "--lease", "0"], "--lease"),
        (["frobnicate"], "No such command"),
        (["status", "no spaces"], "stream: must be"),
    ],
)
def test_wrong_usage_is_one_line_and_a_hint(
    server: LocalServer, run: Run, arguments: list[str], line: str
) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (failures.WRONG, "")
    assert line in err.splitlines()[0]
    assert err.startswith("tailrace: ")
    assert len(err.splitlines()) <= 2


def test_help_is_given_to_who_says_nothing(run: Run) -> None:
    code, out, _ = run()
    assert code == 0
    assert out.startswith("Usage: tailrace [OPTIONS] COMMAND")


def test_a_stack_that_is_not_there_is_named(server: LocalServer, run: Run) -> None:
    code, _, err = run("--stack", "nope", "tail", STREAM)
    assert code == failures.NOT_ALLOWED
    assert "'nope'" in err
    assert "--stack" in err.splitlines()[1]


def test_the_stack_is_called_tailrace_unless_something_is_configured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("TAILRACE_KEY_RING", "TAILRACE_STACK"):
        monkeypatch.delenv(name, raising=False)
    assert app.Context(None, in_process=False).stack == "tailrace"
    assert app.Context("mine", in_process=False).stack == "mine"
    monkeypatch.setenv("TAILRACE_TOKEN", "t")
    monkeypatch.setenv("TAILRACE_TRANSPORT", "in-process")
    assert app.Context(None, in_process=False).stack == "tailrace"
    monkeypatch.setenv("TAILRACE_PUBLISH_FUNCTION", "f")
    assert app.Context(None, in_process=False).stack is None


def gave_up(cause: Exception) -> Unavailable:
    error = Unavailable("gave up")
    error.__cause__ = cause
    return error


def client_error(code: str, operation: str = "Invoke") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "no\nway"}}, operation)


@pytest.mark.parametrize(
    ("error", "code", "hint"),
    [
        (Invalid("x"), 2, None),
        (Unauthorized("x"), 3, "tailrace token"),
        (Forbidden("x"), 3, "--read"),
        (NoStack("x"), 3, "--stack"),
        (Cancelled("x"), 4, "stop"),
        (Fenced("x"), 4, "taken"),
        (StreamEnded("x"), 4, None),
        (Busy("x"), 5, "cancel"),
        (Unavailable("x"), 6, "network"),
        (NoAnswer("x"), 6, "TAILRACE_PUBLISH_FUNCTION"),
        (gave_up(NoAnswer("x")), 6, "TAILRACE_PUBLISH_FUNCTION"),
        (ValueError("Invalid endpoint: nonsense"), 2, "AWS_ENDPOINT_URL"),
        (KeyboardInterrupt(), 130, None),
        (NoCredentialsError(), 3, "AWS_PROFILE"),
        (NoRegionError(), 3, "AWS_DEFAULT_REGION"),
        (ProfileNotFound(profile="p"), 3, "AWS_PROFILE"),
        (UnauthorizedSSOTokenError(), 3, "log in"),
        (CredentialRetrievalError(provider="p", error_msg="m"), 3, "log in"),
        (InvalidRegionError(region_name="no where"), 3, "region"),
        (client_error("AccessDeniedException"), 3, "policies"),
        # None of the stack's policies allows these.
        (client_error("AccessDenied", "DescribeStacks"), 3, "cloudformation:"),
        (client_error("AccessDeniedException", "GetSecretValue"), 3, "KeyRingArn"),
        (client_error("ExpiredTokenException"), 3, "log in"),
        (client_error("ResourceNotFoundException"), 3, "region"),
        (client_error("Strange"), 3, None),
        (ConnectTimeoutError(endpoint_url="https://x"), 6, "network"),
        (HTTPClientError(error="x"), 6, "network"),
        (FileNotFoundError(2, "No such file", "f"), 2, None),
    ],
)
def test_each_failure_has_a_line_a_hint_and_a_code(
    error: BaseException, code: int, hint: str | None
) -> None:
    failure = explain(error)
    assert failure is not None
    assert failure.code == code
    assert failure.line
    assert "\n" not in failure.line
    assert (hint or "") in (failure.hint or "")


def test_a_fault_of_ours_is_shown_with_all_its_places(
    server: LocalServer, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("of ours")

    monkeypatch.setattr(app, "find_transport", fail)
    code, _, err = run("status", STREAM)
    assert code == 1
    assert "ZeroDivisionError: of ours" in err
    assert "report it" in err


def test_who_reads_no_further_is_no_failure() -> None:
    command = [sys.executable, "-c", "from tailrace.cli import main; main()", "-h"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == 0


def test_what_is_not_installed_is_named() -> None:
    script = """
import sys
sys.modules["rich"] = None
from tailrace.cli import main
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "rich is not installed" in done.stderr
    assert "pip install 'tailrace[cli]'" in done.stderr


@pytest.mark.parametrize(
    ("ms", "text"),
    [(-5, "0.0 s"), (1_240, "1.2 s"), (45_000, "45 s"), (180_000, "3 min"),
     (7_200_000, "2 h"), (864_000_000, "10 d")],
)  # fmt: skip
def test_durations_are_said_as_people_say_them(ms: int, text: str) -> None:
    assert ago(ms) == text
