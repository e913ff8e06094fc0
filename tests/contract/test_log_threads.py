"""The log on every store, with real threads that disagree, and answers that get lost.

The thorough search is `tests/unit/test_log_schedules.py`; this one shows that the real
tables keep what the store in memory promises.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from tailrace import chunks, onecall
from tailrace.errors import Busy, TailraceError, Unavailable
from tailrace.log import Log
from tailrace.ports import LogStore
from tailrace.records import Record
from tests.support.invariants import check_log
from tests.support.worlds import STREAM, World, run_id

Insist = Callable[[Callable[[Log], Any]], Any]


class Flaky:
    """A `LogStore` that loses one put in five, or its answer."""

    def __init__(self, store: LogStore, seed: str) -> None:
        self._store = store
        self._random = random.Random(seed)

    def put(self, record: Record) -> Record | None:
        fate = self._random.random()
        if fate < 0.1:
            raise Unavailable("lost")
        winner = self._store.put(record)
        if fate > 0.9:
            raise Unavailable("answer lost")
        return winner

    def last(self, stream: str, at_most: int | None = None) -> Record | None:
        return self._store.last(stream, at_most)

    def range(self, stream: str, start: int) -> Iterator[Record]:
        return self._store.range(stream, start)

    def remove(self, stream: str, seq: int) -> None:
        self._store.remove(stream, seq)


@pytest.mark.parametrize("seed", range(5))
def test_threads_that_disagree_leave_a_log_that_obeys_its_rules(
    store: Any, state: Any, seed: int
) -> None:
    acknowledged: dict[str, list[str]] = {}
    told: dict[str, TailraceError] = {}
    begin = threading.Barrier(6)

    def produce(name: str, insist: Insist, run: str) -> None:
        at = insist(lambda log: log.open(STREAM, name, run)).next
        write(name, insist, run, at)

    def claim(name: str, insist: Insist) -> None:
        for _ in range(20):
            try:
                record = insist(lambda log: log.claim(STREAM, run_id(1), name))
            except Busy:
                continue
            write(name, insist, run_id(1), record.next)
            return

    def write(name: str, insist: Insist, run: str, at: int) -> None:
        for number in range(12):
            texts = [f'"{name}-{number}-{part}"' for part in range(1 + number % 3)]
            at = insist(
                partial(
                    Log.append,
                    stream=STREAM,
                    run=run,
                    writer=name,
                    seq=at,
                    texts=texts,
                )
            ).next
            acknowledged.setdefault(name, []).extend(texts)
        insist(lambda log: log.end(STREAM, run, name, at, "completed"))

    def call(name: str, insist: Insist) -> None:
        texts = [f'"{name}-{part}"' for part in range(3)]
        for _ in range(20):
            try:
                insist(lambda log: onecall.publish(log, STREAM, texts, key=name))
            except Busy:
                continue
            acknowledged[name] = texts
            return

    def start(name: str, play: Callable[[str, Insist], None]) -> threading.Thread:
        world = World(seed, store=Flaky(store, f"{seed} {name}"), state=state)

        def insist(act: Callable[[Log], Any]) -> Any:
            while True:
                try:
                    return act(world.log)
                except Unavailable:
                    continue

        def run() -> None:
            begin.wait()
            try:
                play(name, insist)
            except TailraceError as error:
                told[name] = error

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    threads = [
        start("w1", lambda name, insist: produce(name, insist, run_id(1))),
        start("w2", lambda name, insist: produce(name, insist, run_id(2))),
        start("claimer", claim),
        start("canceller", lambda _, insist: insist(lambda log: log.cancel(STREAM))),
        start("call", call),
        start("looker", lambda _, insist: insist(lambda log: log.look(STREAM))),
    ]
    for thread in threads:
        thread.join()

    records = list(store.range(STREAM, 1))
    check_log(records)
    texts = [text for record in records for text in chunks.split(record.chunks)]
    assert len(texts) == len(set(texts))
    for name, wanted in acknowledged.items():
        assert [text for text in texts if text in set(wanted)] == wanted, name
    assert {error.code for error in told.values()} <= {
        *("cancelled", "superseded", "fenced", "ended", "busy", "invalid")
    }
