"""Logs and metrics of the functions, through Powertools.

Tokens, chunks, prompts and secrets are never logged: an exception is logged by its type
and the places it went through, without its message, which may quote what it met; and
what AWS refused, by the code and the operation, which are words of its API.
"""

from __future__ import annotations

import functools
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import Metrics, MetricUnit
from botocore.exceptions import ClientError

from .errors import NotNow, TailraceError, Unavailable

Handler = Callable[[Any, Any], Any]

AGAIN_SECONDS = 10
"""After so long a process logs again that the same was unavailable."""

_UNITS = {
    "DirectLag": MetricUnit.Milliseconds,
    "FeedLag": MetricUnit.Milliseconds,
}


class Telemetry:
    """One function's logger and metrics. Metrics are collected during an invocation
    and leave as one line of EMF at its end, if there are any."""

    def __init__(self) -> None:
        self.logger = Logger()
        self._metrics = Metrics()
        # Added up here: Powertools' metrics are not for many threads, and keep each
        # value apart, 100 to a line.
        self._lock = threading.Lock()
        self._counted: dict[str, list[int]] = {}
        self._told_at: dict[str, float] = {}

    def count(self, name: str, value: int) -> None:
        """Add to a metric, from any thread; nothing is emitted for a zero."""
        if not value:
            return
        with self._lock:
            values = self._counted.setdefault(name, [])
            if values and name not in _UNITS:
                values[0] += value
            else:
                values.append(value)

    def conflict(self, kind: str) -> None:
        """Count a put that met another record, by that record's kind."""
        self.count("AppendConflicts", 1)
        self.count(f"AppendConflicts{kind.capitalize()}", 1)

    def refused(self, error: TailraceError) -> None:
        """Count an answer which says that AWS did not do its part, and log why: to
        Lambda it is no error. Not each time: logs are paid for, in an outage, too."""
        if not isinstance(error, Unavailable) or isinstance(error, NotNow):
            return
        self.count("Unavailable", 1)
        while isinstance(error.__cause__, Unavailable):
            error = error.__cause__
        with self._lock:
            now = time.monotonic()
            if now - self._told_at.get(error.message, -AGAIN_SECONDS) < AGAIN_SECONDS:
                return
            self._told_at[error.message] = now
        self.logger.error("unavailable", why=error.message, **_refused(error))

    def failed(self, error: Exception) -> None:
        """Log that something failed which nobody waits for, and count it."""
        self.count("PushesRefused", 1)
        self.logger.error("a push failed", **_where(error))

    def wrap(self, handler: Handler) -> Handler:
        """Return the handler that also emits metrics, and logs a crash."""

        @functools.wraps(handler)
        def wrapped(event: Any, context: Any) -> Any:
            try:
                return handler(event, context)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is told
                self.logger.error(
                    "the function crashed",
                    **_where(error),
                    request=getattr(context, "aws_request_id", None),
                )
                # Lambda's runtime logs what is raised, with its message.
                raise FunctionCrashed(type(error).__name__) from None
            finally:
                self._flush()

        return wrapped

    def _flush(self) -> None:
        with self._lock:
            counted, self._counted = self._counted, {}
        for name, values in counted.items():
            unit = _UNITS.get(name, MetricUnit.Count)
            for value in values:
                self._metrics.add_metric(name, unit, value)
        if self._metrics.metric_set:
            self._metrics.flush_metrics()


def _where(error: Exception) -> dict[str, Any]:
    """Return the type of an error and the places it went through: no content."""
    return {
        "error": type(error).__name__,
        **_refused(error),
        "where": [
            f"{frame.name} in {Path(frame.filename).name}:{frame.lineno}"
            for frame in traceback.extract_tb(error.__traceback__)
        ],
    }


def _refused(error: BaseException | None) -> dict[str, Any]:
    """Return what AWS refused, if an error or its cause says so."""
    if isinstance(error, ClientError):
        code = error.response.get("Error", {}).get("Code")
        return {"code": code, "operation": error.operation_name}
    status = getattr(error, "status", None)  # of a refused push
    if status is not None:
        return {"code": status}
    return {} if error is None else _refused(error.__cause__)


class FunctionCrashed(Exception):
    """Something unforeseen happened; the log has where. Carries no content."""
