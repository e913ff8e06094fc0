"""A local AWS as a child process.

It runs the functions as processes of its own, in an environment that holds only
what the Lambda runtime brings. All of it listens on loopback, refuses web pages, and is
gone when the context ends, also when whoever started it is killed.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON = ROOT / ".tools" / "lambda" / "bin" / "python"
SERVER = ROOT / "demo" / "local_aws_server.py"
REGION = "us-east-1"
STARTUP_SECONDS = 60
KEEP_LOGS = "LOCAL_AWS_LOGS"
"""The environment variable that names a directory to keep the logs of each local AWS in
when it has ended: its own, and that of each function."""


class LocalAwsError(RuntimeError):
    """The local AWS, or something run against it, failed; the message says how."""


@dataclass(frozen=True)
class LocalAws:
    """A running local AWS."""

    port: int
    log_file: Path

    @property
    def gateway(self) -> str:
        """`host:port`, as the template's parameter LocalGateway wants it."""
        return f"127.0.0.1:{self.port}"

    @property
    def endpoint(self) -> str:
        return f"http://{self.gateway}"

    def function_log(self, function: str) -> Path:
        """Where a function's output is kept; the file exists once it has started."""
        return self.log_file.parent / "functions" / f"{function}.log"

    @property
    def environment(self) -> dict[str, str]:
        """What a child process needs to reach this AWS, and no other, as its root."""
        home = str(self.log_file.parent)
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("AWS_", "TAILRACE_", "POWERTOOLS_"))
        }
        return inherited | {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": REGION,
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_CONFIG_FILE": f"{home}/none",
            "AWS_SHARED_CREDENTIALS_FILE": f"{home}/none",
            "AWS_EC2_METADATA_DISABLED": "true",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }


@contextlib.contextmanager
def local_aws(
    *, enforce_iam: bool = False, socket_processes: int = 1
) -> Iterator[LocalAws]:
    """Run a local AWS for as long as the context lasts.

    With `enforce_iam`, every call is judged by the policies of whoever signed it;
    the credentials in `LocalAws.environment` are those of the account's root.
    `socket_processes`: how many at most serve the events of sockets.
    """
    if not PYTHON.exists():
        raise LocalAwsError("The local AWS is not installed: run `make setup`.")
    with tempfile.TemporaryDirectory(
        prefix="tailrace-", ignore_cleanup_errors=True
    ) as home:
        aws = LocalAws(port=_free_port(), log_file=Path(home, "local-aws.log"))
        with aws.log_file.open("wb") as log, _signals_unwind():
            process = subprocess.Popen(
                [PYTHON, "-P", SERVER],
                # Held open by us alone: it ends with us, whatever happens to us.
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=home,
                env=_server_environment(aws, home, enforce_iam=enforce_iam)
                | {"SOCKET_PROCESSES": str(socket_processes)},
                # Its own group: Ctrl-C is for us, who then stop it in order.
                start_new_session=True,
            )
            try:
                _wait_until_ready(aws, process)
                yield aws
            finally:
                _stop(process)
                _keep_logs(Path(home))


def _server_environment(
    aws: LocalAws, home: str, *, enforce_iam: bool
) -> dict[str, str]:
    """Nothing of ours: the functions inherit it, and would not have it on AWS."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "LANG": "C.UTF-8",
        "HOME": home,
        "TMPDIR": home,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AUTH": str(enforce_iam).lower(),
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(aws.port),
        "MINISTACK_HOST": "127.0.0.1",
        "MINISTACK_REGION": REGION,
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
        "LAMBDA_EXECUTOR": "local",
        "LOG_LEVEL": "WARNING",
        "PYTHONUNBUFFERED": "1",
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_ready(aws: LocalAws, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + STARTUP_SECONDS
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            opener.open(f"{aws.endpoint}/_ministack/health", timeout=5).close()
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
        else:
            return
    log = aws.log_file.read_text(errors="replace")[-2000:]
    raise LocalAwsError(f"The local AWS did not start:\n{log}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    # There is nothing to save, and its functions' processes are in its group.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdin:
        process.stdin.close()


def _keep_logs(home: Path) -> None:
    if kept := os.environ.get(KEEP_LOGS):
        for log in [*home.glob("*.log"), *home.glob("functions/*.log")]:
            place = Path(kept, home.name, log.relative_to(home))
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(log, place)


@contextlib.contextmanager
def _signals_unwind() -> Iterator[None]:
    """Let SIGTERM and SIGHUP unwind the stack, as SIGINT does."""

    def unwind(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    replaced = []
    with contextlib.suppress(ValueError):  # not in the main thread: not ours to set
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, unwind)
                replaced.append(number)
    try:
        yield
    finally:
        for number in replaced:
            signal.signal(number, signal.SIG_DFL)
