"""The threads that make the calls of event loops."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tailrace.producer.callers import Callers

PATIENCE = 10


def test_calls_are_made_side_by_side_and_those_beyond_queue() -> None:
    callers = Callers(2)
    together, free = threading.Barrier(3), threading.Event()

    def call() -> None:
        together.wait(PATIENCE)
        assert free.wait(PATIENCE)

    made = [callers.submit(call) for _ in range(2)]
    later = callers.submit(threading.get_ident)
    together.wait(PATIENCE)
    assert not later.done()
    free.set()
    for one in (*made, later):
        one.result(PATIENCE)


def test_a_thread_that_is_idle_makes_the_next_call() -> None:
    callers = Callers(64)
    first = callers.submit(threading.current_thread).result(PATIENCE)
    # It is idle a moment after its answer is there.
    while not callers._idle:
        pass
    assert callers.submit(threading.current_thread).result(PATIENCE) is first


def test_what_a_call_raises_is_told() -> None:
    def call() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Callers(1).submit(call).result(PATIENCE)


def test_a_call_waits_where_there_is_no_thread_more_and_is_refused_where_there_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = threading.Thread.start
    calls: list[str] = []

    def scarce(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    callers = Callers(64)
    monkeypatch.setattr(threading.Thread, "start", scarce)
    with pytest.raises(RuntimeError, match="new thread"):
        callers.submit(calls.append, "refused")
    monkeypatch.setattr(threading.Thread, "start", start)
    free = threading.Event()
    first: Any = callers.submit(free.wait, PATIENCE)
    monkeypatch.setattr(threading.Thread, "start", scarce)
    second = callers.submit(calls.append, "second")
    free.set()
    assert first.result(PATIENCE)
    second.result(PATIENCE)
    assert calls == ["second"]
