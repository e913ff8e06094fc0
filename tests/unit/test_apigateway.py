"""The gateway over real HTTP, against a server that answers as it is told."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3
import botocore.auth
import botocore.crt.auth
import pytest

from tailrace.adapters import apigateway
from tailrace.adapters.apigateway import ApiGateway, GatewayRefused
from tailrace.errors import Unavailable
from tailrace.ports import Push

CONNECTION = "TkQ2mfSeoAMCKHQ="


class Server(ThreadingHTTPServer):
    """`@connections`: keeps what it was asked, answers with `status`."""

    daemon_threads = True

    def __init__(self) -> None:
        self.status = 200
        self.hang = threading.Event()
        self.hangs = False
        self.cuts = 0
        self.asked: list[tuple[str, str, bytes, dict[str, str]]] = []
        self.sockets: set[Any] = set()
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        server = self.server
        server.sockets.add(self.client_address)
        server.asked.append((self.command, self.path, body, dict(self.headers)))
        if server.cuts:
            server.cuts -= 1
            self.close_connection = True
            return
        if server.hangs:
            server.hang.wait(10)
        self.send_response(server.status)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    do_DELETE = do_POST  # noqa: N815 - http.server's own word

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.hang.set()
    server.shutdown()
    thread.join()
    server.server_close()


def session() -> boto3.Session:
    return boto3.Session(
        aws_access_key_id="AKID",
        aws_secret_access_key="secret",
        aws_session_token="a token of a role",
        region_name="eu-west-1",
    )


@pytest.fixture
def gateway(server: Server) -> Iterator[ApiGateway]:
    gateway = ApiGateway(session(), server.url, connections=4)
    yield gateway
    gateway.close()


def test_a_push_is_signed_and_sent_as_boto3_would(
    server: Server, gateway: ApiGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The path is encoded once to be sent, and once more to be signed."""
    now = dt.datetime(2026, 1, 2, 3, 4, 5)  # noqa: DTZ001 - as botocore's is
    for signer in (botocore.auth, botocore.crt.auth):  # the second where there is a CRT
        monkeypatch.setattr(signer, "get_current_datetime", lambda *_, **__: now)
    assert gateway.push(CONNECTION, '{"é":1}') is Push.DONE
    client = session().client("apigatewaymanagementapi", endpoint_url=server.url)
    client.post_to_connection(ConnectionId=CONNECTION, Data='{"é":1}'.encode())
    ours, theirs = server.asked
    assert ours[:3] == theirs[:3]
    assert ours[1] == "/v1/@connections/TkQ2mfSeoAMCKHQ%3D"
    assert ours[3]["X-Amz-Date"] == "20260102T030405Z"
    for signed in ("X-Amz-Date", "X-Amz-Security-Token", "Authorization"):
        assert ours[3][signed] == theirs[3][signed]


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, Push.DONE),
        (400, Push.GONE),
        (410, Push.GONE),
        (413, Push.FAILED),
        (429, Push.THROTTLED),
        (500, Push.FAILED),
        (503, Push.FAILED),
    ],
)
def test_what_each_status_means(
    server: Server, gateway: ApiGateway, status: int, outcome: Push
) -> None:
    server.status = status
    assert gateway.push(CONNECTION, "{}") is outcome
    assert len(server.asked) == 1, "one try a push"


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_missing_permission_is_not_passed_over(
    server: Server, gateway: ApiGateway, status: int
) -> None:
    server.status = status
    with pytest.raises(GatewayRefused, match=str(status)):
        gateway.push(CONNECTION, "{}")
    with pytest.raises(GatewayRefused, match=str(status)):
        gateway.disconnect(CONNECTION)


def test_a_push_that_hangs_is_slow_after_its_time(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apigateway, "ANSWER_SECONDS", 0.05)
    server.hangs = True
    hasty = ApiGateway(session(), server.url)
    assert hasty.push(CONNECTION, "{}") is Push.SLOW
    assert len(server.asked) == 1
    hasty.close()


def test_a_connection_that_was_closed_meanwhile_is_opened_again(
    server: Server, gateway: ApiGateway
) -> None:
    assert gateway.push(CONNECTION, "1") is Push.DONE
    server.cuts = 1
    assert gateway.push(CONNECTION, "2") is Push.DONE
    assert [body for _, _, body, _ in server.asked] == [b"1", b"2", b"2"]
    server.cuts = 2
    assert gateway.push(CONNECTION, "3") is Push.FAILED


def test_nobody_there_is_a_failed_push() -> None:
    gateway = ApiGateway(session(), "http://127.0.0.1:9/v1")
    assert gateway.push(CONNECTION, "{}") is Push.FAILED
    with pytest.raises(Unavailable):
        gateway.disconnect(CONNECTION)
    gateway.close()


def test_connections_are_kept_and_shared_by_threads(
    server: Server, gateway: ApiGateway
) -> None:
    with ThreadPoolExecutor(4) as pool:
        pushed = list(pool.map(lambda n: gateway.push(CONNECTION, str(n)), range(200)))
    assert pushed == [Push.DONE] * 200
    assert sorted(int(body) for _, _, body, _ in server.asked) == list(range(200))
    assert len(server.sockets) <= 4


@pytest.mark.parametrize("status", [200, 204, 400, 410])
def test_disconnecting_what_is_gone_is_no_error(
    server: Server, gateway: ApiGateway, status: int
) -> None:
    server.status = status
    gateway.disconnect(CONNECTION)
    assert server.asked[0][:2] == ("DELETE", "/v1/@connections/TkQ2mfSeoAMCKHQ%3D")


@pytest.mark.parametrize("status", [429, 500])
def test_a_disconnect_that_may_succeed_later_says_so(
    server: Server, gateway: ApiGateway, status: int
) -> None:
    server.status = status
    with pytest.raises(Unavailable):
        gateway.disconnect(CONNECTION)
