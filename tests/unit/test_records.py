"""Records and their items."""

from __future__ import annotations

import ast
import inspect
import json
import re
from types import ModuleType

import pytest

from tailrace import rules
from tailrace.adapters import dynamodb, requests, rows
from tailrace.errors import Invalid
from tailrace.records import Record, from_item, to_item
from tests.support.worlds import NOW, data, opened, stamp

OPEN = opened(meta='{"model":"m"}')
DATA = data(OPEN, '"a"', '"b, c"', "[1,2]", "4")
CLAIM = rules.claim_after(DATA, stamp("w2"))
END = rules.end_after(CLAIM, "error", stamp("w2"), "sorry")


@pytest.mark.parametrize("record", [OPEN, DATA, CLAIM, END, opened(shared=True)])
def test_an_item_gives_back_its_record(record: Record) -> None:
    assert from_item(json.loads(json.dumps(to_item(record)))) == record


def test_next_last_and_the_chunks_that_are_in() -> None:
    assert [(one.seq, one.last, one.next) for one in (OPEN, DATA, CLAIM, END)] == [
        *((1, 1, 2), (2, 5, 6), (6, 6, 7), (7, 7, 8))
    ]
    assert [one.chunks_in for one in (OPEN, DATA, CLAIM, END)] == [0, 4, 4, 4]


@pytest.mark.parametrize("after", [2, 3, 4])
def test_what_is_left_behind_a_cursor_inside_a_record(after: int) -> None:
    rest = DATA.behind(after)
    assert (rest.seq, rest.next, rest.run) == (after + 1, DATA.next, DATA.run)
    assert rest.chunks == ",".join(['"a"', '"b, c"', "[1,2]", "4"][after - 1 :])
    assert rest.index == after - 1
    assert rest.chunks_in == DATA.chunks_in


def test_a_cursor_outside_a_record_leaves_nothing_of_it() -> None:
    for record, after in ((DATA, 1), (DATA, 5), (OPEN, 1)):
        with pytest.raises(ValueError, match="inside"):
            record.behind(after)


def test_a_record_expires_at_its_second() -> None:
    assert not OPEN.expired(NOW + 3_599_999)
    assert OPEN.expired(NOW + 3_600_000)


@pytest.mark.parametrize("name", sorted(to_item(DATA)))
@pytest.mark.parametrize("bad", [None, {}, {"S": None}, {"N": "x"}, {"BOOL": True}, 7])
def test_an_item_with_an_attribute_missing_or_bent_is_no_record(
    name: str, bad: object
) -> None:
    item = to_item(DATA)
    if bad is None:
        del item[name]
    else:
        item[name] = bad  # type: ignore[assignment]
    with pytest.raises(Invalid, match="no record"):
        from_item(item)


@pytest.mark.parametrize("module", [dynamodb, requests, rows])
def test_no_expression_names_an_attribute_bare(module: ModuleType) -> None:
    """Most of our attributes are reserved words. AWS refuses them bare; emulators
    let some pass. So every name in an expression is `#name`, every value `:value`."""
    tree = ast.parse(inspect.getsource(module))
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    expressions = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and id(node) not in docs
        and re.search(r"[#:][a-z]|attribute_", node.value)
    ]
    assert len(expressions) > 3
    for expression in expressions:
        words = re.findall(r"[A-Za-z_]+", re.sub(r"[#:]\w+", "", expression))
        assert set(words) <= {
            *("attribute_not_exists", "attribute_exists", "AND", "OR", "SET", "ADD")
        }, expression


def test_kinds_are_told_from_what_is_none() -> None:
    item = to_item(OPEN)
    item["kind"] = {"S": "edit"}
    with pytest.raises(Invalid, match="out of range"):
        from_item(item)
