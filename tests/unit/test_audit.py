"""`make check` says when nothing was audited, and fails when something was found."""

from __future__ import annotations

import importlib.util
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

PATH = Path(__file__).parents[2] / ".ci/audit.py"
spec = importlib.util.spec_from_file_location("audit", PATH)
assert spec and spec.loader
audit = importlib.util.module_from_spec(spec)
spec.loader.exec_module(audit)

GOOD = {"name": "attrs", "version": "26.1.0", "vulns": []}
BAD = {"name": "old", "version": "1.0", "vulns": [{"id": "PYSEC-1"}]}
UNKNOWN = {"name": "ours", "skip_reason": "Dependency not found on PyPI"}


def _python(*packages: object) -> Any:
    return audit.python("lock", json.dumps({"dependencies": packages}), "")


def test_an_advisory_fails_the_check_and_is_named() -> None:
    ok, line = _python(GOOD, BAD)
    assert not ok
    assert "old 1.0: PYSEC-1" in line


def test_packages_without_advisories_pass_and_are_counted() -> None:
    ok, line = _python(GOOD, UNKNOWN)
    assert ok
    assert "0 advisories on 1 packages, none to be had for ours" in line


def test_nothing_known_of_any_package_is_no_clean_bill() -> None:
    for verdict in (
        _python(UNKNOWN, UNKNOWN),
        audit.python("lock", "", "requests.exceptions.ConnectionError: no route"),
        audit.javascript("lock", '{"message": "405 Method", "statusCode": 405}'),
        audit.javascript("lock", '{"message": "request failed: ENOTFOUND"}'),
    ):
        assert verdict[0]
        assert "SKIPPED" in verdict[1]
        assert "not audited" in verdict[1]


def test_an_audit_that_broke_fails() -> None:
    for verdict in (
        audit.python("lock", "", "error: no such option"),
        audit.javascript("lock", "Segmentation fault"),
        audit.javascript("lock", '{"error": {"code": "ENOLOCK"}}'),
    ):
        assert not verdict[0]


def test_a_finding_in_the_browser_client_fails() -> None:
    none = audit.javascript("lock", '{"vulnerabilities": {}}')
    some = audit.javascript("lock", '{"vulnerabilities": {"x": {"severity": "high"}}}')
    assert none[0]
    assert not some[0]
    assert "x: high" in some[1]


def test_every_lock_file_is_audited(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[tuple[str, ...]] = []

    def run(*command: str, cwd: Path = audit.ROOT) -> object:
        ran.append(command)
        lock = command[-1] if command[0] == "pip-audit" else f"{cwd}/package-lock.json"
        assert (audit.ROOT / lock).exists()
        found = '{"dependencies": [], "vulnerabilities": {}}'
        return subprocess.CompletedProcess(command, 0, found, "")

    monkeypatch.setattr(audit, "_run", run)
    assert audit.main() == 0
    ours = [
        path.relative_to(audit.ROOT)
        for name in ("*.lock", "package-lock.json")
        for path in audit.ROOT.rglob(name)
    ]
    listed = [
        str(path)
        for path in ours
        if not any(part[0] == "." or part == "node_modules" for part in path.parts)
    ]
    lines = capsys.readouterr().out.splitlines()
    assert sorted(line.split(": ")[1] for line in lines) == sorted(listed)
    assert len(ran) == len(listed)
