"""The AI SDK's dialect against the deployed stack: a real socket, a job that is a
Lambda function, and the queue that looks after requests."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

from demo.stack import LocalStack
from tailrace.producer.base import ERROR_MESSAGE
from tests.support.deployed import Deployed

PATIENCE = 60


class Sdk:
    """What `WebSocketChatTransport` does with its frames."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.last: dict[str, int] = {}
        self.chunks: dict[str, list[Any]] = {}

    def ask(self, kind: str, chat: str, **body: Any) -> str:
        request = uuid.uuid4().hex
        self.last[request], self.chunks[request] = -1, []
        frame = {"type": kind, "requestId": request, "id": chat, "body": body}
        headers = {"x-asked": "planted-prompt"}
        self.socket.send(json.dumps({**frame, "headers": headers, "messages": []}))
        return request

    def receive(self) -> dict[str, Any]:
        frame: dict[str, Any] = json.loads(self.socket.recv(timeout=PATIENCE))
        request = frame["requestId"]
        if frame["type"] == "chunk" and frame["sequence"] > self.last[request]:
            assert frame["sequence"] == self.last[request] + 1, "the SDK would close"
            self.last[request] += 1
            self.chunks[request].append(frame["chunk"])
        return frame

    def read(self, request: str) -> dict[str, Any]:
        """Read until a request is over; return its last frame."""
        while True:
            frame = self.receive()
            over = frame["type"] in ("end", "error", "no-active")
            if over and frame["requestId"] == request:
                return frame

    def text(self, request: str) -> str:
        return "".join(one.get("delta", "") for one in self.chunks[request])


@pytest.fixture
def sdk(deployed: Deployed) -> Iterator[Sdk]:
    token = deployed.token(sub="u7", send=["chat:*"])
    url = f"{deployed.stack.socket_url}?token={token}"
    with connect(url, proxy=None) as socket:
        yield Sdk(socket)


def new_chat() -> str:
    return uuid.uuid4().hex


def written(count: int) -> str:
    return "".join(f"{number} " for number in range(count))


def test_what_is_sent_is_answered_by_the_job_function(sdk: Sdk) -> None:
    request = sdk.ask("send", new_chat(), all=20)
    assert sdk.read(request)["type"] == "end"
    assert sdk.text(request) == written(20)
    chunks = sdk.chunks[request]
    assert chunks[-1] == {"type": "finish"}
    assert chunks[-2]["data"] == {"sub": "u7"}


def test_a_second_tab_resumes_in_mid_answer_and_both_come_to_the_end(
    sdk: Sdk,
) -> None:
    chat = new_chat()
    first = sdk.ask("send", chat, all=40, pause=0.05)
    while sdk.last[first] < 10:
        sdk.receive()
    second = sdk.ask("resume", chat)
    ends: set[str] = set()
    while len(ends) < 2:
        frame = sdk.receive()
        if frame["type"] == "end":
            ends.add(frame["requestId"])
    assert sdk.text(first) == sdk.text(second) == written(40)
    assert len(sdk.chunks[second]) < len(sdk.chunks[first]), "it is compacted"


def test_where_nothing_is_going_on_there_is_nothing_to_resume(sdk: Sdk) -> None:
    assert sdk.read(sdk.ask("resume", new_chat()))["type"] == "no-active"


def test_an_abort_detaches_and_the_answer_goes_on(sdk: Sdk, deployed: Deployed) -> None:
    chat = new_chat()
    request = sdk.ask("send", chat, all=20, pause=0.02)
    sdk.receive()
    sdk.socket.send(json.dumps({"type": "abort", "requestId": request}))
    sdk.read(request)
    deadline = time.monotonic() + PATIENCE
    while deployed.ask("tail", f"chat:{chat}")["active"]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert deployed.ask("tail", f"chat:{chat}")["reason"] == "completed"


def test_a_job_that_fails_is_an_error_with_its_public_text(sdk: Sdk) -> None:
    told = sdk.read(sdk.ask("send", new_chat(), all=1, fails=True))
    assert (told["type"], told["errorText"]) == ("error", "No such model.")


def test_a_job_that_breaks_tells_nobody_why(sdk: Sdk) -> None:
    told = sdk.read(sdk.ask("send", new_chat(), all=1, breaks=True))
    assert (told["type"], told["errorText"]) == ("error", ERROR_MESSAGE)


def test_the_queue_brings_what_nobody_pushed(
    sdk: Sdk, deployed: Deployed, stack: LocalStack
) -> None:
    """The feed is switched off: all there is left is the watch at the lease's end."""
    client = stack.lambda_
    (feed,) = client.list_event_source_mappings(FunctionName=stack.function("fanout"))[
        "EventSourceMappings"
    ]
    client.update_event_source_mapping(UUID=feed["UUID"], Enabled=False)
    try:
        chat = new_chat()
        deployed.ask("open", f"chat:{chat}", writer="w", lease=5)
        request = sdk.ask("resume", chat)
        assert sdk.receive()["type"] == "start"
        told = sdk.read(request)  # it is never renewed: the watch finds it lost
        assert told["type"] == "error"
    finally:
        client.update_event_source_mapping(UUID=feed["UUID"], Enabled=True)
