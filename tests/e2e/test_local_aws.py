"""The local AWS serves no web page, and leaves nothing behind when it is stopped."""

import http.client
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from demo.local_aws import REGION, ROOT, LocalAws, local_aws

TIMEOUT = 30
HOLDER = """
import signal, threading
# A shell that starts tests in the background has them ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)
from demo.local_aws import local_aws
with local_aws() as aws:
    print(aws.endpoint, aws.log_file, flush=True)
    threading.Event().wait()
"""
FUNCTION = "import os\ndef handler(event, context): return [os.getpid(), os.getppid()]"


@pytest.fixture
def holder() -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    with process:
        yield process
        process.kill()


def start_function(endpoint: str) -> list[int]:
    """Run a function; return the ids of its process and of the local AWS's."""
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("app.py", FUNCTION)
    session = boto3.Session("test", "test", region_name=REGION)
    functions = session.client("lambda", endpoint_url=endpoint)
    functions.create_function(
        FunctionName="pid",
        Runtime="python3.13",
        Role="arn:aws:iam::000000000000:role/any",
        Handler="app.handler",
        Code={"ZipFile": code.getvalue()},
    )
    answer = functions.invoke(FunctionName="pid")["Payload"].read()
    pids: list[int] = json.loads(answer)
    return pids


def runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A zombie does not run; whoever reaps orphans may take its time.
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


def await_that(condition: Any) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_it_goes_with_its_functions_when_its_starter_goes(
    holder: subprocess.Popen[str], how: signal.Signals
) -> None:
    assert holder.stdout
    endpoint, log = holder.stdout.readline().split()
    pids = start_function(endpoint)
    assert all(map(runs, pids))
    holder.send_signal(how)
    holder.wait(TIMEOUT)
    await_that(lambda: not any(map(runs, pids)))
    home = Path(log).parent
    if how is signal.SIGKILL:
        shutil.rmtree(home)
    else:
        assert not home.exists()


@pytest.fixture(scope="module")
def aws() -> Iterator[LocalAws]:
    with local_aws() as running:
        yield running


FUNCTIONS = "/2015-03-31/functions"
API = "/_aws/execute-api/"
SOCKET = f"{API}0a1b2c3d/v1"


def ask(
    aws: LocalAws, method: str, path: str, headers: dict[str, str]
) -> tuple[int, bool]:
    """Return the status, and whether a page may read the answer."""
    connection = http.client.HTTPConnection(aws.gateway, timeout=TIMEOUT)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, "Access-Control-Allow-Origin" in answer.headers
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("POST", FUNCTIONS, {"Origin": "https://elsewhere.example"}),
        ("OPTIONS", FUNCTIONS, {"Origin": "https://elsewhere.example"}),
        ("GET", "/?Action=ListQueues", {"Sec-Fetch-Site": "cross-site"}),
        ("GET", f"{API}?Action=ListQueues", {"Sec-Fetch-Site": "cross-site"}),
        # A client asks whether the socket's server answers: this is an answer.
        ("GET", SOCKET, {"Sec-Fetch-Site": "same-site"}),
        ("GET", FUNCTIONS, {"Host": "rebound.example"}),
        ("POST", f"{SOCKET}/@connections/c", {"Origin": "https://elsewhere.example"}),
        ("OPTIONS", f"{SOCKET}/@connections/c", {"Origin": "null"}),
        ("GET", SOCKET, {"Host": "rebound.example:1"}),
    ],
)
def test_a_web_page_cannot_use_it(
    aws: LocalAws, method: str, path: str, headers: dict[str, str]
) -> None:
    """It runs functions as processes of the developer, and says of everything that
    any page may ask for it."""
    assert ask(aws, method, path, headers) == (403, False)


@pytest.mark.parametrize(
    "headers", [{}, {"Host": "localhost:1"}, {"Sec-Fetch-Site": "none"}]
)
def test_what_is_no_web_page_can_use_it(aws: LocalAws, headers: dict[str, str]) -> None:
    assert ask(aws, "GET", FUNCTIONS, headers)[0] == 200
