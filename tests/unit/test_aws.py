"""The session of the functions: botocore's clients, made quickly."""

from __future__ import annotations

from typing import Any

import boto3
import botocore.loaders
import pytest
from botocore.exceptions import UnknownServiceError

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
