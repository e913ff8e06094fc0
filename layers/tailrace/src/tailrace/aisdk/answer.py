"""One assistant message as it comes about: parts that begin, grow and end.

Pure. It knows the AI SDK's chunks and no provider; the readers of `openai`, `anthropic`
and `bedrock` call it. Every method returns the chunks that its call gives rise to.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .. import chunks
from ..chunks import MAX_CHUNKS_BYTES
from ..errors import Invalid
from ..records import MAX_MESSAGE_CHARS

Chunk = dict[str, Any]
"""A `UIMessageChunk`."""

DELTA_CHARS = 4_000
"""What a delta has at most: also escaped, at six bytes a character, it fits a chunk."""

_NO_JSON = "The model's input for this tool is no JSON."
_TOO_LARGE = "The model's input for this tool is too large for the page."


class UpstreamError(Exception):
    """The model's stream reported an error or broke off. Its text may quote prompts:
    whoever watches is shown the producer's fixed text instead."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool that the model wants called, by the job or by the page. `input` is what
    its JSON says; None, with `error`, where the model wrote none."""

    id: str
    name: str
    input: Any
    error: str | None = None


@dataclass(slots=True)
class _Tool:
    id: str
    name: str
    text: str = ""
    provider_executed: bool = False


class Answer:
    """A message being made. `message_id` is in its `start`, without which a replay
    would be shown as a second message; `metadata` goes with it.

    Steps follow each other; the chunks that end one are held back until the next begins
    or `finish`, because the outputs of its tools belong into it.

    A tool's input that fits no chunk is whole in `tool_calls` alone: the page has it by
    its deltas. So a tool that has no output by the end of its step is an error there,
    because the page was never told to run it.

    A job calls `begin_step`, `finish`, `tool_output` and `tool_error`; whoever reads a
    model's events calls the others, which tell the parts of a step apart by `key`.
    """

    def __init__(
        self, message_id: str, *, metadata: Mapping[str, Any] | None = None
    ) -> None:
        if not isinstance(message_id, str) or not message_id:
            raise Invalid("message_id: must be text, not empty")
        self.message_id = message_id
        self.tool_calls: list[ToolCall] = []
        """What the step before left to be called."""
        self.finish_reason = "other"
        """Of the latest step."""
        self.usage: dict[str, int] = {}
        """Tokens of all steps together."""
        self._metadata = dict(metadata or {})
        self._started = False
        self._in_step = False
        self._finished = False
        self._parts = 0
        self._open: dict[tuple[str, Any], str] = {}
        self._tools: dict[Any, _Tool] = {}
        # Whose input fitted no chunk, until there is an output.
        self._too_large: dict[str, _Tool] = {}
        self._sources = 0

    # ---- the message -----------------------------------------------------------------

    def begin_step(self) -> list[Chunk]:
        """Begin the message, if this is its first step, and a step."""
        if self._finished:
            raise Invalid("the message is finished")
        out: list[Chunk] = []
        if not self._started:
            self._started = True
            out.append(_with_metadata({"type": "start"}, self._metadata))
            out[0]["messageId"] = self.message_id
        out += self._end_step()
        self._in_step = True
        self.tool_calls = []
        out.append({"type": "start-step"})
        return out

    def finish(self, metadata: Mapping[str, Any] | None = None) -> list[Chunk]:
        """End the message, with the usage of all its steps and `metadata`."""
        out = [] if self._started else self.begin_step()
        out += self._end_step()
        self._finished = True
        usage = {"usage": self.usage} if self.usage else {}
        finish = {"type": "finish", "finishReason": self.finish_reason}
        out.append(_with_metadata(finish, {**usage, **(metadata or {})}))
        return out

    def tool_output(self, call: ToolCall | str, output: Any) -> Chunk:
        """Return the chunk with what a tool answered. What fits no chunk, `write`
        refuses as `TooLarge`: then write less of it, or a `tool_error`."""
        return self._answered(call, "available", output=output)

    def tool_error(self, call: ToolCall | str, message: str) -> Chunk:
        """Return the chunk that says that a tool failed; `message` is shown."""
        return self._answered(call, "error", errorText=message)

    def own_output(self, id: str, output: Any) -> Chunk:
        """Return the chunk with what a tool of the provider's own answered: null where
        it fits no chunk, because the job cannot make it fit."""
        own = {"providerExecuted": True}
        # Of pydantic, or whatever `to_dict` meets.
        with contextlib.suppress(Exception):
            answered = {**self.tool_output(id, chunks.plain(output)), **own}
            if _fits(answered):
                return answered
        return {**self.tool_output(id, None), **own}

    def own_error(self, id: str, message: str) -> Chunk:
        """Return the chunk that says that a tool of the provider's own failed."""
        failed = self.tool_error(id, message[:MAX_MESSAGE_CHARS] or "failed")
        return {**failed, "providerExecuted": True}

    # ---- parts; `key` is whatever the provider tells them apart by -------------------

    def text(self, delta: str, key: Any = None) -> list[Chunk]:
        """Add text."""
        return self._grow("text", delta, key)

    def reasoning(self, delta: str, key: Any = None) -> list[Chunk]:
        """Add what the model shows of its reasoning."""
        return self._grow("reasoning", delta, key)

    def end_part(
        self, key: Any = None, metadata: Mapping[str, Any] | None = None
    ) -> list[Chunk]:
        """End the text and the reasoning of a key, with provider metadata where that
        fits a chunk."""
        out: list[Chunk] = []
        for kind in ("reasoning", "text"):
            opened = self._open.pop((kind, key), None)
            if opened:
                end: Chunk = {"type": f"{kind}-end", "id": opened}
                more = {"providerMetadata": dict(metadata)} if metadata else {}
                out.append({**end, **more} if _fits({**end, **more}) else end)
        return out

    def end_parts(self) -> list[Chunk]:
        """End every text and reasoning that is open."""
        return [chunk for _, key in list(self._open) for chunk in self.end_part(key)]

    def tool(
        self, id: str, name: str, key: Any = None, *, provider_executed: bool = False
    ) -> list[Chunk]:
        """Begin a tool call."""
        self._tools[key] = _Tool(id, name, provider_executed=provider_executed)
        start: Chunk = {"type": "tool-input-start", "toolCallId": id, "toolName": name}
        if provider_executed:
            start["providerExecuted"] = True
        return [start]

    def tool_input(self, delta: str, key: Any = None) -> list[Chunk]:
        """Add to the JSON text of a tool call's input."""
        tool = self._tools.get(key)
        if tool is None or not delta:
            return []
        tool.text += delta
        return [
            {
                "type": "tool-input-delta",
                "toolCallId": tool.id,
                "inputTextDelta": piece,
            }
            for piece in _pieces(delta)
        ]

    def end_tool(self, key: Any = None) -> list[Chunk]:
        """End a tool call: its input is whole."""
        tool = self._tools.pop(key, None)
        if tool is None:
            return []
        chunk: Chunk = {
            "type": "tool-input-available",
            "toolCallId": tool.id,
            "toolName": tool.name,
        }
        if tool.provider_executed:
            chunk["providerExecuted"] = True
        error = None
        try:
            chunk["input"] = json.loads(tool.text or "{}", parse_constant=_no_constant)
        except (ValueError, RecursionError):
            error = _NO_JSON
            chunk.update(type="tool-input-error", input=tool.text, errorText=error)
        if not tool.provider_executed:
            given = None if error else chunk["input"]
            self.tool_calls.append(ToolCall(tool.id, tool.name, given, error))
        if _fits(chunk):
            return [chunk]
        if error:
            return [self._failed(tool, error)]
        self._too_large[tool.id] = tool
        return []

    def end_tools(self) -> list[Chunk]:
        """End every tool call that is open."""
        return [chunk for key in list(self._tools) for chunk in self.end_tool(key)]

    def source(self, url: str, title: str | None = None) -> list[Chunk]:
        """Add a source, numbered within the message."""
        self._sources += 1
        chunk: Chunk = {
            "type": "source-url",
            "sourceId": f"source-{self._sources}",
            "url": url,
        }
        if title:
            chunk["title"] = title
        return [chunk]

    def document(self, title: str, media_type: str) -> list[Chunk]:
        """Add a document as a source."""
        self._sources += 1
        return [
            {
                "type": "source-document",
                "sourceId": f"source-{self._sources}",
                "mediaType": media_type,
                "title": title,
            }
        ]

    def used(self, **tokens: Any) -> None:
        """Count tokens of a step: `inputTokens`, `outputTokens`, `totalTokens`,
        `reasoningTokens`, `cachedInputTokens`. What is not a number is left out."""
        step = {name: number for name, number in tokens.items() if type(number) is int}
        if "totalTokens" not in step and {"inputTokens", "outputTokens"} <= step.keys():
            step["totalTokens"] = step["inputTokens"] + step["outputTokens"]
        for name, number in step.items():
            self.usage[name] = self.usage.get(name, 0) + number

    def reasoning_open(self, key: Any = None) -> bool:
        """Whether reasoning of that key goes on."""
        return ("reasoning", key) in self._open

    def tool_open(self, key: Any = None) -> bool:
        """Whether a tool call of that key goes on."""
        return key in self._tools

    def tool_id(self, key: Any = None) -> str | None:
        """The id of the tool call of that key that goes on."""
        tool = self._tools.get(key)
        return None if tool is None else tool.id

    def tool_whole(self, key: Any = None) -> bool:
        """Whether a tool call of that key goes on whose input is whole by now."""
        tool = self._tools.get(key)
        try:
            return tool is not None and isinstance(json.loads(tool.text), dict)
        except (ValueError, RecursionError):
            return False

    # ---- inside ----------------------------------------------------------------------

    def _grow(self, kind: str, delta: str, key: Any) -> list[Chunk]:
        if not delta:
            return []
        out: list[Chunk] = []
        if (kind, key) not in self._open:
            self._parts += 1
            id = f"{kind}-{self._parts}"
            self._open[(kind, key)] = id
            out.append({"type": f"{kind}-start", "id": id})
        id = self._open[(kind, key)]
        out += [
            {"type": f"{kind}-delta", "id": id, "delta": piece}
            for piece in _pieces(delta)
        ]
        return out

    def _answered(self, call: ToolCall | str, how: str, **what: Any) -> Chunk:
        id = call if isinstance(call, str) else call.id
        self._too_large.pop(id, None)
        return {"type": f"tool-output-{how}", "toolCallId": id, **what}

    def _failed(self, tool: _Tool, message: str) -> Chunk:
        failed = self.own_error if tool.provider_executed else self.tool_error
        return failed(tool.id, message)

    def _end_step(self) -> list[Chunk]:
        if not self._in_step:
            return []
        self._in_step = False
        out = [*self.end_parts(), *self.end_tools()]
        out += [self._failed(one, _TOO_LARGE) for one in [*self._too_large.values()]]
        return [*out, {"type": "finish-step"}]


def _with_metadata(chunk: Chunk, metadata: Mapping[str, Any]) -> Chunk:
    return {**chunk, "messageMetadata": dict(metadata)} if metadata else chunk


def _fits(chunk: Chunk) -> bool:
    """Whether a producer takes it."""
    try:
        return chunks.size(chunks.encode(chunk)) <= MAX_CHUNKS_BYTES
    except Invalid:
        return False


def _pieces(delta: str) -> Iterator[str]:
    """Cut a delta into what chunks hold."""
    for at in range(0, len(delta), DELTA_CHARS):
        yield delta[at : at + DELTA_CHARS]


def _no_constant(name: str) -> Any:
    raise ValueError(name)
