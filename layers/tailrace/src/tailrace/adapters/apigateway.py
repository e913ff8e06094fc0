"""The gateway: `@connections` of API Gateway."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError, ConnectionError, HTTPClientError

from ..ports import Push
from .calls import attempt, passing, status


class ApiGateway:
    """The `Gateway`. `client`: a boto3 `apigatewaymanagementapi` client that neither
    waits nor retries. One try a push: who pushes decides what a failure is worth."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def push(self, connection: str, frame: str) -> Push:
        try:
            self._client.post_to_connection(
                ConnectionId=connection, Data=frame.encode()
            )
            return Push.DONE
        except ClientError as error:
            # A 410 comes as `GoneException` or as a bare status; a 400 says that
            # the id can be nobody's.
            if status(error) in (400, 410):
                return Push.GONE
            if status(error) == 429:
                return Push.THROTTLED
            if not passing(error) and status(error) != 413:
                raise  # 403: not this connection's doing, and not to be passed over
            return Push.FAILED
        except (ConnectionError, HTTPClientError):
            return Push.FAILED

    def disconnect(self, connection: str) -> None:
        try:
            attempt(lambda: self._client.delete_connection(ConnectionId=connection))
        except ClientError as error:
            if status(error) not in (400, 410):
                raise
