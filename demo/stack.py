"""The stack of template.yaml, built and deployed onto a local AWS.

The real `sam build` and the real `sam deploy` of the real template: what runs here
is what runs in an account, but for the services beneath it. The demo, the
end-to-end tests and the benches all start here.
"""

import contextlib
import functools
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import boto3
from botocore.config import Config

from demo.local_aws import REGION, ROOT, LocalAws, LocalAwsError, local_aws

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_iam import IAMClient
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_secretsmanager import SecretsManagerClient

TEMPLATE = ROOT / "template.yaml"
STACK_NAME = "tailrace"
BUILDS = ROOT / ".local" / "builds"
KEPT_BUILDS = 4
SAM = Path(sys.executable).with_name("sam")
_CLIENT = Config(read_timeout=70, retries={"total_max_attempts": 1})

FunctionName = Literal["websocket", "publish", "fanout"]
Progress = Callable[[str], None]


def _silent(_line: str) -> None:
    pass


@dataclass(frozen=True)
class LocalStack:
    """A deployed stack. Everything dies with the context that made it."""

    aws: LocalAws
    outputs: Mapping[str, str]
    _session: boto3.Session = field(
        default_factory=lambda: boto3.Session("test", "test", region_name=REGION)
    )

    @property
    def endpoint(self) -> str:
        """The URL of every AWS service (`AWS_ENDPOINT_URL`)."""
        return self.aws.endpoint

    @property
    def environment(self) -> dict[str, str]:
        """A whole environment for a child process, with endpoint and credentials."""
        return self.aws.environment

    @property
    def exports(self) -> str:
        """A line for a shell, after which the SDK and the command find this stack."""
        names = ("AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        told = {
            "AWS_ENDPOINT_URL": self.endpoint,
            **{name: self.environment[name] for name in names},
            "TAILRACE_STACK": STACK_NAME,
        }
        return "export " + " ".join(f"{name}={value}" for name, value in told.items())

    @property
    def socket_url(self) -> str:
        return self.outputs["SocketUrl"]

    @property
    def log_table(self) -> str:
        return self.outputs["LogTable"]

    @property
    def state_table(self) -> str:
        return self.outputs["StateTable"]

    @property
    def key_ring_arn(self) -> str:
        """The ARN of the secret that holds the signing keys."""
        return self.outputs["KeyRingArn"]

    def function(self, name: FunctionName) -> str:
        return self.outputs[f"{name.capitalize()}FunctionName"]

    def logs(self, name: FunctionName) -> list[str]:
        """Return what a function has written so far, line by line."""
        log = self.aws.function_log(self.function(name))
        return log.read_text().splitlines() if log.exists() else []

    def sam_local_environment(self) -> dict[str, dict[str, str]]:
        """Return what `sam local invoke --env-vars` wants to be told, so that it runs
        a function against this stack's tables."""
        names: tuple[FunctionName, ...] = ("websocket", "publish", "fanout")
        return {
            f"{name.capitalize()}Function": self.lambda_.get_function_configuration(
                FunctionName=self.function(name)
            )["Environment"]["Variables"]
            for name in names
        }

    @functools.cached_property
    def cloudformation(self) -> "CloudFormationClient":
        return self._session.client(
            "cloudformation", endpoint_url=self.endpoint, config=_CLIENT
        )

    @functools.cached_property
    def dynamodb(self) -> "DynamoDBClient":
        return self._session.client(
            "dynamodb", endpoint_url=self.endpoint, config=_CLIENT
        )

    @functools.cached_property
    def iam(self) -> "IAMClient":
        return self._session.client("iam", endpoint_url=self.endpoint, config=_CLIENT)

    @functools.cached_property
    def lambda_(self) -> "LambdaClient":
        return self._session.client(
            "lambda", endpoint_url=self.endpoint, config=_CLIENT
        )

    @functools.cached_property
    def secretsmanager(self) -> "SecretsManagerClient":
        return self._session.client(
            "secretsmanager", endpoint_url=self.endpoint, config=_CLIENT
        )


@contextlib.contextmanager
def local_stack(
    *,
    enforce_iam: bool = False,
    socket_processes: int = 1,
    parameters: Mapping[str, str] | None = None,
    progress: Progress = _silent,
) -> Iterator[LocalStack]:
    """Build the template, start a local AWS, deploy onto it, and stop it at the end.

    `parameters` override the template's own; `progress` is called with a line for
    people before each step that takes time.
    """
    started = time.monotonic()
    built = build(progress=progress)
    progress("Starting a local AWS")
    with local_aws(enforce_iam=enforce_iam, socket_processes=socket_processes) as aws:
        progress(f"Deploying {TEMPLATE.name} onto {aws.endpoint}")
        stack = deploy(aws, built, parameters=parameters)
        progress(f"Ready in {time.monotonic() - started:.0f} s: {stack.socket_url}")
        yield stack


def build(*, progress: Progress = _silent) -> Path:
    """Run `sam build` unless what it reads is unchanged; return the built template."""
    directory = BUILDS / _digest()
    built = directory / "build" / "template.yaml"
    if not built.exists():
        progress("Building the layer")
        BUILDS.mkdir(parents=True, exist_ok=True)
        # Right beside its final place: the built template has relative paths in it.
        scratch = Path(tempfile.mkdtemp(prefix="building-", dir=BUILDS))
        try:
            _sam(
                "build",
                *("--template-file", str(TEMPLATE)),
                *("--build-dir", str(scratch / "build")),
                "--no-cached",
                cwd=ROOT,
                environment=dict(os.environ),
            )
            with contextlib.suppress(OSError):  # somebody else was faster
                scratch.rename(directory)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        _forget_old_builds(keep=directory)
    return built


def deploy(
    aws: LocalAws, built: Path, *, parameters: Mapping[str, str] | None = None
) -> LocalStack:
    """Run `sam deploy` of a built template."""
    overrides = {"LocalGateway": aws.gateway} | dict(parameters or {})
    _sam(
        "deploy",
        *("--template-file", str(built)),
        *("--stack-name", STACK_NAME),
        *("--region", REGION),
        "--resolve-s3",
        *("--capabilities", "CAPABILITY_IAM"),
        "--no-confirm-changeset",
        "--no-progressbar",
        "--parameter-overrides",
        *(f"{name}={value}" for name, value in overrides.items()),
        cwd=built.parent,
        environment=aws.environment,
    )
    stack = LocalStack(aws=aws, outputs={})
    described = stack.cloudformation.describe_stacks(StackName=STACK_NAME)["Stacks"][0]
    return LocalStack(
        aws=aws,
        outputs={
            output["OutputKey"]: output["OutputValue"]
            for output in described.get("Outputs", [])
        },
    )


def _sam(*arguments: str, cwd: Path, environment: Mapping[str, str]) -> None:
    done = subprocess.run(
        [SAM, *arguments],
        cwd=cwd,
        env={
            **environment,
            # The layer's makefile calls `python3 -m pip`.
            "PATH": f"{SAM.parent}{os.pathsep}{environment.get('PATH', os.defpath)}",
            "SAM_CLI_TELEMETRY": "0",
            "SAM_CLI_POLL_DELAY": "0.2",
            "__SAM_CLI_APP_DIR": str(ROOT / ".local" / "sam"),
            "AWS_DEFAULT_REGION": REGION,
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise LocalAwsError(f"`sam {arguments[0]}` failed:\n{done.stdout[-4000:]}")


def _digest() -> str:
    """Name a build by all that goes into it."""
    hashed = hashlib.sha256(TEMPLATE.read_bytes())
    sources = (ROOT / "layers", ROOT / "functions")
    for path in sorted(path for source in sources for path in source.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            hashed.update(f"{path.relative_to(ROOT)}\0".encode())
            hashed.update(hashlib.sha256(path.read_bytes()).digest())
    return hashed.hexdigest()[:16]


def _forget_old_builds(*, keep: Path) -> None:
    builds = sorted(
        (path for path in BUILDS.iterdir() if not path.name.startswith("building-")),
        key=lambda path: path.stat().st_mtime,
        reverse=True,
    )
    for path in builds[KEPT_BUILDS:]:
        if path != keep:
            shutil.rmtree(path, ignore_errors=True)
