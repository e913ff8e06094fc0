"""Who watches: a consumer written to the letter of PROTOCOL.md §3.5, and its user.

Numbers in comments are that section's rules. It is no client of ours: that a client
written from the document alone comes to the same text is part of what is tested.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .gateway import Connection

if TYPE_CHECKING:
    from .clients import PackageTab
    from .world import World

Cursor = tuple[str | None, int]
GAP = 300
PATIENCE = 5_000
SYNC = 25_000
AUTHORIZE = 0.8


@dataclass
class Reader:
    """One stream of one consumer. `trail`: what the invariants know it to have shown;
    `begins_at`: where its user told it to begin."""

    stream: str
    name: str
    cursor: Cursor | None = None
    wanted: str | None = None
    shown: str | None = None
    held: list[dict[str, Any]] = field(default_factory=list)
    tail: int = 0
    ask: int | None = None
    asked: Cursor | None = None
    gap_at: int | None = None
    again_at: int | None = None
    tries: int = 0
    begins_at: int = -1
    placed: bool = False
    follow: bool = True
    trail: dict[str, int] = field(default_factory=dict)

    @property
    def behind(self) -> bool:
        return bool(self.held) or (
            self.cursor is not None and self.tail > self.cursor[1]
        )

    def position(self) -> list[Any] | None:
        if self.cursor is not None:
            return list(self.cursor)
        return None if self.wanted is None else [self.wanted]


class Tab:
    """A page with a socket. Everything it does is an answer to an event or a timer."""

    def __init__(self, world: World, name: str, streams: list[str]) -> None:
        self.world, self.name, self.streams = world, name, streams
        self.dice = world.kernel.dice(name)
        self.readers: dict[str, Reader] = {}
        self.connection: Connection | None = None
        self.connecting = False
        self.asleep_until = 0
        self.stalled_until = 0
        self.gone = False
        self.n = 0
        self.pending: dict[int, tuple[str, int]] = {}
        self.heard_at = 0
        self.sync_at = 0
        self.attempt = 0
        self.expires = 0
        self.authorizing = False
        self.token_life = self.dice.choice([40, 300, 900])
        self.born_expired = self.dice.random() < 0.1
        self.compact = self.dice.choice([None, None, None, "text", "ui-message"])
        self._narrow = False
        self._timer = 0
        world.book.tabs.append(self)

    @staticmethod
    def of(world: World) -> list[Tab | PackageTab]:
        return [tab for tab in world.book.tabs if not tab.gone]

    # ---- what its user does ----------------------------------------------------------

    def watch(self, stream: str) -> None:
        if stream in self.readers or self.gone:
            return
        reader = Reader(stream, f"{self.name}/{stream}")
        tail = self.world.log.last(stream)
        if tail is not None and self.dice.random() < 0.2:
            reader.wanted = tail.run
        self.readers[stream] = reader
        self._ask(reader)

    def unwatch(self, stream: str) -> None:
        if self.readers.pop(stream, None) is not None:
            self._send(type="unsubscribe", stream=stream)

    def reload(self) -> None:
        """A new page; its cursors may have been kept, a little old."""
        keep = self.dice.random() < 0.5
        for stream, old in list(self.readers.items()):
            new = Reader(stream, old.name)
            if keep and old.cursor is not None and old.cursor[0] is not None:
                new.cursor = old.cursor
                new.shown = old.shown
                new.begins_at = old.cursor[1] + 1
            self.readers[stream] = new
        self._drop(tell=True)

    def sleep(self, ms: int) -> None:
        """A laptop is closed: nothing is heard, and the network forgets it."""
        self.asleep_until = self.world.kernel.now + ms
        if self.connection is not None:
            self.world.api.cut(self.connection, half=True)

    def leave(self) -> None:
        self.gone = True
        self._drop(tell=True)

    def cancel(self, run: str | None = None) -> None:
        """Somebody presses stop; `run`: one that need not be open yet."""
        for stream, reader in self.readers.items():
            named = run or reader.shown
            if named is not None:
                self.world.book.cancels.setdefault(stream, []).append(named)
                self._send(type="cancel", stream=stream, run=named)
                return

    def narrow(self) -> None:
        """Its next token grants one stream less."""
        self._narrow = True
        self.auth()

    # What only a program with the package does.
    def pause(self) -> None: ...
    def twin(self, stream: str) -> None: ...
    def crowd(self) -> None: ...
    def quit(self) -> None: ...

    def auth(self) -> None:
        if self.connection is not None and not self.authorizing:
            self.authorizing = True
            token = self._token()
            self.world.note_token(self.connection, token)
            self._send(type="auth", token=token)

    # ---- its socket ------------------------------------------------------------------

    def start(self) -> None:
        if self.connection is None and not self.connecting and not self.gone:
            if self.world.faults.hit("tokenless"):
                self._again()
                return
            self.connecting = True
            self.world.api.connect(self, self._token())

    def opened(self, connection: Connection) -> None:
        self.connecting = False
        if self.gone or self.world.kernel.now < self.asleep_until:
            self.world.api.cut(connection, half=False)
            return
        self.connection = connection
        self.n = 0
        self.pending.clear()
        self.authorizing = False
        self.heard_at = self.world.kernel.now
        for reader in self.readers.values():
            reader.ask = None
        if self.expires * 1000 <= self.world.kernel.now:
            self.auth()
        else:
            self._sync()

    def closed(self, connection: Connection) -> None:
        if connection is self.connection:
            self.connection = None
            self._again()
        elif self.connecting:
            self.connecting = False
            self._again()

    def _drop(self, *, tell: bool) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.done = True
            if tell and not connection.cut:
                self.world.api.close(connection)
            else:
                connection.cut = True
        self._again()

    def _again(self) -> None:
        """Rule 8: full jitter."""
        if self.gone or self.connection is not None:
            return
        cap = min(30_000, 500 * 2**self.attempt)
        self.attempt = min(self.attempt + 1, 10)
        delay = max(self.dice.randrange(cap), self.asleep_until - self.world.kernel.now)
        self.world.kernel.after(max(delay, 0), self.start)

    def _token(self) -> str:
        life = self.token_life
        if self.born_expired:
            life, self.born_expired = -5, False
        self.expires = self.world.kernel.now // 1000 + life
        # Later than the faults, it would outlive the rest.
        narrow = self._narrow and not self.world.resting
        granted = tuple(self.streams[1:] if narrow else self.streams)
        self._narrow = False
        return self.world.mint(self.name, self.expires, granted, granted)

    # ---- what it says ----------------------------------------------------------------

    def _send(self, **frame: Any) -> int:
        self.n += 1
        if self.connection is not None:
            self.pending[self.n] = (frame["type"], self.world.kernel.now)
            text = json.dumps({**frame, "n": self.n})
            self.world.api.send(self.connection, text)
            self._arm(PATIENCE)
        return self.n

    def _sync(self) -> None:
        """Bulk subscribe: the ask of each reader that has none under way."""
        streams = {name: one.position() for name, one in self.readers.items()}
        modes = dict.fromkeys(streams, self.compact) if self.compact else {}
        n = self._send(type="sync", streams=streams, compact=modes)
        for reader in self.readers.values():
            if reader.ask is None:
                reader.ask, reader.asked = n, reader.cursor
        idle = not any(reader.shown for reader in self.readers.values())
        pause = SYNC * (12 if idle and self.dice.random() < 0.3 else 1)
        self.sync_at = self.world.kernel.now + pause
        self._arm(pause)

    def _ask(self, reader: Reader) -> None:
        """Rule 2: one ask in flight for each stream."""
        if self.connection is None or reader.ask is not None or self.authorizing:
            return
        frame: dict[str, Any] = {"type": "subscribe", "stream": reader.stream}
        if self.compact:
            frame["compact"] = self.compact
        position = reader.position()
        if position is not None:
            if position[0] is not None:
                frame["run"] = position[0]
            if len(position) == 2:
                frame["after"] = position[1]
        reader.asked, reader.gap_at = reader.cursor, None
        if reader.again_at is not None and reader.again_at <= self.world.kernel.now:
            reader.again_at = None
        reader.ask = self._send(**frame)

    def _gap(self, reader: Reader, ms: int) -> None:
        at = self.world.kernel.now + ms
        if reader.gap_at is None or at < reader.gap_at:
            reader.gap_at = at
        self._arm(ms)

    # ---- time ------------------------------------------------------------------------

    def _arm(self, ms: int) -> None:
        at = self.world.kernel.now + ms
        if self._timer <= self.world.kernel.now or at < self._timer:
            self._timer = at
            self.world.kernel.after(ms, self._tick, at)

    def _tick(self, at: int) -> None:
        now = self.world.kernel.now
        if at != self._timer or self.gone:
            return
        self._timer = 0
        if now < max(self.asleep_until, self.stalled_until):
            self._arm(max(self.asleep_until, self.stalled_until) - now)
            return
        if self.connection is None:
            return
        waits = min((since for _, since in self.pending.values()), default=None)
        if waits is not None and max(waits, self.heard_at) + PATIENCE <= now:
            self._drop(tell=False)  # rule 8: dead
            return
        if not self.authorizing:
            if now >= (self.expires - self.token_life * (1 - AUTHORIZE)) * 1000:
                self.auth()  # rule 10
            elif now >= self.sync_at:
                self._sync()
        for reader in self.readers.values():
            if reader.gap_at is not None and reader.gap_at <= now:
                if reader.behind or reader.cursor is None:
                    self._ask(reader)
                else:
                    reader.gap_at = None
            if reader.again_at is not None and reader.again_at <= now:
                self._ask(reader)
        times = [self.sync_at, int((self.expires - self.token_life * 0.2) * 1000)]
        if waits is not None:
            times.append(max(waits, self.heard_at) + PATIENCE)
        times += [one.gap_at for one in self.readers.values() if one.gap_at]
        times += [one.again_at for one in self.readers.values() if one.again_at]
        self._arm(max(min(times) - now, 100))

    # ---- what it hears ---------------------------------------------------------------

    def received(self, connection: Connection, frame: dict[str, Any]) -> None:
        if connection is not self.connection or self.gone:
            return
        if self.world.kernel.now < self.asleep_until:
            return
        self.heard_at = self.world.kernel.now
        kind = frame.get("type")
        if kind == "slice":
            self._slice(frame)
            return
        if kind is None:
            # API Gateway itself: something did not get through, ask again.
            self.pending.clear()
            self.authorizing = False
            for reader in self.readers.values():
                reader.ask = None
            self.sync_at = self.world.kernel.now + self.dice.randrange(200, 2_000)
            self._arm(self.sync_at - self.world.kernel.now)
            return
        n = frame.get("n")
        if n is not None:
            self.pending.pop(n, None)
        if kind == "subscribed":
            self._answered(frame["stream"], frame, n)
        elif kind == "synced":
            self.attempt = 0
            for stream, tail in frame["tails"].items():
                if "error" in tail:
                    self._refused(stream, n)
                else:
                    self._answered(stream, tail, n)
        elif kind == "authorized":
            self.authorizing = False
            self._sync()
        elif kind == "error":
            if frame["code"] == "unauthorized":
                self.authorizing = False
                self.auth()
            elif self.authorizing:
                self.authorizing = False
            for reader in self.readers.values():
                if n is not None and reader.ask == n:
                    self._refused(reader.stream, n)
        elif kind == "unsubscribed" and frame["stream"] in self.readers:
            self._gap(self.readers[frame["stream"]], 10)
            self.sync_at = self.world.kernel.now + 10

    def _refused(self, stream: str, n: Any) -> None:
        reader = self.readers.get(stream)
        if reader is not None and reader.ask == n:
            reader.ask = None
            reader.tries += 1
            self._gap(reader, self._backoff(reader))

    def _backoff(self, reader: Reader) -> int:
        return self.dice.randrange(min(30_000, 500 * 2 ** min(reader.tries, 8)))

    # ---- §3.5: what becomes of a slice -----------------------------------------------

    def _slice(self, slice: dict[str, Any]) -> None:
        reader = self.readers.get(slice["stream"])
        if reader is None:
            self._send(type="unsubscribe", stream=slice["stream"])
            return
        fate = self._fate(reader, slice)
        if fate == "take":
            self._take(reader, slice)
            self._release(reader)
        elif fate == "hold":
            reader.held.append(slice)
            reader.held.sort(key=lambda one: int(one["seq"]))
        if reader.behind:
            self._gap(reader, GAP)

    def _fate(self, reader: Reader, slice: dict[str, Any]) -> str:
        if "compact" in slice and not self._as_asked(reader, slice):
            # §3.6: only whole, and as it asked for it; also what was held meanwhile.
            reader.tail = max(reader.tail, slice["next"] - 1)
            return "drop"
        run, seq, following = slice["run"], slice["seq"], slice["next"]
        if reader.cursor is None:  # rule 5
            awaited = "open" in slice and reader.wanted in (None, run)
            return "take" if awaited else "hold"
        cursor_run, at = reader.cursor
        if cursor_run is None or run == cursor_run:  # rules 1 and 2
            if following <= at + 1:
                return "drop"
            if seq > at + 1:
                return "hold"
            if reader.placed and (seq < at + 1 or "open" not in slice):
                # The place was in a log that has expired and was begun anew: what the
                # document does not say, and both clients know.
                reader.cursor, reader.placed = None, False
                return "hold"
            return "take"
        if run < cursor_run:  # rule 4
            return "drop"
        return "take" if "open" in slice and seq == at + 1 else "hold"  # rule 3

    def _as_asked(self, reader: Reader, slice: dict[str, Any]) -> bool:
        at = reader.cursor[1] if reader.cursor is not None else 0
        return slice["compact"] == self.compact and bool(
            slice["seq"] > at or slice["next"] <= at + 1
        )

    def _take(self, reader: Reader, slice: dict[str, Any]) -> None:
        run, seq = slice["run"], slice["seq"]
        first = seq
        if reader.cursor is not None and seq <= reader.cursor[1]:
            first = reader.cursor[1] + 1
        if "compact" in slice:
            self.world.faults.note("compacted")
        if reader.shown is not None and reader.shown != run:
            self.world.observe("superseded", reader, reader.shown, seq)
        self.world.observe("delivered", reader, slice, first)
        reader.cursor = (run, slice["next"] - 1)
        reader.wanted = None
        reader.placed = False
        reader.shown = None if slice.get("end") else run
        reader.tries = 0

    def _release(self, reader: Reader) -> None:
        again = True
        while again:
            again = False
            for slice in list(reader.held):
                fate = self._fate(reader, slice)
                if fate != "hold":
                    reader.held.remove(slice)
                    if fate == "take":
                        self._take(reader, slice)
                        again = True
                        break

    def _answered(self, stream: str, answer: dict[str, Any], n: Any) -> None:
        reader = self.readers.get(stream)
        if reader is None:
            self._send(type="unsubscribe", stream=stream)
            return
        if reader.ask != n:
            return
        reader.ask, reader.gap_at = None, None
        reader.tail = answer["tail"]
        if "again" in answer:
            reader.again_at = self.world.kernel.now + answer["again"]
            self._arm(answer["again"])
        moved = reader.cursor != reader.asked
        asked = reader.asked
        if not moved:  # rule 6
            elsewhere = asked is None or asked[1] != answer["from"]
            run = answer["run"]
            awaited = (
                asked is None
                and reader.wanted is not None
                and (run is None or run < reader.wanted)
            )
            if elsewhere and not awaited:
                if reader.shown is not None:
                    assert reader.cursor is not None
                    self.world.observe("expired", reader, reader.shown, reader.cursor)
                    reader.trail.pop(reader.shown, None)
                    reader.shown = None
                reader.cursor = (None, answer["from"])
                reader.placed = True
                reader.begins_at = -1
                reader.trail.clear()
                self._release(reader)
                moved = True
            elif not elsewhere:
                # What is held, and disputes this place, is of no log.
                at = asked[1] if asked else 0
                reader.held = [one for one in reader.held if one["seq"] > at + 1]
        reader.tries = 0 if moved else reader.tries + 1
        if reader.behind:
            if answer["more"] and moved:
                self._gap(reader, 0)
            else:
                self._gap(reader, GAP if moved else GAP + self._backoff(reader))
