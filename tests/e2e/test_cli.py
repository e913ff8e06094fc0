"""The command against the deployed stack, found by its name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from demo.stack import STACK_NAME
from tests.support.deployed import Deployed

COMMAND = Path(sys.executable).with_name("tailrace")
PATIENCE = 60


def environment(deployed: Deployed) -> dict[str, str]:
    return {**deployed.stack.environment, "COLUMNS": "200"}


def run(deployed: Deployed, *arguments: str, stdin: str = "") -> tuple[int, str, str]:
    done = subprocess.run(
        [COMMAND, "--stack", STACK_NAME, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=environment(deployed),
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_what_is_published_is_seen_live_and_again(deployed: Deployed) -> None:
    stream = deployed.new_stream("cli")
    with subprocess.Popen(
        [COMMAND, "tail", stream, "--json"],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(deployed),
    ) as tail:
        while not deployed.ask("watchers", stream)["watchers"]:
            assert tail.poll() is None
        lines = "".join(f"line {number}\n" for number in range(50))
        code, _, err = run(deployed, "publish", stream, "--rate", "100", stdin=lines)
        assert (code, "50 chunks, up to seq 52" in err) == (0, True), err
        out, _ = tail.communicate(timeout=PATIENCE)
    events: list[dict[str, Any]] = [json.loads(line) for line in out.splitlines()]
    assert [event["chunk"] for event in events if event["type"] == "chunk"] == (
        lines.splitlines(keepends=True)
    )
    assert {event["via"] for event in events} <= {"live", "repair"}
    assert events[-1]["reason"] == "completed"
    assert tail.returncode == 0
    assert run(deployed, "tail", stream, "--from-start")[:2] == (0, lines)


def test_an_answer_is_stopped_and_its_state_told(deployed: Deployed) -> None:
    stream = deployed.new_stream("cli")
    with subprocess.Popen(
        [COMMAND, "--in-process", "publish", stream],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(deployed),
    ) as publish:
        assert publish.stdin is not None
        publish.stdin.write("a\n")
        publish.stdin.flush()
        while not deployed.ask("tail", stream).get("index"):
            assert publish.poll() is None
        told = json.loads(run(deployed, "status", stream, "--json")[1])
        assert (told["active"], told["index"]) == (True, 1)
        code, out, _ = run(deployed, "cancel", stream)
        assert (code, out) == (0, f"cancelled {told['run']}\n")
        _, err = publish.communicate(timeout=PATIENCE)
    assert publish.returncode == 4
    assert "the run was cancelled" in err


def test_a_token_that_was_minted_opens_the_socket(deployed: Deployed) -> None:
    stream = deployed.new_stream("cli")
    run(deployed, "publish", stream, stdin="a\n")
    token = run(deployed, "token", "--read", stream)[1].strip()
    code, out, _ = run(deployed, "tail", stream, "--from-start", "--token", token)
    assert (code, out) == (0, "a\n")
    other = run(deployed, "token", "--read", "another")[1].strip()
    code, _, err = run(deployed, "tail", stream, "--from-start", "--token", other)
    assert (code, err.splitlines()[0]) == (
        3,
        "tailrace: the token does not grant read for this stream",
    )


def test_a_stack_that_is_not_there_is_named(deployed: Deployed) -> None:
    done = subprocess.run(
        [COMMAND, "--stack", "nope", "status", "x"],
        capture_output=True,
        text=True,
        env=environment(deployed) | {"PATH": os.environ["PATH"]},
        check=False,
    )
    assert done.returncode == 3
    assert "there is no 'nope' in us-east-1" in done.stderr
