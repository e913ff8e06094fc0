"""What befalls the Python client in the worlds, as vectors for any other.

A vector is one life of a machine, from its first event to its last: what happened, and
when, and what it commanded and showed, in the format of tests/conformance. The
JavaScript client plays them, and must do the same:

python -m tests.simulation.vectors --seeds 500 --steps 300
"""

# ruff: noqa: T201

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tailrace.consumer.cursor import Cursor
from tailrace.consumer.machine import Machine
from tailrace.consumer.state import Command, Tell
from tests.support.vectors import TOLD, events, spelled

from .scenario import Scenario

CLIENT = Path(__file__).parents[2] / "clients/js"
PLAYER, SOURCE = CLIENT / "test/support/play.js", CLIENT / "src"
# A life that is longer (in characters of its frames) is told up to there.
LONGEST = 60_000
PART = 20


@dataclass
class Vector:
    """The life of one machine. `due`: when its next timer is, as it says itself."""

    name: str
    random: float
    now: int = 0
    due: float = math.inf
    size: int = 0
    status: str = "idle"
    steps: list[dict[str, Any]] = field(default_factory=list)
    output: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "why": "So it went in a simulated world.",
            "random": self.random,
            "tokens": TOLD,
            "steps": self.steps,
            "output": self.output,
        }


class Scribe:
    """Hears of every event of every machine in a world."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._lives: dict[Machine, Vector] = {}
        self._tokens: dict[str, str] = {}

    @property
    def vectors(self) -> list[dict[str, Any]]:
        return [vector.as_dict() for vector in self._lives.values()]

    def note(
        self,
        whose: str,
        machine: Machine,
        now: int,
        chance: float,
        event: str,
        *facts: Any,
        commands: Sequence[Command] = (),
        **named: Any,
    ) -> None:
        """Write down an event, and what the machine has commanded then. Of a frame
        its text is given."""
        vector = self._lives.get(machine)
        if vector is None:
            name = f"seed {self._seed}: {whose}, life {len(self._lives) + 1}"
            vector = self._lives[machine] = Vector(name, chance)
        if vector.size > LONGEST:
            return
        assert chance == vector.random, "a vector knows one chance"
        if now > vector.now:
            wait: dict[str, Any] = {"wait": now - vector.now}
            if vector.due < math.inf:
                wait["due"] = vector.due - vector.now
            vector.steps.append(wait)
        step = spelled_event(event, facts, named)
        if step.get("token"):
            step = {**step, "token": self._short(step["token"])}
        vector.steps.append(step)
        vector.size += len(json.dumps(step))
        told = []
        for command in commands:
            if isinstance(command, Tell):
                shown = vector.output.setdefault(command.id, [])
                shown.extend(events(command.output))
            else:
                told.append(self._shortened(spelled(command)))
        if told:
            vector.steps.append({"expect": told})
        if machine.status != vector.status:
            vector.status = machine.status
            vector.steps.append({"status": vector.status})
        vector.now, vector.due = now, machine.deadline

    def _short(self, token: str) -> str:
        return self._tokens.setdefault(token, f"token-{len(self._tokens) + 1}")

    def _shortened(self, command: dict[str, Any]) -> dict[str, Any]:
        match command:
            case {"connect": _, "token": token}:
                return {**command, "token": self._short(token)}
            case {"send": {"type": "auth", "token": token} as frame}:
                return {**command, "send": {**frame, "token": self._short(token)}}
        return command


def spelled_event(
    event: str, facts: tuple[Any, ...], named: dict[str, Any]
) -> dict[str, Any]:
    """Return an event of the machine as tests/conformance spells it."""
    match event, facts:
        case "watch", (id, stream):
            after: Cursor | None = named["after"]
            step = {"watch": id, "stream": stream, "follow": named["follow"]}
            if named.get("run"):
                step["run"] = named["run"]
            if after is not None:
                step["after"] = {"run": after.run, "seq": after.seq}
                step["after"]["ended"] = after.ended
            return step
        case "cancel", (id, stream, run):
            return {"cancel": id, "stream": stream, "run": run}
        case "frame", (socket, text):
            return {"frame": json.loads(text), "socket": socket}
        case "text", (socket, text):
            return {"text": text, "socket": socket}
        case "token", (token, exp):
            return {"token": token, "exp": exp}
        case "tokenless", _:
            return {"token": None, "fatal": bool(facts)}
        case "tick" | "close", ():
            return {event: True}
        case _, (fact,):
            return {event: fact}
    raise AssertionError(f"no step for {event}")


def written(seed: int, steps: int) -> list[dict[str, Any]]:
    """Return what the clients of one world have lived through."""
    scenario = Scenario(seed)
    scribe = scenario.world.scribe = Scribe(seed)
    scenario.run(steps)
    return scribe.vectors


def played(vectors: list[dict[str, Any]], source: Path = SOURCE) -> str:
    """Let the JavaScript client play vectors; return what it does otherwise."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "vectors.json"
        file.write_text(json.dumps(vectors))
        command = ["node", str(PLAYER), str(file)]
        done = subprocess.run(
            command,
            env={**os.environ, "TAILRACE_SRC": f"{source.as_uri()}/"},
            capture_output=True,
            text=True,
            check=False,
        )
    return done.stdout + done.stderr if done.returncode else ""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tests.simulation.vectors")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=500)
    parser.add_argument("--steps", type=int, default=300)
    given = parser.parse_args(arguments)
    count = 0
    for seed in range(given.first, given.first + given.seeds, PART):
        vectors = [
            vector
            for one in range(seed, min(seed + PART, given.first + given.seeds))
            for vector in written(one, given.steps)
        ]
        if differs := played(vectors):
            print(differs)
            return 1
        count += len(vectors)
    print(f"{count} vectors of {given.seeds} seeds: JavaScript does as Python did")
    return 0


if __name__ == "__main__":
    sys.exit(main())
