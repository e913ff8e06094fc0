"""The log under every interleaving that hypothesis can think of.

Two producers, a third that has taken the name of the first, a claimer, a canceller,
somebody who looks, and one-call publishers work on one stream at a time; each of their
calls may be lost, late or answered twice. After every step the log obeys its rules. At
rest, nothing that was acknowledged is missing or doubled, and each loser was told what
befell it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from tailrace import chunks, onecall
from tailrace.adapters.memory import MemoryLog
from tailrace.errors import (
    Busy,
    Cancelled,
    Fenced,
    StreamEnded,
    Superseded,
    TailraceError,
    Unavailable,
)
from tailrace.log import Log
from tailrace.records import Record
from tests.support.invariants import check_log
from tests.support.schedule import FATES, Actor, Fate, FaultyStore
from tests.support.worlds import STREAM, World, run_id

FIRST, SECOND = run_id(1), run_id(2)
PATIENCE = 8


def insist(call: Callable[[], Any]) -> Any:
    """Call until it is known what happened, as every caller must; and then once more,
    as a queue would: a repeat changes nothing."""
    results: list[Any] = []
    while len(results) < 2:
        try:
            results.append(call())
        except Unavailable:
            continue
    return results[0]


class Schedules(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.memory = MemoryLog()
        self.store = FaultyStore(self.memory)
        self.world = World(store=self.store)
        self.acknowledged: dict[str, list[str]] = {}
        self.actors = [
            Actor("w1", lambda: self.produce("w1", FIRST)),
            Actor("w2", lambda: self.produce("w2", SECOND)),
            Actor("namesake", lambda: self.produce("w1", FIRST, mark="namesake")),
            Actor("claimer", self.claim),
            Actor("canceller", self.cancel),
            Actor("looker", self.look),
            Actor("call", lambda: self.call("key-1")),
            Actor("call again", lambda: self.call("key-1")),
        ]

    # ---- who works on the stream -----------------------------------------------------

    def produce(self, writer: str, run: str, mark: str | None = None) -> None:
        """Open, append, end; each call through another container."""
        at = insist(lambda: self.container().open(STREAM, writer, run)).next
        self.write(writer, run, at, mark or writer)

    def claim(self) -> None:
        for _ in range(PATIENCE):
            try:
                record = insist(
                    lambda: self.container().claim(STREAM, FIRST, "claimer")
                )
            except Busy:
                continue
            self.write("claimer", FIRST, record.next, "claimer")
            return

    def write(self, writer: str, run: str, at: int, mark: str) -> None:
        for number, size in enumerate((1, 3, 2)):
            texts = [f'"{mark}-{number}-{part}"' for part in range(size)]
            append = partial(self.append, run, writer, at, texts)
            at = insist(append).next
            self.acknowledged.setdefault(mark, []).extend(texts)
        insist(lambda: self.container().end(STREAM, run, writer, at, "completed"))

    def append(self, run: str, writer: str, at: int, texts: list[str]) -> Record:
        return self.container().append(STREAM, run, writer, at, texts)

    def cancel(self) -> None:
        insist(lambda: self.container().cancel(STREAM, FIRST))

    def look(self) -> None:
        for _ in range(PATIENCE):
            insist(lambda: self.container().look(STREAM))

    def call(self, key: str) -> None:
        texts = [f'"{key}-{part}"' for part in range(3)]
        for _ in range(PATIENCE):
            try:
                insist(
                    lambda: onecall.publish(self.container(), STREAM, texts, key=key)
                )
            except Busy:
                continue
            self.acknowledged[key] = texts
            return

    def container(self) -> Log:
        """Return the log of a new container, or the one that remembers."""
        self.containers = getattr(self, "containers", 0) + 1
        return self.world.log if self.containers % 2 else self.world.new_log()

    # ---- what happens ----------------------------------------------------------------

    @rule(who=st.integers(0, 7), fate=st.sampled_from(FATES))
    def step(self, who: int, fate: Fate) -> None:
        self.actors[who].step(fate)

    @rule(who=st.integers(0, 7), steps=st.integers(2, 8))
    def stretch(self, who: int, steps: int) -> None:
        for _ in range(steps):
            self.actors[who].step()

    @precondition(lambda self: self.store.late)
    @rule(which=st.integers(0, 5))
    def arrive(self, which: int) -> None:
        self.store.arrive(which)

    @rule(seconds=st.sampled_from([1, 40]))
    def wait(self, seconds: int) -> None:
        self.world.clock.advance(seconds)

    @invariant()
    def obeys_its_rules(self) -> None:
        check_log(list(self.memory.range(STREAM, 1)))

    def teardown(self) -> None:
        if not hasattr(self, "actors"):
            return
        for _ in range(5_000):
            if all(actor.done for actor in self.actors):
                break
            for actor in self.actors:
                actor.step()
        assert all(actor.done for actor in self.actors)
        while self.store.late:
            self.store.arrive(0)
        records = list(self.memory.range(STREAM, 1))
        check_log(records)
        texts = [text for record in records for text in chunks.split(record.chunks)]
        assert len(texts) == len(set(texts)), "a chunk is doubled"
        for writer, acknowledged in self.acknowledged.items():
            found = [text for text in texts if text in set(acknowledged)]
            assert found == acknowledged, f"{writer}: acknowledged, and missing"
        for actor in self.actors:
            self.check_told(actor)

    def check_told(self, actor: Actor) -> None:
        """Whoever lost was told what the log says."""
        error = actor.error
        if error is None:
            return
        assert isinstance(error, TailraceError), repr(error)
        records = list(self.memory.range(STREAM, 1))
        run = SECOND if actor.name == "w2" else FIRST
        if isinstance(error, Cancelled):
            assert any(
                one.reason == "cancelled" and one.run == error.run for one in records
            )
        elif isinstance(error, Superseded):
            assert any(one.kind == "open" and one.run > run for one in records)
        elif isinstance(error, Fenced):
            assert actor.name in ("w1", "namesake") or any(
                one.kind == "claim" and one.run == run for one in records
            )
        elif isinstance(error, StreamEnded):
            assert any(one.reason == error.reason for one in records) or (
                error.reason == "expired"
            )
        else:
            # The claimer of a run not yet open is told so.
            assert error.code in ("invalid", "busy"), repr(error)


TestSchedules = Schedules.TestCase
TestSchedules.settings = settings(max_examples=400, stateful_step_count=60)
