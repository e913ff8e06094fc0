"""The search of all logs (tests/support/leaks.py) finds what is planted in each, fails
the run for it, and does not say it again."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import jwt
import pytest

from tests.support.leaks import Secrets

ROOT = Path(__file__).parents[2]
KEY = "the key of a test that is about the search of logs"

PLANTS = {
    "a logger of its own": """
        log = logging.getLogger("of-its-own")
        log.propagate = False
        log.addHandler(logging.NullHandler())
        log.warning("said %s", "planted-chunk")
    """,
    "a record's extra": """
        logging.getLogger("tailrace").warning("said", extra={"meta": "planted-meta"})
    """,
    "an exception": """
        try:
            raise ValueError("planted-error")
        except ValueError:
            logging.getLogger("tailrace").exception("failed")
    """,
    "stdout": "print('planted-prompt')",
    "stderr": "print('planted-prompt', file=sys.stderr)",
    "a child's stderr": """
        code = "import sys; sys.stderr.write('planted-secret')"
        subprocess.run([sys.executable, "-c", code], capture_output=True)
    """,
    "a child that nobody listens to": """
        code = "import sys; sys.stderr.write('planted-secret')"
        subprocess.run([sys.executable, "-c", code])
    """,
    "an asyncio child's stderr": """
        async def run():
            code = "import sys; sys.stderr.write('planted-secret')"
            pipe = subprocess.PIPE
            child = await asyncio.create_subprocess_exec(
                sys.executable, "-c", code, stderr=pipe
            )
            await child.communicate()
        asyncio.run(run())
    """,
    "a file of a local AWS": """
        home = pathlib.Path(os.environ["LOCAL_AWS_LOGS"], "some", "functions")
        home.mkdir(parents=True)
        home.joinpath("publish.log").write_text("nothing\\nplanted-chunk\\n")
    """,
    "a token": f"print(jwt.encode({{'sub': 'u'}}, {KEY!r}, algorithm='HS256'))",
    "a signature": f"""
        token = jwt.encode({{'sub': 'u'}}, {KEY!r}, algorithm='HS256')
        print("refused:", token.split(".")[2])
    """,
    "a key": f"""
        jwt.encode({{'sub': 'u'}}, {KEY!r}, algorithm='HS256')
        print("read", {KEY!r})
    """,
}
FOUND = {
    "a logger of its own": "a planted chunk: the logger 'of-its-own' in",
    "a record's extra": "a planted meta: the logger 'tailrace' in",
    "an exception": "a planted error: the logger 'tailrace' in",
    "stdout": "a planted prompt: Captured stdout call of",
    "stderr": "a planted prompt: Captured stderr call of",
    "a child's stderr": "a planted secret: stderr of a child of",
    "a child that nobody listens to": "a planted secret: Captured stderr call of",
    "an asyncio child's stderr": "a planted secret: stderr of a child of",
    "a file of a local AWS": "a planted chunk: line 2 of some/functions/publish.log",
    "a token": "a token: Captured stdout call of",
    "a signature": "a token: Captured stdout call of",
    "a key": "a key: Captured stdout call of",
}
HEAD = "import asyncio, logging, os, pathlib, subprocess, sys, jwt\n"


def run(folder: Path, tests: dict[str, str], *options: str) -> tuple[int, str]:
    """Run tests with the search; return the exit code and what was printed."""
    for number, body in enumerate(tests.values()):
        file = folder / f"test_{number}.py"
        inner = textwrap.indent(textwrap.dedent(body), "    ")
        file.write_text(f"{HEAD}\ndef test_it():\n{inner}\n")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "tests.support.leaks"),
            *("-p", "no:cacheprovider", "--rootdir", str(folder), *options),
            str(folder),
        ],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize("options", [(), ("-n", "2", "--dist", "loadfile")])
def test_what_is_planted_in_any_log_fails_the_run_and_is_not_said_again(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    code, out = run(tmp_path, PLANTS, *options)
    assert code == 1, out
    assert f"{len(PLANTS)} passed" in out, "each test by itself is good"
    for name, line in FOUND.items():
        assert line in out, name
    assert len(FOUND) == len(PLANTS)
    assert not Secrets().kinds(out)
    assert KEY not in out


def test_a_run_that_logs_nothing_of_it_passes(tmp_path: Path) -> None:
    quiet = "logging.getLogger('tailrace').warning('a push failed'); print('17')"
    assert run(tmp_path, {"quiet": quiet})[0] == 0


def test_only_what_was_signed_or_planted_is_found() -> None:
    secrets = Secrets()
    token = jwt.encode({"sub": "u"}, KEY, algorithm="HS256")
    signature = token.rpartition(".")[2]
    assert secrets.kinds(f"{signature} {KEY} planted, a chunk") == set()
    secrets.learn(token, KEY)
    assert secrets.kinds(f"x={signature}") == {"a token"}
    assert secrets.kinds(f"x={signature}y") == set()
    assert secrets.kinds(f"{KEY} planted-chunk") == {"a key", "a planted chunk"}
    assert secrets.kinds(token[:60]) == {"a token"}
