"""The vectors that every client runs (tests/conformance/README.md has their format),
run by the Python consumer's machine."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from tailrace.consumer import wire
from tailrace.consumer.asks import (
    Close,
    Command,
    Connect,
    Fail,
    FetchToken,
    Probe,
    Send,
    Settle,
    Tell,
)
from tailrace.consumer.cursor import Concluded, Cursor, Output
from tailrace.consumer.machine import Machine
from tailrace.errors import Unauthorized

VECTORS = Path(__file__).parents[1] / "conformance"
EPOCH = 1_764_000_000_000
"""AWS time when a scenario begins, at 0 of the consumer's clock."""

SCENARIOS = [
    pytest.param(scenario, id=f"{path.stem}: {scenario['name']}")
    for path in sorted(VECTORS.glob("*.json"))
    for scenario in json.loads(path.read_text())
]


class Player:
    """Plays one scenario."""

    def __init__(self, scenario: dict[str, Any]) -> None:
        self.machine = Machine()
        self.chance = scenario.get("random", 0.5)
        self.tokens = scenario.get("tokens", [])
        self.fetched = 0
        self.now = 0.0
        self.newest = 0
        self.commands: list[dict[str, Any]] = []
        self.shown: dict[str, list[dict[str, Any]]] = {}

    def feed(self, event: str, *arguments: Any, **options: Any) -> None:
        call = getattr(self.machine, event)
        for command in call(*arguments, **options, now=self.now, chance=self.chance):
            self.carry_out(command)

    def carry_out(self, command: Command) -> None:
        match command:
            case FetchToken():
                self.fetch()
            case Tell(id, output):
                self.shown.setdefault(id, []).extend(events(output))
            case Connect(socket, token):
                self.newest = socket
                self.commands.append({"connect": socket, "token": token})
            case Send(socket, frame):
                self.commands.append({"send": frame, "socket": socket})
            case Close(socket):
                self.commands.append({"close": socket})
            case Probe():
                self.commands.append({"probe": True})
            case Fail(id, error):
                self.commands.append({"fail": id, "code": error.code})
            case Settle(id, reason):
                self.commands.append({"settle": id, "reason": reason})

    def fetch(self) -> None:
        at, self.fetched = self.fetched, self.fetched + 1
        if at >= len(self.tokens):
            self.feed("token", f"token-{self.fetched}")
        elif (given := self.tokens[at]) is None:
            self.feed("tokenless")
        elif given.get("fatal"):
            self.feed("tokenless", Unauthorized("there is none"))
        else:
            self.feed("token", given["token"], given.get("exp"))

    def play(self, step: dict[str, Any]) -> None:
        match step:
            case {"expect": expected}:
                got, self.commands = self.commands, []
                assert len(got) == len(expected), got
                for one, wanted in zip(got, expected, strict=True):
                    if "send" in wanted:
                        wanted = {"socket": self.newest, **wanted}
                    assert one == {**one, **wanted}
            case {"status": status}:
                assert self.machine.status == status
            case {"watch": id, "stream": stream, **options}:
                if after := options.pop("after", None):
                    options["after"] = Cursor(**after)
                self.feed("watch", id, stream, **options)
            case {"unwatch": id}:
                self.feed("unwatch", id)
            case {"cancel": id, "stream": stream, "run": run}:
                self.feed("cancel", id, stream, run)
            case {"opened": socket}:
                self.feed("opened", socket)
            case {"lost": socket}:
                self.feed("lost", socket)
            case {"probed": reachable}:
                self.feed("probed", reachable)
            case {"frame": frame}:
                decoded = wire.decode(json.dumps(frame))
                if decoded is not None:
                    self.feed("frame", step.get("socket", self.newest), decoded)
            case {"advance": ms}:
                self.advance(ms)
            case {"idle": ms, "tail": tail}:
                self.idle(ms, tail)
            case _:
                raise AssertionError(f"no such step: {step}")

    def advance(self, ms: float) -> None:
        until = self.now + ms
        for _ in range(10_000):
            if self.machine.deadline > until:
                break
            self.now = max(self.now, self.machine.deadline)
            self.feed("tick")
        else:
            raise AssertionError("ticks without end")
        self.now = until

    def idle(self, ms: float, tail: dict[str, Any]) -> None:
        """Let time pass while every `sync` is answered that nothing has changed."""
        until = self.now + ms
        while self.machine.deadline <= until:
            self.advance(self.machine.deadline - self.now)
            sent, self.commands = self.commands, []
            for command in sent:
                frame = command["send"]
                tails = {
                    stream: {**tail, "from": position[1]}
                    for stream, position in frame["streams"].items()
                }
                synced = {
                    "type": "synced",
                    "n": frame["n"],
                    "time": EPOCH + self.now,
                    "tails": tails,
                }
                self.feed("frame", command["socket"], synced)
        self.now = until


def events(output: Output) -> list[dict[str, Any]]:
    """Return the events in an output, as the vectors spell them."""
    if isinstance(output, Concluded):
        end = {"type": "end", "run": output.run, "seq": None, "reason": output.reason}
        return [end]
    piece = output.piece
    found: list[tuple[str, dict[str, Any]]] = []
    if piece.open is not None:
        found.append(("open", piece.open))
    if piece.claim is not None:
        found.append(("claim", piece.claim))
    found += [("chunk", {"chunk": chunk}) for chunk in piece.chunks]
    if piece.end is not None:
        found.append(("end", piece.end))
    return [
        {"type": kind, "run": piece.run, "seq": piece.seq + at, "via": piece.via}
        | facts
        for at, (kind, facts) in enumerate(found)
    ]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_vector(scenario: dict[str, Any]) -> None:
    if any("page" in step for step in scenario["steps"]):
        pytest.skip("a Python process has no page that comes and goes")
    player = Player(scenario)
    for at, step in enumerate(scenario["steps"]):
        try:
            player.play(step)
        except AssertionError as error:
            error.add_note(f"step {at}: {json.dumps(step)}")
            raise
    assert player.commands == [], "commands that no step expects"
    for reader, expected in scenario.get("output", {}).items():
        shown = player.shown.get(reader, [])
        assert len(shown) == len(expected), shown
        for got, wanted in zip(shown, expected, strict=True):
            assert got == {**got, **wanted}


def test_there_are_vectors_for_every_part_of_a_consumer() -> None:
    stems = {path.stem for path in VECTORS.glob("*.json")}
    assert {"order", "positions", "runs", "connection", "tokens"} <= stems
    assert len(SCENARIOS) >= 60
    assert Machine().deadline == math.inf
