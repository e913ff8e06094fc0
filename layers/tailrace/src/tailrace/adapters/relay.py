"""Invocations of the fan-out function that push shares of a large audience."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, ConnectionError

from ..audience import to_event
from ..ports import Count
from ..watchers import Share
from .calls import status

# Of one audience: beyond, one share waits for another.
INVOCATIONS = 128
# Longer than a share may take.
ANSWER_SECONDS = 30
# Lambda takes 6 MB; whoever is so far behind is served here.
_MAX_EVENT_BYTES = 5_000_000


class LambdaRelay:
    """The `Relay`. `function`: a name or an ARN; `client` makes a boto3 Lambda client
    that does not retry: a second invocation would push beside the first."""

    def __init__(
        self,
        client: Callable[[], Any],
        function: str,
        *,
        count: Count = lambda name, value: None,
    ) -> None:
        self._client = client
        self._function = function
        self._count = count
        self._pool = ThreadPoolExecutor(INVOCATIONS, "tailrace-share")

    def hand_over(self, share: Share) -> Callable[[], bool]:
        event = to_event(share).encode()
        if len(event) > _MAX_EVENT_BYTES:
            return lambda: False
        return self._pool.submit(self._invoke, event).result

    def _invoke(self, event: bytes) -> bool:
        try:
            answer = self._client().invoke(FunctionName=self._function, Payload=event)
            # A body that nobody reads takes its connection with it.
            answer["Payload"].read()
        except ConnectionError:
            return False  # it did not even leave
        except ClientError as error:
            # Throttled, no permission, no such function: it did not begin.
            if 400 <= status(error) < 500:
                return False
            lost = True
        except BotoCoreError:
            lost = True
        else:
            lost = "FunctionError" in answer
        self._count("SharesLost", int(lost))
        return True
