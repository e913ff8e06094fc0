"""What a failure means to whoever typed a command: one line, a hint, an exit code."""

from __future__ import annotations

from dataclasses import dataclass

import click
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    HTTPClientError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
)

from ..deployment import NoStack
from ..errors import TailraceError
from ..transports.function import NoAnswer

WRONG = 2
NOT_ALLOWED = 3
ENDED = 4
BUSY = 5
UNAVAILABLE = 6
INTERRUPTED = 130

_CODES = {
    "invalid": WRONG,
    "too_large": WRONG,
    "too_fast": UNAVAILABLE,
    "too_many": WRONG,
    "unsupported": WRONG,
    "unauthorized": NOT_ALLOWED,
    "forbidden": NOT_ALLOWED,
    "refused": NOT_ALLOWED,
    "cancelled": ENDED,
    "superseded": ENDED,
    "fenced": ENDED,
    "ended": ENDED,
    "busy": BUSY,
    "unavailable": UNAVAILABLE,
    "unknown_connection": UNAVAILABLE,
}
_HINTS = {
    "busy": "wait until it ends, cancel it (`tailrace cancel`), or supersede it",
    "cancelled": "somebody pressed stop; publish again for a new run",
    "superseded": "a later run has taken its place (`tailrace status`)",
    "fenced": "another process has taken the run over",
    "unauthorized": "mint a fresh token: `tailrace token`",
    "forbidden": "mint a token that grants this stream: `tailrace token --read`",
    "refused": "is the socket's URL right, and the token of this stack?",
    "unavailable": "is the network up, and the region right, or AWS_ENDPOINT_URL?",
}
_AWS_HINTS = {
    "AccessDenied": "attach one of the stack's policies to this role or user",
    "AccessDeniedException": "attach one of the stack's policies to this role or user",
    "ResourceNotFoundException": "is this the stack's region and account?",
    "ExpiredToken": "log in again",
    "ExpiredTokenException": "log in again",
    "InvalidClientTokenId": "are these credentials for this account, and current?",
    "UnrecognizedClientException": "are these credentials current?",
}
# What none of the stack's policies allows.
_RIGHTS = {
    "DescribeStacks": "allow cloudformation:DescribeStacks, or set for each part its"
    " TAILRACE_… variable",
    "GetSecretValue": "allow secretsmanager:GetSecretValue on the output KeyRingArn",
}


@dataclass(frozen=True, slots=True)
class Failure:
    code: int
    line: str
    hint: str | None = None


def explain(error: BaseException) -> Failure | None:
    """Return what is to be said of an error; None for one that nobody foresaw."""
    if isinstance(error, KeyboardInterrupt | click.exceptions.Abort):
        return Failure(INTERRUPTED, "interrupted")
    if isinstance(error, click.ClickException):
        context = getattr(error, "ctx", None)
        hint = None if context is None else f"{context.command_path} --help"
        return Failure(WRONG, _line(error.format_message()), hint)
    if isinstance(error, NoStack):
        hint = "name it: tailrace --stack NAME …, or TAILRACE_STACK"
        return Failure(NOT_ALLOWED, _line(error.message), hint)
    if isinstance(error, NoAnswer) or isinstance(error.__cause__, NoAnswer):
        hint = "its log says more; is TAILRACE_PUBLISH_FUNCTION right if it is set?"
        return Failure(UNAVAILABLE, _line(str(error)), hint)
    if isinstance(error, TailraceError):
        return Failure(
            _CODES.get(error.code, 1), _line(error.message), _HINTS.get(error.code)
        )
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        hint = "log in, or set AWS_PROFILE, or AWS_ACCESS_KEY_ID and its secret"
        return Failure(NOT_ALLOWED, "no AWS credentials were found", hint)
    if isinstance(error, NoRegionError):
        return Failure(NOT_ALLOWED, "no AWS region is set", "set AWS_DEFAULT_REGION")
    if isinstance(error, ProfileNotFound):
        return Failure(NOT_ALLOWED, _line(str(error)), "is AWS_PROFILE right?")
    if isinstance(error, ClientError):
        about = error.response.get("Error", {})
        code = str(about.get("Code", ""))
        line = f"AWS refused {error.operation_name}: {about.get('Message') or code}"
        hint = _AWS_HINTS.get(code)
        if code.startswith("AccessDenied"):
            hint = _RIGHTS.get(error.operation_name, hint)
        return Failure(NOT_ALLOWED, _line(line), hint)
    if isinstance(error, ConnectionError | HTTPClientError):
        return Failure(UNAVAILABLE, _line(str(error)), _HINTS["unavailable"])
    if isinstance(error, BotoCoreError):  # of a login, or of what is configured
        hint = "log in again; are AWS_PROFILE and the region right?"
        return Failure(NOT_ALLOWED, _line(str(error)), hint)
    if isinstance(error, ValueError) and str(error).startswith("Invalid endpoint"):
        hint = "AWS_ENDPOINT_URL must be a URL: http://127.0.0.1:4566"
        return Failure(WRONG, _line(str(error)), hint)  # botocore has no name for it
    if isinstance(error, OSError):
        return Failure(WRONG, _line(f"{error.filename or ''} {error.strerror}".strip()))
    return None


def _line(text: str) -> str:
    return " ".join(text.split())
