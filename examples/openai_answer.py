"""Stream an OpenAI answer to whoever watches, and print it here.

To try it, from the checkout's root:

    pip install ./layers/tailrace openai
    export TAILRACE_STACK=tailrace OPENAI_API_KEY=…
    python examples/openai_answer.py chat:42 "Why is the sky blue?"
"""

import sys

from openai import OpenAI

from tailrace import Cancelled, Producer
from tailrace.aisdk import from_openai

MODEL = "gpt-5.4-mini"


def answer(stream_name: str, question: str) -> None:
    with OpenAI() as client, Producer(stream_name, meta={"model": MODEL}) as stream:
        events = client.responses.create(model=MODEL, input=question, stream=True)
        # Not the events themselves: some repeat the whole answer, which fits no chunk.
        for chunk in stream.relay(from_openai(events)):
            if chunk["type"] == "text-delta":
                print(chunk["delta"], end="", flush=True)
    print()


if __name__ == "__main__":
    try:
        answer(sys.argv[1], sys.argv[2])
    except Cancelled:
        print("\n(stopped)")
