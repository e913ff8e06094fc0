"""A session with AWS that starts quickly.

A function's start is mostly that of its clients. Two things that boto3 does for them
are left out: it brings resources and S3's transfers along, and, twice a client, lists
the directories of all of AWS's services to see that the named one exists.
"""

from __future__ import annotations

from typing import Any

import botocore.loaders
import botocore.session

SERVICES = ("dynamodb", "lambda", "secretsmanager", "sqs")


class _Loader(botocore.loaders.Loader):
    def list_available_services(self, type_name: str) -> list[str]:
        return list(SERVICES)


class Session:
    """The credentials and clients of one process: botocore's, as boto3's are."""

    def __init__(self) -> None:
        self._session: Any = botocore.session.get_session()
        self._session.register_component("data_loader", _Loader())

    @property
    def region_name(self) -> str:
        return str(self._session.get_config_variable("region"))

    def get_credentials(self) -> Any:
        """Return credentials that are asked anew before they expire."""
        return self._session.get_credentials()

    def client(self, service: str, **settings: Any) -> Any:
        """Return a client of one of the `SERVICES`, with the settings of boto3's."""
        return self._session.create_client(service, **settings)
