"""From a provider's stream to the chunks of a message, plain or async.

`from_*` make a whole message, from `start` to `finish`. With `answer` they make one of
its steps instead, and leave the message open: the job may run tools and call the model
again, and writes `answer.finish()` at last.

A stream that stops without saying so raises `UpstreamError`: a truncated answer must
not look like a whole one.
"""

from __future__ import annotations

import contextlib
import inspect
import secrets
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from typing import Any, Protocol, TypedDict, Unpack, overload

from .answer import Answer, Chunk, UpstreamError
from .anthropic import Anthropic
from .bedrock import Bedrock
from .openai import OpenAI
from .shape import read, text


class Options(TypedDict, total=False):
    """The keywords that each `from_…` takes. They are of a message; with `answer`, the
    message is that, and the others do not count.

    `message_id` is by default a new one. Where a job may be repeated, or the page runs
    tools, name it (`Asked.message_id`), so that every attempt makes the same message,
    and one that goes on stays one.
    """

    message_id: str
    metadata: Mapping[str, Any]
    answer: Answer


class _Reader(Protocol):
    done: bool

    def feed(self, event: Any) -> Iterable[Chunk]: ...


class _Text:
    """Text, or objects with a text: `{"text": …}`, `{"delta": …}`."""

    done = True

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        answer.finish_reason = "stop"

    def feed(self, event: Any) -> list[Chunk]:
        if isinstance(event, str):
            return self._answer.text(event)
        return self._answer.text(text(event, "delta") or text(event, "text"))


@overload
def from_text(events: Iterable[Any], **options: Unpack[Options]) -> Iterator[Chunk]: ...
@overload
def from_text(
    events: AsyncIterable[Any], **options: Unpack[Options]
) -> AsyncIterator[Chunk]: ...
def from_text(events: Any, **options: Unpack[Options]) -> Any:
    """Return the chunks of a message of plain text, from an iterator of texts."""
    return _convert(_Text, events, options)


@overload
def from_openai(
    events: Iterable[Any], **options: Unpack[Options]
) -> Iterator[Chunk]: ...
@overload
def from_openai(
    events: AsyncIterable[Any], **options: Unpack[Options]
) -> AsyncIterator[Chunk]: ...
def from_openai(events: Any, **options: Unpack[Options]) -> Any:
    """Return the chunks of a stream of the Responses API, of Chat Completions, or of
    whoever speaks the latter. Usage is there only where the stream was asked for it
    (`stream_options={"include_usage": True}` with Chat Completions)."""
    return _convert(OpenAI, events, options)


@overload
def from_anthropic(
    events: Iterable[Any], **options: Unpack[Options]
) -> Iterator[Chunk]: ...
@overload
def from_anthropic(
    events: AsyncIterable[Any], **options: Unpack[Options]
) -> AsyncIterator[Chunk]: ...
def from_anthropic(events: Any, **options: Unpack[Options]) -> Any:
    """Return the chunks of a Messages stream of Anthropic."""
    return _convert(Anthropic, events, options)


@overload
def from_bedrock(
    events: Iterable[Any] | Mapping[str, Any], **options: Unpack[Options]
) -> Iterator[Chunk]: ...
@overload
def from_bedrock(
    events: AsyncIterable[Any], **options: Unpack[Options]
) -> AsyncIterator[Chunk]: ...
def from_bedrock(events: Any, **options: Unpack[Options]) -> Any:
    """Return the chunks of `converse_stream`'s response, or of its `stream`."""
    if isinstance(events, Mapping):
        events = events["stream"]
    return _convert(Bedrock, events, options)


def _convert(
    reader: type[_Text | OpenAI | Anthropic | Bedrock],
    events: Any,
    options: Options,
) -> Any:
    whole = "answer" not in options
    message = options.get("answer") or Answer(
        options.get("message_id") or f"msg-{secrets.token_hex(12)}",
        metadata=options.get("metadata"),
    )
    by = reader(message)
    return read(
        events,
        lambda plain: _plain(by, message, plain, whole),
        lambda later: _async(by, message, later, whole),
    )


def _plain(
    reader: _Reader, answer: Answer, events: Iterable[Any], whole: bool
) -> Iterator[Chunk]:
    try:
        yield from answer.begin_step()
        for event in events:
            yield from reader.feed(event)
    except BaseException:  # left early, or interrupted: the model need not go on
        if callable(close := getattr(events, "close", None)):
            with contextlib.suppress(Exception):
                close()
        raise
    yield from _end(reader, answer, whole)


async def _async(
    reader: _Reader, answer: Answer, events: AsyncIterable[Any], whole: bool
) -> AsyncIterator[Chunk]:
    try:
        for chunk in answer.begin_step():
            yield chunk
        async for event in events:
            for chunk in reader.feed(event):
                yield chunk
    except BaseException:  # as above
        close = getattr(events, "aclose", None) or getattr(events, "close", None)
        with contextlib.suppress(Exception):
            if callable(close) and inspect.isawaitable(closing := close()):
                await closing
        raise
    for chunk in _end(reader, answer, whole):
        yield chunk


def _end(reader: _Reader, answer: Answer, whole: bool) -> list[Chunk]:
    if not reader.done:
        raise UpstreamError("the model's stream broke off")
    if whole:
        return answer.finish()
    return [*answer.end_parts(), *answer.end_tools()]
