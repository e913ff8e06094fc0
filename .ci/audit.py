"""Hold the pinned dependencies against the public advisories: part of `make check`.

A finding fails. Where no advisory can be reached, a line says that nothing was audited;
`pip-audit` by itself would say that nothing was found.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
# The smallest first: a quick way to see that there is nobody to ask.
PYTHON = ("layers/tailrace/requirements.lock", "requirements.lock")
JAVASCRIPT = ("bench/rivals/package-lock.json", "clients/js/package-lock.json")
UNREACHABLE = ("ConnectionError", "Failed to resolve", "timed out", "Max retries")
UNREACHABLE_NPM = ("ENOTFOUND", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "EAI_AGAIN")


class Verdict(NamedTuple):
    ok: bool
    line: str


def python(lock: str, stdout: str, stderr: str) -> Verdict:
    """Judge what `pip-audit --format json` said of a lock file."""
    try:
        packages = json.loads(stdout)["dependencies"]
    except (ValueError, KeyError):
        if any(sign in stderr for sign in UNREACHABLE):
            return _skipped("pip-audit", lock)
        return Verdict(False, f"pip-audit: {lock}: failed\n{stderr}")
    audited = [one for one in packages if "vulns" in one]
    if packages and not audited:
        return _skipped("pip-audit", lock)
    found = [
        f"\n  {one['name']} {one['version']}: {vulnerability['id']}"
        for one in audited
        for vulnerability in one["vulns"]
    ]
    unknown = [one["name"] for one in packages if "vulns" not in one]
    rest = f", none to be had for {', '.join(unknown)}" if unknown else ""
    line = f"pip-audit: {lock}: {len(found)} advisories on {len(audited)} packages"
    return Verdict(not found, line + rest + "".join(found))


def javascript(lock: str, stdout: str) -> Verdict:
    """Judge what `npm audit --json` said of a lock file."""
    try:
        report = json.loads(stdout)
        found = report.get("vulnerabilities")
    except (ValueError, AttributeError):
        return Verdict(False, f"npm audit: {lock}: failed\n{stdout}")
    if found is None:
        message = str(report.get("message") or report.get("error"))
        # A registry that has no such endpoint, or none that answers.
        if report.get("statusCode", 0) >= 400 or any(
            sign in message for sign in UNREACHABLE_NPM
        ):
            return _skipped("npm audit", lock)
        return Verdict(False, f"npm audit: {lock}: failed\n{stdout}")
    names = "".join(f"\n  {name}: {one['severity']}" for name, one in found.items())
    return Verdict(not found, f"npm audit: {lock}: {len(found)} advisories{names}")


def _skipped(tool: str, lock: str) -> Verdict:
    return Verdict(
        True, f"{tool}: SKIPPED, no advisory can be reached: {lock} is not audited"
    )


def _run(*command: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    program = shutil.which(command[0])
    if program is None:
        sys.exit(f"no {command[0]} here: make setup")
    return subprocess.run(  # noqa: S603
        [program, *command[1:]], cwd=cwd, capture_output=True, text=True, check=False
    )


def _python(lock: str) -> Verdict:
    done = _run(
        *("pip-audit", "--require-hashes", "--disable-pip", "--format", "json"),
        *("--progress-spinner", "off", "--requirement", lock),
    )
    return python(lock, done.stdout, done.stderr)


def _javascript(lock: str) -> Verdict:
    done = _run("npm", "audit", "--json", cwd=(ROOT / lock).parent)
    return javascript(lock, done.stdout)


def main() -> int:
    verdicts: list[Verdict] = []
    for audit, tool, locks in (
        (_python, "pip-audit", PYTHON),
        (_javascript, "npm audit", JAVASCRIPT),
    ):
        first, *others = locks
        verdict = audit(first)
        asked = "SKIPPED" not in verdict.line
        verdicts += [verdict]
        verdicts += [audit(lock) if asked else _skipped(tool, lock) for lock in others]
    for verdict in verdicts:
        print(verdict.line, file=sys.stdout if verdict.ok else sys.stderr)
    return 0 if all(verdict.ok for verdict in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
