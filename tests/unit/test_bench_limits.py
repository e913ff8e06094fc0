"""What `bench.limits` limits is what AWS does."""

from __future__ import annotations

import pytest

from bench.cloud.limits import Limits
from bench.limits import answers, cloud


@pytest.mark.parametrize(
    ("streams", "units", "throttled"),
    [
        pytest.param(1, 5, True, id="more than a partition takes, into one stream"),
        pytest.param(3, 15, False, id="as much, into three"),
    ],
)
def test_the_writes_of_one_stream_are_limited_and_of_no_other(
    streams: int, units: int, throttled: bool
) -> None:
    limits = Limits(partition_writes=units)
    world = cloud(limits)
    with world.open():
        began = answers(world, streams, seconds=2)
        world.run(lambda: all(one.done for one in began))
    assert bool(limits.refused) is throttled
