"""The job: a process that receives tokens from a model and writes them to a stream.

The server starts it and forgets it, as it would a queue's worker. The model is a text
and a stopwatch (`demo.answers`); all the rest is what a job of yours would do.
"""

import argparse
import itertools
import json
import os
import secrets
import sys
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

import boto3

from demo.answers import answer, pauses, tokens

LEASE_SECONDS = 6
"""Short, so that it shows within a demo's patience that a job was killed."""


def model(question: str, *, skip: int = 0) -> Iterator[dict[str, Any]]:
    """Yield an answer token by token, at the pace of a model, from the `skip`th on.

    `at` is when the token left the model, for the page's latencies: a chunk is
    whatever JSON the job and the page agree on.
    """
    pieces = tokens(answer(question))
    paced = zip(pieces, pauses(question), strict=False)
    for token, pause in itertools.islice(paced, skip, None):
        time.sleep(pause)
        yield {"text": token, "at": time.time_ns() // 1_000_000}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stream", required=True)
    parser.add_argument("--run", required=True)
    parser.add_argument("--question", required=True)
    arguments = parser.parse_args()
    with Producer(
        arguments.stream,
        run=arguments.run,
        meta={"question": arguments.question},
        lease=LEASE_SECONDS,
    ) as producer:
        for chunk in model(arguments.question, skip=producer.already):
            producer.write(chunk)
    print(f"{producer.run}: completed", file=sys.stderr)


class Refused(Exception):
    pass


class Producer:
    """Direct use of the publish API, until the SDK's Producer is there."""

    def __init__(
        self, stream: str, *, run: str, meta: dict[str, Any], lease: int
    ) -> None:
        self.stream, self.run, self.meta, self.lease = stream, run, meta, lease
        self.writer = secrets.token_hex(8)
        self.already = 0
        self.next = 0
        self.buffer: list[Any] = []
        self.sent = 0.0
        self.client = boto3.client("lambda")

    def call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        payload = {
            "operation": operation,
            "stream": self.stream,
            "run": self.run,
            "writer": self.writer,
            **arguments,
        }
        reply = self.client.invoke(
            FunctionName=os.environ["TAILRACE_PUBLISH_FUNCTION"],
            Payload=json.dumps(payload),
        )
        answer: dict[str, Any] = json.loads(reply["Payload"].read())
        if "error" in answer:
            raise Refused(answer["error"])
        self.next = answer["next"]
        return answer

    def __enter__(self) -> Self:
        try:
            self.call("open", meta=self.meta, lease=self.lease)
        except Refused:
            while True:
                try:
                    self.already = self.call("claim", lease=self.lease)["already"]
                    break
                except Refused as refusal:
                    if refusal.args[0]["code"] != "busy":
                        raise
                    time.sleep(0.5)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.flush()
            self.call("end", seq=self.next, reason="completed")

    def write(self, chunk: Any) -> None:
        self.buffer.append(chunk)
        if time.monotonic() - self.sent > 0.05:
            self.flush()

    def flush(self) -> None:
        if self.buffer:
            self.call("append", seq=self.next, chunks=self.buffer)
            self.buffer = []
            self.sent = time.monotonic()


if __name__ == "__main__":
    main()
