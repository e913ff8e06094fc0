"""A fixed share of the worlds that `make simulate` tries."""

from __future__ import annotations

import hashlib
import os

import pytest

from tests.simulation import __main__ as command
from tests.simulation.scenario import Scenario, run

SEEDS = int(os.environ.get("SEEDS", "480"))
STEPS = 600
SHARES = 8


@pytest.mark.parametrize("share", range(SHARES))
def test_every_invariant_holds_in_every_world(share: int) -> None:
    for seed in range(share, SEEDS, SHARES):
        try:
            run(seed, STEPS)
        except BaseException as error:
            error.add_note(f"again: python -m tests.simulation --seed {seed} --trace")
            raise


def test_a_seed_decides_everything() -> None:
    def trace(seed: int) -> str:
        scenario = Scenario(seed, trace=True)
        scenario.run(STEPS)
        assert scenario.world.trace
        lines = "\n".join(
            line for line in scenario.world.trace if " object at 0x" not in line
        )
        return hashlib.sha256(lines.encode()).hexdigest()

    assert trace(7) == trace(7)
    assert trace(7) != trace(8)


def test_leaving_out_an_actor_leaves_the_others_their_chances() -> None:
    whole = Scenario(11)
    fewer = Scenario(11, without=frozenset({"tabs", "users"}))
    assert [job.length for job in whole.jobs] == [job.length for job in fewer.jobs]
    assert [job.run for job in whole.jobs] == [job.run for job in fewer.jobs]
    assert fewer.tabs == []


def test_a_known_weakness_is_found_and_shrunk(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`delete` frees the keys that a frozen writer would have met (docs/runbook.md):
    the search finds it, and says how to see it again."""
    given = ["--beside", "delete", "--seeds", "4000", "--steps", "600"]
    assert command.main(given) == 1
    shown = capsys.readouterr().out
    assert "is put behind" in shown
    assert "again: python -m tests.simulation --seed" in shown
