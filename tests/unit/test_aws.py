"""The session of the functions: botocore's clients, made quickly."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import boto3
import botocore.loaders
import pytest
from botocore.exceptions import NoCredentialsError, UnknownServiceError

from tailrace.adapters.aws import SERVICES, Session
from tailrace.adapters.calls import config


@pytest.fixture(autouse=True)
def region(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")


@pytest.mark.parametrize("service", SERVICES)
def test_its_clients_are_those_of_boto3(service: str) -> None:
    settings = config(read_timeout=3)
    ours = Session().client(service, config=settings)
    theirs: Any = boto3.Session().client(service, config=settings)  # type: ignore[call-overload]
    assert ours.meta.endpoint_url == theirs.meta.endpoint_url
    assert ours.meta.region_name == theirs.meta.region_name == Session().region_name
    assert ours.meta.service_model.api_version == theirs.meta.service_model.api_version


def test_no_directory_of_all_services_is_listed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def listed(*_: object) -> list[str]:
        raise AssertionError("listed")

    monkeypatch.setattr(botocore.loaders.Loader, "list_available_services", listed)
    assert Session().client("dynamodb").meta.service_model.service_name == "dynamodb"


def test_a_service_that_it_does_not_know_is_refused() -> None:
    with pytest.raises(UnknownServiceError):
        Session().client("s3")


# --- credentials ------------------------------------------------------------------


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str | None]]:
    """Have credentials told by an endpoint, as with SnapStart; yield what each that
    asked it showed."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    shown: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            shown.append(self.headers["Authorization"])
            told = {
                "AccessKeyId": f"key-{len(shown)}",
                "SecretAccessKey": "secret",
                "Token": "token",
                "Expiration": "2100-01-01T00:00:00Z",
            }
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(told).encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/credentials"
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", url)
        monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "at the start")
        yield shown
        server.shutdown()


def test_credentials_are_asked_for_when_they_are_needed_and_not_at_the_start(
    endpoint: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session()
    credentials = session.get_credentials()
    client = session.client("dynamodb", config=config(read_timeout=3))
    assert endpoint == []
    # A snapshot goes on elsewhere and later, with another right to ask.
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "after a restore")
    assert "key-1" in client.generate_presigned_url("list_tables")
    assert credentials.get_frozen_credentials().access_key == "key-1"
    assert endpoint == ["after a restore"]


def test_without_credentials_a_call_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    client = Session().client("dynamodb", config=config(read_timeout=3))
    with pytest.raises(NoCredentialsError):
        client.generate_presigned_url("list_tables")
