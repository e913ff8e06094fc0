"""Every example, against a stand-in of its provider."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import httpx2
import pytest
from _pytest.capture import CaptureFixture

from demo import chat
from tailrace import Cancelled, Producer, PublicError, new_run, tokens
from tests.examples import providers
from tests.examples.conftest import EXAMPLES, Streams
from tests.examples.providers import TEXT, TOKENS, Provider, anthropic, bedrock, openai
from tests.support.worlds import run_id

Load = Callable[[str], ModuleType]
STREAM = "chat:42"
RUN = run_id(1)


def test_every_example_has_a_test() -> None:
    here = Path(__file__).read_text()
    paths = [path.relative_to(EXAMPLES) for path in EXAMPLES.rglob("*.py")]
    assert len(paths) >= 6
    assert [path for path in paths if f'"{path.as_posix()}"' not in here] == []
    listed = (EXAMPLES / "README.md").read_text()
    assert [path for path in paths if path.as_posix() not in listed] == []


def cancel_when_paused(provider: Provider, streams: Streams) -> threading.Thread:
    """Press stop as soon as something of the answer is in; the LLM says nothing more
    until then."""
    provider.pause_after = 7

    def press() -> None:
        given_up = time.monotonic() + 10
        while len(streams.chunks(STREAM)) < 3 and time.monotonic() < given_up:
            time.sleep(0.01)
        streams.cancel(STREAM)
        provider.go_on.set()

    thread = threading.Thread(target=press)
    thread.start()
    return thread


# ---- scripts -------------------------------------------------------------------------


def test_openai(
    example: Load, provider: Provider, streams: Streams, capsys: CaptureFixture[str]
) -> None:
    example("openai_answer.py").answer(STREAM, "Why is the sky blue?")
    assert capsys.readouterr().out == TEXT + "\n"
    written = streams.chunks(STREAM)
    assert "".join(one.get("delta", "") for one in written) == TEXT
    assert written[-1] == {"type": "finish", "finishReason": "stop"}
    assert streams.end(STREAM) == "completed"


def test_an_answer_of_openai_may_be_longer_than_a_chunk(
    example: Load,
    provider: Provider,
    streams: Streams,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: CaptureFixture[str],
) -> None:
    """Several of its events say the text as a whole."""
    tokens = ["The tides come and go. "] * 1_500
    monkeypatch.setattr(providers, "TOKENS", tokens)
    monkeypatch.setattr(providers, "TEXT", "".join(tokens))
    example("openai_answer.py").answer(STREAM, "Write an essay on tides.")
    assert capsys.readouterr().out == "".join(tokens) + "\n"
    job = tmp_path / "job.json"
    example("openai_background.py").answer("chat:43", job, "Write an essay on tides.")
    for stream in (STREAM, "chat:43"):
        written = streams.chunks(stream)
        assert "".join(one.get("delta", "") for one in written) == "".join(tokens)
        assert streams.end(stream) == "completed"
    assert len(written) == len(openai())


def test_anthropic(
    example: Load, provider: Provider, streams: Streams, capsys: CaptureFixture[str]
) -> None:
    example("anthropic_answer.py").answer(STREAM, "Why is the sky blue?")
    assert capsys.readouterr().out == TEXT + "\n"
    said = [event for event in anthropic() if event["type"] != "ping"]
    assert streams.chunks(STREAM) == said
    assert streams.end(STREAM) == "completed"


@pytest.mark.parametrize("path", ["openai_answer.py", "anthropic_answer.py"])
def test_a_script_that_is_stopped_hangs_up_on_the_llm(
    example: Load, provider: Provider, streams: Streams, path: str
) -> None:
    thread = cancel_when_paused(provider, streams)
    with pytest.raises(Cancelled):
        example(path).answer(STREAM, "Why?")
    thread.join()
    assert streams.end(STREAM) == "cancelled"


def test_openai_in_the_background_is_read_from_where_the_log_ends(
    example: Load, provider: Provider, streams: Streams, tmp_path: Path
) -> None:
    """The kill itself is in tests/e2e/test_examples.py."""
    job = tmp_path / "job.json"
    module = example("openai_background.py")
    run = new_run()
    job.write_text(json.dumps({"run": run, "response": "resp_01"}))
    before = module.Producer(STREAM, run=run).open()
    for event in openai()[:5]:
        before.write(event)
    before.hand_over()
    module.answer(STREAM, job, "Why is the sky blue?")
    written = streams.chunks(STREAM)
    assert [one["type"] for one in written] == [one["type"] for one in openai()]
    assert "".join(one.get("delta", "") for one in written) == TEXT
    assert streams.end(STREAM) == "completed"
    (request,) = provider.requests
    assert request[0] == "/v1/responses/resp_01?starting_after=4&stream=true"
    assert not job.exists()


def test_openai_in_the_background_from_its_start(
    example: Load, provider: Provider, streams: Streams, tmp_path: Path
) -> None:
    job = tmp_path / "job.json"
    example("openai_background.py").answer(STREAM, job, "Why is the sky blue?")
    assert len(streams.chunks(STREAM)) == len(openai())
    create, retrieve = provider.requests
    assert create[1]["background"] is True
    assert retrieve[0] == "/v1/responses/resp_01?stream=true"


# ---- Lambda --------------------------------------------------------------------------


@pytest.fixture
def bedrock_job(
    example: Load, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> ModuleType:
    monkeypatch.setenv("MODEL", "anthropic.claude-sonnet-5-5")
    return example("bedrock_lambda/app.py")


EVENT = {
    "stream": STREAM,
    "run": RUN,
    "messages": [{"role": "user", "content": [{"text": "Why is the sky blue?"}]}],
}


def test_bedrock(bedrock_job: ModuleType, provider: Provider, streams: Streams) -> None:
    bedrock_job.handler(EVENT, None)
    assert streams.chunks(STREAM) == [{kind: event} for kind, event in bedrock()]
    assert streams.end(STREAM) == "completed"
    assert provider.requests[0][1]["messages"] == EVENT["messages"]


def test_an_event_that_is_delivered_twice_is_answered_once(
    bedrock_job: ModuleType, provider: Provider, streams: Streams
) -> None:
    for _ in range(2):
        bedrock_job.handler(EVENT, None)
    assert len(provider.requests) == 1


def test_bedrock_is_stopped_when_stop_is_pressed(
    bedrock_job: ModuleType, provider: Provider, streams: Streams
) -> None:
    thread = cancel_when_paused(provider, streams)
    bedrock_job.handler(EVENT, None)
    thread.join()
    assert streams.end(STREAM) == "cancelled"
    # And Lambda's retry, if there were one, would change nothing.
    bedrock_job.handler(EVENT, None)
    assert len(provider.requests) == 1


def test_a_failed_attempt_is_answered_anew(
    bedrock_job: ModuleType, provider: Provider, streams: Streams
) -> None:
    provider.fail = [403]
    with pytest.raises(Exception, match="403"):
        bedrock_job.handler(EVENT, None)
    assert streams.end(STREAM) == "error"
    bedrock_job.handler(EVENT, None)
    assert streams.end(STREAM) == "completed"
    assert streams.records(STREAM)[-1].run > RUN


# ---- SQS -----------------------------------------------------------------------------


def message(attempt: int) -> dict[str, Any]:
    """Return an SQS event, as Lambda gets it."""
    body = {"stream": STREAM, "run": RUN, "question": "Why is the sky blue?"}
    return {
        "Records": [
            {
                "messageId": "m1",
                "receiptHandle": "r",
                "body": json.dumps(body),
                "attributes": {"ApproximateReceiveCount": str(attempt)},
                "messageAttributes": {},
                "eventSource": "aws:sqs",
                "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:questions",
                "awsRegion": "us-east-1",
            }
        ]
    }


DONE: dict[str, Any] = {"batchItemFailures": []}
AGAIN = {"batchItemFailures": [{"itemIdentifier": "m1"}]}


@pytest.fixture
def worker(example: Load, provider: Provider, streams: Streams) -> Iterator[ModuleType]:
    module = example("sqs_worker/app.py")
    yield module
    if module.anthropic.cache_info().currsize:
        module.anthropic().close()


def test_a_message_is_answered(worker: ModuleType, streams: Streams) -> None:
    assert worker.handler(message(1), None) == DONE
    assert streams.chunks(STREAM) == TOKENS
    assert worker.handler(message(2), None) == DONE
    assert streams.chunks(STREAM) == TOKENS


def test_a_message_whose_attempt_failed_is_answered_by_the_next(
    worker: ModuleType, streams: Streams, provider: Provider
) -> None:
    provider.fail = [400]
    assert worker.handler(message(1), None) == AGAIN
    assert [one.kind for one in streams.records(STREAM)] == ["open"]
    assert worker.handler(message(2), None) == DONE
    last = streams.records(STREAM)[-1]
    assert (last.reason, streams.chunks(STREAM, last.run)) == ("completed", TOKENS)


def test_a_message_whose_attempts_all_fail_ends_in_an_error(
    worker: ModuleType, streams: Streams, provider: Provider
) -> None:
    provider.fail = [400] * 3
    for attempt in (1, 2, 3):
        assert worker.handler(message(attempt), None) == AGAIN
    assert streams.end(STREAM) == "error"


def test_a_message_whose_answer_was_stopped_is_done(
    worker: ModuleType, streams: Streams, provider: Provider
) -> None:
    streams.log.cancel(STREAM, RUN)
    assert worker.handler(message(1), None) == DONE
    assert provider.requests == []


# ---- FastAPI -------------------------------------------------------------------------

RING = {"current": "k1", "k1": "1" * 32}


@pytest.fixture
def backend(
    example: Load,
    provider: Provider,
    streams: Streams,
    monkeypatch: pytest.MonkeyPatch,
) -> ModuleType:
    monkeypatch.setenv("TAILRACE_KEY_RING", json.dumps(RING))
    return example("fastapi_backend.py")


def client(backend: ModuleType) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(
        transport=httpx2.ASGITransport(backend.app), base_url="http://backend"
    )


ANA = {"X-User": "ana"}


async def test_the_backend_mints_tokens_for_a_users_own_streams(
    backend: ModuleType,
) -> None:
    async with client(backend) as browser:
        assert (await browser.get("/token")).status_code == 401
        token = (await browser.get("/token", headers=ANA)).text
    rights = tokens.verify(token, RING, int(time.time()))
    assert (rights.sub, rights.read, rights.cancel) == (
        "ana",
        ("user:ana:*",),
        ("user:ana:*",),
    )


async def test_no_users_name_reaches_into_the_streams_of_another(
    backend: ModuleType,
) -> None:
    async with client(backend) as browser:
        told = await browser.get("/token", headers={"X-User": "ana:chat"})
    assert told.status_code == 401


async def test_the_backend_begins_an_answer_and_says_which(
    backend: ModuleType, streams: Streams, provider: Provider
) -> None:
    question = {"text": "Why is the sky blue?"}
    provider.pause_after = 4
    async with client(backend) as browser:
        asked = await browser.post("/chats/1/questions", json=question, headers=ANA)
        told = asked.json()
        assert told["stream"] == "user:ana:chat:1"
        assert streams.records(told["stream"])[0].run == told["run"]
        again = await browser.post("/chats/1/questions", json=question, headers=ANA)
        assert again.status_code == 409
        provider.go_on.set()
        for task in list(backend.answering):
            await task
    said = [event for event in anthropic() if event["type"] != "ping"]
    assert streams.chunks(told["stream"]) == said
    assert streams.end(told["stream"]) == "completed"


async def test_a_stop_reaches_an_llm_that_is_silent(
    backend: ModuleType, streams: Streams, provider: Provider
) -> None:
    provider.pause_after = 4
    async with client(backend) as browser:
        asked = await browser.post(
            "/chats/1/questions", json={"text": "?"}, headers=ANA
        )
        stream = asked.json()["stream"]
        (task,) = backend.answering
        streams.cancel(stream)
        await task
    assert streams.end(stream) == "cancelled"
    assert provider.left.wait(30)


# ---- the chat ------------------------------------------------------------------------


@pytest.fixture
def chat_job(example: Load, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    job = example("chat/job.py")
    monkeypatch.setattr(job, "time", SimpleNamespace(sleep=lambda _: None))
    return job


def chat_event(streams: Streams, question: str) -> dict[str, Any]:
    given = Producer(STREAM, run=RUN, transport=streams.transport).open().hand_over()
    part = {"type": "text", "text": question}
    return {
        "tailrace": 1,
        "stream": STREAM,
        "run": given["run"],
        "seq": given["seq"],
        "sub": "u7",
        "untrusted": {"messages": [{"id": "u1", "role": "user", "parts": [part]}]},
    }


def test_a_chat_is_answered_once(chat_job: ModuleType, streams: Streams) -> None:
    event = chat_event(streams, "What is the weather in Kiel?")
    for _ in "ab":  # Lambda delivers an event at least once
        chat_job.handler(event, None)
    chunks = streams.chunks(STREAM)
    says = {"question": "u1"}
    assert chunks[0] == {"type": "start", "messageId": RUN, "messageMetadata": says}
    assert [one["type"] for one in chunks].count("finish") == 1
    tool = next(one for one in chunks if one["type"] == "tool-input-available")
    assert tool["input"] == {"place": "Kiel"}
    text = "".join(one["delta"] for one in chunks if one["type"] == "text-delta")
    assert text == f"It is 11 degrees in Kiel, and grey.\n\n{chat_job.TEXT}"
    assert streams.end(STREAM) == "completed"


def test_a_chat_that_fails_says_so(chat_job: ModuleType, streams: Streams) -> None:
    with pytest.raises(PublicError):
        chat_job.handler(chat_event(streams, "Fail, please"), None)
    assert streams.end(STREAM) == "error"


@pytest.mark.parametrize(
    "odd", [{}, {"messages": []}, {"messages": [{"parts": 1}]}, {"messages": {"a": 1}}]
)
def test_whatever_a_page_sends_is_some_question(
    chat_job: ModuleType, odd: dict[str, Any]
) -> None:
    assert chat_job.question(odd) == ("", "")


def test_the_chat_page_is_built_with_the_versions_that_it_names(tmp_path: Path) -> None:
    chat.build_page(tmp_path)
    assert (tmp_path / "main.js").stat().st_size > 100_000
    page = (tmp_path / "index.html").read_text()
    assert all((tmp_path / name).exists() for name in ("main.js", "main.css"))
    assert 'src="main.js"' in page
    named = json.loads((chat.EXAMPLE / "package.json").read_text())["dependencies"]
    used = json.loads((chat.CLIENT / "package.json").read_text())["devDependencies"]
    assert used["ai7"] == f"npm:ai@{named['ai']}"
    assert used["ai-react7"] == f"npm:@ai-sdk/react@{named['@ai-sdk/react']}"
