"""50 streams of the AI SDK's own transport on one socket, through thick and thin."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from tailrace import courier, dialect, pushing
from tailrace.adapters.memory import MemoryState
from tailrace.chat import Chats
from tailrace.courier import Carried, Courier
from tailrace.log import Look
from tailrace.ports import Push
from tailrace.pushing import Pusher
from tailrace.records import Record
from tailrace.watchers import Request
from tests.simulation.chats import play
from tests.simulation.world import Violation

SEEDS = int(os.environ.get("CHAT_SEEDS", "40"))


@pytest.mark.parametrize("share", range(4))
def test_no_gap_reaches_the_client_and_every_stream_completes(share: int) -> None:
    """Of 429, 5xx, time-outs applied or not or late, functions that are killed, tables
    and a queue that fail, and a feed that repeats, the client notices nothing."""
    for seed in range(share, SEEDS, 4):
        try:
            play(seed)
        except BaseException as error:
            error.add_note(f"again: tests.simulation.chats.play({seed})")
            raise


def test_a_seed_decides_everything() -> None:
    assert play(3).kernel.steps == play(3).kernel.steps != play(4).kernel.steps


# ---- the rules that are obvious, and wrong -------------------------------------------


def goes_on_behind_a_failed_push(patch: pytest.MonkeyPatch) -> None:
    whole = Pusher.push

    def push(self: Pusher, *given: Any) -> Push:
        outcome = whole(self, *given)
        return Push.DONE if outcome in (Push.FAILED, Push.SLOW) else outcome

    patch.setattr(Pusher, "push", push)


def takes_an_unknown_outcome_for_accepted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(pushing, "_TRIES", 1)
    goes_on_behind_a_failed_push(patch)


def claims_the_range_first(patch: pytest.MonkeyPatch) -> None:
    carry = Courier.carry

    def first(self: Courier, request: Request, records: Any, until: int) -> Carried:
        given = list(
            self._log.range(request.stream, request.seq) if records is None else records
        )
        found = list(dialect.steps(request, given))
        if found and not found[-1].last:
            self._note(request, found[-1])
        return carry(self, request, given, until)

    patch.setattr(Courier, "carry", first)


def begins_with_the_batch(patch: pytest.MonkeyPatch) -> None:
    def needed(self: Courier, request: Request, records: Sequence[Record]) -> Any:
        first = records[0]
        return [replace(first, seq=request.seq), *records[1:]]

    patch.setattr(Courier, "_needed", needed)


def asks_for_no_repair(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Courier, "repair", lambda *_: None)
    patch.setattr(Chats, "_watch", lambda *_: None)


def watches_only_what_it_knows_to_have_stored(patch: pytest.MonkeyPatch) -> None:
    def store(
        self: Chats, request: Request, look: Look, expires_at: int
    ) -> Request | None:
        stored = self._state.put_request(request, expires_at)
        if stored is request:
            self._watch(request, look, request.watch)
        return stored

    put = MemoryState.put_request

    def apart(self: MemoryState, request: Request, expires_at: int) -> Request | None:
        there = self.request(request.stream, request.connection, request.id)
        stored = put(self, request, expires_at)
        return stored and (stored if there is None else replace(stored))

    patch.setattr(MemoryState, "put_request", apart)
    patch.setattr(Chats, "_store", store)


def forgets_an_abort_that_came_too_early(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(MemoryState, "abort_request", lambda *_: None)


def compacts_up_to_now_instead_of_then(patch: pytest.MonkeyPatch) -> None:
    def steps(request: Request, records: Any) -> Iterator[dialect.Step]:
        given = list(records)
        if request.seq < request.prefix and given:
            now = [record for record in given if record.kind in ("data", "claim")]
            if now:
                shift = dialect.shift_of(now)
                request = replace(request, prefix=now[-1].next, shift=shift)
        return dialect.steps(request, given)

    patch.setattr(courier, "steps", steps)


@pytest.mark.parametrize(
    "mistake",
    [
        goes_on_behind_a_failed_push,
        takes_an_unknown_outcome_for_accepted,
        claims_the_range_first,
        begins_with_the_batch,
        asks_for_no_repair,
        watches_only_what_it_knows_to_have_stored,
        forgets_an_abort_that_came_too_early,
        compacts_up_to_now_instead_of_then,
    ],
)
def test_an_obvious_rule_that_is_wrong_is_found_out(
    mistake: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mistake(monkeypatch)
    with pytest.raises(Violation):
        for seed in range(20):
            play(seed)
