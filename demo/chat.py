"""The chat page of `examples/chat` on the demo's stack: bundle, backend and job.

The page is bundled with what `clients/js` is developed with, so that nothing more is
downloaded. The job is a Lambda function on the local AWS.
"""

import io
import json
import subprocess
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from demo.local_aws import ROOT
from demo.stack import LocalStack
from tailrace import Producer
from tailrace.transports.function import PublishFunction

EXAMPLE = ROOT / "examples" / "chat"
CLIENT = ROOT / "clients" / "js"
PAGE = ROOT / ".local" / "chat"
JOB = "tailrace-demo-job"
"""The function's name."""

# `socket` and `sdk` want a stack that names its job function.
WAYS = ("post", "socket", "sdk")
START_SECONDS = 60
"""For the job to begin, until its run is given up."""
# The versions that `package.json` of the example asks for.
_ALIASES = {
    "ai": "ai7",
    "@ai-sdk/react": "ai-react7",
    "tailrace": str(CLIENT / "src" / "index.js"),
    "tailrace/ai": str(CLIENT / "src" / "ai.js"),
}
_TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": "lambda.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
    ],
}


def build_page(folder: Path = PAGE) -> Path:
    """Bundle the page into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        [
            CLIENT / "node_modules" / ".bin" / "esbuild",
            EXAMPLE / "src" / "main.jsx",
            *("--bundle", "--minify", "--format=esm", "--jsx=automatic"),
            *("--define:process.env.NODE_ENV='production'", "--log-level=warning"),
            *(f"--alias:{name}={path}" for name, path in _ALIASES.items()),
            f"--outdir={folder}",
        ],
        check=True,
        env={"NODE_PATH": str(CLIENT / "node_modules"), "PATH": "/usr/bin:/bin"},
        cwd=CLIENT,
    )
    page = (EXAMPLE / "index.html").read_bytes()
    (folder / "index.html").write_bytes(page)
    return folder


def deploy_job(stack: LocalStack, sources: Mapping[str, str] | None = None) -> None:
    """Make the function: `app.handler` of `sources`, by default the example's job."""
    sources = sources or {"app.py": (EXAMPLE / "job.py").read_text(encoding="utf-8")}
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        for name, source in sources.items():
            archive.writestr(name, source)
    role = stack.iam.create_role(
        RoleName=JOB, AssumeRolePolicyDocument=json.dumps(_TRUST)
    )["Role"]
    policy = stack.outputs["PublishInvokePolicyArn"]
    stack.iam.attach_role_policy(RoleName=JOB, PolicyArn=policy)
    publish = stack.lambda_.get_function_configuration(
        FunctionName=stack.function("publish")
    )
    stack.lambda_.create_function(
        FunctionName=JOB,
        Runtime="python3.13",
        Handler="app.handler",
        Role=role["Arn"],
        Code={"ZipFile": code.getvalue()},
        Layers=[layer["Arn"] for layer in publish["Layers"]],
        Timeout=120,
        Environment={
            "Variables": {"TAILRACE_PUBLISH_FUNCTION": stack.function("publish")}
        },
    )


def take_turn(stack: LocalStack, visitor: str, turn: dict[str, Any]) -> str:
    """Open a run for a turn that the page posted, give it to the job, and return it."""
    chat = turn.get("id")
    if not isinstance(chat, str) or not chat.startswith(f"{visitor}/"):
        raise ValueError("id: must be a chat of this visitor")
    # Elsewhere the environment names the function, and there is no transport to give.
    publish = PublishFunction(stack.lambda_, stack.function("publish"))
    producer = Producer(f"chat:{chat}", transport=publish, lease=START_SECONDS)
    given = producer.open().hand_over()
    event = {
        "tailrace": 1,
        "stream": producer.stream,
        "run": given["run"],
        "seq": given["seq"],
        "sub": visitor,
        "untrusted": turn,
    }
    stack.lambda_.invoke(
        FunctionName=JOB, InvocationType="Event", Payload=json.dumps(event)
    )
    return given["run"]
