"""A fixed share of the worlds that `make simulate` tries."""

from __future__ import annotations

import hashlib
import os

import pytest

from tests.simulation import __main__ as command
from tests.simulation import reach
from tests.simulation.scenario import Scenario, run
from tests.simulation.search import PART, Found, Plan, search
from tests.simulation.world import Violation, World

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


def test_several_processes_find_what_one_finds() -> None:
    def last(plan: Plan, jobs: int) -> Found:
        return list(search(plan, jobs))[-1]

    plan = Plan(first=PART // 2, seeds=3 * PART, steps=40, seconds=600)
    alone = last(plan, 1)
    assert alone == last(plan, 2)
    assert (alone.seeds, alone.chats, alone.failed) == (3 * PART, 2, None)


def test_the_first_seed_that_fails_is_told_whoever_finds_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def play(seed: int, *_: object, **__: object) -> World:
        if seed in (PART + 3, PART + 7, 2 * PART):
            raise Violation("something", f"in {seed}")
        return World(seed)

    monkeypatch.setattr("tests.simulation.search.run", play)
    plan = Plan(first=1, seeds=10 * PART, steps=1, seconds=600)
    for jobs in (1, 3):
        found = list(search(plan, jobs))[-1]
        assert found.failed == (PART + 3, "something", False)
        assert (found.error, found.seeds) == (f"something: in {PART + 3}", PART + 2)


def test_no_part_is_begun_when_the_time_is_over() -> None:
    assert list(search(Plan(first=0, seeds=9, steps=1, seconds=-1), 1)) == []


def test_the_core_is_what_the_import_contracts_keep_pure() -> None:
    names = {str(file.relative_to(reach.PACKAGE)) for file in reach.core()}
    assert all((reach.PACKAGE / name).is_file() for name in names)
    assert {"log.py", "chat.py", "consumer/cursor.py", "producer/core.py"} < names
    assert not any(name.startswith(("adapters/", "aisdk/", "cli/")) for name in names)


def test_worlds_that_reach_too_little_are_told(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert reach.measure(0, 2, 10, 2, missing=False) == 1
    assert "of the lines and branches were reached" in capfd.readouterr().out


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
