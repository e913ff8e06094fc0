"""Names and ids."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace import ids
from tailrace.errors import Invalid

TIMES = st.integers(0, (1 << 48) - 2)
BYTES = st.binary(min_size=10, max_size=10)


@given(TIMES, BYTES)
def test_a_new_run_is_a_uuid7_of_its_time(at: int, randomness: bytes) -> None:
    run = ids.new_run(at, randomness)
    assert uuid.UUID(run).version == 7
    assert uuid.UUID(run).variant == uuid.RFC_4122
    assert ids.check_run(run) == run
    assert ids.run_time(run) == at


@given(TIMES, TIMES, BYTES, BYTES)
def test_a_run_minted_after_another_is_greater(
    at: int, before: int, one: bytes, two: bytes
) -> None:
    earlier = ids.new_run(before, one)
    assert ids.new_run(at, two, after=earlier) > earlier


def test_a_run_from_a_clock_that_is_ahead_is_refused() -> None:
    run = ids.new_run(1_000_000 + ids.MAX_AHEAD_MS + 1, bytes(10))
    with pytest.raises(Invalid, match="5 minutes ahead"):
        ids.check_run(run, now=1_000_000)
    assert ids.check_run(run, now=1_000_001) == run


@pytest.mark.parametrize("name", ["chat:42", "a", "A-Z.a_z/0@x=+", "x" * 200])
def test_good_stream_names(name: str) -> None:
    assert ids.check_stream(name) == name


@pytest.mark.parametrize(
    "name", ["", "x" * 201, "a b", "a*", "a#b", "é", "a\n", None, 7, ["a"]]
)
def test_bad_stream_names_are_refused(name: object) -> None:
    with pytest.raises(Invalid, match="stream"):
        ids.check_stream(name)


@pytest.mark.parametrize(
    "run",
    [
        "",
        None,
        "019ab000-0000-4000-8000-000000000001",
        "019AB000-0000-7000-8000-000000000001",
        "019ab000-0000-7000-8000-000000000001\n",
        "019ab00000007000800000000000000001",
    ],
)
def test_what_is_no_uuid7_in_canonical_text_is_refused(run: object) -> None:
    with pytest.raises(Invalid, match=r"^run: must be .* tailrace\.new_run\(\)"):
        ids.check_run(run)
