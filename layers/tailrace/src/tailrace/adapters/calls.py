"""How AWS is called: time-outs, what may be tried again, and AWS's clock.

boto3's defaults wait for a minute and retry by themselves; both are off, so that each
try is ours: a put that is tried again must know it (rule 1).
"""

from __future__ import annotations

import email.utils
import random
import re
import time
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

import botocore
from botocore.config import Config
from botocore.exceptions import (
    ClientError,
    ConnectionError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
)

from ..errors import Unavailable

T = TypeVar("T")

# Not `random` itself: its state is copied with a snapshot of the process, and who was
# refused together would try again together.
_chance = random.SystemRandom()

TRIES = 4
# A process that was stopped in mid-call must not go on with it where it left off: by
# then the record may lie behind its retention (rule 7).
GIVE_UP_SECONDS = 10.0

_PASSING = frozenset(
    {
        "InternalServerError",
        "LimitExceededException",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        # Of SQS.
        "RequestThrottled",
        "ServiceUnavailable",
        # A version whose snapshot is being made anew.
        "SnapStartNotReadyException",
        "SnapStartTimeoutException",
        # Of CloudFormation.
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "TransactionConflictException",
    }
)


def config(*, read_timeout: float, connections: int = 10) -> Config:
    """Return the settings of a client that does not wait, nor retry by itself."""
    return Config(
        connect_timeout=1,
        read_timeout=read_timeout,
        retries={"total_max_attempts": 1},
        max_pool_connections=connections,
        tcp_keepalive=True,
        # Both are CPU of every call, together some 40 % of what botocore spends on a
        # put: what is sent is ours, and the contract tests check it; and the default
        # user agent is put together anew twice for each request.
        parameter_validation=False,
        user_agent=f"tailrace botocore/{botocore.__version__}",
    )


def status(error: ClientError) -> int:
    """Return the HTTP status of an error."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def code(error: ClientError) -> str:
    """Return the error code that AWS gave."""
    return str(error.response.get("Error", {}).get("Code", ""))


def passing(error: Exception) -> bool:
    """Whether an error says nothing about the call itself, so that it may be tried
    again: throttled, broken on AWS's side, or lost on the way."""
    if isinstance(error, ClientError):
        return code(error) in _PASSING or status(error) >= 500 or status(error) == 429
    return isinstance(error, ConnectionError | HTTPClientError)


def attempt(call: Callable[[], T], tries: int = TRIES) -> T:
    """Call; try again what may pass, with full jitter; then raise `Unavailable`.

    Whatever else AWS answers (no permission, no such table) is raised as it is.
    """
    begun = time.monotonic()
    for tried in range(1, tries + 1):
        try:
            answer = call()
            if time.monotonic() - begun > GIVE_UP_SECONDS:
                # What was read is old: the record to be put behind it may have expired.
                raise Unavailable("the process stood still")
            return answer
        except (ClientError, ConnectionError, HTTPClientError) as error:
            if not passing(error):
                raise
            unavailable = Unavailable(f"AWS: {_name(error)}")
            if tried < tries:
                time.sleep(_chance.uniform(0, 0.025 * 2**tried))
            # After the sleep, which is where a process may stand still for hours.
            if tried == tries or time.monotonic() - begun > GIVE_UP_SECONDS:
                raise unavailable from error
    raise AssertionError("unreachable")


def _name(error: Exception) -> str:
    if isinstance(error, ClientError):
        return code(error)
    if isinstance(error, EndpointConnectionError | ConnectTimeoutError):
        at = urlsplit(error.kwargs["endpoint_url"]).netloc
        # Without a password, and without the account, with which DynamoDB's may begin.
        return f"{type(error).__name__} at {re.sub(r'^(.*@)?([0-9]{12}[.])?', '', at)}"
    return type(error).__name__


class AwsClock:
    """AWS time in ms, on a machine whose own clock may be wrong: by a slow one, its
    run would be presumed dead (rule 6).

    Set from the `Date` header of each answer; that has whole seconds, so differences
    below two seconds are not corrected.
    """

    def __init__(self) -> None:
        self._ahead_ms = 0

    def __call__(self) -> int:
        return time.time_ns() // 1_000_000 + self._ahead_ms

    def watch(self, client: Any) -> None:
        """Set the clock from every answer that a boto3 client gets."""
        client.meta.events.register("after-call.*.*", self._observe)

    def _observe(self, http_response: Any, **_: Any) -> None:
        date = http_response.headers.get("Date")
        if date:
            theirs = email.utils.parsedate_to_datetime(date).timestamp() * 1000 + 500
            ahead = int(theirs - time.time_ns() // 1_000_000)
            self._ahead_ms = ahead if abs(ahead) > 2_000 else 0


def local_clock() -> int:
    """Return this machine's time in ms; inside Lambda, that is AWS time."""
    return time.time_ns() // 1_000_000
