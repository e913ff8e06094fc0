"""Looks for what no log may have in all logs that a run of the tests makes (G15).

A plugin of pytest. What may not be logged is

- a token: whatever looks like one, and whatever was signed in this process;
- a key that a token was signed with, so the key ring's secret;
- a text that a test planted: `planted-chunk`, `-prompt`, `-meta`, `-error`, `-secret`,
  anywhere in a chunk, a prompt, and so on.

The logs are the records of every logger, whatever its handlers and however it is made;
what each test and its children wrote to stdout and stderr; what children that a test
listens to wrote to stderr; and the files of each local AWS: its own, and one for each
function. What is found fails the run, with the name of the test or the file and with
what it is; it is never shown itself. Each worker of xdist looks for itself.
"""

from __future__ import annotations

import asyncio.subprocess
import contextlib
import logging
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest

from demo.local_aws import KEEP_LOGS

MARK = re.compile(r"planted-(chunk|prompt|meta|error|secret)")
TOKEN = re.compile(r"\beyJ[\w-]+\.eyJ[\w-]+")
SIGNATURE = re.compile(r"(?<![\w-])[\w-]{43}(?![\w-])")
KEY_LENGTH = 16
"""Shorter ones are words of tests that are about bad keys."""


class Secrets:
    """What is known not to be for a log."""

    def __init__(self) -> None:
        self._keys: set[str] = set()
        self._signatures: set[str] = set()

    def learn(self, token: str, key: str) -> None:
        """Take note of a token, and of the key that it was signed with."""
        self._signatures.add(token.rpartition(".")[2])
        if len(key) >= KEY_LENGTH:
            self._keys.add(key)

    def kinds(self, text: str) -> set[str]:
        """Return what a text has that it should not have."""
        found = {f"a planted {kind}" for kind in MARK.findall(text)}
        if any(key in text for key in self._keys):
            found.add("a key")
        signed = not self._signatures.isdisjoint(SIGNATURE.findall(text))
        if signed or TOKEN.search(text):
            found.add("a token")
        return found


class Leaks:
    """Listens to everything, and says at the end what was heard."""

    def __init__(self, config: pytest.Config, logs: Path) -> None:
        self.secrets = Secrets()
        self.found: set[str] = set()
        self._config = config
        self._logs = logs
        self._test = "outside of tests"

    def search(self, where: str, text: str | bytes | None) -> None:
        if isinstance(text, bytes):
            text = text.decode(errors="replace")
        for kind in self.secrets.kinds(text or ""):
            self.found.add(f"{kind}: {where}")

    def record(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(Exception):  # a test may log what cannot be formatted
            text = f"{record.getMessage()} {vars(record)}"
            self.search(f"the logger {record.name!r} in {self._test}", text)

    def error(self, text: Any) -> None:
        self.search(f"stderr of a child of {self._test}", text)

    def files(self) -> None:
        for path in sorted(self._logs.rglob("*.log")):
            with path.open(encoding="utf-8", errors="replace") as lines:
                for number, line in enumerate(lines, 1):
                    name = path.relative_to(self._logs)
                    self.search(f"line {number} of {name}", line)

    # ---- pytest's --------------------------------------------------------------------

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self._test = item.nodeid
        return (yield)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "teardown":  # which has the sections of all phases
            for title, text in report.sections:
                self.search(f"{title} of {report.nodeid}", text)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        self.found |= set(getattr(node, "workeroutput", {}).get("leaks", ()))

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        self.files()
        if hasattr(self._config, "workeroutput"):
            self._config.workeroutput["leaks"] = sorted(self.found)
        elif self.found:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self.found:
            terminalreporter.section("in a log, and should not be", red=True)
            for line in sorted(self.found):
                terminalreporter.line(line, red=True)


def listen(leaks: Leaks, patch: pytest.MonkeyPatch) -> None:
    """Hear of each token, each record, and each child's stderr."""
    encode, call_handlers = jwt.encode, logging.Logger.callHandlers
    communicate = subprocess.Popen.communicate
    communicate_async = asyncio.subprocess.Process.communicate

    def encoding(payload: Any, key: Any, *arguments: Any, **named: Any) -> str:
        token = encode(payload, key, *arguments, **named)
        leaks.secrets.learn(token, str(key))
        return token

    def calling(logger: logging.Logger, record: logging.LogRecord) -> None:
        leaks.record(record)
        call_handlers(logger, record)

    def communicating(process: Any, *arguments: Any, **named: Any) -> Any:
        out, err = communicate(process, *arguments, **named)
        leaks.error(err)
        return out, err

    async def communicating_async(process: Any, *arguments: Any) -> Any:
        out, err = await communicate_async(process, *arguments)
        leaks.error(err)
        return out, err

    patch.setattr(jwt, "encode", encoding)
    patch.setattr(logging.Logger, "callHandlers", calling)
    patch.setattr(subprocess.Popen, "communicate", communicating)
    patch.setattr(asyncio.subprocess.Process, "communicate", communicating_async)


def pytest_configure(config: pytest.Config) -> None:
    patch = pytest.MonkeyPatch()
    logs = tempfile.TemporaryDirectory(prefix="logs-")
    patch.setenv(KEEP_LOGS, logs.name)
    leaks = Leaks(config, Path(logs.name))
    listen(leaks, patch)
    config.pluginmanager.register(leaks, "leaks")
    config.add_cleanup(patch.undo)
    config.add_cleanup(logs.cleanup)
