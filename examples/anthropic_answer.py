"""Stream an Anthropic answer to whoever watches, and print it here.

To try it, from the checkout's root:

    pip install ./layers/tailrace anthropic
    export TAILRACE_STACK=tailrace ANTHROPIC_API_KEY=…
    python examples/anthropic_answer.py chat:42 "Why is the sky blue?"
"""

import sys

from anthropic import Anthropic

from tailrace import Cancelled, Producer

MODEL = "claude-sonnet-5-5"


def answer(stream_name: str, question: str) -> None:
    meta = {"model": MODEL}
    with Anthropic() as client, Producer(stream_name, meta=meta) as stream:
        events = client.messages.create(
            model=MODEL,
            max_tokens=1024,
            messages=[{"role": "user", "content": question}],
            stream=True,
        )
        for event in stream.relay(events):
            if event.type == "content_block_delta" and event.delta.type == "text_delta":
                print(event.delta.text, end="", flush=True)
    print()


if __name__ == "__main__":
    try:
        answer(sys.argv[1], sys.argv[2])
    except Cancelled:
        print("\n(stopped)")
