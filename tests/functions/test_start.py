"""A function's start: all that its events need, and nothing that a snapshot may not
hold. SnapStart starts a function once, and goes on from there in many places, later."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tests.functions.conftest import ROOT, event

# Runs in a process of its own, which has imported nothing yet.
START = """
import json, random, secrets, socket, sys, time, traceback

connected, asked = [], []

def forbid(*args, **kwargs):
    connected.append(traceback.format_stack(limit=4))
    raise OSError("no connection at the start")

socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = forbid

def watch(module, name):
    original = getattr(module, name)
    def watched(*args, **kwargs):
        caller = sys._getframe(1).f_globals.get("__name__", "")
        if caller.startswith(("tailrace", "app")):
            asked.append(f"{module.__name__}.{name}")
        return original(*args, **kwargs)
    setattr(module, name, watched)

for module, names in (
    (time, ("time", "time_ns", "monotonic", "perf_counter")),
    (secrets, ("token_bytes", "token_hex")),
    (random, ("random", "uniform")),
):
    for name in names:
        watch(module, name)

import app
built = getattr(app, sys.argv[1]).cache_info().currsize
loaded = "aws_lambda_powertools" in sys.modules, "boto3" in sys.modules
json.dump({"built": built, "connected": connected, "asked": asked, "loaded": loaded},
    sys.stdout)
"""
ENVIRONMENT = {
    "AWS_DEFAULT_REGION": "us-east-1",
    "TAILRACE_LOG_TABLE": "Log",
    "TAILRACE_STATE_TABLE": "State",
    "TAILRACE_KEY_RING_ARN": "KeyRing",
    "TAILRACE_CONNECTIONS_URL": "https://example.invalid/live",
    "TAILRACE_FANOUT_FUNCTION": "tailrace-fanout",
    "TAILRACE_ORIGINS": "*",
    "POWERTOOLS_SERVICE_NAME": "tailrace",
    "POWERTOOLS_METRICS_NAMESPACE": "Tailrace",
}


# With SnapStart an endpoint on the machine tells them.
KEYS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
}
ENDPOINT = {
    "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:9/credentials",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN": "token",
}


@pytest.mark.parametrize("credentials", [KEYS, ENDPOINT])
@pytest.mark.parametrize(
    ("function", "builder", "delivery"),
    [
        ("websocket", "session", "Feed"),
        ("publish", "publish", "Feed"),
        ("publish", "publish", "Direct"),
        ("fanout", "fanout", "Feed"),
    ],
)
def test_a_start_builds_everything_and_freezes_nothing_in(
    function: str, builder: str, delivery: str, credentials: dict[str, str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", START, builder],
        env={
            **{k: v for k, v in os.environ.items() if not k.startswith("AWS_")},
            **ENVIRONMENT,
            **credentials,
            "AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start",
            "TAILRACE_DELIVERY": delivery,
            "PYTHONPATH": str(ROOT / "functions" / function),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["built"] == 1
    assert found["connected"] == []
    assert found["asked"] == []
    # Powertools is there, so that no event pays for it; boto3 itself is not needed.
    assert found["loaded"] == [True, False]


def test_what_goes_on_from_one_snapshot_mints_different_runs(
    invoke: Callable[[str, Any], Any],
) -> None:
    call = event("publish/open.json")
    call.pop("run", None)
    minted = set()
    state = random.getstate()
    for number in range(20):
        random.setstate(state)  # as it is after each restore
        answer = invoke("publish", {**call, "stream": f"chat:{number}"})
        minted.add(answer["run"][-12:])  # chance; what lies before is the time
    assert len(minted) == 20
