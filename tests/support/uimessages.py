"""Random valid `UIMessageChunk` sequences of every type, and the SDK's own reader."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

MAJORS = (5, 6, 7)

_READER = Path(__file__).parents[2] / "clients/js/test/support/ai-reader.js"

Read = Callable[[int, Sequence[Sequence[Any]]], list[Any]]
"""What a major's reader makes of each sequence of chunks."""


@contextmanager
def sdk_reader() -> Iterator[Read]:
    """The SDK's readers, in one process of Node."""
    with subprocess.Popen(
        ["node", "--no-warnings", str(_READER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def read(major: int, of: Sequence[Sequence[Any]]) -> list[Any]:
            stdin.write(json.dumps({"major": major, "of": of}) + "\n")
            stdin.flush()
            answer: list[Any] = json.loads(stdout.readline())
            return answer

        yield read
        stdin.close()


_TEXT = st.text(st.sampled_from('ab "\\{}[]:,1é\n'), max_size=6)
_VALUE = st.sampled_from([None, 1, True, "x", [1, {"a": "b"}], {"k": {"l": 0.5}}])


@st.composite
def messages(draw: st.DrawFn) -> list[dict[str, Any]]:
    """A message, perhaps cut off: parts that begin, grow and end side by side."""
    return list(_message(draw))[: draw(st.none() | st.integers(0, 60))]


def _message(draw: st.DrawFn) -> Iterator[dict[str, Any]]:
    yield {"type": "start", "messageId": "m", **_maybe(draw, messageMetadata={"a": 1})}
    for _ in range(draw(st.integers(1, 3))):
        yield {"type": "start-step"}
        yield from _step(draw)
        yield {"type": draw(st.sampled_from(["finish-step"] * 4 + ["reset-step"]))}
    yield draw(
        st.sampled_from(
            [
                {
                    "type": "finish",
                    "finishReason": "stop",
                    "messageMetadata": {"b": 2},
                },
                {"type": "abort", "reason": "stop"},
                {"type": "error", "errorText": "failed"},
            ]
        )
    )


def _step(draw: st.DrawFn) -> Iterator[dict[str, Any]]:
    texts: dict[str, str] = {}
    tools: dict[str, dict[str, Any]] = {}
    called: list[str] = []
    for number in range(draw(st.integers(0, 40))):
        what = draw(
            st.sampled_from(["grow"] * 12 + ["text", "tool", "end", "output", "other"])
        )
        if what == "text":
            kind = draw(st.sampled_from(["text", "reasoning"]))
            id = f"p{number}"
            texts[id] = kind
            yield {"type": f"{kind}-start", "id": id, **_metadata(draw)}
        elif what == "tool":
            id = f"c{draw(st.integers(0, 10**6))}-{number}"
            tools[id] = {
                "toolName": draw(st.sampled_from(["weather", "time"])),
                **_maybe(draw, dynamic=True),
                **_maybe(draw, title="T"),
                **_maybe(draw, providerExecuted=True),
            }
            encoding = _maybe(draw, inputEncoding="text")
            yield {
                "type": "tool-input-start",
                "toolCallId": id,
                **tools[id],
                **encoding,
            }
        elif what == "grow" and (texts or tools):
            id = draw(st.sampled_from([*texts, *tools]))
            # Several of one part in a row, as models send them.
            for _ in range(draw(st.integers(1, 6))):
                piece = draw(_TEXT)
                if id in texts:
                    kind = f"{texts[id]}-delta"
                    yield {"type": kind, "id": id, "delta": piece, **_metadata(draw)}
                else:
                    yield {
                        "type": "tool-input-delta",
                        "toolCallId": id,
                        "inputTextDelta": piece,
                    }
                if draw(st.integers(0, 9)) == 0:
                    yield {"type": "data-progress", "data": 1, "transient": True}
        elif what == "end" and (texts or tools):
            id = draw(st.sampled_from([*texts, *tools]))
            if id in texts:
                yield {"type": f"{texts.pop(id)}-end", "id": id, **_metadata(draw)}
            else:
                tool = tools.pop(id)
                called.append(id)
                failed = draw(st.integers(0, 5)) == 0
                yield {
                    "type": f"tool-input-{'error' if failed else 'available'}",
                    "toolCallId": id,
                    "input": draw(_VALUE),
                    **tool,
                    **({"errorText": "bad"} if failed else {}),
                }
        elif what == "output" and called:
            yield from _called(draw, draw(st.sampled_from(called)))
        elif what == "other":
            yield draw(st.sampled_from(_OTHERS))


def _called(draw: st.DrawFn, id: str) -> Iterator[dict[str, Any]]:
    what = draw(st.integers(0, 4))
    if what == 0:
        yield {
            "type": "tool-approval-request",
            "approvalId": f"a{id}",
            "toolCallId": id,
        }
        if draw(st.booleans()):
            yield {
                "type": "tool-approval-response",
                "approvalId": f"a{id}",
                "approved": True,
            }
    elif what == 1:
        yield {"type": "tool-output-error", "toolCallId": id, "errorText": "failed"}
    elif what == 2:
        yield {"type": "tool-output-denied", "toolCallId": id}
    else:
        for _ in range(draw(st.integers(0, 2))):
            yield {
                "type": "tool-output-available",
                "toolCallId": id,
                "output": draw(_VALUE),
                "preliminary": True,
            }
        yield {
            "type": "tool-output-available",
            "toolCallId": id,
            "output": draw(_VALUE),
        }


_OTHERS: list[dict[str, Any]] = [
    {"type": "source-url", "sourceId": "s", "url": "https://example.org"},
    {
        "type": "source-document",
        "sourceId": "s",
        "mediaType": "text/plain",
        "title": "T",
    },
    {"type": "file", "url": "data:,x", "mediaType": "text/plain"},
    {"type": "reasoning-file", "url": "data:,x", "mediaType": "text/plain"},
    {"type": "data-note", "id": "n", "data": {"v": 1}},
    {"type": "data-note", "id": "n", "data": {"v": 2}},
    {"type": "data-note", "data": [1]},
    {"type": "data-note", "data": 3, "transient": True},
    {"type": "custom", "kind": "a.b"},
    {
        "type": "steering-message",
        "id": "u",
        "parts": [{"type": "text", "text": "and now"}],
    },
    {"type": "message-metadata", "messageMetadata": {"c": 3}},
    {"type": "error", "errorText": "one of several"},
]


def _metadata(draw: st.DrawFn) -> dict[str, Any]:
    chosen = draw(st.sampled_from([None] * 6 + [1, True]))
    return {} if chosen is None else {"providerMetadata": {"p": {"v": chosen}}}


def _maybe(draw: st.DrawFn, **member: Any) -> dict[str, Any]:
    return member if draw(st.integers(0, 4)) == 0 else {}
