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

demo: Any = importlib.import_module("demo.__main__")


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_what_sam_local_is_told_lives_as_long_as_the_demo(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stop: type[BaseException]
) -> None:
    told: list[object] = []
    stack = SimpleNamespace(
        aws=SimpleNamespace(log_file=tmp_path / "log"),
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
        "_server": lambda port: SimpleNamespace(origins=["http://here"]),
        "local_stack": lambda **_: contextlib.nullcontext(stack),
        "serving": lambda server, stack: contextlib.nullcontext("http://here"),
    }.items():
        monkeypatch.setattr(demo, name, value)
    monkeypatch.setattr(sys, "argv", ["demo", "--no-browser"])
    monkeypatch.setattr(signal, "pause", pause)
    assert demo.main() == 0
    assert told == [{"PublishFunction": {}}]
    assert list(tmp_path.iterdir()) == []
