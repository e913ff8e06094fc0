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
