"""A Lambda function behind an SQS queue: every message is answered once, whatever
happens to its attempts.

A message is `{"stream", "run", "question"}`; whoever sends it makes the run's id with
`tailrace.new_run()` and shows it to the browser. A message that is delivered again
restarts its answer, because an LLM does not say the same thing twice. The event source
mapping needs `ReportBatchItemFailures`; the queue, a dead-letter queue with
`maxReceiveCount` 3; the function's role, the stack's `PublishInvokePolicyArn`; its
environment, `TAILRACE_PUBLISH_FUNCTION` and `ANTHROPIC_API_KEY`.
"""

import json
import os
from collections.abc import Iterator
from functools import cache
from typing import Any

from anthropic import Anthropic

from tailrace import Busy, Cancelled, Producer, StreamEnded, Superseded

ATTEMPTS = 3
MODEL = os.environ.get("MODEL", "claude-sonnet-5-5")


@cache
def anthropic() -> Anthropic:
    return Anthropic()


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    failed = [record["messageId"] for record in event["Records"] if not work(record)]
    return {"batchItemFailures": [{"itemIdentifier": id} for id in failed]}


def work(record: dict[str, Any]) -> bool:
    """Answer one message; False: it is to be delivered again."""
    job = json.loads(record["body"])
    attempt = int(record["attributes"]["ApproximateReceiveCount"])
    try:
        with Producer(
            job["stream"],
            run=job["run"],
            resume="restart",
            # As the queue's visibility timeout: until the next attempt, those who watch
            # see an answer that is late, and not one that has failed. That attempt may
            # have to wait until this one, if it was killed, is no longer waited for.
            lease=60,
            wait=60,
            on_error="hand_over" if attempt < ATTEMPTS else "end",
        ) as stream:
            for text in tokens(job["question"]):
                stream.write(text)
    except (Cancelled, Superseded, StreamEnded):
        return True  # nobody waits for it, or an earlier attempt has done it
    except Busy:
        return False  # an earlier attempt may still be at it
    except Exception as error:  # noqa: BLE001 - whatever it is, it is tried again
        print(f"attempt {attempt} failed: {type(error).__name__}")
        return False
    return True


def tokens(question: str) -> Iterator[str]:
    with anthropic().messages.stream(
        model=MODEL,
        max_tokens=1024,
        messages=[{"role": "user", "content": question}],
    ) as message:
        yield from message.text_stream
