"""The stack of template.yaml on a local AWS, for as long as the input is open."""

from __future__ import annotations

import asyncio
import io
import json
import time
import zipfile
from pathlib import Path
from typing import Any

from bench.rivals.work import control
from demo.stack import STACK_NAME, FunctionName, LocalStack, local_stack
from tailrace import tokens

FUNCTIONS = Path(__file__).parents[3] / "functions"
NAMES: tuple[FunctionName, ...] = ("websocket", "publish", "fanout")

# The local AWS waits 50 ms for a line on the standard error of a handler that writes
# none. AWS does not: so each writes one.
_TALKATIVE = """
import sys
from app import handler as silent

def handler(event, context):
    try:
        return silent(event, context)
    finally:
        print("done", file=sys.stderr, flush=True)
"""


def make_talkative(stack: LocalStack) -> None:
    for name in NAMES:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.write(FUNCTIONS / name / "app.py", "app.py")
            archive.writestr("talkative.py", _TALKATIVE)
        function = stack.function(name)
        stack.lambda_.update_function_code(
            FunctionName=function, ZipFile=packed.getvalue()
        )
        stack.lambda_.update_function_configuration(
            FunctionName=function, Handler="talkative.handler"
        )


def token(stack: LocalStack) -> str:
    secret: Any = stack.secretsmanager.get_secret_value(SecretId=stack.key_ring_arn)
    ring = json.loads(secret["SecretString"])
    now = int(time.time())
    return tokens.mint(ring, sub="reader", read=["*"], now=now, expires_in=3_600)


def main() -> None:
    with local_stack() as stack:
        make_talkative(stack)
        environment = {
            name: value
            for name, value in stack.environment.items()
            if name.startswith("AWS_")
        }
        ready = {
            "url": stack.socket_url,
            "token": token(stack),
            "environment": environment | {"TAILRACE_STACK": STACK_NAME},
        }
        asyncio.run(control({}, **ready))


if __name__ == "__main__":
    main()
