"""The figures kept in the repository: a file a benchmark, with when, where and how."""

from __future__ import annotations

import json
import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "results"


def machine() -> str:
    """Return what the figures were made on, in a few words."""
    model = "unknown processor"
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    python = ".".join(map(str, sys.version_info[:2]))
    return f"{os.cpu_count()} cores, {model}, {platform.machine()}, Python {python}"


def save(name: str, command: str, found: dict[str, Any]) -> None:
    FOLDER.mkdir(exist_ok=True)
    about = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "command": command,
    }
    text = json.dumps({**about, **found}, indent=1) + "\n"
    (FOLDER / f"{name}.json").write_text(text)


def load(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return found
