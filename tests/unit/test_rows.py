"""Rows written many at a time: what AWS leaves out is asked for again."""

from __future__ import annotations

from typing import Any

import pytest

from tailrace.adapters import calls
from tailrace.adapters.rows import Rows
from tailrace.errors import Unavailable


class Table:
    """A client that takes at most so many rows of a batch, and remembers them."""

    def __init__(self, takes: int) -> None:
        self.takes = takes
        self.calls: list[int] = []
        self.deleted: list[str] = []

    def batch_write_item(self, RequestItems: dict[str, list[Any]]) -> Any:  # noqa: N803
        ((name, requests),) = RequestItems.items()
        self.calls.append(len(requests))
        taken, left = requests[: self.takes], requests[self.takes :]
        self.deleted += [one["DeleteRequest"]["Key"]["sk"]["S"] for one in taken]
        return {"UnprocessedItems": {name: left} if left else {}}


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)


def test_no_batch_is_larger_than_aws_takes() -> None:
    table = Table(takes=25)
    Rows(table, "State")._delete_all([("pk", str(n)) for n in range(60)])
    assert table.calls == [25, 25, 10]
    assert table.deleted == [str(n) for n in range(60)]


def test_what_was_left_out_of_a_batch_is_asked_for_again() -> None:
    table = Table(takes=10)
    Rows(table, "State")._delete_all([("pk", str(n)) for n in range(25)])
    assert table.calls == [25, 15, 5]
    assert table.deleted == [str(n) for n in range(25)]


def test_a_table_that_takes_nothing_is_not_available() -> None:
    table = Table(takes=0)
    with pytest.raises(Unavailable, match="ProvisionedThroughputExceeded"):
        Rows(table, "State")._delete_all([("pk", "1")])
    assert len(table.calls) == calls.TRIES
