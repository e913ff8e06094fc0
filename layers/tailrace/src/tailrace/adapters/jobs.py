"""The user's job function, invoked asynchronously."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

from .. import chunks
from ..errors import Unavailable
from .calls import attempt, code


class LambdaJobs:
    """`Jobs`. `function`: a name or an ARN; `client` makes a boto3 Lambda client."""

    def __init__(self, client: Callable[[], Any], function: str) -> None:
        self._client = client
        self._function = function

    def start(self, event: dict[str, Any]) -> None:
        client = self._client()
        payload = chunks.encode(event, "event").encode()
        try:
            attempt(
                lambda: client.invoke(
                    FunctionName=self._function, InvocationType="Event", Payload=payload
                )
            )
        except ClientError as refused:
            # No such function, no permission: the client is to be told all the same.
            raise Unavailable(f"AWS: {code(refused)}") from refused
