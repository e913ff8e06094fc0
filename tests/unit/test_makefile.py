"""What `make` does on a machine that is not as the README asks for it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ENVIRONMENT = ".venv/bin/.installed"
# As uv: an environment that is there stays, unless `--clear` says otherwise.
UV = """#!/bin/sh
[ "$1" = venv ] || exit 0
case " $* " in *" --clear "*) rm -rf .venv ;; esac
[ ! -e .venv ] || exit 2
mkdir -p .venv/bin && touch .venv/bin/python && chmod +x .venv/bin/python
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("Makefile", "requirements.lock", "layers/tailrace/pyproject.toml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def make(checkout: Path, *, python: str) -> subprocess.CompletedProcess[str]:
    tools = {"python": f"#!/bin/sh\n{python}\n", "uv": UV}
    for name, text in tools.items():
        (checkout / name).write_text(text)
        (checkout / name).chmod(0o755)
    names = (f"PYTHON={checkout}/python", f"UV={checkout}/uv")
    # Not as a part of the `make` that runs the tests.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}
    return subprocess.run(
        ["make", *names, ENVIRONMENT],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_old_python_is_refused_and_leaves_no_environment(checkout: Path) -> None:
    done = make(checkout, python="exit 1")
    assert done.returncode
    assert "This needs Python 3.11 or later" in done.stderr
    assert not (checkout / ".venv").exists()
    assert make(checkout, python="exit 0").returncode == 0


def test_an_environment_whose_python_is_gone_is_made_anew(checkout: Path) -> None:
    (checkout / ".venv/bin").mkdir(parents=True)
    (checkout / ".venv/bin/python").symlink_to("/gone/python3.11")
    assert make(checkout, python="exit 0").returncode == 0
    assert (checkout / ".venv/bin/python").is_file()
