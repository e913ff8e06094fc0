"""One deployed stack for all end-to-end tests, with IAM enforced."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from demo.stack import LocalStack, local_stack
from tests.support.answers import JOB, deploy_job
from tests.support.deployed import Deployed


@pytest.fixture(scope="session")
def stack() -> Iterator[LocalStack]:
    """The real template on a local AWS; streams keep tests apart."""
    parameters = {"JobFunction": JOB}
    with local_stack(enforce_iam=True, parameters=parameters) as deployed:
        deploy_job(deployed)
        yield deployed


@pytest.fixture(scope="session")
def deployed(stack: LocalStack) -> Deployed:
    """The deployed stack, as a backend and a browser see it."""
    return Deployed(stack)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "/e2e/" in item.path.as_posix():
            item.add_marker(pytest.mark.e2e)
