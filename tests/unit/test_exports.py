"""What `import tailrace` gives, and what it costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import tailrace


def test_every_public_name_is_there() -> None:
    assert {name: getattr(tailrace, name) for name in tailrace.__all__}
    assert set(tailrace.__all__) <= set(dir(tailrace))


def test_a_name_that_is_not_public_is_missed() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Consumer'"):
        _ = tailrace.Consumer


def test_what_needs_an_extra_names_it_where_it_is_missing() -> None:
    script = """
import sys
class Missing:
    def find_spec(self, name, *_):
        if name == "websockets":
            raise ModuleNotFoundError(name=name)
sys.meta_path.insert(0, Missing())
try:
    from tailrace import consume
except ModuleNotFoundError as missing:
    print(missing.name, missing)
"""
    done = subprocess.run(
        [sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("websockets consume needs")
    assert "tailrace[consume]" in done.stdout


@pytest.mark.parametrize(
    ("imported", "spared"),
    [
        ("tailrace", {"tailrace.errors", "boto3", "asyncio", "json"}),
        ("tailrace.wiring", {"tailrace.producer", "tailrace.consumer", "websockets"}),
    ],
)
def test_importing_a_part_does_not_import_the_rest(
    imported: str, spared: set[str]
) -> None:
    show = f"import {imported}, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-I", "-c", show], capture_output=True, text=True, check=True
    )
    assert not spared & set(done.stdout.split())
