"""What is billed, by name, and DynamoDB's own arithmetic of sizes and units."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

WRITE_STEP = 1_024
READ_STEP = 4_096
FRAME_STEP = 32 * 1_024
ITEM_OVERHEAD = 100
LOG_EVENT_OVERHEAD = 26

Item = Mapping[str, Mapping[str, Any]]
Tally = Counter[str]


def units(size: int, step: int) -> int:
    """Return how many steps a size is metered as: at least one."""
    return max(1, -(-size // step))


def item_size(item: Item) -> int:
    """Return the bytes of an item: its names and its values.

    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html
    """
    return sum(len(name.encode()) + _value_size(value) for name, value in item.items())


def _value_size(value: Mapping[str, Any]) -> int:
    ((kind, held),) = value.items()
    if kind == "S":
        return len(str(held).encode())
    if kind == "N":
        held = str(held)
        digits = held.lstrip("-").replace(".", "").strip("0")
        return len(digits) // 2 + len(digits) % 2 + 1 + held.startswith("-")
    if kind in ("BOOL", "NULL"):
        return 1
    raise ValueError(f"no rule for the size of a {kind}")
