"""Whoever asks the publish function something: cancels, reads, looks, deletes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tailrace import ids

from .kernel import Killed

if TYPE_CHECKING:
    from .world import World

_NO_RUN = "00000000-0000-7000-8000-000000000000"


class Backend:
    RUDE: tuple[dict[str, Any], ...] = (
        {"operation": "open", "writer": "", "run": "no run"},
        {"operation": "open", "writer": "w", "on_active": "perhaps"},
        {"operation": "open", "writer": "w", "lease": 10**9},
        {"operation": "open", "writer": "w", "meta": {"big": "x" * 3_000}},
        {"operation": "append", "writer": "w", "run": _NO_RUN, "seq": 1, "chunks": []},
        {"operation": "append", "writer": "w", "run": _NO_RUN, "seq": 7, "chunks": [1]},
        {"operation": "append", "writer": "w", "run": _NO_RUN, "seq": "1"},
        {"operation": "end", "writer": "w", "run": _NO_RUN, "seq": 1, "reason": "why"},
        {"operation": "renew", "writer": "w", "run": _NO_RUN, "handed_over": 1},
        {"operation": "append", "writer": "w", "run": _NO_RUN, "seq": 1},
        {"operation": "append", "writer": "w", "run": _NO_RUN, "seq": 0, "chunks": [1]},
        {"operation": "append", "writer": "w", "run": 7, "seq": 1, "chunks": [1]},
        {"operation": "open", "writer": "w", "meta": [1]},
        {
            "operation": "open",
            "writer": "w",
            "run": "ffffffff-ffff-7fff-8000-000000000000",
        },
        {"operation": "claim", "writer": "w", "run": _NO_RUN},
        {
            "operation": "end",
            "writer": "w",
            "run": _NO_RUN,
            "seq": 1,
            "reason": "error",
        },
        {
            "operation": "end",
            "writer": "w",
            "run": _NO_RUN,
            "seq": 1,
            "reason": "error",
            "message": "x" * 600,
        },
        {"operation": "cancel", "stream": "no stream"},
        {"operation": "read", "limit": 0},
        {"operation": "read", "after": -1},
        {"operation": "disconnect", "sub": ""},
        {"operation": "no such"},
        {"operation": 7},
        {"chunks": "text"},
        {"chunks": [], "end": True},
        {"chunks": ["x" * 40_000]},
        {"chunks": [1], "key": "no key"},
        {"chunks": [1], "end": "perhaps"},
        {"chunks": [1], "message": 7},
    )
    OPERATIONS = ("cancel", "cancel-run", "tail", "read", "watchers", "disconnect")

    def __init__(self, world: World, name: str, streams: list[str]) -> None:
        self.world, self.name, self.streams = world, name, streams
        self.dice = world.kernel.dice(name)

    def ask(self) -> None:
        dice, world = self.dice, self.world
        stream = dice.choice(self.streams)
        operation = dice.choice(self.OPERATIONS)
        # A writer that stood still may put behind a `delete`, where its key is free
        # again: docs/runbook.md. So it is done as told there, once nobody writes; only
        # who asks for `delete` meets the other case.
        if dice.random() < 0.15 and world.quiet(stream):
            operation = "delete"
        if dice.random() < 0.05 and "delete" in world.beside:
            operation = "delete"
        payload: dict[str, Any] = {"operation": operation, "stream": stream}
        tail = world.log.last(stream)
        if operation == "cancel-run":
            payload["operation"] = "cancel"
            payload["run"] = (
                tail.run
                if tail and dice.random() < 0.7
                else ids.new_run(world.kernel.now + 2_000, dice.randbytes(10))
            )
        elif operation == "read":
            payload["after"] = dice.randrange(30)
            if tail and dice.random() < 0.5:
                payload["run"] = tail.run
            if dice.random() < 0.3:
                payload["limit"] = dice.choice([200, 40_000])
        elif operation == "disconnect":
            payload = {"operation": operation, "sub": dice.choice(["tab1", "tab2"])}
        if dice.random() < 0.3:
            payload = {"stream": stream, **dice.choice(self.RUDE)}
        if dice.random() < 0.02:
            self._shout(dice.choice(["", [], 7, None]))
        self.send(payload)
        if dice.random() < 0.5:
            world.kernel.after(dice.choice([300, 70_000]), self.ask)

    def _shout(self, payload: Any) -> None:
        """Send what is no call at all."""
        self.world.invoke(
            "publish", lambda handler: handler.handle(payload), self._finished
        )

    def _finished(self, error: BaseException | None) -> None:
        if error is not None and not isinstance(error, Killed):
            raise error

    def look(self) -> None:
        """Somebody's monitoring: it asks for the tail, now and for ever."""
        for stream in self.streams:
            self.send({"operation": "tail", "stream": stream})
        self.world.kernel.after(15_000, self.look)

    def send(self, payload: dict[str, Any]) -> None:
        world, stream = self.world, payload.get("stream")
        answers: list[dict[str, Any]] = []
        began = world.kernel.now
        world.note(f"{self.name} asks {payload}")
        if payload.get("operation") in ("cancel", "delete"):
            cancels = world.book.cancels.setdefault(str(stream), [])
            cancels.append(payload.get("run", "*"))

        def play(handler: Any) -> None:
            answers.append(handler.handle(payload))

        def done(error: BaseException | None) -> None:
            if payload.get("operation") == "delete":
                world.deleting.remove(payload["stream"])
            if error is None:
                world.observe("told", payload, answers[0], began)
            self._finished(error)

        if payload.get("operation") == "delete":
            world.faults.note("deleted")
            world.deleting.append(payload["stream"])
        world.invoke("publish", play, done)
