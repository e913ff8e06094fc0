"""Telemetry: metrics counted from many threads at once leave whole, in one line."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tailrace.adapters.apigateway import GatewayRefused
from tailrace.errors import Invalid, NotNow, TailraceError, Unavailable
from tailrace.telemetry import AGAIN_SECONDS, FunctionCrashed, Telemetry


@pytest.fixture
def telemetry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Telemetry]:
    monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", "tailrace")
    monkeypatch.setenv("POWERTOOLS_METRICS_NAMESPACE", "Tailrace")
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield Telemetry()
    sys.setswitchinterval(interval)


def emitted(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_what_threads_count_is_added_up(
    telemetry: Telemetry, capsys: pytest.CaptureFixture[str]
) -> None:
    """The fan-out counts from its pushing threads, more often than a metric of
    Powertools has room for."""

    def pushed(number: int) -> None:
        telemetry.count("SlicesPushed", 2)
        telemetry.count(f"Other{number % 7}", 1)

    def handler(event: Any, context: Any) -> None:
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(pushed, range(700)))

    telemetry.wrap(handler)(None, None)
    (line,) = emitted(capsys)
    assert line["SlicesPushed"] == [1400]
    assert [line[f"Other{number}"] for number in range(7)] == [[100]] * 7


def test_each_lag_is_a_value_of_its_own(
    telemetry: Telemetry, capsys: pytest.CaptureFixture[str]
) -> None:
    def handler(event: Any, context: Any) -> None:
        for lag in range(1, 251):
            telemetry.count("FeedLag", lag)

    telemetry.wrap(handler)(None, None)
    lines = emitted(capsys)
    assert [lag for line in lines for lag in line["FeedLag"]] == list(range(1, 251))


def test_what_nobody_waits_for_is_logged_without_its_words(
    telemetry: Telemetry,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    def handler(event: Any, context: Any) -> None:
        try:
            raise RuntimeError("a chunk")
        except RuntimeError as error:
            telemetry.failed(error)

    telemetry.wrap(handler)(None, None)
    (counted,) = emitted(capsys)
    (logged,) = map(vars, caplog.records)
    assert (logged["levelname"], logged["error"]) == ("ERROR", "RuntimeError")
    assert "a chunk" not in str(logged)
    assert counted["PushesRefused"] == [1]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            ClientError(
                {"Error": {"Code": "AccessDeniedException", "Message": "on a chunk"}},
                "Query",
            ),
            {"error": "ClientError", "code": "AccessDeniedException"}
            | {"operation": "Query"},
        ),
        (GatewayRefused(403), {"error": "GatewayRefused", "code": 403}),
        (RuntimeError("a chunk"), {"error": "RuntimeError"}),
    ],
)
def test_a_crash_is_logged_with_what_aws_refused_and_without_its_words(
    telemetry: Telemetry,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    told: dict[str, Any],
) -> None:
    def handler(event: Any, context: Any) -> None:
        raise error

    with pytest.raises(FunctionCrashed):
        telemetry.wrap(handler)(None, None)
    (logged,) = map(vars, caplog.records)
    facts = ("error", "code", "operation")
    assert {name: logged[name] for name in facts if name in logged} == told
    assert "a chunk" not in str(logged)


def refused(telemetry: Telemetry, *errors: TailraceError) -> None:
    def handler(event: Any, context: Any) -> None:
        for error in errors:
            telemetry.refused(error)

    telemetry.wrap(handler)(None, None)


def test_what_aws_did_not_do_is_counted_and_logged_by_its_cause(
    telemetry: Telemetry,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is answered, so that no error of the function's tells of it."""
    error = Unavailable("The answer could not be started.")
    error.__cause__ = Unavailable("AWS: ResourceNotFoundException")
    error.__cause__.__cause__ = ClientError(
        {"Error": {"Code": "ResourceNotFoundException", "Message": "a chunk"}}, "Invoke"
    )
    refused(telemetry, error)
    (counted,) = emitted(capsys)
    (logged,) = map(vars, caplog.records)
    assert counted["Unavailable"] == [1]
    assert (logged["levelname"], logged["msg"]) == ("ERROR", "unavailable")
    assert logged["why"] == "AWS: ResourceNotFoundException"
    assert logged["operation"] == "Invoke"
    assert "a chunk" not in str(logged)


def test_an_outage_is_counted_whole_and_logged_now_and_then(
    telemetry: Telemetry,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1_000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    tables, job = Unavailable("AWS: ThrottlingException"), Unavailable("AWS: Gone")
    refused(telemetry, *[tables] * 500, job)
    now += AGAIN_SECONDS
    refused(telemetry, tables)
    first, second = emitted(capsys)
    assert (first["Unavailable"], second["Unavailable"]) == ([501], [1])
    why = [vars(record)["why"] for record in caplog.records]
    assert why == [str(tables), str(job), str(tables)]


def test_what_a_caller_did_is_no_outage(
    telemetry: Telemetry,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    refused(telemetry, Invalid("n: must be a number"), NotNow("ask again"))
    assert (emitted(capsys), caplog.records) == ([], [])


def test_an_invocation_that_counted_nothing_says_nothing(
    telemetry: Telemetry, capsys: pytest.CaptureFixture[str]
) -> None:
    telemetry.count("SlicesPushed", 0)
    telemetry.wrap(lambda event, context: None)(None, None)
    assert emitted(capsys) == []
