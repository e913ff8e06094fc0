"""The AI SDK's `UIMessageChunk`s, made from what models stream.

    from tailrace import Producer
    from tailrace.aisdk import from_openai

    with Producer("chat:42") as stream:
        for chunk in from_openai(client.responses.create(..., stream=True)):
            stream.write(chunk)

One call makes one whole message. An answer of several steps (the model calls a tool,
the job runs it, the model goes on) is made with `Answer`. Events are taken as the
providers' libraries give them, as objects or as dicts, from plain and async iterators;
none of those libraries is needed here.
"""

from __future__ import annotations

from .answer import Answer, Chunk, ToolCall, UpstreamError
from .merging import merged
from .streams import from_anthropic, from_bedrock, from_openai, from_text

__all__ = [
    "Answer",
    "Chunk",
    "ToolCall",
    "UpstreamError",
    "from_anthropic",
    "from_bedrock",
    "from_openai",
    "from_text",
    "merged",
]
