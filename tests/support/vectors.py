"""The vectors of tests/conformance (its README has their format): the words for what a
consumer's machine does, and who plays them to the Python one."""

from __future__ import annotations

import json
import math
from typing import Any

from tailrace.consumer import wire
from tailrace.consumer.cursor import Concluded, Cursor, Output
from tailrace.consumer.machine import Machine
from tailrace.consumer.state import (
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
from tailrace.errors import Unauthorized

EPOCH = 1_764_000_000_000
"""AWS time when a scenario begins, at 0 of the consumer's clock."""
TOLD = "told"
"""The `tokens` of a scenario in which fetching one is a command, answered by a step."""


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
            match command:
                case FetchToken() if self.tokens != TOLD:
                    self.fetch()
                case Tell(id, output):
                    self.shown.setdefault(id, []).extend(events(output))
                case _:
                    self.commands.append(spelled(command))
                    self.newest = self.commands[-1].get("connect", self.newest)

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
                for _ in range(step.get("times", 1)):
                    self.hear(json.dumps(frame), step)
            case {"text": text}:
                self.hear(text, step)
            case {"pause": id}:
                self.feed("pause", id)
            case {"resume": id}:
                self.feed("resume", id)
            case {"token": None}:
                fatal = Unauthorized("there is none") if step.get("fatal") else None
                self.feed("tokenless", fatal)
            case {"token": token}:
                self.feed("token", token, step.get("exp"))
            case {"tick": _}:
                self.feed("tick")
            case {"close": _}:
                self.feed("close")
            case {"wait": ms}:
                due = self.machine.deadline - self.now
                assert abs(due - step["due"]) < 1 if "due" in step else due == math.inf
                self.now += ms
            case {"advance": ms}:
                self.advance(ms)
            case {"idle": ms, "tail": tail}:
                self.idle(ms, tail)
            case _:
                raise AssertionError(f"no such step: {step}")

    def hear(self, text: str, step: dict[str, Any]) -> None:
        decoded = wire.decode(text)
        if decoded is not None:
            self.feed("frame", step.get("socket", self.newest), decoded)

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


def spelled(command: Command) -> dict[str, Any]:
    """Return a command (all but `Tell`) as the vectors spell it."""
    match command:
        case FetchToken():
            return {"fetch": True}
        case Connect(socket, token):
            return {"connect": socket, "token": token}
        case Send(socket, frame):
            return {"send": frame, "socket": socket}
        case Close(socket):
            return {"close": socket}
        case Probe():
            return {"probe": True}
        case Fail(id, error):
            return {"fail": id, "code": error.code}
        case Settle(id, reason):
            return {"settle": id, "reason": reason}
    raise AssertionError(f"what a reader is told is no command: {command}")


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


def play(scenario: dict[str, Any]) -> None:
    """Play a scenario whole."""
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
