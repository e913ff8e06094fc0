"""The settings in the environment: the functions', and those that producers share."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from .errors import Invalid
from .records import MAX_LEASE_SECONDS


@dataclass(frozen=True, slots=True)
class Settings:
    """What the template tells a function, each only what it uses; and what a producer
    may be told, of which `push_interval` is its alone."""

    log_table: str = ""
    state_table: str = ""
    key_ring_arn: str = ""
    connections_url: str = ""
    origins: tuple[str, ...] = ()
    retention_hours: int = 72
    lease_seconds: int = 30
    delivery: str = "Feed"
    push_interval: int = 0
    fanout_function: str = ""
    job_function: str = ""
    repairs_url: str = ""
    chat_abort: str = "detach"

    def require(self, *names: str) -> Settings:
        """Return itself if these have values; else say which variables are missing."""
        missing = [
            f"TAILRACE_{name.upper()}" for name in names if not getattr(self, name)
        ]
        if missing:
            raise Invalid(f"environment: {', '.join(missing)} must be set")
        return self


def from_environment(environ: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings; `Invalid` for a number that is none."""
    defaults = Settings()
    delivery = environ.get("TAILRACE_DELIVERY") or defaults.delivery
    if delivery not in ("Feed", "Direct"):
        raise Invalid("environment: TAILRACE_DELIVERY must be Feed or Direct")
    return Settings(
        log_table=environ.get("TAILRACE_LOG_TABLE", ""),
        state_table=environ.get("TAILRACE_STATE_TABLE", ""),
        key_ring_arn=environ.get("TAILRACE_KEY_RING_ARN", ""),
        connections_url=environ.get("TAILRACE_CONNECTIONS_URL", ""),
        origins=tuple(
            origin.strip()
            for origin in environ.get("TAILRACE_ORIGINS", "").split(",")
            if origin.strip()
        ),
        retention_hours=_number(
            environ, "TAILRACE_RETENTION_HOURS", defaults.retention_hours, 1, 8_760
        ),
        lease_seconds=_number(
            environ,
            "TAILRACE_LEASE_SECONDS",
            defaults.lease_seconds,
            1,
            MAX_LEASE_SECONDS,
        ),
        delivery=delivery,
        push_interval=_number(
            environ, "TAILRACE_PUSH_INTERVAL", defaults.push_interval, 0, 5_000
        ),
        fanout_function=environ.get("TAILRACE_FANOUT_FUNCTION", ""),
        job_function=environ.get("TAILRACE_JOB_FUNCTION", ""),
        repairs_url=environ.get("TAILRACE_REPAIRS_URL", ""),
        chat_abort=environ.get("TAILRACE_CHAT_ABORT") or defaults.chat_abort,
    )


def starts_in_lambda(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether Lambda is starting this process."""
    return "AWS_LAMBDA_INITIALIZATION_TYPE" in environ


def _number(
    environ: Mapping[str, str], name: str, default: int, least: int, most: int
) -> int:
    text = environ.get(name) or str(default)
    if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
        raise Invalid(f"environment: {name} must be a number from {least} to {most}")
    return int(text)
