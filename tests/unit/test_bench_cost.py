"""What `bench.cost` counts is what happened, and each count has its price."""

from __future__ import annotations

from typing import Any

import pytest

from bench import cost
from bench.cloud.cpu import Cpu
from bench.cloud.feed import matches
from bench.cloud.tally import item_size, units
from bench.cost import Case
from bench.prices import PRICES

TOKENS = 40
CPU = Cpu(
    call=700,
    push=200,
    invocation={"publish": 50, "fanout": 100, "websocket": 50},
    start={"publish": 300_000, "fanout": 300_000, "websocket": 300_000},
)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "TOKENS", TOKENS)


@pytest.mark.parametrize(
    ("item", "size"),
    [
        ({"name": {"S": "é"}}, 4 + 2),
        ({"n": {"N": "0"}}, 1 + 1),
        ({"n": {"N": "7"}}, 1 + 2),
        ({"n": {"N": "1764547200000"}}, 1 + 5),
        ({"b": {"BOOL": True}, "s": {"S": ""}}, 2 + 1),
    ],
)
def test_an_item_is_as_large_as_dynamodb_says(item: Any, size: int) -> None:
    assert item_size(item) == size


def test_what_is_metered_in_steps_is_one_step_at_least() -> None:
    assert [units(size, 1_024) for size in (0, 1, 1_024, 1_025)] == [1, 1, 1, 2]


def test_an_answer_in_process_is_counted_to_the_last_frame() -> None:
    found = cost.count(Case(interval_ms=0), CPU)
    puts = found["log.PutItem"]
    assert puts == found["log.write_units"] == found["log.items"]
    assert TOKENS / 4 < puts <= TOKENS + 2  # the open, and the end
    batches = found["lambda.fanout.requests"]
    # A slice a batch, and the answers to a `sync` and an `unsubscribe`.
    assert found["gateway.messages_down"] == batches + 2
    assert found["gateway.messages_up"] == 2
    assert found["logs.fanout.lines"] == batches
    assert "lambda.publish.requests" not in found
    assert "lambda.fanout.starts" not in found, "an answer before it has warmed it"
    # Two rows come with the connection and two with the subscription; all four go.
    assert found["state.write_units"] == 8
    assert found["state.read_units"] >= batches


def test_through_the_publish_function_each_put_is_a_request() -> None:
    found = cost.count(Case(way="function"), CPU)
    assert found["lambda.publish.requests"] == found["log.PutItem"]


def test_in_direct_delivery_the_feed_brings_but_the_open_and_the_end() -> None:
    found = cost.count(Case("direct", interval_ms=50), CPU)
    assert found["lambda.fanout.requests"] <= 2
    assert found["gateway.messages_down"] >= found["log.PutItem"]


def test_what_is_counted_is_the_same_each_time() -> None:
    case = Case(watchers=2)
    assert cost.count(case, CPU) == cost.count(case, CPU)


def test_every_line_is_priced() -> None:
    counted = {
        "log.write_units": 200,
        "gateway.messages_down": 80,
        "lambda.fanout.requests": 80,
        "logs.fanout.logged_bytes": 20_000,
    }
    found = cost.lines(counted, 1)
    assert found["log: writes"] == pytest.approx(0.125)
    assert found["messages to watchers"] == pytest.approx(0.08)
    assert found["fan-out function"] == pytest.approx(0.016)
    assert found["logs"] > PRICES["log"].of(20_000) * 1_000
    assert cost.lines(counted, 2) == {name: value / 2 for name, value in found.items()}


def test_a_filter_lets_pass_what_it_names() -> None:
    item = {"kind": {"S": "open"}}
    assert matches("open", item)
    assert not matches("end", item)
    assert matches({"exists": True}, item)
