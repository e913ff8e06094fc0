"""Stream an OpenAI answer to whoever watches, and print it here.

To try it, from the checkout's root:

    pip install ./layers/tailrace openai
    export TAILRACE_STACK=tailrace OPENAI_API_KEY=…
    python examples/openai_answer.py chat:42 "Why is the sky blue?"
"""

import sys

from openai import OpenAI

from tailrace import Cancelled, Producer

MODEL = "gpt-5.4-mini"


def answer(stream_name: str, question: str) -> None:
    with OpenAI() as client, Producer(stream_name, meta={"model": MODEL}) as stream:
        events = client.responses.create(model=MODEL, input=question, stream=True)
        for event in stream.relay(events):
            if event.type == "response.output_text.delta":
                print(event.delta, end="", flush=True)
    print()


if __name__ == "__main__":
    try:
        answer(sys.argv[1], sys.argv[2])
    except Cancelled:
        print("\n(stopped)")
