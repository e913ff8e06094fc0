"""The job function beside the stack. A stack names only one, so it is every test's."""

from __future__ import annotations

from demo import chat
from demo.stack import LocalStack

JOB = chat.JOB

_APP = """
import json, urllib.request

def handler(event, context):
    untrusted = event["untrusted"]
    if backend := untrusted.get("body", {}).get("backend"):
        headers = {"content-type": "application/json"}
        body = json.dumps(event).encode()
        urllib.request.urlopen(urllib.request.Request(backend, body, headers)).read()
    elif untrusted.get("messages"):
        import example
        example.handler(event, context)
    else:
        import told
        told.handler(event, context)
"""
"""It hands the event to the backend that the page names, so that a test has its job at
hand; a question without one is for the example's job."""

_TOLD = """
import time
from tailrace import Asked, Producer, PublicError, job

@job(lease=5)
def handler(asked: Asked, stream: Producer) -> None:
    wants = asked.untrusted.get("body", {})
    note = {"note": "planted-chunk"}
    stream.write({"type": "start", "messageId": stream.run, "messageMetadata": note})
    stream.write({"type": "text-start", "id": "t"})
    for number in range(wants.get("all", 20)):
        stream.write({"type": "text-delta", "id": "t", "delta": f"{number} "})
        time.sleep(wants.get("pause", 0))
    if wants.get("fails"):
        raise PublicError("No such model.")
    if wants.get("breaks"):
        raise ValueError("planted-error")
    stream.write({"type": "text-end", "id": "t"})
    stream.write({"type": "data-asked", "data": {"sub": asked.sub}})
    stream.write({"type": "finish"})
"""
"""It answers what asks nothing as `body` says."""


def deploy_job(stack: LocalStack) -> None:
    """Create the function that the stack's `JobFunction` names."""
    example = (chat.EXAMPLE / "job.py").read_text(encoding="utf-8")
    chat.deploy_job(stack, {"app.py": _APP, "told.py": _TOLD, "example.py": example})
