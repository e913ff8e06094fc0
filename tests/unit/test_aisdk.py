"""What models stream becomes the AI SDK's chunks: recorded shapes of each provider."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from anthropic.types.beta import BetaTextBlock
from openai._models import construct_type
from openai.types.responses import ResponseStreamEvent

from tailrace.aisdk import (
    Answer,
    UpstreamError,
    from_anthropic,
    from_bedrock,
    from_openai,
    from_text,
    merged,
)
from tailrace.chunks import MAX_CHUNKS_BYTES, MAX_DEPTH, encode, size
from tailrace.errors import Invalid
from tests.support.uimessages import MAJORS, Read, sdk_reader


def as_object(value: Any) -> Any:
    """The same event as a provider's library gives it: attributes, not keys."""
    if isinstance(value, dict):
        return SimpleNamespace(**{key: as_object(item) for key, item in value.items()})
    if isinstance(value, list):
        return [as_object(item) for item in value]
    return value


def types(chunks: Iterable[dict[str, Any]]) -> list[str]:
    return [chunk["type"] for chunk in chunks]


def said(chunks: Iterable[dict[str, Any]], kind: str = "text") -> str:
    return "".join(c["delta"] for c in chunks if c["type"] == f"{kind}-delta")


# ---- shapes ------------------------------------------------------------------------


def completion(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "delta": delta, "finish_reason": reason}],
    }


def function(index: int, id: str | None, name: str | None, text: str) -> dict[str, Any]:
    call: dict[str, Any] = {"index": index, "function": {"arguments": text}}
    if id:
        call |= {"id": id, "type": "function"}
        call["function"]["name"] = name
    return {"tool_calls": [call]}


CHAT_COMPLETIONS = [
    completion({"role": "assistant", "content": ""}),
    completion({"content": "Let me "}),
    completion({"content": "look."}),
    completion(function(0, "call_a", "weather", "")),
    completion(function(0, None, None, '{"city":')),
    completion(function(0, None, None, '"Kiel"}')),
    completion(function(1, "call_b", "time", "{}")),
    completion({}, "tool_calls"),
    {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [],
        "usage": {
            "prompt_tokens": 9,
            "completion_tokens": 12,
            "total_tokens": 21,
            "prompt_tokens_details": {"cached_tokens": 4},
            "completion_tokens_details": {"reasoning_tokens": 3},
        },
    },
]

RESPONSES: list[dict[str, Any]] = [
    {"type": "response.created", "response": {"id": "resp_1", "status": "in_progress"}},
    {
        "type": "response.output_item.added",
        "output_index": 0,
        "item": {"id": "rs_1", "type": "reasoning", "summary": []},
    },
    {
        "type": "response.reasoning_summary_text.delta",
        "item_id": "rs_1",
        "summary_index": 0,
        "delta": "Think",
    },
    {
        "type": "response.reasoning_summary_part.done",
        "item_id": "rs_1",
        "summary_index": 0,
        "part": {"type": "summary_text", "text": "Think"},
    },
    {
        "type": "response.output_item.added",
        "output_index": 1,
        "item": {"id": "ws_1", "type": "web_search_call", "status": "in_progress"},
    },
    {
        "type": "response.output_item.done",
        "output_index": 1,
        "item": {"id": "ws_1", "type": "web_search_call", "status": "completed"},
    },
    {
        "type": "response.output_item.added",
        "output_index": 2,
        "item": {"id": "msg_1", "type": "message", "role": "assistant", "content": []},
    },
    {"type": "response.output_text.delta", "item_id": "msg_1", "delta": "Hel"},
    {"type": "response.output_text.delta", "item_id": "msg_1", "delta": "lo"},
    {
        "type": "response.output_text.annotation.added",
        "item_id": "msg_1",
        "annotation": {
            "type": "url_citation",
            "url": "https://example.org/a",
            "title": "A",
            "start_index": 0,
            "end_index": 5,
        },
    },
    {
        "type": "response.output_item.done",
        "output_index": 2,
        "item": {"id": "msg_1", "type": "message", "role": "assistant", "content": []},
    },
    {
        "type": "response.output_item.added",
        "output_index": 3,
        "item": {
            "id": "fc_1",
            "type": "function_call",
            "call_id": "call_1",
            "name": "weather",
            "arguments": "",
        },
    },
    {
        "type": "response.function_call_arguments.delta",
        "item_id": "fc_1",
        "delta": '{"city":"Kiel"}',
    },
    {
        "type": "response.output_item.done",
        "output_index": 3,
        "item": {
            "id": "fc_1",
            "type": "function_call",
            "call_id": "call_1",
            "name": "weather",
            "arguments": '{"city":"Kiel"}',
        },
    },
    {
        "type": "response.completed",
        "response": {
            "id": "resp_1",
            "status": "completed",
            "usage": {
                "input_tokens": 5,
                "output_tokens": 7,
                "total_tokens": 12,
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens_details": {"reasoning_tokens": 2},
            },
        },
    },
]


def block(index: int, kind: str, **more: Any) -> dict[str, Any]:
    content = {"type": kind, **more}
    return {"type": "content_block_start", "index": index, "content_block": content}


def delta(index: int, kind: str, **more: Any) -> dict[str, Any]:
    return {
        "type": "content_block_delta",
        "index": index,
        "delta": {"type": kind, **more},
    }


def stop(index: int) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


ANTHROPIC = [
    {
        "type": "message_start",
        "message": {
            "id": "msg_1",
            "role": "assistant",
            "content": [],
            "usage": {
                "input_tokens": 25,
                "output_tokens": 1,
                "cache_read_input_tokens": 3,
            },
        },
    },
    block(0, "thinking", thinking="", signature=""),
    {"type": "ping"},
    delta(0, "thinking_delta", thinking="Hm."),
    delta(0, "signature_delta", signature="sig"),
    stop(0),
    block(1, "text", text=""),
    delta(1, "text_delta", text="Hel"),
    {"type": "text", "text": "Hel", "snapshot": "Hel"},  # the library's own helper
    delta(1, "text_delta", text="lo"),
    delta(
        1,
        "citations_delta",
        citation={
            "type": "web_search_result_location",
            "url": "https://example.org/a",
            "title": "A",
        },
    ),
    stop(1),
    block(2, "tool_use", id="toolu_1", name="weather", input={}),
    delta(2, "input_json_delta", partial_json=""),
    delta(2, "input_json_delta", partial_json='{"city": "Ki'),
    delta(2, "input_json_delta", partial_json='el"}'),
    stop(2),
    {
        "type": "message_delta",
        "delta": {"stop_reason": "tool_use", "stop_sequence": None},
        "usage": {"output_tokens": 40},
    },
    {"type": "message_stop"},
]

BEDROCK = [
    {"messageStart": {"role": "assistant"}},
    {
        "contentBlockDelta": {
            "delta": {"reasoningContent": {"text": "Hm."}},
            "contentBlockIndex": 0,
        }
    },
    {
        "contentBlockDelta": {
            "delta": {"reasoningContent": {"signature": "sig"}},
            "contentBlockIndex": 0,
        }
    },
    {"contentBlockStop": {"contentBlockIndex": 0}},
    {"contentBlockDelta": {"delta": {"text": "Hel"}, "contentBlockIndex": 1}},
    {"contentBlockDelta": {"delta": {"text": "lo"}, "contentBlockIndex": 1}},
    {"contentBlockStop": {"contentBlockIndex": 1}},
    {
        "contentBlockStart": {
            "start": {"toolUse": {"toolUseId": "tooluse_1", "name": "weather"}},
            "contentBlockIndex": 2,
        }
    },
    {
        "contentBlockDelta": {
            "delta": {"toolUse": {"input": '{"city":"Kiel"}'}},
            "contentBlockIndex": 2,
        }
    },
    {"contentBlockStop": {"contentBlockIndex": 2}},
    {"messageStop": {"stopReason": "tool_use"}},
    {
        "metadata": {
            "usage": {"inputTokens": 5, "outputTokens": 7, "totalTokens": 12},
            "metrics": {"latencyMs": 100},
        }
    },
]

STREAMS = [
    pytest.param(from_openai, CHAT_COMPLETIONS, id="chat-completions"),
    pytest.param(from_openai, RESPONSES, id="responses"),
    pytest.param(from_anthropic, ANTHROPIC, id="anthropic"),
    pytest.param(from_bedrock, BEDROCK, id="bedrock"),
    pytest.param(from_text, ["Hel", "lo"], id="text"),
]


# ---- each provider -----------------------------------------------------------------


def test_a_text_iterator_becomes_a_message() -> None:
    assert list(from_text(["Hel", "", "lo"], message_id="m1")) == [
        {"type": "start", "messageId": "m1"},
        {"type": "start-step"},
        {"type": "text-start", "id": "text-1"},
        {"type": "text-delta", "id": "text-1", "delta": "Hel"},
        {"type": "text-delta", "id": "text-1", "delta": "lo"},
        {"type": "text-end", "id": "text-1"},
        {"type": "finish-step"},
        {"type": "finish", "finishReason": "stop"},
    ]


def test_chat_completions_become_text_and_tool_calls() -> None:
    chunks = list(from_openai(CHAT_COMPLETIONS))
    assert said(chunks) == "Let me look."
    assert types(chunks)[4:] == [
        "text-delta",
        "text-end",
        "tool-input-start",
        "tool-input-delta",
        "tool-input-delta",
        "tool-input-available",
        "tool-input-start",
        "tool-input-delta",
        "tool-input-available",
        "finish-step",
        "finish",
    ]
    tools = [c for c in chunks if c["type"] == "tool-input-available"]
    assert [(t["toolCallId"], t["toolName"], t["input"]) for t in tools] == [
        ("call_a", "weather", {"city": "Kiel"}),
        ("call_b", "time", {}),
    ]
    assert chunks[-1] == {
        "type": "finish",
        "finishReason": "tool-calls",
        "messageMetadata": {
            "usage": {
                "inputTokens": 9,
                "outputTokens": 12,
                "totalTokens": 21,
                "reasoningTokens": 3,
                "cachedInputTokens": 4,
            }
        },
    }


def test_tool_calls_that_come_interleaved_are_told_apart_by_their_index() -> None:
    """Some who speak Chat Completions stream parallel calls side by side."""
    chunks = list(
        from_openai(
            [
                completion(function(0, "a", "f", '{"x":')),
                completion(function(0, "a", "f", "1}")),  # repeats its id
                completion(function(1, "b", "g", "{}")),
                completion({}, "tool_calls"),
            ]
        )
    )
    assert [c["input"] for c in chunks if c["type"] == "tool-input-available"] == [
        {"x": 1},
        {},
    ]


def test_tool_calls_that_grow_side_by_side_are_each_whole() -> None:
    answer = Answer("m")
    events = [
        completion(function(0, "a", "f", "")),
        completion(function(1, "b", "g", "")),
        completion(function(0, None, None, '{"x":')),
        completion(function(1, None, None, '{"y":2}')),
        completion(function(0, None, None, "1}")),
        completion({}, "tool_calls"),
    ]
    list(from_openai(events, answer=answer))
    assert [(one.id, one.input, one.error) for one in answer.tool_calls] == [
        ("a", {"x": 1}, None),
        ("b", {"y": 2}, None),
    ]


def test_tool_calls_of_one_index_are_told_apart_by_their_ids() -> None:
    """As what stands between Gemini and Chat Completions gives them."""
    answer = Answer("m")
    events = [
        completion(function(0, "a", "f", '{"x":1}')),
        completion(function(0, "b", "g", '{"y":2}')),
        completion({}, "tool_calls"),
    ]
    list(from_openai(events, answer=answer))
    assert [one.input for one in answer.tool_calls] == [{"x": 1}, {"y": 2}]


@pytest.mark.parametrize("id", [{}, {"id": None}, {"id": ""}])
def test_tool_calls_without_an_id_are_called_all_the_same(id: dict[str, Any]) -> None:
    """As some who speak Chat Completions give them: opencode#47954, aionrs#99."""

    def call(index: int, name: str, text: str) -> dict[str, Any]:
        function = {"name": name, "arguments": text}
        return completion({"tool_calls": [{"index": index, "function": function} | id]})

    answer = Answer("m")
    events = [
        call(0, "f", ""),
        call(0, "", '{"x":'),
        call(0, "", "1}"),
        call(1, "g", "{}"),
        completion({}, "tool_calls"),
    ]
    chunks = list(from_openai(events, answer=answer))
    first, second = answer.tool_calls
    assert [(one.name, one.input) for one in (first, second)] == [
        ("f", {"x": 1}),
        ("g", {}),
    ]
    whole = [c["toolCallId"] for c in chunks if c["type"] == "tool-input-available"]
    assert whole == [first.id, second.id]
    assert first.id
    assert second.id not in ("", first.id)


def test_a_tool_call_whose_id_comes_late_is_one_call() -> None:
    answer = Answer("m")
    late = {"index": 0, "id": "a", "function": {"arguments": "1}"}}
    begun = {"index": 0, "function": {"name": "f", "arguments": '{"x":'}}
    events = [
        completion({"tool_calls": [begun]}),
        completion({"tool_calls": [late]}),
        completion({}, "tool_calls"),
    ]
    list(from_openai(events, answer=answer))
    assert [(one.name, one.input) for one in answer.tool_calls] == [("f", {"x": 1})]


def test_the_librarys_helper_for_chat_completions_gives_what_they_give() -> None:
    """`client.chat.completions.stream(…)`: each chunk in an event, and more events."""
    events: list[Any] = []
    for chunk in CHAT_COMPLETIONS:
        events.append({"type": "chunk", "chunk": chunk, "snapshot": {}})
        for choice in chunk["choices"]:
            if content := choice["delta"].get("content"):
                again = {"type": "content.delta", "delta": content, "snapshot": content}
                events.append(again)
    events.append({"type": "content.done", "content": "Let me look."})
    assert list(from_openai(events, message_id="m")) == list(
        from_openai(CHAT_COMPLETIONS, message_id="m")
    )


def test_usage_that_is_said_with_each_chunk_is_counted_once() -> None:
    """vLLM and SGLang say what there is so far."""
    answer = Answer("m")
    events = [
        {**completion({"content": "a"}), "usage": usage}
        for usage in (
            {"prompt_tokens": 100, "completion_tokens": 1, "total_tokens": 101},
            {"prompt_tokens": 100, "completion_tokens": 3, "total_tokens": 103},
        )
    ]
    list(from_openai([*events, completion({}, "stop")], answer=answer))
    assert answer.usage == {
        "inputTokens": 100,
        "outputTokens": 3,
        "totalTokens": 103,
    }


class Upstream:
    """As the libraries' streams are: iterators that are to be closed."""

    def __init__(self) -> None:
        self.closed = 0

    def __iter__(self) -> Iterator[Any]:
        while True:
            yield completion({"content": "a"})

    def close(self) -> None:
        self.closed += 1


class AsyncUpstream(Upstream):
    async def __aiter__(self) -> AsyncIterator[Any]:
        for event in self:
            yield event

    async def close(self) -> None:  # type: ignore[override]
        super().close()


async def test_who_leaves_early_closes_the_models_stream() -> None:
    """A stream that nobody reads goes on to be made, and paid for."""
    upstream = Upstream()
    chunks = from_openai(upstream)
    next(chunks)
    chunks.close()  # type: ignore[attr-defined]
    assert upstream.closed == 1
    later: Any = AsyncUpstream()
    told: Any = from_openai(later)
    await anext(told)
    await told.aclose()
    assert later.closed == 1


class Both(Upstream):
    """As LiteLLM's streams are: plain and async, whichever was asked for."""

    def __init__(self, *events: Any) -> None:
        super().__init__()
        self.events = events
        self.closed_later = 0

    def __iter__(self) -> Iterator[Any]:
        yield from self.events

    async def __aiter__(self) -> AsyncIterator[Any]:
        for event in self.events:
            yield event

    async def aclose(self) -> None:
        self.closed_later += 1


@pytest.mark.parametrize("make", [from_openai, lambda both: merged(from_openai(both))])
async def test_a_stream_that_is_plain_and_async_is_read_as_its_reader_does(
    make: Any,
) -> None:
    events = [completion({"content": one}) for one in "abc"]
    upstream = Both(*events, completion({}, "stop"))
    assert said(make(upstream)) == "abc"
    assert said([chunk async for chunk in make(upstream)]) == "abc"


@pytest.mark.parametrize("make", [from_openai, lambda both: merged(from_openai(both))])
async def test_a_stream_that_is_plain_and_async_is_closed_as_it_was_read(
    make: Any,
) -> None:
    upstream = Both(completion({"content": "a"}), completion({"content": "b"}))
    plain = make(upstream)
    assert [next(plain)["type"] for _ in range(3)][-1] == "text-start"
    plain.close()
    assert (upstream.closed, upstream.closed_later) == (1, 0)
    later = make(upstream)
    assert [(await anext(later))["type"] for _ in range(3)][-1] == "text-start"
    await later.aclose()
    assert (upstream.closed, upstream.closed_later) == (1, 1)


class Interrupted(Upstream):
    """One whose reader is interrupted, and that cannot even be closed."""

    def __init__(self, last: Any) -> None:
        super().__init__()
        self.last = last

    def __iter__(self) -> Iterator[Any]:
        yield completion({"content": "a"})
        if isinstance(self.last, BaseException):
            raise self.last
        yield self.last

    def close(self) -> None:
        super().close()
        raise ConnectionError("closed already")


@pytest.mark.parametrize(
    ("last", "raised"),
    [
        (KeyboardInterrupt(), KeyboardInterrupt),
        (ConnectionResetError(), ConnectionResetError),
        ({"error": {"message": "overloaded"}}, UpstreamError),
    ],
)
def test_what_breaks_an_answer_off_closes_the_models_stream(
    last: Any, raised: type[BaseException]
) -> None:
    upstream = Interrupted(last)
    with pytest.raises(raised):
        list(from_openai(upstream))
    assert upstream.closed == 1


async def test_who_is_cancelled_while_the_model_is_silent_closes_its_stream() -> None:
    silent = asyncio.Event()

    class Silent(AsyncUpstream):
        async def __aiter__(self) -> AsyncIterator[Any]:
            yield completion({"content": "a"})
            silent.set()
            await asyncio.Event().wait()

    upstream: Any = Silent()

    async def answer() -> None:
        async for _ in from_openai(upstream):
            pass

    job = asyncio.create_task(answer())
    await silent.wait()
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await job
    assert upstream.closed == 1


def test_reasoning_before_the_text_is_a_part_of_its_own() -> None:
    """As DeepSeek and vLLM send it with Chat Completions."""
    chunks = list(
        from_openai(
            [
                completion({"reasoning_content": "Hm"}),
                completion({"reasoning_content": "."}),
                completion({"content": "Hello"}),
                completion({}, "stop"),
            ]
        )
    )
    assert said(chunks, "reasoning") == "Hm."
    kinds = types(chunks)
    assert kinds.index("reasoning-end") < kinds.index("text-start")


def test_content_that_is_a_list_of_parts_is_reasoning_and_text() -> None:
    """As Mistral sends it with Chat Completions, where a model thinks."""
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}
    reference = {"type": "reference", "reference_ids": [1]}
    chunks = list(
        from_openai(
            [
                completion({"role": "assistant", "content": ""}),
                completion({"content": [thought]}),
                completion({"content": [{"type": "text", "text": "It is"}, reference]}),
                completion({"content": [{"type": "of_tomorrow", "text": " 42"}, "."]}),
                completion({"content": ""}, "stop"),
            ]
        )
    )
    assert (said(chunks, "reasoning"), said(chunks)) == ("Hm.", "It is 42.")
    kinds = types(chunks)
    assert kinds.index("reasoning-end") < kinds.index("text-start")


def test_the_responses_api_becomes_reasoning_search_text_source_and_tool() -> None:
    chunks = list(from_openai(RESPONSES))
    assert types(chunks) == [
        "start",
        "start-step",
        "reasoning-start",
        "reasoning-delta",
        "reasoning-end",
        "tool-input-start",
        "tool-input-available",
        "tool-output-available",
        "text-start",
        "text-delta",
        "text-delta",
        "source-url",
        "text-end",
        "tool-input-start",
        "tool-input-delta",
        "tool-input-available",
        "finish-step",
        "finish",
    ]
    assert all(c["providerExecuted"] for c in chunks[5:8])
    assert chunks[11]["url"] == "https://example.org/a"
    assert chunks[15]["toolCallId"] == "call_1"
    assert chunks[-1]["finishReason"] == "tool-calls"
    assert chunks[-1]["messageMetadata"]["usage"]["totalTokens"] == 12


def test_an_incomplete_response_says_why_it_was_cut() -> None:
    incomplete = {
        "type": "response.incomplete",
        "response": {"incomplete_details": {"reason": "max_output_tokens"}},
    }
    assert list(from_openai([incomplete]))[-1]["finishReason"] == "length"


def responded(*items: dict[str, Any]) -> list[Any]:
    """A response of these items, as the library gives it."""
    end = {"type": "response.completed", "response": {"output": list(items)}}
    done = [{"type": "response.output_item.done", "item": one} for one in items]
    return [
        construct_type(value=one, type_=ResponseStreamEvent) for one in [*done, end]
    ]


def test_a_custom_tools_text_is_its_input_and_grows_as_such(read: Read) -> None:
    item = {"id": "ctc_1", "type": "custom_tool_call", "call_id": "c", "name": "sql"}
    pieces = ['SELECT "a"\n', "FROM b\\c", " -- é"]
    whole = "".join(pieces)
    deltas = [
        {
            "type": "response.custom_tool_call_input.delta",
            "item_id": "ctc_1",
            "delta": piece,
        }
        for piece in pieces
    ]
    done = responded({**item, "input": whole})
    added = {"type": "response.output_item.added", "item": {**item, "input": ""}}
    for events in ([added, *deltas, *done], [added, *done], done):
        answer = Answer("m")
        chunks = list(from_openai(events, answer=answer))
        (call,) = answer.tool_calls
        assert (call.id, call.name, call.input) == ("c", "sql", whole)
        chunks += answer.finish()
        assert chunks[-1]["finishReason"] == "tool-calls"
        assert parts_of(read, chunks)["c"]["input"] == whole
        assert parts_of(read, chunks[:4])["c"]["input"] in (pieces[0], whole)


@pytest.mark.parametrize("deltas", [[], [""]])
def test_a_calls_input_of_which_no_piece_came_is_that_of_the_item_that_is_done(
    deltas: list[str],
) -> None:
    """Some responses say it in `…arguments.done` alone: opencode#44862."""
    item = {"id": "fc_1", "type": "function_call", "call_id": "c", "name": "f"}
    added = {"type": "response.output_item.added", "item": {**item, "arguments": ""}}
    kind = "response.function_call_arguments"
    pieces = [{"type": f"{kind}.delta", "item_id": "fc_1", "delta": d} for d in deltas]
    whole = {"type": f"{kind}.done", "item_id": "fc_1", "arguments": '{"x":1}'}
    answer = Answer("m")
    done = responded({**item, "arguments": '{"x":1}'})
    list(from_openai([added, *pieces, whole, *done], answer=answer))
    assert [one.input for one in answer.tool_calls] == [{"x": 1}]


@pytest.mark.parametrize(
    ("item", "name", "given"),
    [
        (
            {
                "type": "computer_call",
                "call_id": "c",
                "action": {"type": "click", "button": "left", "x": 1, "y": 2},
                "pending_safety_checks": [],
            },
            "computer",
            {
                "action": {"type": "click", "button": "left", "x": 1, "y": 2},
                "pending_safety_checks": [],
            },
        ),
        (
            {
                "type": "local_shell_call",
                "call_id": "c",
                "action": {"type": "exec", "command": ["ls"], "env": {}},
            },
            "local_shell",
            {"action": {"type": "exec", "command": ["ls"], "env": {}}},
        ),
        (
            {
                "type": "shell_call",
                "call_id": "c",
                "action": {"commands": ["ls"], "timeout_ms": 1_000},
                "environment": {"type": "local"},
            },
            "shell",
            {"action": {"commands": ["ls"], "timeout_ms": 1_000}},
        ),
        (
            {
                "type": "apply_patch_call",
                "call_id": "c",
                "operation": {"type": "delete_file", "path": "a.py"},
            },
            "apply_patch",
            {"operation": {"type": "delete_file", "path": "a.py"}},
        ),
        (
            {
                "type": "tool_search_call",
                "call_id": "c",
                "arguments": {"goal": "mail"},
                "execution": "client",
            },
            "tool_search",
            {"arguments": {"goal": "mail"}},
        ),
        (
            {
                "type": "mcp_approval_request",
                "id": "c",
                "server_label": "s",
                "name": "f",
                "arguments": "{}",
            },
            "mcp_approval",
            {"server_label": "s", "name": "f", "arguments": "{}"},
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_the_job_has_to_run_for_openai_is_an_ordinary_tool_call(
    item: dict[str, Any], name: str, given: Any
) -> None:
    answer = Answer("m")
    events = responded({"id": "i", "status": "completed", **item})
    chunks = list(from_openai(events, answer=answer))
    (call,) = answer.tool_calls
    assert (call.id, call.name, call.input) == ("c", name, given)
    assert chunks[-1]["type"] == "tool-input-available"
    assert "providerExecuted" not in chunks[-1]
    assert answer.finish()[-1]["finishReason"] == "tool-calls"


def test_what_openai_runs_in_its_own_container_is_not_the_jobs() -> None:
    shell = {
        "type": "shell_call",
        "id": "i",
        "call_id": "c",
        "action": {"commands": ["ls"]},
        "environment": {"type": "container_reference", "container_id": "k"},
        "status": "completed",
    }
    search = {"type": "tool_search_call", "id": "j", "execution": "server"}
    answer = Answer("m")
    chunks = list(from_openai(responded(shell, search), answer=answer))
    assert answer.tool_calls == []
    outputs = [c for c in chunks if c["type"] == "tool-output-available"]
    assert [c["toolCallId"] for c in outputs] == ["c", "j"]
    assert all(c["providerExecuted"] for c in outputs)


def hosted(kind: str, /, **item: Any) -> list[dict[str, Any]]:
    """Return the chunks of a call that OpenAI makes itself, without the step's."""
    begun = {"id": "i", "type": kind, "status": "in_progress"}
    added = {"type": "response.output_item.added", "item": begun}
    answer = Answer("m")
    done = responded({"id": "i", "status": "completed", **item, "type": kind})
    chunks = list(from_openai([added, *done], answer=answer))
    assert answer.tool_calls == []
    return [chunk for chunk in chunks if "toolCallId" in chunk]


@pytest.mark.parametrize(
    ("item", "name", "given", "output"),
    [
        (
            {"type": "web_search_call", "action": {"type": "search", "query": "q"}},
            "web_search",
            {"action": {"type": "search", "query": "q"}},
            {},
        ),
        (
            {
                "type": "file_search_call",
                "queries": ["q"],
                "results": [{"filename": "a.pdf", "text": "A"}],
            },
            "file_search",
            {"queries": ["q"]},
            {"results": [{"filename": "a.pdf", "text": "A"}]},
        ),
        (
            {
                "type": "code_interpreter_call",
                "code": "1+1",
                "container_id": "k",
                "outputs": [{"type": "logs", "logs": "2"}],
            },
            "code_interpreter",
            {"code": "1+1"},
            {"outputs": [{"type": "logs", "logs": "2"}]},
        ),
        (
            {
                "type": "mcp_call",
                "server_label": "s",
                "name": "f",
                "arguments": '{"x":1}',
                "output": "4",
            },
            "mcp",
            {"server_label": "s", "name": "f", "arguments": '{"x":1}'},
            {"output": "4"},
        ),
        (
            {"type": "image_generation_call", "result": "iVBOR"},
            "image_generation",
            {},
            {},
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_openai_ran_itself_says_what_it_did_and_what_came_of_it(
    item: dict[str, Any], name: str, given: Any, output: Any
) -> None:
    chunks = hosted(item["type"], **item)
    assert chunks[0]["toolName"] == name
    *_, available, answered = chunks
    assert available["input"] == given
    assert answered["output"] == {"status": "completed", **output}
    assert answered["providerExecuted"]


@pytest.mark.parametrize(
    ("item", "why"),
    [
        ({"error": {"type": "http_error", "code": 502, "message": "gone"}}, "gone"),
        (
            {
                "error": {
                    "type": "mcp_tool_execution_error",
                    "content": [{"type": "text", "text": "no such page"}],
                }
            },
            "no such page",
        ),
        ({"error": "timeout"}, "timeout"),
        ({"status": "failed"}, "failed"),
    ],
    ids=["http", "execution", "text", "status"],
)
def test_what_failed_where_openai_ran_it_is_an_error_of_that_tool(
    item: dict[str, Any], why: str
) -> None:
    call = {"server_label": "s", "name": "f", "arguments": "{}"}
    failed = hosted("mcp_call", **call, **item)[-1]
    assert failed["type"] == "tool-output-error"
    assert failed["errorText"] == why
    assert failed["providerExecuted"]


def test_a_call_of_a_kind_that_is_not_known_is_an_error_and_no_whole_answer() -> None:
    event = {"type": "response.output_item.done", "item": {"type": "robot_call"}}
    with pytest.raises(UpstreamError, match="robot_call"):
        list(from_openai([event, {"type": "response.completed", "response": {}}]))


def test_anthropic_becomes_thinking_with_its_signature_text_and_tool() -> None:
    chunks = list(from_anthropic(ANTHROPIC))
    assert said(chunks, "reasoning") == "Hm."
    assert said(chunks) == "Hello"
    ends = [c for c in chunks if c["type"] == "reasoning-end"]
    assert ends[0]["providerMetadata"] == {"anthropic": {"signature": "sig"}}
    assert [c["url"] for c in chunks if c["type"] == "source-url"] == [
        "https://example.org/a"
    ]
    tool = next(c for c in chunks if c["type"] == "tool-input-available")
    assert tool["input"] == {"city": "Kiel"}
    assert chunks[-1]["finishReason"] == "tool-calls"
    assert chunks[-1]["messageMetadata"]["usage"] == {
        "inputTokens": 25,
        "outputTokens": 40,
        "totalTokens": 65,
        "cachedInputTokens": 3,
    }


@pytest.mark.parametrize("first", [{}, {"x": 1}, {"x": 2}])
@pytest.mark.parametrize("pieces", [[], [""], ["", '{"x":', "1}"]])
def test_an_input_with_which_a_call_begins_counts_until_a_piece_comes(
    first: dict[str, Any], pieces: list[str]
) -> None:
    """Where code that Anthropic runs makes the call, all of it is there at once."""
    answer = Answer("m")
    events = [
        block(0, "tool_use", id="a", name="f", input=first),
        *(delta(0, "input_json_delta", partial_json=piece) for piece in pieces),
        stop(0),
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}},
        {"type": "message_stop"},
    ]
    chunks = list(from_anthropic(events, answer=answer))
    (call,) = answer.tool_calls
    assert call.input == ({"x": 1} if any(pieces) else first)
    grown = [c["inputTextDelta"] for c in chunks if c["type"] == "tool-input-delta"]
    assert json.loads("".join(grown) or "{}") == call.input


def test_what_anthropic_searched_itself_is_an_output_and_its_sources() -> None:
    chunks = list(
        from_anthropic(
            [
                block(0, "server_tool_use", id="srvtoolu_1", name="web_search"),
                delta(0, "input_json_delta", partial_json='{"query":"q"}'),
                stop(0),
                block(
                    1,
                    "web_search_tool_result",
                    tool_use_id="srvtoolu_1",
                    content=[
                        {
                            "type": "web_search_result",
                            "url": "https://example.org/a",
                            "title": "A",
                            "encrypted_content": "…",
                        }
                    ],
                ),
                stop(1),
                {"type": "message_stop"},
            ]
        )
    )
    assert types(chunks)[2:-2] == [
        "tool-input-start",
        "tool-input-delta",
        "tool-input-available",
        "tool-output-available",
        "source-url",
    ]
    assert all(c["providerExecuted"] for c in chunks if c["type"] in {
        "tool-input-start", "tool-input-available", "tool-output-available"
    })  # fmt: skip


def ran(kind: str, content: Any, **facts: Any) -> list[dict[str, Any]]:
    """What comes of the result of a tool that Anthropic ran itself."""
    result = block(0, kind, tool_use_id="t", content=content, **facts)
    events = [result, stop(0), {"type": "message_stop"}]
    return list(from_anthropic(events))[2:-2]


STDOUT = {"type": "code_execution_result", "stdout": "4", "return_code": 0}
FETCHED = {
    "type": "web_fetch_result",
    "url": "https://example.org/a",
    "content": {"title": "A", "source": {"type": "text", "data": "a" * 100_000}},
}


@pytest.mark.parametrize(
    ("kind", "content", "output"),
    [
        ("mcp_tool_result", [{"type": "text", "text": "4"}], None),
        ("mcp_tool_result", "4", None),
        ("code_execution_tool_result", STDOUT, None),
        ("bash_code_execution_tool_result", STDOUT, None),
        ("web_fetch_tool_result", FETCHED,
         {"url": "https://example.org/a", "title": "A"}),
    ],
)  # fmt: skip
def test_what_anthropic_ran_itself_is_an_output(
    kind: str, content: Any, output: Any
) -> None:
    assert ran(kind, content, is_error=False) == [
        {
            "type": "tool-output-available",
            "toolCallId": "t",
            "output": output or content,
            "providerExecuted": True,
        }
    ]


@pytest.mark.parametrize(
    ("kind", "content", "facts", "says"),
    [
        ("web_search_tool_result", {"error_code": "max_uses_exceeded"}, {},
         "max_uses_exceeded"),
        ("bash_code_execution_tool_result", {"error_code": "unavailable"}, {},
         "unavailable"),
        ("mcp_tool_result", [{"type": "text", "text": "no such page"}],
         {"is_error": True}, "no such page"),
        ("mcp_tool_result", "x" * 99_999, {"is_error": True}, "x" * 500),
        ("mcp_tool_result", [], {"is_error": True}, "failed"),
    ],
)  # fmt: skip
def test_what_failed_where_anthropic_ran_it_is_an_error_of_that_tool(
    kind: str, content: Any, facts: dict[str, Any], says: str
) -> None:
    assert ran(kind, content, **facts) == [
        {
            "type": "tool-output-error",
            "toolCallId": "t",
            "errorText": says,
            "providerExecuted": True,
        }
    ]


def test_the_librarys_objects_in_a_result_are_plain() -> None:
    given = [BetaTextBlock(type="text", text="4")]
    (chunk,) = ran("mcp_tool_result", given)
    assert chunk["output"] == [{"type": "text", "text": "4"}]


class Unwritable:
    def to_dict(self) -> Any:
        raise TypeError("of the library's own")


@pytest.mark.parametrize(
    "output",
    [
        {"stdout": "x" * 28_000},
        # As a chunk's, one deeper than a chunk may be.
        json.loads("[" * MAX_DEPTH + "]" * MAX_DEPTH),
        Unwritable(),
    ],
)
def test_a_providers_output_that_fits_no_chunk_is_null(output: Any) -> None:
    (chunk,) = ran("code_execution_tool_result", output)
    assert (chunk["type"], chunk["output"]) == ("tool-output-available", None)
    encode(chunk)


def test_bedrock_becomes_reasoning_text_and_tool_also_from_the_whole_response() -> None:
    chunks = list(from_bedrock(BEDROCK, message_id="m"))
    assert said(chunks, "reasoning") == "Hm."
    assert said(chunks) == "Hello"
    tool = next(c for c in chunks if c["type"] == "tool-input-available")
    assert (tool["toolCallId"], tool["input"]) == ("tooluse_1", {"city": "Kiel"})
    assert chunks[-1]["finishReason"] == "tool-calls"
    # `metadata` comes behind `messageStop`.
    assert chunks[-1]["messageMetadata"]["usage"]["totalTokens"] == 12
    response = {"stream": iter(BEDROCK), "ResponseMetadata": {}}
    assert list(from_bedrock(response, message_id="m")) == chunks


def grounded(status: str, *content: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A tool that Bedrock runs itself: its call, and what it gave."""
    use = {"toolUseId": "t", "name": "nova_grounding", "type": "server_tool_use"}
    result = {"toolUseId": "t", "type": "nova_grounding_result", "status": status}
    begun = {"toolResult": result}
    deltas = [{"delta": {"toolResult": one}} for one in content]
    return [
        {"contentBlockStart": {"contentBlockIndex": 0, "start": {"toolUse": use}}},
        {"contentBlockStop": {"contentBlockIndex": 0}},
        {"contentBlockStart": {"contentBlockIndex": 1, "start": begun}},
        *({"contentBlockDelta": {"contentBlockIndex": 1, **one}} for one in deltas),
        {"contentBlockStop": {"contentBlockIndex": 1}},
        {"messageStop": {"stopReason": "end_turn"}},
    ]


def test_what_bedrock_ran_itself_is_an_output_and_not_the_jobs_to_run() -> None:
    message = Answer("m")
    events = grounded(
        "success", [{"text": "It "}], [{"text": "is so."}, {"json": {"a": 1}}]
    )
    chunks = list(from_bedrock(events, answer=message))
    assert message.tool_calls == []
    assert types(chunks)[2:] == [
        "tool-input-start",
        "tool-input-available",
        "tool-output-available",
    ]
    assert all(chunk["providerExecuted"] for chunk in chunks[2:])
    assert chunks[-1]["output"] == [{"text": "It is so."}, {"json": {"a": 1}}]


def test_what_failed_where_bedrock_ran_it_is_an_error_of_that_tool() -> None:
    chunks = list(from_bedrock(grounded("error", [{"text": "no net"}])))
    error = next(c for c in chunks if c["type"] == "tool-output-error")
    assert (error["toolCallId"], error["errorText"]) == ("t", "no net")
    assert error["providerExecuted"]


# ---- what holds for all ------------------------------------------------------------


@pytest.mark.parametrize(("convert", "events"), STREAMS)
def test_a_message_always_has_an_id_and_ends_with_finish(
    convert: Any, events: list[Any]
) -> None:
    """A replayed `start` without `messageId` shows the answer a second time."""
    chunks = list(convert(events))
    assert chunks[0]["type"] == "start"
    assert chunks[0]["messageId"]
    assert types(chunks)[-2:] == ["finish-step", "finish"]
    assert next(convert(events))["messageId"] != chunks[0]["messageId"]


@pytest.mark.parametrize(("convert", "events"), STREAMS)
def test_objects_give_what_dicts_give(convert: Any, events: list[Any]) -> None:
    assert list(convert(as_object(events), message_id="m")) == list(
        convert(events, message_id="m")
    )


@pytest.mark.parametrize(("convert", "events"), STREAMS)
async def test_async_streams_give_what_plain_ones_give(
    convert: Any, events: list[Any]
) -> None:
    async def stream() -> AsyncIterator[Any]:
        for event in events:
            yield event

    chunks = [chunk async for chunk in convert(stream(), message_id="m")]
    assert chunks == list(convert(events, message_id="m"))


@pytest.mark.parametrize(("convert", "events"), STREAMS)
def test_every_part_that_begins_ends_before_its_step_does(
    convert: Any, events: list[Any]
) -> None:
    open_parts: set[str] = set()
    for chunk in convert(events):
        kind = chunk["type"]
        if kind.endswith("-start"):
            part = chunk.get("id") or chunk["toolCallId"]
            assert part not in open_parts
            open_parts.add(part)
        elif kind in ("text-end", "reasoning-end"):
            open_parts.remove(chunk["id"])
        elif kind == "tool-input-available":
            open_parts.remove(chunk["toolCallId"])
        elif kind.endswith("-delta"):
            assert (chunk.get("id") or chunk["toolCallId"]) in open_parts
        elif kind == "finish-step":
            assert not open_parts


@pytest.mark.parametrize(("convert", "events"), STREAMS[:-1])
def test_a_stream_that_breaks_off_is_an_error_and_never_a_finish(
    convert: Any, events: list[Any]
) -> None:
    """Truncated text that looks complete: resumable-stream#47, recoupable#1924."""
    got = []
    with pytest.raises(UpstreamError, match="broke off"):
        for chunk in convert(events[:-3]):
            got.append(chunk)  # noqa: PERF402 - what came before the error counts
    assert "finish" not in types(got)


@pytest.mark.parametrize(
    ("convert", "event"),
    [
        (from_openai, {"type": "error", "message": "overloaded"}),
        (
            from_openai,
            {
                "type": "response.failed",
                "response": {"error": {"message": "overloaded"}},
            },
        ),
        (from_openai, {"error": {"message": "overloaded"}}),
        (
            from_anthropic,
            {
                "type": "error",
                "error": {"type": "overloaded_error", "message": "overloaded"},
            },
        ),
        (from_bedrock, {"throttlingException": {"message": "overloaded"}}),
    ],
)
def test_an_error_in_the_stream_is_raised(convert: Any, event: Any) -> None:
    with pytest.raises(UpstreamError, match="overloaded"):
        list(convert([event]))


def test_a_tool_input_that_is_no_json_is_an_error_of_that_tool_only() -> None:
    answer = Answer("m")
    events = [
        completion(function(0, "a", "f", '{"x":')),
        completion({}, "tool_calls"),
    ]
    chunks = list(from_openai(events, answer=answer))
    assert chunks[-1]["type"] == "tool-input-error"
    assert chunks[-1]["input"] == '{"x":'
    assert answer.tool_calls[0].error


# ---- what no chunk holds -----------------------------------------------------------

# Escaped, as half an emoji is, a character has six bytes.
LARGE = "Wort " * 8_000 + "\ud83d" * 5_000


def called(*texts: str) -> list[dict[str, Any]]:
    """A call of the tool `write` for each text of an input."""
    calls = [function(at, f"c{at}", "write", text) for at, text in enumerate(texts)]
    return [*map(completion, calls), completion({}, "tool_calls")]


def fitting(chunks: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The chunks, each of which a producer takes."""
    taken = list(chunks)
    for chunk in taken:
        assert size(encode(chunk)) <= MAX_CHUNKS_BYTES, chunk["type"]
    return taken


def test_a_delta_that_fits_no_chunk_comes_as_several() -> None:
    text = completion({"content": LARGE})
    thought = completion({"reasoning_content": LARGE})
    chunks = fitting(from_openai([thought, text, completion({}, "stop")]))
    assert said(chunks) == said(chunks, "reasoning") == LARGE
    assert "".join(c["delta"] for c in fitting(merged(chunks)) if "delta" in c) == (
        LARGE * 2
    )


def test_provider_metadata_that_fits_no_chunk_is_left_out() -> None:
    def thinking(signature: str) -> list[Any]:
        return [
            block(0, "thinking", thinking=""),
            delta(0, "thinking_delta", thinking="Hm."),
            delta(0, "signature_delta", signature=signature),
            stop(0),
            {"type": "message_stop"},
        ]

    chunks = fitting(from_anthropic(thinking("A" * 40_000)))
    assert {"type": "reasoning-end", "id": "reasoning-1"} in chunks
    chunks = fitting(from_anthropic(thinking("A")))
    assert next(c for c in chunks if c["type"] == "reasoning-end")["providerMetadata"]


@pytest.fixture(scope="module")
def read() -> Iterator[Read]:
    with sdk_reader() as ask:
        yield ask


def parts_of(read: Read, chunks: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What each major of the SDK makes of the tools, which has to be the same."""
    found = [read(major, [fitting(chunks)])[0] for major in MAJORS]
    assert all(one["errors"] == [] for one in found)
    parts = [one["message"]["parts"] for one in found]
    facts = ("toolCallId", "state", "input", "output", "errorText", "providerExecuted")
    old, middle, new = (
        [{fact: part.get(fact) for fact in facts} for part in of if facts[0] in part]
        for of in parts
    )
    assert old == middle == new
    return {part["toolCallId"]: part for part in new}


def test_a_tools_input_that_fits_no_chunk_is_the_jobs_and_the_page_has_its_deltas(
    read: Read,
) -> None:
    given = {"path": "a.py", "content": "x = 1\n" * 6_000}
    message = Answer("m")
    chunks = list(from_openai(called(json.dumps(given)), answer=message))
    (call,) = message.tool_calls
    assert call.input == given
    chunks += [message.tool_output(call, "written"), *message.finish()]
    part = parts_of(read, chunks)["c0"]
    assert part["state"] == "output-available"
    assert (part["input"], part["output"]) == (given, "written")


def test_a_pages_tool_whose_input_fits_no_chunk_is_an_error_and_does_not_hang(
    read: Read,
) -> None:
    given = {"content": "x = 1\n" * 6_000}
    deep = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    chunks = list(from_openai(called(json.dumps(given), "{}", deep), message_id="m"))
    assert types(chunks)[-4:] == [*["tool-output-error"] * 2, "finish-step", "finish"]
    parts = parts_of(read, chunks)
    assert parts["c0"]["state"] == parts["c2"]["state"] == "output-error"
    assert parts["c0"]["input"] == given
    assert "too large" in parts["c0"]["errorText"]
    assert parts["c1"]["state"] == "input-available"


def test_a_providers_tool_whose_input_fits_no_chunk_has_its_output(read: Read) -> None:
    """Or an error, where there is none by the end of the step."""
    use = block(0, "server_tool_use", id="t", name="code_execution")
    text = json.dumps({"code": "x = 1\n" * 6_000})
    events = [use, delta(0, "input_json_delta", partial_json=text), stop(0)]
    result = block(1, "code_execution_tool_result", tool_use_id="t", content={"a": 1})
    over = {"type": "message_stop"}
    part = parts_of(read, list(from_anthropic([*events, result, stop(1), over])))["t"]
    assert (part["state"], part["output"]) == ("output-available", {"a": 1})
    part = parts_of(read, list(from_anthropic([*events, over])))["t"]
    assert (part["state"], part["providerExecuted"]) == ("output-error", True)


def test_a_tools_input_that_is_no_json_and_fits_no_chunk_is_an_error_of_that_tool(
    read: Read,
) -> None:
    message = Answer("m")
    chunks = list(from_openai(called('{"x":"' + "y" * 30_000), answer=message))
    chunks += message.finish()
    assert message.tool_calls[0].error
    part = parts_of(read, chunks)["c0"]
    assert (part["state"], part["errorText"]) == (
        "output-error",
        message.tool_calls[0].error,
    )


def test_steps_with_tools_make_one_message() -> None:
    answer = Answer("m1", metadata={"model": "m"})
    chunks = list(from_anthropic(ANTHROPIC, answer=answer))
    (call,) = answer.tool_calls
    assert (call.id, call.name, call.input) == ("toolu_1", "weather", {"city": "Kiel"})
    chunks.append(answer.tool_output(call, {"sky": "grey"}))
    chunks += from_text(["It is grey."], answer=answer)
    chunks += answer.finish({"cost": 1})

    kinds = types(chunks)
    assert kinds.count("start") == 1
    assert kinds.count("start-step") == kinds.count("finish-step") == 2
    # The output belongs to the step that called.
    assert kinds.index("tool-output-available") < kinds.index("finish-step")
    assert chunks[0]["messageMetadata"] == {"model": "m"}
    assert chunks[-1]["messageMetadata"]["cost"] == 1
    assert chunks[-1]["messageMetadata"]["usage"]["totalTokens"] == 65
    ids = [c["id"] for c in chunks if c["type"] == "text-start"]
    assert len(set(ids)) == len(ids) == 2
    json.dumps(chunks, allow_nan=False)


def test_a_finished_message_takes_no_step() -> None:
    answer = Answer("m")
    answer.finish()
    with pytest.raises(Invalid, match="finished"):
        list(from_text(["more"], answer=answer))


def test_a_message_without_an_id_is_refused() -> None:
    with pytest.raises(Invalid, match="message_id"):
        Answer("")
