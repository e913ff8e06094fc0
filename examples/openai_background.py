"""A job that may die at any moment; the next attempt goes on with the same answer.

An OpenAI background response goes on without us, and can be read again from any event
on. `already` says how many are in the log, so that each one gets there once, whichever
attempt brings it.

To try it, from the checkout's root:

    pip install ./layers/tailrace openai
    export TAILRACE_STACK=tailrace OPENAI_API_KEY=…
    python examples/openai_background.py chat:42 job.json "Write an essay on tides."
    # kill it in the middle, and run the same command again
"""

import json
import sys
from pathlib import Path
from typing import Any

from openai import OpenAI, omit

from tailrace import Producer, StreamEnded, new_run

MODEL = "gpt-5.4-mini"


def answer(stream_name: str, job: Path, question: str) -> None:
    with OpenAI() as client:
        state = begin(client, job, question)
        # Our predecessor is believed alive for some seconds after it has died.
        with Producer(
            stream_name, run=state["run"], resume="continue", lease=5, wait=30
        ) as stream:
            # Events are numbered from 0, and each is a chunk.
            last = stream.already - 1
            events = client.responses.retrieve(
                state["response"],
                stream=True,
                starting_after=omit if last < 0 else last,
            )
            for event in events:
                stream.write(shown(event))
    job.unlink()


def shown(event: Any) -> Any:
    """Return what a page needs of an event. Those that say the request or the answer as
    a whole fit no chunk once it is long; their types do, and are counted all the same.
    """
    repeats = hasattr(event, "response") or event.type.endswith(".done")
    return {"type": event.type} if repeats else event


def begin(client: OpenAI, job: Path, question: str) -> dict[str, str]:
    """Return what all attempts share: kept before anything is shown."""
    if not job.exists():
        response = client.responses.create(model=MODEL, input=question, background=True)
        state = {"run": new_run(), "response": response.id}
        job.write_text(json.dumps(state))
    found: dict[str, str] = json.loads(job.read_text())
    return found


if __name__ == "__main__":
    try:
        answer(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
    except StreamEnded as over:
        print(f"nothing to do: the run has ended ({over.reason})")
