"""A log in memory, and a transport to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.gate import Gate
from tests.support.worlds import World


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def gate(world: World) -> Iterator[Gate]:
    gate = Gate(world)
    yield gate
    gate.open_gate.set()
