"""An example whose process is killed, on the deployed stack."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from demo.stack import STACK_NAME
from tests.examples.providers import TEXT, Provider, openai
from tests.support.deployed import Deployed

SCRIPT = Path(__file__).parents[2] / "examples" / "openai_background.py"


def test_an_openai_answer_goes_on_after_its_job_was_killed(
    deployed: Deployed, tmp_path: Path
) -> None:
    stream = deployed.new_stream("openai")
    with Provider().listening() as provider:
        command = [sys.executable, str(SCRIPT), stream, str(tmp_path / "job"), "Why?"]
        environment = {
            **deployed.stack.environment,
            "TAILRACE_STACK": STACK_NAME,
            "OPENAI_API_KEY": "sk-test",
            "OPENAI_BASE_URL": f"{provider.url}/v1",
        }
        provider.pause_after = 6
        with subprocess.Popen(command, env=environment) as first:
            while deployed.ask("tail", stream).get("index", 0) < 6:
                assert first.poll() is None
            first.kill()
        provider.pause_after = None
        subprocess.run(command, env=environment, check=True, timeout=60)
        assert "starting_after=5" in provider.requests[-1][0]
    read = deployed.ask("read", stream)
    slices = [json.loads(text) for text in read["slices"]]
    written = [chunk for one in slices for chunk in one.get("chunks", [])]
    assert [one["type"] for one in written] == [one["type"] for one in openai()]
    assert "".join(one.get("delta", "") for one in written) == TEXT
    assert slices[-1]["end"] == {"reason": "completed"}
