"""Records: the items of the log, and how DynamoDB holds them.

The attributes of an item and their types are known here alone; `adapters.dynamodb` has
besides the names of the key's two, `stream` and `seq`. How a record gets into the
table, and whether it may, is not known here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from . import chunks as chunk_texts
from .errors import Invalid

Kind = Literal["open", "data", "claim", "end"]

MAX_MESSAGE_CHARS = 500
MAX_LEASE_SECONDS = 43_200

Item = dict[str, dict[str, Any]]
"""An item in DynamoDB's own JSON: `{"seq": {"N": "7"}, …}`."""


@dataclass(frozen=True, slots=True)
class Record:
    """One stored, immutable item of a stream (PROTOCOL.md §2)."""

    stream: str
    seq: int
    kind: Kind
    run: str
    base: int
    writer: str
    epoch: int
    count: int
    index: int
    at: int
    lease: int
    expires_at: int
    shared: bool = False
    chunks: str = ""
    meta: str | None = None
    prev: str | None = None
    reason: str | None = None
    message: str | None = None

    @property
    def next(self) -> int:
        """The first seq after it."""
        return self.seq + self.count

    @property
    def last(self) -> int:
        """The last seq that it takes."""
        return self.seq + self.count - 1

    @property
    def chunks_in(self) -> int:
        """How many chunks of its run are in, its own included."""
        return self.index + (self.count if self.kind == "data" else 0)

    @property
    def active(self) -> bool:
        """Whether its run goes on, as far as this record tells."""
        return self.kind != "end"

    def expired(self, now: int) -> bool:
        """Whether readers must treat it as gone. TTL deletes days later."""
        return self.expires_at * 1000 <= now

    def behind(self, after: int) -> Record:
        """Return what is left of it behind the seq `after`, which lies inside it."""
        if self.kind != "data" or not self.seq <= after < self.last:
            raise ValueError(f"{after} does not lie inside {self.seq}-{self.last}")
        skip = after + 1 - self.seq
        rest = chunk_texts.split(self.chunks)[skip:]
        return replace(
            self,
            seq=after + 1,
            count=self.count - skip,
            index=self.index + skip,
            chunks=",".join(rest),
        )


_NUMBERS = (
    "seq",
    "base",
    "epoch",
    "count",
    "index",
    "at",
    "lease",
    "expires_at",
)
_TEXTS = ("stream", "kind", "run", "writer")
_OPTIONAL_TEXTS = ("meta", "prev", "reason", "message")
_KINDS = ("open", "data", "claim", "end")


def to_item(record: Record) -> Item:
    """Return the record as an item in DynamoDB's JSON."""
    item: Item = {name: {"S": getattr(record, name)} for name in _TEXTS}
    for name in _NUMBERS:
        item[name] = {"N": str(getattr(record, name))}
    if record.kind == "data":
        item["chunks"] = {"S": record.chunks}
    for name in _OPTIONAL_TEXTS:
        value = getattr(record, name)
        if value is not None:
            item[name] = {"S": value}
    if record.shared:
        item["shared"] = {"BOOL": True}
    return item


def from_item(item: Item) -> Record:
    """Return the record that an item holds; `Invalid` if it holds none."""
    try:
        fields: dict[str, Any] = {name: _text(item, name) for name in _TEXTS}
        fields.update((name, int(item[name]["N"])) for name in _NUMBERS)
        for name in _OPTIONAL_TEXTS:
            if name in item:
                fields[name] = _text(item, name)
        if fields["kind"] == "data":
            fields["chunks"] = _text(item, "chunks")
        fields["shared"] = bool(item.get("shared", {}).get("BOOL", False))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Invalid(f"item is no record: {type(error).__name__} {error}") from None
    if fields["kind"] not in _KINDS or fields["count"] < 1 or fields["seq"] < 1:
        raise Invalid("item is no record: kind, count or seq out of range")
    return Record(**fields)


def check_message(message: Any) -> None:
    """Raise `Invalid` if `message` cannot be the text of an `end`."""
    if message is not None and (
        not isinstance(message, str) or len(message) > MAX_MESSAGE_CHARS
    ):
        raise Invalid(
            f"message: must be text of at most {MAX_MESSAGE_CHARS} characters"
        )


def check_lease(lease: Any) -> int:
    """Return `lease` if a run may have it; else raise `Invalid`."""
    if type(lease) is not int or not 1 <= lease <= MAX_LEASE_SECONDS:
        raise Invalid(f"lease: must be 1 to {MAX_LEASE_SECONDS} seconds")
    return lease


def _text(item: Item, name: str) -> str:
    value = item[name]["S"]
    if not isinstance(value, str):
        raise TypeError(name)
    return value
