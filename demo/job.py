"""The job: a process that receives tokens from a model and writes them to a stream.

The server starts it and forgets it, as it would a queue's worker. The model is a text
and a stopwatch (`demo.answers`); all the rest is what a job of yours would do.
"""

import argparse
import itertools
import sys
import time
from collections.abc import Iterator
from typing import Any

from demo.answers import answer, pauses, tokens
from tailrace import Producer, TailraceError

LEASE_SECONDS = 6
"""Short, so that it shows within a demo's patience that a job was killed."""
TOKENS_PER_SECOND = 40


def model(
    question: str, per_second: float, *, skip: int = 0
) -> Iterator[dict[str, Any]]:
    """Yield an answer token by token, at the pace of a model, from the `skip`th on.

    `at` is when the token left the model, for the page's latencies: a chunk is
    whatever JSON the job and the page agree on.
    """
    pieces = tokens(answer(question))
    paced = zip(pieces, pauses(question, per_second), strict=False)
    for token, pause in itertools.islice(paced, skip, None):
        time.sleep(pause)
        yield {"text": token, "at": time.time_ns() // 1_000_000}


def write(stream: str, run: str, question: str, per_second: float) -> None:
    """Answer a question into a run; if an attempt before has begun it, go on behind."""
    with Producer(
        stream,
        run=run,
        resume="continue",
        wait=2 * LEASE_SECONDS,
        lease=LEASE_SECONDS,
        meta={"question": question},
    ) as producer:
        for chunk in model(question, per_second, skip=producer.already):
            producer.write(chunk)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stream", required=True)
    parser.add_argument("--run", required=True)
    parser.add_argument("--question", required=True)
    parser.add_argument("--per-second", type=float, default=TOKENS_PER_SECOND)
    arguments = parser.parse_args()
    try:
        write(arguments.stream, arguments.run, arguments.question, arguments.per_second)
    except TailraceError as stopped:
        # Somebody pressed stop, or asked something else: no token is paid for in vain.
        print(f"{arguments.run}: {stopped.code}: {stopped}", file=sys.stderr)
    else:
        print(f"{arguments.run}: completed", file=sys.stderr)


if __name__ == "__main__":
    main()
