"""The job of a chat: a Lambda function that answers one turn.

It is the stack's `JobFunction`, which the page starts by the socket; a backend invokes
it with the same event (PROTOCOL.md §3.7), asynchronously. Its role needs the stack's
`PublishInvokePolicyArn`, its environment `TAILRACE_PUBLISH_FUNCTION`.

No model is called, so that it can be tried without a key: where `reply` says what it
was told to, yours asks one, and `from_anthropic` or its like makes the chunks.
"""

import re
import time
from collections.abc import Iterator
from typing import Any

from tailrace import Asked, Producer, PublicError, job
from tailrace.aisdk import Answer, Chunk

PACE_SECONDS = 0.08


@job
def handler(asked: Asked, stream: Producer) -> None:
    for chunk in reply(asked.message_id, *question(asked.untrusted)):
        stream.write(chunk)


def question(untrusted: dict[str, Any]) -> tuple[str, str]:
    """Return text and id of the last message, or none if what was sent is odd."""
    try:
        message = untrusted["messages"][-1]
        texts = [part["text"] for part in message["parts"] if part["type"] == "text"]
        return " ".join(texts)[:2000], str(message.get("id", ""))[:100]
    except (KeyError, IndexError, TypeError):
        return "", ""


def reply(message_id: str, asked: str, question_id: str) -> Iterator[Chunk]:
    """Yield a message: what a model would stream, at its pace. It says what it answers,
    for a page that finds it in the log."""
    answer = Answer(message_id, metadata={"question": question_id})
    yield from answer.begin_step()
    for piece in pieces("The words of the question decide which answer this is."):
        yield from answer.reasoning(piece)
    yield from answer.end_parts()
    if re.search(r"\b(fail|error)\b", asked, re.IGNORECASE):
        for piece in pieces("This one fails on purpose, in the middle of"):
            yield from answer.text(piece)
        raise PublicError("The model is too busy. (It was asked to fail.)")
    if place := re.search(r"weather in (\w+)", asked, re.IGNORECASE):
        yield from weather(answer, place[1])
    times = 12 if re.search(r"\b(long|story)\b", asked, re.IGNORECASE) else 1
    for piece in pieces("\n\n".join([TEXT] * times)):
        yield from answer.text(piece)
    answer.finish_reason = "stop"
    answer.used(inputTokens=len(asked) // 4, outputTokens=len(TEXT) * times // 4)
    yield from answer.finish()


def weather(answer: Answer, place: str) -> Iterator[Chunk]:
    """Call a tool, and begin the step that speaks of what it said."""
    yield from answer.tool("weather-1", "weather")
    yield from answer.tool_input(f'{{"place": "{place}"}}')
    yield from answer.end_tools()
    time.sleep(1)
    yield answer.tool_output("weather-1", {"sky": "grey", "celsius": 11})
    yield from answer.begin_step()
    for piece in pieces(f"It is 11 degrees in {place}, and grey.\n\n"):
        yield from answer.text(piece)


def pieces(text: str) -> Iterator[str]:
    """Cut a text into pieces of a few words. A chunk is a frame for whoever watches
    with the AI SDK's own transport, so fewer cost less."""
    for piece in re.findall(r"\S+\s*(?:\S+\s*){0,2}", text):
        time.sleep(PACE_SECONDS)
        yield piece


TEXT = """\
A streamed answer breaks where the page and the model share a connection. The tab is \
reloaded, the train enters a tunnel, the laptop is shut: the connection dies, and with \
it what the model was about to say.

Here the job writes into a log, and knows no page. Each piece is stored under the next \
number before anybody sees it. A page says which number it has, and is given the rest: \
after a reload, in a second tab, on another machine.

So try it. Reload this page before the last sentence. Cut the connection. The text \
will be whole, and each word will be there once."""
