"""The layer that `sam build` makes: for Python 3.13 on arm64, and for nothing else."""

import re
import subprocess
from email import message_from_string
from pathlib import Path

import pytest

from demo.local_aws import PYTHON, ROOT
from demo.stack import build

SOURCE = ROOT / "layers" / "tailrace" / "src" / "tailrace"


@pytest.fixture(scope="module")
def layer() -> Path:
    return build().parent / "TailraceLayer" / "python"


def files(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_every_wheel_runs_on_python_3_13_for_arm64(layer: Path) -> None:
    wheels = list(layer.glob("*.dist-info/WHEEL"))
    assert wheels
    fits = re.compile(
        r"py3-none-any|py2\.py3-none-any"
        r"|(cp313-cp313|cp3\d+-abi3)-manylinux\w*_aarch64(\.manylinux\w*_aarch64)*"
    )
    for wheel in wheels:
        tags = message_from_string(wheel.read_text()).get_all("Tag") or []
        assert any(fits.fullmatch(tag) for tag in tags), (wheel.parent.name, tags)


def test_it_holds_what_is_locked_and_nothing_else(layer: Path) -> None:
    locked = re.findall(
        r"^([a-z0-9-]+)==([^ \\;]+)",
        (ROOT / "layers/tailrace/requirements.lock").read_text(),
        re.MULTILINE,
    )
    assert {path.name for path in layer.glob("*.dist-info")} == {
        f"{name.replace('-', '_')}-{version}.dist-info" for name, version in locked
    }
    # The runtime brings these, and they are most of what a layer can weigh.
    assert not (layer / "boto3").exists()
    assert not (layer / "botocore").exists()
    # Bytecode is Lambda's Python's, or none.
    assert {path.suffixes[-2] for path in layer.rglob("*.pyc")} <= {".cpython-313"}


def test_it_holds_the_package_as_it_is_in_the_repository(layer: Path) -> None:
    assert files(layer / "tailrace") == files(SOURCE)


def test_the_package_imports_from_it_with_only_the_runtime_beside_it(
    layer: Path,
) -> None:
    names = ["tailrace.wiring", "tailrace.telemetry", "tailrace.session"]
    done = subprocess.run(
        [PYTHON, "-B", "-W", "error", "-c", f"import {', '.join(names)}"],
        env={"PYTHONPATH": str(layer), "POWERTOOLS_SERVICE_NAME": "test"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
