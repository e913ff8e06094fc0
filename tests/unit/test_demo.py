"""The demo leaves nothing behind that leads to what is no longer there."""

from __future__ import annotations

import contextlib
import importlib
import json
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from demo.local_aws import LocalAws, LocalAwsError
from demo.stack import LocalStack

demo: Any = importlib.import_module("demo.__main__")


def test_a_terminal_is_led_to_the_local_aws_by_one_line() -> None:
    stack = LocalStack(LocalAws(4566, Path("log")), outputs={})
    assert stack.exports == (
        f"export AWS_ENDPOINT_URL={stack.endpoint} AWS_DEFAULT_REGION=us-east-1"
        " AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test TAILRACE_STACK=tailrace"
    )


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_what_sam_local_is_told_lives_as_long_as_the_demo(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    stop: type[BaseException],
) -> None:
    told: list[object] = []
    stack = SimpleNamespace(
        aws=SimpleNamespace(log_file=tmp_path / "log"),
        exports="export THIS=that",
        sam_local_environment=lambda: {"PublishFunction": {}},
    )

    def pause() -> None:
        told.append(json.loads((tmp_path / "env.json").read_text()))
        raise stop

    for name, value in {
        "ENVIRONMENT": tmp_path / "env.json",
        "chat": SimpleNamespace(
            JOB="job", build_page=lambda: None, deploy_job=lambda stack: None
        ),
        "_server": lambda port: SimpleNamespace(),
        "local_stack": lambda **_: contextlib.nullcontext(stack),
        "serving": lambda server, stack: contextlib.nullcontext("http://here"),
    }.items():
        monkeypatch.setattr(demo, name, value)
    monkeypatch.setattr(sys, "argv", ["demo", "--no-browser"])
    monkeypatch.setattr(signal, "pause", pause)
    assert demo.main() == 0
    assert "\n  export THIS=that\n" in capsys.readouterr().out
    assert told == [{"PublishFunction": {}}]
    assert list(tmp_path.iterdir()) == []


def test_a_page_of_ones_own_is_let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    deployed: dict[str, str] = {}

    def local_stack(*, parameters: dict[str, str], **_: object) -> None:
        deployed.update(parameters)
        raise LocalAwsError("that is enough")

    monkeypatch.setattr(sys, "argv", ["demo", "--port=0"])
    monkeypatch.setattr(demo, "local_stack", local_stack)
    monkeypatch.setattr(demo, "_server", lambda port: SimpleNamespace())
    assert demo.main() == 1
    assert deployed["AllowedOrigins"] == "*"


@pytest.mark.parametrize("port", ["99999", "-1"])
def test_a_port_that_there_is_not_is_refused_in_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], port: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["demo", f"--port={port}"])
    assert demo.main() == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"The page cannot have port {port}: ")
