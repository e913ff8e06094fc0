"""The fan-out: delivers what the change feed brings.

One client never fails a batch. Only what the tables cannot answer does, from the first
record of that stream on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from .delivery import Delivery
from .errors import Invalid
from .ports import Clock, Count
from .records import Record, from_item
from .watchers import Share


@dataclass(frozen=True, slots=True)
class Change:
    """A record of the feed; `record` is None where its image holds none of ours."""

    sequence_number: str
    record: Record | None


def decode(event: Any) -> list[Change]:
    """Return the inserts of a feed event. Anything that is no event is `Invalid`.

    A poisoned image does not fail the batch: it would block its shard, and could never
    be pushed. It comes out without a record, to be counted.
    """
    try:
        changes = []
        for entry in event["Records"]:
            image = entry["dynamodb"].get("NewImage")
            if image is None:
                continue
            try:
                record = from_item(image)
            except Invalid:
                record = None
            changes.append(Change(str(entry["dynamodb"]["SequenceNumber"]), record))
        return changes
    except (KeyError, TypeError, AttributeError) as error:
        raise Invalid(f"event: no change feed ({type(error).__name__})") from None


class Fanout:
    """Takes batches of the feed, and shares of large audiences. Nothing is kept between
    two of them.

    `pause` lets so many ms pass.
    """

    def __init__(
        self,
        delivery: Delivery,
        clock: Clock,
        *,
        pause: Callable[[int], None] = lambda ms: None,
        count: Count = lambda name, value: None,
    ) -> None:
        self._delivery = delivery
        self._clock = clock
        self._pause = pause
        self._count = count

    def push_share(self, share: Share, deadline: int) -> None:
        """Push a share. `deadline` (ms) is this invocation's own."""
        self._delivery.push(replace(share, deadline=min(share.deadline, deadline)))

    def push(self, changes: Iterable[Change], deadline: int) -> list[str]:
        """Push a batch; return the sequence numbers from which on it failed.

        `deadline` (ms): no push is begun after it. What is dropped then would come no
        sooner if the whole batch came again. Returns later, but not after it, where the
        next batch must not come sooner.
        """
        first: dict[str, str] = {}
        records: dict[str, dict[int, Record]] = defaultdict(dict)
        for change in changes:
            record = change.record
            if record is None:
                self._count("PoisonedRecords", 1)
                continue
            first.setdefault(record.stream, change.sequence_number)
            records[record.stream][record.seq] = record  # the feed may repeat
        now = self._clock()
        for by_seq in records.values():
            self._count("FeedLag", now - min(one.at for one in by_seq.values()))
        delivered = self._delivery.deliver(
            {
                stream: [by_seq[seq] for seq in sorted(by_seq)]
                for stream, by_seq in records.items()
            },
            deadline,
        )
        left = min(delivered.rest, deadline) - self._clock()
        if left > 0:
            self._pause(left)
        failed = delivered.failed
        return [number for stream, number in first.items() if stream in failed]
