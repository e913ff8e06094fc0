"""Who writes without a producer: by the publish API, or by one call."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tailrace import chunks, ids, onecall
from tailrace.errors import Busy, Invalid, TailraceError, Unavailable, from_dict

from .contents import content
from .kernel import Killed, Process
from .producers import SimLambda

if TYPE_CHECKING:
    from .world import World


class Caller:
    """It knows no package and makes no run ids; it repeats each call until it is
    answered."""

    def __init__(self, world: World, name: str, stream: str) -> None:
        self.world, self.name, self.stream = world, name, stream
        dice = self.dice = world.kernel.dice(name)
        self.count = dice.choice([1, 5, 20])
        self.lease = dice.choice([None, 5, 60, 400])
        self.pause = dice.choice([1, 50, 1_000])
        self.fate = dice.choice(["completed", "completed", "error", "vanishes"])
        self.careless = dice.random() < 0.3

    def begin(self) -> None:
        if self.stream in self.world.deleting and "delete" not in self.world.beside:
            self.world.kernel.after(5_000, self.begin)
            return
        self.world.begin_to_write(self.stream)
        process = Process(self.world.kernel, self.name)
        self.world.kernel.start(process, self._play, self._stopped)

    def _play(self) -> None:
        values = [content(self.name, number) for number in range(self.count)]
        try:
            opened = self._ask(operation="open", lease=self.lease)
            run, seq, done = opened["run"], opened["next"], 0
            while done < self.count:
                upto = min(done + self.dice.randrange(1, 4), self.count)
                upto, seq = self._append(run, seq, values, done, upto)
                done = upto
                self.world.observe("caller-told", self, run, seq, done)
                if self.careless:
                    self._be_careless(run, seq)
                self.world.kernel.wait(self.pause)
            if self.fate != "vanishes":
                self._ask(operation="end", run=run, seq=seq, reason=self.fate)
        except TailraceError as error:
            self.world.note(f"{self.name} stops: {error!r}")

    def _append(
        self, run: str, seq: int, values: list[Any], done: int, upto: int
    ) -> tuple[int, int]:
        """Append until it is answered; what the model has said meanwhile goes along."""
        while True:
            more = values[done:upto]
            try:
                answer = self._ask(
                    tries=1, operation="append", run=run, seq=seq, chunks=more
                )
                return upto, answer["next"]
            except (Unavailable, Busy):
                self.world.kernel.wait(self.dice.choice((50, 2_000)))
                if self.dice.random() < 0.4:
                    upto = min(upto + 1, self.count)
                    self.world.faults.note("grew")

    def _be_careless(self, run: str, seq: int) -> None:
        """Name a place that is not there: nothing is written, and the caller told. It
        is far off: a call that was given up may be played when the log is longer."""
        for at, said in ((seq + 1_000, ["nobody's"]), (seq, [])):
            try:
                self._ask(operation="append", run=run, seq=at, chunks=said)
            except TailraceError as error:
                if not isinstance(error, Invalid | Unavailable):
                    raise
            else:
                raise AssertionError("a place that is not there was written")

    def _ask(self, *, tries: int = 30, **payload: Any) -> dict[str, Any]:
        payload |= {"stream": self.stream, "writer": self.name}
        given = {name: one for name, one in payload.items() if one is not None}
        for left in reversed(range(tries)):
            try:
                return self._invoke(given)
            except (Unavailable, Busy):
                if not left:
                    raise
                self.world.kernel.wait(self.dice.choice((50, 2_000)))
        raise AssertionError("it is answered or not")

    def _invoke(self, payload: dict[str, Any]) -> dict[str, Any]:
        answer = SimLambda(self.world).invoke(
            FunctionName="publish", Payload=json.dumps(payload).encode()
        )
        if "FunctionError" in answer:
            raise Unavailable("the function failed")
        told: dict[str, Any] = json.loads(answer["Payload"].read())
        if "error" in told:
            raise from_dict(told["error"])
        return told

    def _stopped(self, error: BaseException | None) -> None:
        self.world.end_to_write(self.stream)
        if error is not None and not isinstance(error, Killed):
            raise error


class OneCall:
    """A caller that keeps no state, and repeats its call until it is answered."""

    def __init__(self, world: World, name: str, stream: str) -> None:
        self.world, self.name, self.stream = world, name, stream
        dice = self.dice = world.kernel.dice(name)
        self.key = name if dice.random() < 0.8 else None
        self.count = dice.choice([1, 3, 6])
        self.end: Any = dice.choice([None, None, None, "completed", "error"])
        self.by_lambda = self.key is not None and dice.random() < 0.4
        self.label = dice.choice(["", "", "fat-", "ui-"]) + name
        self.run = None
        if dice.random() < 0.2:
            self.run = ids.new_run(world.kernel.now, dice.randbytes(10))
        self.acknowledged = False
        # Without a key, a repeat appends again: such a caller does not repeat.
        self.tries = 30 if self.key else 1

    def begin(self) -> None:
        if self.stream in self.world.deleting and "delete" not in self.world.beside:
            self.world.kernel.after(5_000, self.begin)
            return
        process = Process(self.world.kernel, self.name)
        if self.world.faults.on and self.dice.random() < 0.15:
            process.calls_left = self.dice.randrange(40)
        self.world.begin_to_write(self.stream)
        self.world.kernel.start(process, self._play, self._stopped)

    def _play(self) -> None:
        world = self.world
        clock = world.kernel.process().clock
        log = world.new_log(clock, world.new_pushes(clock))
        values = [content(self.label, i) for i in range(self.count)]
        how: dict[str, Any] = {
            "run": self.run,
            "key": self.key,
            "end": self.end,
            "message": "it broke" if self.end == "error" else None,
            "lease": self.dice.choice((15, None)),
        }
        for _ in range(self.tries):
            try:
                if self.by_lambda:
                    self._invoke(values, how)
                else:
                    texts = [chunks.encode(value) for value in values]
                    onecall.publish(log, self.stream, texts, **how)
            except (Unavailable, Busy):
                world.kernel.wait(self.dice.choice((50, 2_000)))
                continue
            except TailraceError as error:
                world.note(f"{self.name} refused: {error!r}")
                return
            self.acknowledged = True
            world.observe("published", self)
            if self.dice.random() < 0.5 or self.key is None:
                return

    def _invoke(self, values: list[Any], how: dict[str, Any]) -> None:
        payload = {"stream": self.stream, "chunks": values, **how}
        given = {name: value for name, value in payload.items() if value is not None}
        answer = SimLambda(self.world).invoke(
            FunctionName="publish", Payload=json.dumps(given).encode()
        )
        if "FunctionError" in answer:
            raise Unavailable("the function failed")
        told = json.loads(answer["Payload"].read())
        if "error" in told:
            raise from_dict(told["error"])

    def _stopped(self, error: BaseException | None) -> None:
        self.world.end_to_write(self.stream)
        if isinstance(error, Killed) and self.key and self.dice.random() < 0.8:
            self.world.kernel.after(3_000, self.begin)
        elif error is not None and not isinstance(error, Killed):
            raise error
