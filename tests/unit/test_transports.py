"""Both transports, held to one suite; and what only the publish function's can meet."""

from __future__ import annotations

import email.utils
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from tailrace.errors import (
    Busy,
    Cancelled,
    Fenced,
    Invalid,
    StreamEnded,
    Superseded,
    TooLarge,
    Unavailable,
)
from tailrace.publish import Publish
from tailrace.transports.function import NoAnswer, PublishFunction
from tailrace.transports.in_process import InProcess
from tailrace.watchers import Subscription
from tailrace.writers import Answer, Transport
from tests.support.fake_lambda import FakeLambda
from tests.support.worlds import NOW, STREAM, World, run_id

R1, R2 = run_id(1), run_id(2)


@pytest.fixture
def client(world: World) -> FakeLambda:
    return FakeLambda(Publish(world.log, world.state, world.gateway))


@pytest.fixture(params=["in-process", "function"])
def transport(
    request: pytest.FixtureRequest, world: World, client: FakeLambda
) -> Transport:
    if request.param == "in-process":
        return InProcess(world.log)
    return PublishFunction(client, "tailrace-publish")


def opened(transport: Transport, run: str = R1, writer: str = "w") -> Answer:
    return transport.open(
        STREAM, run, writer, on_active="supersede", lease=30, meta=None
    )


def test_a_whole_run(transport: Transport, world: World) -> None:
    meta = {"model": "m"}
    answer = transport.open(STREAM, R1, "w", on_active="supersede", lease=77, meta=meta)
    assert answer == Answer(R1, 2, 0, 0)
    texts = ['"a"', '{"half":"\\ud83d"}', "3"]
    assert transport.append(STREAM, R1, "w", 2, texts).next == 5
    assert transport.append(STREAM, R1, "w", 5, ["4"]).next == 6
    assert transport.end(STREAM, R1, "w", 6, "error", "sorry").next == 7
    first, data, _, end = world.records()
    assert (first.lease, first.meta) == (77, '{"model":"m"}')
    assert data.chunks == ",".join(texts)
    assert (end.reason, end.message) == ("error", "sorry")


def test_the_end_of_a_run_waits_for_its_pushes_and_an_append_does_not(
    world: World,
) -> None:
    waited: list[tuple[str, str]] = []
    transport = InProcess(
        world.log, lambda stream: waited.append((stream, world.kinds()[-1]))
    )
    opened(transport)
    transport.append(STREAM, R1, "w", 2, ['"a"'])
    transport.renew(STREAM, R1, "w", lease=30, handed_over=False)
    assert waited == []
    transport.renew(STREAM, R1, "w", lease=30, handed_over=True)
    assert waited == [(STREAM, "data")]
    transport.end(STREAM, R1, "w", 3, "completed", None)
    transport.ask({"stream": STREAM, "chunks": [1]})
    assert waited[1:] == [(STREAM, "end"), (STREAM, "data")]


def test_a_repeat_changes_nothing(transport: Transport, world: World) -> None:
    for _ in range(2):
        opened(transport)
        assert transport.append(STREAM, R1, "w", 2, ['"a"']).next == 3
    for _ in range(2):
        transport.end(STREAM, R1, "w", 3, "completed", None)
    assert world.kinds() == ["open", "data", "end"]


def test_a_claim_says_where_to_go_on(transport: Transport, world: World) -> None:
    opened(transport)
    transport.append(STREAM, R1, "w", 2, ['"a"', '"b"'])
    with pytest.raises(Busy) as busy:
        transport.claim(STREAM, R1, "w2", seq=None, lease=30)
    assert (busy.value.run, busy.value.until) == (R1, NOW + 30_000)
    claimed = transport.claim(STREAM, R1, "w2", seq=4, lease=60)
    assert claimed == Answer(R1, 5, 1, 2)
    assert world.records()[-1].lease == 60
    with pytest.raises(Fenced) as fenced:
        transport.append(STREAM, R1, "w", 4, ['"c"'])
    assert (fenced.value.run, fenced.value.epoch) == (R1, 1)


def test_refusals_carry_their_facts(transport: Transport, world: World) -> None:
    opened(transport)
    world.log.cancel(STREAM, R1)
    with pytest.raises(Cancelled) as cancelled:
        transport.append(STREAM, R1, "w", 2, ['"a"'])
    assert cancelled.value.run == R1
    opened(transport, R2)
    with pytest.raises(Superseded) as superseded:
        transport.renew(STREAM, R1, "w", lease=30, handed_over=False)
    assert superseded.value.run == R2
    transport.end(STREAM, R2, "w", 4, "completed", None)
    with pytest.raises(StreamEnded) as ended:
        transport.append(STREAM, R2, "w", 5, ['"a"'])
    assert ended.value.reason == "completed"
    with pytest.raises(TooLarge) as large:
        transport.append(STREAM, R2, "w", 5, ['"' + "x" * 28_000 + '"'])
    assert large.value.limit == 28_000
    with pytest.raises(Busy):
        opened(transport, run_id(3))
        transport.open(STREAM, run_id(4), "x", on_active="fail", lease=30, meta=None)


def test_a_handed_over_run_can_be_claimed_at_once(
    transport: Transport, world: World
) -> None:
    opened(transport)
    renewed = transport.renew(STREAM, R1, "w", lease=120, handed_over=True)
    assert renewed.next == 2
    lease = world.state.lease(STREAM, R1, "w")
    assert lease is not None
    assert (lease.until, lease.handed_over) == (NOW + 120_000, True)
    assert transport.claim(STREAM, R1, "w2", seq=None, lease=30).next == 3


def test_other_operations_are_asked_as_the_api_says(
    transport: Transport, world: World
) -> None:
    opened(transport)
    for connection in "ab":
        world.state.subscribe(Subscription(STREAM, connection, 1, NOW), NOW)
    asked = transport.ask({"operation": "watchers", "stream": STREAM})
    assert asked["watchers"] == 2
    assert transport.ask({"operation": "tail", "stream": STREAM})["run"] == R1
    with pytest.raises(Invalid, match="operation"):
        transport.ask({"operation": "nonsense", "stream": STREAM})


@pytest.mark.parametrize(
    "call",
    [
        {"operation": "disconnect", "sub": "x"},
        {"operation": "delete", "stream": STREAM},
    ],
)
def test_in_process_says_who_may_do_what_its_policy_does_not_grant(
    world: World, call: dict[str, str]
) -> None:
    with pytest.raises(Invalid, match="publish function"):
        InProcess(world.log).ask(call)
    assert InProcess(world.log).clock() == NOW


# ---- the publish function ------------------------------------------------------------


@pytest.fixture
def function(client: FakeLambda) -> PublishFunction:
    return PublishFunction(client, "tailrace-publish")


def fail_times(times: int, error: Exception) -> Callable[[], None]:
    left = [times]

    def fail() -> None:
        if left[0]:
            left[0] -= 1
            raise error

    return fail


def throttled(code: str = "TooManyRequestsException", status: int = 429) -> ClientError:
    return ClientError(
        {
            "Error": {"Code": code, "Message": "Rate Exceeded."},
            "ResponseMetadata": {"HTTPStatusCode": status},  # type: ignore[typeddict-item]
        },
        "Invoke",
    )


TIMEOUT = ReadTimeoutError(endpoint_url="https://lambda")


@pytest.mark.parametrize("error", [throttled(), TIMEOUT, throttled("", 503)])
@pytest.mark.parametrize("when", ["before", "after"])
def test_an_invocation_that_is_throttled_or_lost_is_repeated(
    function: PublishFunction, client: FakeLambda, world: World, error: Any, when: str
) -> None:
    opened(function)
    setattr(client, when, fail_times(2, error))
    assert function.append(STREAM, R1, "w", 2, ['"a"']).next == 3
    assert world.kinds() == ["open", "data"]


def test_one_that_goes_on_failing_is_unavailable(
    function: PublishFunction, client: FakeLambda
) -> None:
    client.before = fail_times(1_000, TIMEOUT)
    with pytest.raises(Unavailable):
        opened(function)


def test_a_missing_permission_is_no_passing_failure(
    function: PublishFunction, client: FakeLambda
) -> None:
    client.before = fail_times(1, throttled("AccessDeniedException", 403))
    with pytest.raises(ClientError, match="AccessDenied"):
        opened(function)


def test_a_crashed_function_may_have_done_it(
    function: PublishFunction, client: FakeLambda
) -> None:
    client.crash = True
    with pytest.raises(NoAnswer, match="'tailrace-publish' crashed or timed out"):
        opened(function)


def test_a_function_that_crashed_is_told_with_the_type_of_its_error_and_no_more(
    function: PublishFunction, client: FakeLambda
) -> None:
    client.crash = True
    client.crashed = b'{"errorType": "Runtime.ImportModuleError", "errorMessage": "m"}'
    with pytest.raises(NoAnswer) as told:
        opened(function)
    assert told.value.message.endswith("(Runtime.ImportModuleError)")
    for body in (b"", b"null", b'{"errorType": 3}'):
        client.crashed = body
        with pytest.raises(NoAnswer, match=r"crashed or timed out$"):
            opened(function)


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b"{}", b'{"run": "r"}', b'{"error": "no"}']
)
def test_an_answer_that_is_none_is_unavailable(
    function: PublishFunction, client: FakeLambda, body: bytes
) -> None:
    client.body = body
    with pytest.raises(NoAnswer, match="'tailrace-publish' answers as no publish"):
        opened(function)
    with pytest.raises(NoAnswer, match="'tailrace-publish' answers as no publish"):
        function.ask({"operation": "tail", "stream": STREAM})


def test_the_clock_is_that_of_the_answers(
    function: PublishFunction, client: FakeLambda
) -> None:
    class Response:
        headers = {"Date": email.utils.formatdate(NOW / 1000, usegmt=True)}  # noqa: RUF012

    client.meta.events.handler(http_response=Response())
    assert abs(function.clock() - NOW) < 3_000
