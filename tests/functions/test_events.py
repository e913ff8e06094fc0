"""Every file in events/ drives its handler."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto.sqs.models import sqs_backends

from tailrace import chunks
from tailrace.adapters.apigateway import ApiGateway, GatewayRefused
from tailrace.adapters.jobs import LambdaJobs
from tailrace.adapters.relay import LambdaRelay
from tailrace.audience import SHARE
from tailrace.ports import Push
from tests.functions.conftest import ROOT, event
from tests.support.worlds import World

Invoke = Callable[[str, Any], Any]
CONNECTION = "TkQ2mfSeoAMCKHQ="
STREAM = "chat:42"
ACCOUNT_ID = "123456789012"
"""moto's."""


def frames(aws: World) -> list[dict[str, Any]]:
    return [json.loads(frame) for frame in aws.gateway.sent[CONNECTION]]


def publish(invoke: Invoke, name: str) -> dict[str, Any]:
    answer: dict[str, Any] = invoke("publish", event(f"publish/{name}.json"))
    assert "error" not in answer, answer
    return answer


@pytest.fixture
def connected(invoke: Invoke) -> Invoke:
    assert invoke("websocket", event("websocket/connect.json"))["statusCode"] == 200
    return invoke


def test_no_event_is_forgotten_here() -> None:
    used = Path(__file__).read_text()
    for path in (ROOT / "events").rglob("*.json"):
        name = path.relative_to(ROOT / "events")
        assert str(name) in used or f'"{path.stem}"' in used, name


def test_connect_echoes_the_protocol_and_never_the_token(invoke: Invoke) -> None:
    assert invoke("websocket", event("websocket/connect.json")) == {
        "statusCode": 200,
        "headers": {"Sec-WebSocket-Protocol": "tailrace.v1"},
    }


def test_connect_by_query_needs_no_protocol(invoke: Invoke) -> None:
    answer = invoke("websocket", event("websocket/connect-query.json"))
    assert answer == {"statusCode": 200}


def test_connect_without_a_token_is_401_and_from_elsewhere_403(invoke: Invoke) -> None:
    bare = event("websocket/connect-query.json")
    del bare["queryStringParameters"]
    assert invoke("websocket", bare) == {"statusCode": 401}
    foreign = event("websocket/connect-query.json")
    foreign["headers"]["Origin"] = "https://evil.example"
    assert invoke("websocket", foreign) == {"statusCode": 403}


def test_a_handshake_that_is_refused_is_counted_by_its_status(
    invoke: Invoke, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = event("websocket/connect-query.json")
    del bare["queryStringParameters"]
    invoke("websocket", bare)
    boto3.client("secretsmanager").put_secret_value(
        SecretId="KeyRing", SecretString='{"current": {"key": "k1"}}'
    )
    assert invoke("websocket", event("websocket/connect.json")) == {"statusCode": 503}
    first, *_, last = capsys.readouterr().out.splitlines()
    assert json.loads(first)["HandshakesRefused401"] == [1]
    counted = json.loads(last)
    assert counted["HandshakesRefused503"] == counted["Unavailable"] == [1]


def test_headers_are_found_however_they_are_spelt(invoke: Invoke) -> None:
    lower = event("websocket/connect.json")
    lower["headers"] = {name.lower(): v for name, v in lower["headers"].items()}
    assert invoke("websocket", lower)["statusCode"] == 200
    lower["headers"]["origin"] = "https://evil.example"
    assert invoke("websocket", lower)["statusCode"] == 403


def test_a_run_from_open_to_end_and_what_a_browser_sees(
    connected: Invoke, aws: World
) -> None:
    connected("websocket", event("websocket/sync.json"))
    assert [frame["type"] for frame in frames(aws)] == ["synced"]
    assert publish(connected, "open")["next"] == 2
    assert publish(connected, "append")["next"] == 4
    assert publish(connected, "tail")["active"] is True
    assert publish(connected, "watchers")["watchers"] == 1
    assert publish(connected, "renew")["until"] > 0
    connected("websocket", event("websocket/subscribe.json"))
    slice_, answer = frames(aws)[1:]
    assert (slice_["chunks"], answer["type"]) == (["Hello", ", world"], "subscribed")
    assert publish(connected, "end")["reason"] == "completed"
    (read,) = publish(connected, "read")["slices"]
    assert json.loads(read)["end"] == {"reason": "completed"}


def test_a_claim_takes_the_run_over(connected: Invoke) -> None:
    publish(connected, "open")
    publish(connected, "append")
    assert publish(connected, "claim")["already"] == 2
    answer = connected("publish", event("publish/end.json"))
    assert answer["error"]["code"] == "fenced"


@pytest.mark.parametrize("by", ["websocket/cancel.json", "publish/cancel.json"])
def test_a_cancel_reaches_the_producer(connected: Invoke, by: str) -> None:
    publish(connected, "open")
    connected(by.split("/", maxsplit=1)[0], event(by))
    answer = connected("publish", event("publish/append.json"))
    assert answer["error"]["code"] == "cancelled"


def test_the_feed_is_pushed_to_who_subscribes(connected: Invoke, aws: World) -> None:
    connected("websocket", event("websocket/sync.json"))
    answer = connected("fanout", event("fanout/batch.json"))
    assert answer == {"batchItemFailures": []}
    slice_ = frames(aws)[-1]
    assert (slice_["seq"], slice_["next"]) == (1, 5)
    assert slice_["chunks"] == ["Hello", ", world"]
    assert connected("fanout", event("fanout/expiry.json")) == {"batchItemFailures": []}


def test_a_share_of_a_large_audience_is_pushed(connected: Invoke, aws: World) -> None:
    assert connected("fanout", event("fanout/share.json")) == {}
    assert [frame["chunks"] for frame in frames(aws)] == [["Hello", ", world"]]
    assert len(aws.gateway.sent["TkQ2mgXyoAMCJkA="]) == 1


def test_what_is_more_than_a_share_is_handed_to_the_function_itself(
    connected: Invoke, aws: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    handed: list[str] = []

    def invoke(relay: LambdaRelay, payload: bytes) -> bool:
        handed.append(relay._function)
        return bool(connected("fanout", json.loads(payload)) == {})

    monkeypatch.setattr(LambdaRelay, "_invoke", invoke)
    table = boto3.resource("dynamodb", region_name="us-east-1").Table("State")
    with table.batch_writer() as rows:
        for number in range(SHARE + 1):
            row = {"pk": f"stream#{STREAM}", "sk": f"c{number}", "n": 1, "exp": 2**32}
            rows.put_item(Item=row)
    assert connected("fanout", event("fanout/batch.json")) == {"batchItemFailures": []}
    assert handed == ["tailrace-fanout"] * 2
    assert sum(map(len, aws.gateway.sent.values())) == SHARE + 1


def test_in_direct_delivery_the_publish_function_pushes_before_it_answers(
    connected: Invoke, aws: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAILRACE_DELIVERY", "Direct")
    connected("websocket", event("websocket/sync.json"))
    publish(connected, "open")
    assert [frame["seq"] for frame in frames(aws)[1:]] == [1]
    publish(connected, "append")
    assert frames(aws)[-1]["chunks"] == ["Hello", ", world"]

    def refused(self: ApiGateway, *args: Any) -> Any:
        raise GatewayRefused(403)

    monkeypatch.setattr(ApiGateway, "push", refused)
    assert publish(connected, "end")["reason"] == "completed"


def test_unsubscribe_and_auth_are_answered(connected: Invoke, aws: World) -> None:
    connected("websocket", event("websocket/unsubscribe.json"))
    connected("websocket", event("websocket/auth.json"))
    assert [frame["type"] for frame in frames(aws)] == ["unsubscribed", "authorized"]


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the job function is invoked with: moto runs no function without Docker."""
    events: list[dict[str, Any]] = []
    monkeypatch.setattr(LambdaJobs, "start", lambda self, event: events.append(event))
    return events


def repairs() -> list[dict[str, Any]]:
    """Return what is in the queue, though it is not yet due."""
    (queue,) = sqs_backends[ACCOUNT_ID]["us-east-1"].queues.values()
    return [json.loads(message.body) for message in queue._messages]


def test_the_frames_of_the_ai_sdk_from_send_to_repair(
    connected: Invoke, aws: World, jobs: list[dict[str, Any]]
) -> None:
    connected("websocket", event("websocket/send.json"))
    (asked,) = jobs
    assert (asked["stream"], asked["sub"]) == (STREAM, "user-7")
    connected("websocket", event("websocket/resume.json"))
    assert [frame["type"] for frame in frames(aws)] == ["start", "start"]
    chunk = {"type": "text-delta", "id": "t", "delta": "Hello"}
    claim = {"operation": "claim", "writer": "job"}
    claimed = connected(
        "publish", {**claim, **{k: asked[k] for k in ("stream", "run", "seq")}}
    )
    connected(
        "publish",
        {
            "operation": "append",
            "writer": "job",
            "stream": STREAM,
            "run": asked["run"],
            "seq": claimed["next"],
            "chunks": [chunk],
        },
    )
    watches = repairs()
    assert [message["watch"] for message in watches] == [0, 0]
    connected("websocket", event("websocket/repair.json"))
    assert frames(aws)[-1]["chunk"] == chunk
    connected("websocket", event("websocket/abort.json"))
    connected("websocket", event("websocket/repair.json"))
    assert frames(aws)[-1]["type"] == "end"


def test_the_fan_out_asks_for_a_repair_where_a_push_fails(
    connected: Invoke, aws: World, jobs: list[dict[str, Any]]
) -> None:
    connected("websocket", event("websocket/send.json"))
    log = boto3.client("dynamodb").scan(TableName="Log")["Items"]
    image = {"NewImage": log[0], "SequenceNumber": "1"}
    (asked,) = jobs
    cancelled = {"operation": "cancel", "stream": STREAM, "run": asked["run"]}
    connected("publish", cancelled)
    aws.gateway.push = lambda *_: Push.FAILED  # type: ignore[method-assign]
    end = boto3.client("dynamodb").get_item(
        TableName="Log", Key={"stream": {"S": STREAM}, "seq": {"N": "2"}}
    )["Item"]
    batch = [image, {"NewImage": end, "SequenceNumber": "2"}]
    connected("fanout", {"Records": [{"dynamodb": one} for one in batch]})
    (repair,) = [message for message in repairs() if "watch" not in message]
    assert (repair["stream"], repair["connection"]) == (STREAM, CONNECTION)


def test_a_queue_that_brings_what_is_no_repair_is_told_so(connected: Invoke) -> None:
    broken = event("websocket/repair.json")
    broken["Records"][0]["body"] = "{"
    with pytest.raises(Exception, match="Invalid"):
        connected("websocket", broken)


def test_an_unknown_frame_is_answered_with_an_error(
    connected: Invoke, aws: World
) -> None:
    connected("websocket", event("websocket/unknown.json"))
    (answer,) = frames(aws)
    assert (answer["type"], answer["code"], answer["n"]) == ("error", "invalid", 6)


def test_a_frame_named_after_a_route_does_not_reach_that_route(
    connected: Invoke, aws: World
) -> None:
    """`$disconnect` as a type, and even as the route key, is a message."""
    message = event("websocket/unknown.json")
    message["body"] = '{"type":"$disconnect","n":7}'
    message["requestContext"]["routeKey"] = "$disconnect"
    connected("websocket", message)
    assert frames(aws)[-1]["code"] == "invalid"
    connected("websocket", event("websocket/sync.json"))
    assert frames(aws)[-1]["type"] == "synced", "the connection is still known"


def test_disconnect_forgets_the_connection(connected: Invoke, aws: World) -> None:
    connected("websocket", event("websocket/sync.json"))
    connected("websocket", event("websocket/disconnect.json"))
    assert publish(connected, "watchers")["watchers"] == 0
    connected("websocket", event("websocket/sync.json"))
    assert frames(aws)[-1]["code"] == "unknown_connection"


def test_disconnect_by_sub_closes_the_connection(connected: Invoke, aws: World) -> None:
    assert publish(connected, "disconnect") == {"disconnected": 1}
    assert aws.gateway.disconnected == [CONNECTION]


def test_one_call_twice_is_once(connected: Invoke) -> None:
    first = publish(connected, "one-call")
    assert first["reason"] == "completed"
    assert publish(connected, "one-call") == first
    (read,) = connected("publish", {"operation": "read", "stream": STREAM})["slices"]
    assert json.loads(read)["chunks"] == ["All at once."]
    assert publish(connected, "delete")["deleted"] == 2


def test_a_batch_that_the_tables_cannot_serve_comes_again(
    connected: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAILRACE_STATE_TABLE", "Nowhere")
    with pytest.raises(Exception, match="ResourceNotFoundException"):
        connected("fanout", event("fanout/batch.json"))


@pytest.mark.parametrize(
    ("function", "path"),
    [
        ("websocket", "websocket/subscribe.json"),
        ("publish", "publish/append.json"),
        ("fanout", "fanout/batch.json"),
    ],
)
def test_what_the_tables_do_not_answer_is_counted_by_each_function(
    connected: Invoke,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    function: str,
    path: str,
) -> None:
    """Each answers it, and so fails none of its invocations."""
    connected(function, event(path))
    capsys.readouterr()

    def call(*_: Any, **__: Any) -> Any:
        raise ClientError({"Error": {"Code": "ThrottlingException"}}, "Query")

    monkeypatch.setattr("botocore.client.BaseClient._make_api_call", call)
    connected(function, event(path))
    counted = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert counted["Unavailable"] == [1]


def test_nothing_that_was_said_is_logged(
    connected: Invoke, capsys: pytest.CaptureFixture[str], aws: World
) -> None:
    """Neither where all goes well, nor where the code itself breaks."""
    lines = io.StringIO()
    for handler in logging.getLogger("tailrace").handlers:
        assert isinstance(handler, logging.StreamHandler)
        handler.setStream(lines)
    token = event("websocket/connect-query.json")["queryStringParameters"]["token"]
    publish(connected, "open")
    publish(connected, "append")
    connected("websocket", event("websocket/subscribe.json"))
    connected("fanout", event("fanout/batch.json"))
    poisoned = event("publish/append.json")
    poisoned["chunks"] = ["Hello", {"planted": object()}]
    connected("publish", poisoned)

    def broken(connection: str, frame: str) -> Push:
        raise RuntimeError(f"met Hello and {token}")

    aws.gateway.push = broken  # type: ignore[method-assign]
    with pytest.raises(Exception, match="RuntimeError") as told:
        connected("websocket", event("websocket/subscribe.json"))
    logged = "".join(capsys.readouterr()) + lines.getvalue() + str(told.value)
    assert "the function crashed" in logged
    assert '"ChunksAppended":[2.0]' in logged
    for planted in ("Hello", token, token[-43:], "example key", "planted"):
        assert planted not in logged
    assert chunks.encode("Hello") not in logged


def test_a_function_without_its_environment_says_what_is_missing(
    load: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TAILRACE_STATE_TABLE")
    app = load("publish")
    with pytest.raises(Exception, match="TAILRACE_STATE_TABLE must be set"):
        app.publish()
