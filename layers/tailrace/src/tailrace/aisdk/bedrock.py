"""Amazon Bedrock's `converse_stream`: its response, or the `stream` inside of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .answer import Answer, Chunk, UpstreamError
from .shape import get, items, text

_FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool-calls",
    "guardrail_intervened": "content-filter",
    "content_filtered": "content-filter",
}
_ERRORS = (
    "internalServerException",
    "modelStreamErrorException",
    "validationException",
    "throttlingException",
    "serviceUnavailableException",
)


class Bedrock:
    """Reads one step's events."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._signatures: dict[Any, str] = {}
        self._results: dict[Any, tuple[Any, list[Any]]] = {}
        self.done = False

    def feed(self, event: Any) -> Iterator[Chunk]:
        """Yield the chunks that an event gives rise to."""
        answer = self._answer
        for name in _ERRORS:
            if get(event, name) is not None:
                raise UpstreamError(text(event, name, "message") or name)
        start = get(event, "contentBlockStart")
        if get(start, "start", "toolUse") is not None:
            tool = get(start, "start", "toolUse")
            yield from answer.tool(
                text(tool, "toolUseId"),
                text(tool, "name"),
                get(start, "contentBlockIndex"),
                provider_executed=text(tool, "type") == "server_tool_use",
            )
        result = get(start, "start", "toolResult")
        if result is not None:
            self._results[get(start, "contentBlockIndex")] = result, []
        block = get(event, "contentBlockDelta")
        if block is not None:
            yield from self._delta(get(block, "delta"), get(block, "contentBlockIndex"))
        stop = get(event, "contentBlockStop")
        if stop is not None:
            key = get(stop, "contentBlockIndex")
            signature = self._signatures.pop(key, None)
            metadata = {"bedrock": {"signature": signature}} if signature else None
            yield from answer.end_part(key, metadata)
            yield from answer.end_tool(key)
            if key in self._results:
                yield self._result(*self._results.pop(key))
        reason = get(event, "messageStop", "stopReason")
        if reason:
            answer.finish_reason = _FINISH.get(reason, "other")
            self.done = True
        usage = get(event, "metadata", "usage")
        if usage is not None:
            answer.used(
                inputTokens=get(usage, "inputTokens"),
                outputTokens=get(usage, "outputTokens"),
                totalTokens=get(usage, "totalTokens"),
                cachedInputTokens=get(usage, "cacheReadInputTokens"),
            )

    def _delta(self, delta: Any, key: Any) -> Iterator[Chunk]:
        answer = self._answer
        yield from answer.text(text(delta, "text"), key)
        reasoning = get(delta, "reasoningContent")
        yield from answer.reasoning(text(reasoning, "text"), key)
        signature = text(reasoning, "signature")
        if signature:
            self._signatures[key] = self._signatures.get(key, "") + signature
        yield from answer.tool_input(text(delta, "toolUse", "input"), key)
        if key in self._results:
            for piece in items(delta, "toolResult"):
                _add(self._results[key][1], piece)
        citation = get(delta, "citation")
        url = text(citation, "location", "web", "url")
        if url:
            yield from answer.source(url, text(citation, "title"))
        elif text(citation, "title"):
            yield from answer.document(text(citation, "title"), "text/plain")

    def _result(self, result: Any, content: list[Any]) -> Chunk:
        """What a tool that the provider ran itself gave."""
        id = text(result, "toolUseId")
        if text(result, "status") == "error":
            said = "".join(text(one, "text") for one in content)
            return self._answer.own_error(id, said)
        return self._answer.own_output(id, content)


def _add(content: list[Any], piece: Any) -> None:
    said = get(piece, "text")
    if said is None:
        content.append({"json": get(piece, "json")})
    elif content and "text" in content[-1]:
        content[-1]["text"] += said
    else:
        content.append({"text": said})
