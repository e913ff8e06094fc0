"""Anthropic's Messages stream."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from .answer import Answer, Chunk, UpstreamError
from .shape import get, items, text

_FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool-calls",
    "refusal": "content-filter",
}


class Anthropic:
    """Reads one step's events. Its library's helper events (`text`, `input_json`, …)
    repeat what others say, and are passed over."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._signatures: dict[Any, str] = {}
        # The inputs that calls begin with, until a piece comes in their place.
        self._inputs: dict[Any, str] = {}
        self._usage: dict[str, Any] = {}
        self.done = False

    def feed(self, event: Any) -> Iterator[Chunk]:
        """Yield the chunks that an event gives rise to."""
        answer = self._answer
        kind, key = text(event, "type"), get(event, "index")
        if kind == "message_start":
            self._note(get(event, "message", "usage"))
        elif kind == "content_block_start":
            yield from self._block(get(event, "content_block"), key)
        elif kind == "content_block_delta":
            yield from self._delta(get(event, "delta"), key)
        elif kind == "content_block_stop":
            signature = self._signatures.pop(key, None)
            metadata = {"anthropic": {"signature": signature}} if signature else None
            yield from answer.end_part(key, metadata)
            yield from answer.tool_input(self._inputs.pop(key, ""), key)
            yield from answer.end_tool(key)
        elif kind == "message_delta":
            reason = get(event, "delta", "stop_reason")
            if reason:
                answer.finish_reason = _FINISH.get(reason, "other")
            self._note(get(event, "usage"))
        elif kind == "message_stop":
            answer.used(**self._usage)
            self.done = True
        elif kind == "error":
            message = text(event, "error", "message")
            raise UpstreamError(message or "the model's stream reported an error")

    def _block(self, block: Any, key: Any) -> Iterator[Chunk]:
        answer = self._answer
        kind = text(block, "type")
        if kind == "text":
            yield from answer.text(text(block, "text"), key)
        elif kind == "thinking":
            yield from answer.reasoning(text(block, "thinking"), key)
        elif kind in ("tool_use", "server_tool_use", "mcp_tool_use"):
            yield from answer.tool(
                text(block, "id"),
                text(block, "name"),
                key,
                provider_executed=kind != "tool_use",
            )
            # All of it, where code that Anthropic runs makes the call.
            given = get(block, "input")
            if isinstance(given, Mapping) and given:
                self._inputs[key] = json.dumps(given, ensure_ascii=False)
        elif kind.endswith("_tool_result"):
            yield from self._result(block, kind)

    def _result(self, block: Any, kind: str) -> Iterator[Chunk]:
        """What a tool that the provider ran itself gave: an output, or an error; of a
        search, its sources, too."""
        answer, id = self._answer, text(block, "tool_use_id")
        content = get(block, "content")
        code = text(content, "error_code")
        if code or get(block, "is_error"):
            said = [text(one, "text") for one in items(content)]
            yield answer.own_error(id, code or text(content) or "".join(said))
        elif kind == "web_search_tool_result":
            found = [
                {"url": text(one, "url"), "title": text(one, "title")}
                for one in items(content)
            ]
            yield answer.own_output(id, found)
            for one in found:
                yield from answer.source(one["url"], one["title"])
        elif kind == "web_fetch_tool_result":  # without the page
            title = text(content, "content", "title")
            yield answer.own_output(id, {"url": text(content, "url"), "title": title})
        else:
            yield answer.own_output(id, content)

    def _delta(self, delta: Any, key: Any) -> Iterator[Chunk]:
        kind = text(delta, "type")
        if kind == "text_delta":
            yield from self._answer.text(text(delta, "text"), key)
        elif kind == "thinking_delta":
            yield from self._answer.reasoning(text(delta, "thinking"), key)
        elif kind == "signature_delta":
            known = self._signatures.get(key, "")
            self._signatures[key] = known + text(delta, "signature")
        elif kind == "input_json_delta":
            piece = text(delta, "partial_json")
            if piece:
                self._inputs.pop(key, None)
            yield from self._answer.tool_input(piece, key)
        elif kind == "citations_delta":
            yield from self._cite(get(delta, "citation"))

    def _cite(self, citation: Any) -> list[Chunk]:
        if text(citation, "url"):
            return self._answer.source(text(citation, "url"), text(citation, "title"))
        title = text(citation, "document_title")
        return self._answer.document(title, "text/plain") if title else []

    def _note(self, usage: Any) -> None:
        # `message_delta` says the same numbers again, as they are by then.
        for ours, theirs in (
            ("inputTokens", "input_tokens"),
            ("outputTokens", "output_tokens"),
            ("cachedInputTokens", "cache_read_input_tokens"),
        ):
            number = get(usage, theirs)
            if number is not None:
                self._usage[ours] = number
