"""Each call to DynamoDB fails, in each way, at each point of a run: one at a time.

The thread, the retries and the conditional puts are the real ones; DynamoDB is moto.
Failures in any combination are in test_producer_schedules.py.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, ReadTimeoutError
from moto import mock_aws

from tailrace import chunks
from tailrace.adapters import calls
from tailrace.adapters.calls import local_clock
from tailrace.adapters.dynamodb import DynamoDBLog
from tailrace.adapters.memory import MemoryState
from tailrace.errors import Unavailable
from tailrace.log import Log
from tailrace.producer.sync import Producer
from tailrace.transports.in_process import InProcess
from tests.support.invariants import check_log
from tests.support.tables import create_tables

COUNT = 6
_names = itertools.count(1)

TIMEOUT = ReadTimeoutError(endpoint_url="https://dynamodb")


def refusal(code: str, status: int) -> ClientError:
    return ClientError(
        {
            "Error": {"Code": code, "Message": code},
            "ResponseMetadata": {"HTTPStatusCode": status},  # type: ignore[typeddict-item]
        },
        "PutItem",
    )


FAULTS: dict[str, Exception] = {
    "lost before it was applied": TIMEOUT,
    "applied, the answer lost": TIMEOUT,
    "took 5 s: applied after we gave up on it": TIMEOUT,
    "throttled": refusal("ProvisionedThroughputExceededException", 400),
    "failed": refusal("InternalServerError", 500),
}


class Faulty:
    """A DynamoDB client whose `at`th call meets a fault; all from there on, if
    `for_good`."""

    def __init__(self, client: Any, at: int, fault: str, *, for_good: bool) -> None:
        self._client = client
        self._at = at
        self._fault = fault
        self._for_good = for_good
        self._late: list[Callable[[], Any]] = []
        self.count = 0

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(**arguments: Any) -> Any:
            made = getattr(self._client, name)
            self.arrive()
            self.count += 1
            if self.count == self._at or (self._for_good and self.count >= self._at):
                if self._fault.startswith("applied") and name == "put_item":
                    self._apply(lambda: made(**arguments))
                if self._fault.startswith("took") and name == "put_item":
                    self._late.append(lambda: made(**arguments))
                raise FAULTS[self._fault]
            return made(**arguments)

        return call

    def arrive(self) -> None:
        """Let come what is late."""
        while self._late:
            self._apply(self._late.pop())

    def _apply(self, put: Callable[[], Any]) -> None:
        try:
            put()
        except ClientError as error:
            assert calls.code(error) == "ConditionalCheckFailedException"


@pytest.fixture(scope="module")
def dynamodb() -> Iterator[Any]:
    with mock_aws():
        client = boto3.client("dynamodb", region_name="us-east-1")
        create_tables(client, "Log", "State")
        yield client


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let retries come at once."""
    clock = SimpleNamespace(
        sleep=lambda seconds: None, monotonic=lambda: 0.0, time_ns=time.time_ns
    )
    monkeypatch.setattr(calls, "time", clock)


def log_of(client: Any) -> Log:
    return Log(
        DynamoDBLog(client, "Log"), MemoryState(), local_clock, retention=3600, lease=30
    )


def write(stream: str, faulty: Faulty) -> Producer:
    producer = Producer(
        stream, transport=InProcess(log_of(faulty)), min_interval=0, give_up_after=0
    )
    with producer:
        for number in range(COUNT):
            producer.write(number)
            if number % 2:
                producer.flush()
    return producer


def written(dynamodb: Any, stream: str) -> tuple[list[Any], str | None, list[int]]:
    """Return the chunks of a stream, how its run ended, and each chunk's seq."""
    records = list(log_of(dynamodb).store.range(stream, 1))
    check_log(records)
    values = [value for record in records for value in chunks.decode(record.chunks)]
    seqs = [
        record.seq + at
        for record in records
        if record.kind == "data"
        for at in range(record.count)
    ]
    return values, records[-1].reason if records else None, seqs


def test_a_run_makes_as_many_calls_as_it_has_points(dynamodb: Any) -> None:
    faulty = Faulty(dynamodb, 0, "throttled", for_good=False)
    write("calm", faulty)
    assert written(dynamodb, "calm")[:2] == (list(range(COUNT)), "completed")
    assert faulty.count >= 6


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("at", range(1, 9))
def test_one_failure_costs_nothing(dynamodb: Any, fault: str, at: int) -> None:
    stream = f"once-{next(_names)}"
    faulty = Faulty(dynamodb, at, fault, for_good=False)
    write(stream, faulty)
    faulty.arrive()
    assert written(dynamodb, stream)[:2] == (list(range(COUNT)), "completed")


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("at", range(1, 7))
def test_failures_for_good_are_raised_with_what_is_safe(
    dynamodb: Any, fault: str, at: int
) -> None:
    stream = f"good-{next(_names)}"
    faulty = Faulty(dynamodb, at, fault, for_good=True)
    with pytest.raises(Unavailable) as gave_up:
        write(stream, faulty)
    faulty.arrive()
    values, reason, seqs = written(dynamodb, stream)
    assert values == list(range(len(values)))
    assert reason in (None, "completed")
    safe, already = gave_up.value.seq, gave_up.value.already
    assert sum(1 for seq in seqs if seq <= safe) == already
    assert len(values) - already <= COUNT
    # Where nothing was applied that was not answered, it is known to the chunk.
    if not fault.startswith(("applied", "took")):
        assert len(values) == already
