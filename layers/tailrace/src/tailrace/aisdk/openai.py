"""OpenAI's two streams: Chat Completions and Responses. Many others speak the first."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from ..chunks import plain
from .answer import Answer, Chunk, UpstreamError
from .shape import get, items, text

_FINISH = {
    "stop": "stop",
    "length": "length",
    "content_filter": "content-filter",
    "tool_calls": "tool-calls",
    "function_call": "tool-calls",
    "max_output_tokens": "length",
}
# The tools that OpenAI runs itself, and what of each says what it was to do. What came
# of it is in `_OUTPUTS`; an image is too large to be shown.
_OWN_TOOLS = {
    "web_search_call": ("web_search", ("action",)),
    "file_search_call": ("file_search", ("queries",)),
    "code_interpreter_call": ("code_interpreter", ("code",)),
    "image_generation_call": ("image_generation", ()),
    "mcp_call": ("mcp", ("server_label", "name", "arguments")),
}
_OUTPUTS = ("results", "outputs", "output")
# The calls that come with their input as it grows.
_GROWING = ("function_call", "custom_tool_call")
# The others that the job has to answer, and what of each says what to do.
_JOBS_TOOLS = {
    "computer_call": ("computer", ("action", "actions", "pending_safety_checks")),
    "local_shell_call": ("local_shell", ("action",)),
    "shell_call": ("shell", ("action",)),
    "apply_patch_call": ("apply_patch", ("operation",)),
    "tool_search_call": ("tool_search", ("arguments",)),
    "mcp_approval_request": ("mcp_approval", ("server_label", "name", "arguments")),
}


class OpenAI:
    """Reads one step's events, of whichever of the two streams they are."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._last_tool: Any = None
        self._usage: dict[str, int] = {}
        # The calls of which pieces came; of others the input comes when they are done.
        self._grown: set[Any] = set()
        self.done = False

    def feed(self, event: Any) -> Iterator[Chunk]:
        """Yield the chunks that an event gives rise to."""
        kind = get(event, "type")
        if kind == "chunk":  # of the library's helper, which says all in others again
            return self._completion(get(event, "chunk"))
        if isinstance(kind, str):
            return self._response(kind, event)
        return self._completion(event)

    # ---- Chat Completions ------------------------------------------------------------

    def _completion(self, event: Any) -> Iterator[Chunk]:
        answer = self._answer
        if get(event, "error") is not None:
            raise UpstreamError(_message(event, "error"))
        usage = get(event, "usage")
        if usage is not None:
            self._used(
                inputTokens=get(usage, "prompt_tokens"),
                outputTokens=get(usage, "completion_tokens"),
                totalTokens=get(usage, "total_tokens"),
                reasoningTokens=get(
                    usage, "completion_tokens_details", "reasoning_tokens"
                ),
                cachedInputTokens=get(usage, "prompt_tokens_details", "cached_tokens"),
            )
        for choice in items(event, "choices"):
            if get(choice, "index"):
                continue
            delta = get(choice, "delta")
            # Not of OpenAI itself, but of those who speak its protocol.
            reasoning = text(delta, "reasoning_content") or text(delta, "reasoning")
            yield from answer.reasoning(reasoning)
            yield from self._said(text(delta, "content") or text(delta, "refusal"))
            for part in items(delta, "content"):
                yield from self._part(part)
            for note in items(delta, "annotations"):
                yield from self._annotation(note, get(note, "url_citation"))
            for call in items(delta, "tool_calls"):
                yield from self._tool_call(call, text(event, "id"))
            reason = get(choice, "finish_reason")
            if reason:
                yield from answer.end_parts()
                yield from answer.end_tools()
                answer.finish_reason = _FINISH.get(reason, "other")
                self.done = True

    def _used(self, **tokens: Any) -> None:
        """Count the usage so far, which some (vLLM, SGLang) say with every chunk."""
        step = {name: number for name, number in tokens.items() if type(number) is int}
        before, self._usage = self._usage, {**self._usage, **step}
        more = {name: number - before.get(name, 0) for name, number in step.items()}
        self._answer.used(**more)

    def _part(self, part: Any) -> Iterator[Chunk]:
        """Of Mistral, whose models that think make the content a list. What a part of
        another kind says is text, so that an answer is never whole without it."""
        thought = items(part, "thinking")
        reasoning = "".join(text(one, "text") for one in thought)
        yield from self._answer.reasoning(reasoning or text(part, "thinking"))
        yield from self._said(text(part) or text(part, "text") or text(part, "refusal"))

    def _said(self, said: str) -> Iterator[Chunk]:
        if said:
            if self._answer.reasoning_open():
                yield from self._answer.end_part()
            yield from self._answer.text(said)

    def _tool_call(self, call: Any, response: str) -> Iterator[Chunk]:
        answer = self._answer
        key = get(call, "index") or 0
        id, name = text(call, "id"), text(call, "function", "name")
        # Where all calls have one index (Gemini), it is the id that tells them apart;
        # some (NVIDIA, StepFun, Mistral) give none, or it comes late.
        known = answer.tool_id(key)
        if name and (known is None or (id and id != known)):
            yield from answer.end_parts()
            yield from answer.end_tool(key)
            # Calls may grow side by side: only what is whole ends with the next.
            if answer.tool_whole(self._last_tool):
                yield from answer.end_tool(self._last_tool)
            yield from answer.tool(id or f"{response}-{key}", name, key)
            self._last_tool = key
        yield from answer.tool_input(text(call, "function", "arguments"), key)

    # ---- Responses -------------------------------------------------------------------

    def _response(self, kind: str, event: Any) -> Iterator[Chunk]:
        answer = self._answer
        item = get(event, "item_id")
        if kind in ("response.output_text.delta", "response.refusal.delta"):
            yield from answer.text(text(event, "delta"), item)
        elif kind == "response.output_text.annotation.added":
            note = get(event, "annotation")
            yield from self._annotation(note, note)
        elif kind in (
            "response.reasoning_summary_text.delta",
            "response.reasoning_text.delta",
        ):
            key = (item, get(event, "summary_index") or 0)
            yield from answer.reasoning(text(event, "delta"), key)
        elif kind in (
            "response.reasoning_summary_part.done",
            "response.reasoning_text.done",
        ):
            yield from answer.end_part((item, get(event, "summary_index") or 0))
        elif kind == "response.output_item.added":
            yield from self._item_added(get(event, "item"))
        elif kind == "response.function_call_arguments.delta":
            yield from self._grow(text(event, "delta"), item)
        elif kind == "response.custom_tool_call_input.delta":
            # A text, which is JSON as well once it is in quotes.
            quote = "" if item in self._grown else '"'
            yield from self._grow(quote + _quoted(text(event, "delta")), item)
        elif kind == "response.output_item.done":
            yield from self._item_done(get(event, "item"))
        elif kind in ("response.completed", "response.incomplete"):
            yield from self._response_done(get(event, "response"))
        elif kind in ("error", "response.failed"):
            where = () if kind == "error" else ("response", "error")
            raise UpstreamError(_message(event, *where))

    def _item_added(self, item: Any) -> Iterator[Chunk]:
        answer, kind, id = self._answer, text(item, "type"), get(item, "id")
        if kind in _GROWING:
            yield from answer.tool(text(item, "call_id"), text(item, "name"), id)
        elif kind in _OWN_TOOLS:
            name, _ = _OWN_TOOLS[kind]
            yield from answer.tool(str(id), name, id, provider_executed=True)

    def _grow(self, piece: str, item: Any) -> list[Chunk]:
        if piece:
            self._grown.add(item)
        return self._answer.tool_input(piece, item)

    def _item_done(self, item: Any) -> Iterator[Chunk]:
        answer, kind, id = self._answer, text(item, "type"), get(item, "id")
        if kind == "message":
            yield from answer.end_part(id)
        elif kind in _GROWING:
            if not answer.tool_open(id):
                yield from self._item_added(item)
            if id not in self._grown:
                yield from answer.tool_input(_input(item), id)
            elif kind == "custom_tool_call":
                yield from answer.tool_input('"', id)
            self._grown.discard(id)
            yield from answer.end_tool(id)
        elif kind in _OWN_TOOLS:
            if answer.tool_open(id):
                _, asked = _OWN_TOOLS[kind]
                if said := _said(item, asked):
                    yield from answer.tool_input(_json(said), id)
                yield from self._end_own(item)
        elif kind in _JOBS_TOOLS:
            yield from self._whole_call(item, *_JOBS_TOOLS[kind])
        elif kind.endswith(("_call", "_request")):
            # Whoever has to answer it, an answer without it must not look whole.
            raise UpstreamError(f"the model's stream has a {kind}, which is not known")

    def _whole_call(
        self, item: Any, name: str, members: tuple[str, ...]
    ) -> Iterator[Chunk]:
        answer, id = self._answer, get(item, "id")
        own = _is_own(item)
        call = text(item, "call_id") or str(id)
        yield from answer.tool(call, name, id, provider_executed=own)
        yield from answer.tool_input(_json(_said(item, members)), id)
        if own:
            yield from self._end_own(item)
        else:
            yield from answer.end_tool(id)

    def _end_own(self, item: Any) -> Iterator[Chunk]:
        call, id = self._answer.tool_id(get(item, "id")), get(item, "id")
        yield from self._answer.end_tool(id)
        error, status = get(item, "error"), text(item, "status") or "completed"
        if error is None and status != "failed":
            output = {"status": status, **_said(item, _OUTPUTS)}
            yield self._answer.own_output(str(call), output)
            return
        said = [text(one, "text") for one in items(error, "content")]
        why = text(item, "error") or text(error, "message") or "".join(said)
        yield self._answer.own_error(str(call), why)

    def _response_done(self, response: Any) -> Iterator[Chunk]:
        answer = self._answer
        yield from answer.end_parts()
        yield from answer.end_tools()
        usage = get(response, "usage")
        answer.used(
            inputTokens=get(usage, "input_tokens"),
            outputTokens=get(usage, "output_tokens"),
            totalTokens=get(usage, "total_tokens"),
            reasoningTokens=get(usage, "output_tokens_details", "reasoning_tokens"),
            cachedInputTokens=get(usage, "input_tokens_details", "cached_tokens"),
        )
        cut = get(response, "incomplete_details", "reason")
        if cut:
            answer.finish_reason = _FINISH.get(cut, "other")
        else:
            answer.finish_reason = "tool-calls" if answer.tool_calls else "stop"
        self.done = True

    def _annotation(self, note: Any, where: Any) -> list[Chunk]:
        if get(note, "type") != "url_citation":
            return []
        return self._answer.source(text(where, "url"), text(where, "title"))


def _said(item: Any, members: tuple[str, ...]) -> dict[str, Any]:
    """Return those members of an item that say something."""
    given = {member: plain(get(item, member)) for member in members}
    return {member: value for member, value in given.items() if value is not None}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _is_own(item: Any) -> bool:
    """Whether OpenAI makes a call itself that may be the job's as well."""
    hosted = text(item, "environment", "type") == "container_reference"
    return hosted or text(item, "execution") == "server"


def _input(item: Any) -> str:
    """Return the JSON text of the input of a call that is done."""
    if text(item, "type") == "custom_tool_call":
        return f'"{_quoted(text(item, "input"))}"'
    return text(item, "arguments")


def _quoted(piece: str) -> str:
    """Return a piece of a text as it is inside of a JSON string."""
    return _json(piece)[1:-1]


def _message(event: Any, *path: str) -> str:
    return text(event, *path, "message") or "the model's stream reported an error"
