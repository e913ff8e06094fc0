"""A session with AWS that starts quickly, and may be copied in mid-life.

A function's start is mostly that of its clients. Two things that boto3 does for them
are left out: it brings resources and S3's transfers along, and, twice a client, lists
the directories of all of AWS's services to see that the named one exists.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import botocore.loaders
import botocore.session
from botocore.credentials import create_credential_resolver
from botocore.exceptions import NoCredentialsError

SERVICES = ("dynamodb", "lambda", "secretsmanager", "sqs")


class _Loader(botocore.loaders.Loader):
    def list_available_services(self, type_name: str) -> list[str]:
        return list(SERVICES)


class _Credentials:
    """What botocore finds, but looked for when a request is signed, not when a client
    is made. With SnapStart an endpoint has to be asked, and a snapshot of a start that
    asked would hold a connection, and keys that expire."""

    # Asked for when a client is made.
    method = "deferred"

    def __init__(self, session: Any) -> None:
        self._session = session

    def load_credentials(self) -> _Credentials:
        return self

    def get_deferred_property(self, name: str) -> Callable[[], Any]:
        return lambda: getattr(self, name, None)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._found, name)

    @cached_property
    def _found(self) -> Any:
        found = create_credential_resolver(self._session).load_credentials()
        if found is None:
            raise NoCredentialsError
        return found


class Session:
    """The credentials and clients of one process: botocore's, as boto3's are."""

    def __init__(self) -> None:
        self._session: Any = botocore.session.get_session()
        self._session.register_component("data_loader", _Loader())
        self._session.register_component(
            "credential_provider", _Credentials(self._session)
        )

    @property
    def region_name(self) -> str:
        return str(self._session.get_config_variable("region"))

    def get_credentials(self) -> Any:
        """Return credentials that are asked anew before they expire."""
        return self._session.get_credentials()

    def client(self, service: str, **settings: Any) -> Any:
        """Return a client of one of the `SERVICES`, with the settings of boto3's."""
        return self._session.create_client(service, **settings)
