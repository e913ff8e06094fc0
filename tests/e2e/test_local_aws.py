"""The local AWS leaves nothing behind, however it is stopped."""

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

from demo.local_aws import REGION, ROOT

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
