"""The gateway: `@connections` of API Gateway.

Pushing is what the fan-out exists for, and boto3's client spends three quarters of a
push on itself (bench/posts.py). So a push is signed with botocore and sent over a
kept-alive connection of urllib3, which botocore itself brings.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlsplit

import urllib3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.httpsession import get_cert_path

from ..errors import Unavailable
from ..ports import Push

CONNECT_SECONDS = 1.0
# A push takes some 10 ms; to wait longer for one connection would hold up others.
ANSWER_SECONDS = 0.5
_SERVICE = "execute-api"


class GatewayRefused(RuntimeError):
    """`@connections` refuses us, not a connection: a permission is missing, or the URL
    is wrong. Not to be passed over."""

    def __init__(self, status: int) -> None:
        super().__init__(f"@connections: HTTP status {status}")
        self.status = status


class ApiGateway:
    """The `Gateway` of one stage. Safe to share between threads.

    `session` is a boto3 session, asked for its credentials at each push, since they are
    replaced before they expire; `url` the stage's `@connections` endpoint. One try a
    push: who pushes decides what a failure is worth.
    """

    def __init__(self, session: Any, url: str, *, connections: int = 1) -> None:
        self._credentials = session.get_credentials()
        self._region = session.region_name
        self._url = url.rstrip("/")
        self._path = urlsplit(self._url).path
        self._pool = urllib3.connection_from_url(
            self._url,
            maxsize=connections,
            timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=ANSWER_SECONDS),
            **(
                {"ca_certs": get_cert_path(True)}
                if self._url.startswith("https:")
                else {}
            ),
        )

    def push(self, connection: str, frame: str) -> Push:
        try:
            status = self._send("POST", connection, frame.encode())
        except urllib3.exceptions.ReadTimeoutError:
            return Push.SLOW
        except urllib3.exceptions.HTTPError:
            return Push.FAILED
        if status == 200:
            return Push.DONE
        # A 410 comes with or without a word about it; a 400 says that the id can be
        # nobody's.
        if status in (400, 410):
            return Push.GONE
        if status == 429:
            return Push.THROTTLED
        if status >= 500 or status == 413:
            return Push.FAILED
        raise GatewayRefused(status)

    def disconnect(self, connection: str) -> None:
        try:
            status = self._send("DELETE", connection, b"")
        except urllib3.exceptions.HTTPError as error:
            raise Unavailable(f"@connections: {type(error).__name__}") from None
        if status == 429 or status >= 500:
            raise Unavailable(f"@connections: HTTP status {status}")
        if status not in (200, 204, 400, 410):
            raise GatewayRefused(status)

    def close(self) -> None:
        """Let go of the kept-alive connections."""
        self._pool.close()

    def _send(self, method: str, connection: str, body: bytes) -> int:
        path = f"/@connections/{quote(connection, safe='-._~')}"
        request = AWSRequest(method, self._url + path, data=body, headers={})
        credentials = self._credentials.get_frozen_credentials()
        SigV4Auth(credentials, _SERVICE, self._region).add_auth(request)
        headers = dict(request.headers)
        try:
            return self._request(method, path, body, headers)
        except urllib3.exceptions.ProtocolError:
            # API Gateway had closed the kept-alive connection.
            return self._request(method, path, body, headers)

    def _request(
        self, method: str, path: str, body: bytes, headers: dict[str, str]
    ) -> int:
        answer = self._pool.urlopen(
            method, self._path + path, body=body, headers=headers, retries=False
        )
        return answer.status
