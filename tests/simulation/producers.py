"""Who writes with the package: jobs and their attempts."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tailrace import ids
from tailrace.errors import (
    Busy,
    Invalid,
    StreamEnded,
    TailraceError,
    TooLarge,
    Unavailable,
)
from tailrace.producer.core import Core, Pace
from tailrace.producer.opening import Opening
from tailrace.producer.values import encode
from tailrace.rules import OnActive
from tailrace.transports.function import PublishFunction
from tailrace.transports.in_process import InProcess
from tailrace.writers import Transport

from .contents import said
from .kernel import START, Killed, Process
from .pushes import SETTLE_PROCESS

if TYPE_CHECKING:
    from .world import World


class _Meta:
    class events:  # noqa: N801
        @staticmethod
        def register(name: str, handler: Any) -> None: ...


class SimLambda:
    """A boto3 Lambda client: some container, or none; the answer may be lost, the
    invocation late or doubled."""

    meta = _Meta

    def __init__(self, world: World) -> None:
        self._world = world

    def invoke(self, *, FunctionName: str, Payload: bytes) -> dict[str, Any]:  # noqa: N803
        world = self._world
        world.network("invoke")
        payload = json.loads(Payload)
        body: list[bytes] = []

        def play(handler: Any) -> None:
            answer = json.dumps(handler.handle(payload)).encode()
            body.append(answer)

        if world.faults.hit("put-twice"):
            world.invoke("publish", lambda h: h.handle(payload), lambda error: None)
        if world.faults.hit("put-never"):
            world.network("lost")
            raise Unavailable("the invocation was lost")
        if world.faults.hit("put-late"):
            world.kernel.after(
                world.kernel.dice("lambda").choice((100, 3_000)),
                world.invoke,
                "publish",
                lambda h: h.handle(payload),
                lambda error: None,
            )
            world.network("lost")
            raise Unavailable("the invocation is late")
        world.kernel.park(
            lambda wake: world.invoke("publish", play, lambda error: wake())
        )
        if world.faults.hit("put-lost"):
            raise Unavailable("the answer was lost")
        if not body:
            return {"FunctionError": "Unhandled", "Payload": io.BytesIO(b"{}")}
        return {"Payload": io.BytesIO(body[0])}


class _Function(PublishFunction):
    def __init__(self, world: World, process: Process) -> None:
        super().__init__(SimLambda(world), "publish")
        self._process = process

    def clock(self) -> int:
        return self._process.clock()


class Job:
    """A job in a queue that delivers at least once: it is attempted until one attempt
    is done, or for ever refused."""

    def __init__(self, world: World, name: str, stream: str) -> None:
        dice = world.kernel.dice(name)
        self.world = world
        self.name = name
        self.stream = stream
        fat = 40 if world.strict else 6
        said = dice.choices(["fat-", "ui-", "obj-", ""], [fat, 15, 7, 72])[0]
        self.label = said + name
        how = dice.choices(["completed", "error", "leave"], [82, 12, 6])[0]
        self.ending: Any = how
        self.sloppy = dice.random() < 0.1
        self.length = dice.choice([1, 4, 12, 40])
        self.interval = dice.choice([2, 20, 60, 300, 3_000, 14_000])
        self.silence = dice.random() < 0.3
        self.lease = dice.choice([3, 10, 30])
        self.attempts: list[Attempt] = []
        self.done = False
        self.named = dice.random() < 0.7
        self.restarts = dice.random() < 0.2
        self.on_active: OnActive = dice.choice(["supersede", "supersede", "fail"])
        self.by_lambda = dice.random() < 0.4
        self.run: str | None = None
        # All attempts write under one name: a mistake that must not cost a chunk.
        self.namesakes = dice.random() < 0.2
        # One attempt stands still until another has taken its run over, then goes on.
        self.duel = world.faults.on and dice.random() < 0.35
        if self.duel:
            self.named, self.restarts, self.namesakes = True, False, False
            self.lease, self.length = 3, dice.choice([12, 40])
            self.interval = dice.choice([60, 300])
        if self.named:
            # Minted by the backend that queued it, whose clock may be wrong.
            skew = dice.randrange(-90_000, 90_000) if world.faults.has("skew") else 0
            at = world.kernel.now + skew
            self.run = ids.new_run(at, dice.randbytes(10))
        self.dice = dice

    def deliver(self) -> None:
        """The queue delivers it; now and then while another attempt is under way."""
        if self.done or len(self.attempts) >= (9 if self.world.resting else 5):
            return
        if self.stream in self.world.deleting and "delete" not in self.world.beside:
            self.world.kernel.after(5_000, self.deliver)
            return
        if any(not one.stopped for one in self.attempts):
            self.world.faults.note("repeated-job")
        self.attempts.append(Attempt(self, len(self.attempts)))
        if self.duel and len(self.attempts) == 1:
            self.again(self.dice.choice([4_000, 6_000, 10_000]))
        elif self.world.faults.on and self.dice.random() < 0.3:
            soon = 50 if self.namesakes else 15_000
            self.again(self.dice.choice([50, soon, 2_000, 45_000]))

    def again(self, ms: int) -> None:
        if self.named:
            self.world.kernel.after(ms, self.deliver)


class _Loop:
    """An object of some library that is a part of itself."""

    def to_dict(self) -> dict[str, Any]:
        return {"self": self}


def _ask_wrongly(stream: str, dice: random.Random) -> None:
    """Name what there is not: the job is told before anything happens."""
    run = ids.new_run(START, dice.randbytes(10))

    def opening(**options: Any) -> Opening:
        return Opening(stream, "w", lease=5, randomness=bytes(10), **options)

    wrong: list[Callable[[], object]] = [
        lambda: opening(resume="sometimes"),
        lambda: opening(resume="continue"),
        lambda: opening(run=run, seq=4),
        lambda: opening(on_active="perhaps"),
        lambda: Pace(min_interval=-1),
        lambda: Pace(buffer=0),
        lambda: Pace(lease=0),
    ]
    try:
        dice.choice(wrong)()
    except Invalid:
        return
    raise AssertionError("what there is not was taken")


class Attempt:
    """One attempt: a machine with its clock, and the real core."""

    def __init__(self, job: Job, number: int, seq: int | None = None) -> None:
        world, dice = job.world, job.dice
        self.job = job
        self.name = job.name if job.namesakes else f"{job.name}-{number}"
        resume: Any = None
        if job.run is not None and number:
            resume = "restart" if job.restarts else "continue"
        opening = Opening(
            job.stream,
            self.name,
            run=job.run,
            resume=resume,
            seq=seq if resume == "continue" else None,
            on_active=job.on_active,
            lease=job.lease,
            meta=dice.choice([None, {"m": 1}]),
            randomness=dice.randbytes(10),
        )
        pace = Pace(
            min_interval=dice.choice([0, 0.05, 0.1]),
            lease=job.lease,
            buffer=dice.choice([500, 100_000]),
            give_up_after=dice.choice([0, 3, 30]),
            wait=dice.choice([0, 5, 40]),
        )
        self.core = Core(opening, pace)
        if job.sloppy:
            _ask_wrongly(job.stream, dice)
        self.stopped = False
        self._upto: int | None = None
        self._next_at = 0
        # In-process clocks are corrected by AWS's to within two seconds.
        skew = dice.randrange(-2_000, 2_000) if world.faults.has("skew") else 0
        self.process = Process(world.kernel, self.name, skew)
        faulty = world.faults.on
        if faulty and dice.random() < 0.25:
            self.process.calls_left = dice.randrange(1, 60)
        self._freeze_at = dice.randrange(12) if faulty and dice.random() < 0.3 else -1
        self._frozen_for = dice.choice([5_000, 35_000, 90_000, 2_400_000])
        if job.duel and number == 0:
            self.process.calls_left = None
            self._freeze_at = dice.randrange(2, 8)
            self._frozen_for = dice.choice([8_000, 12_000, 20_000])
        self._hands_over = dice.random() < 0.15
        self._breaks_at = dice.randrange(30) if faulty and dice.random() < 0.1 else -1
        if faulty and dice.random() < 0.2:
            self.process.ahead = dice.choice([45_000, 400_000])
            world.faults.note("wrong-clock")
        pushing = world.kernel.dice(f"{job.name}/pushing")
        self._push_interval = pushing.choice([0, 0, 100, 400])
        world.note(f"{self.name} starts, run {job.run}, {resume}")
        world.begin_to_write(job.stream)
        world.kernel.start(self.process, self._play, self._done)

    def _play(self) -> None:
        core, job, world = self.core, self.job, self.job.world
        transport: Transport
        if job.by_lambda:
            transport = _Function(world, self.process)
        else:
            pushes = world.new_pushes(self.process.clock, self._push_interval)
            transport = InProcess(
                world.new_log(self.process.clock, pushes),
                lambda stream: pushes and pushes.settle(SETTLE_PROCESS, stream),
            )
        calls = 0
        while core.state != "closed":
            self._work()
            call = core.step(world.kernel.now / 1000)
            if call is None:
                self._wait()
                continue
            calls += 1
            if calls == self._breaks_at:
                world.faults.note("broke")
                core.abort(RuntimeError("somebody has interrupted the job"))
                break
            if calls == self._freeze_at:
                world.faults.note("stood-still")
                self.process.freeze(self._frozen_for)
            began, parked = world.kernel.now, world.kernel.parked
            try:
                answer = call.send(transport)
            except TailraceError as error:
                world.observe("refused", self, call, error, began)
                core.failed(error, world.kernel.now / 1000, self.job.dice.random())
            else:
                core.answered(answer, world.kernel.now / 1000)
                world.observe("acknowledged", self, call, began)
                world.observe("waited", self, call, world.kernel.parked - parked)
        if job.sloppy:
            self._be_sloppy()

    def _wait(self) -> None:
        now = self.job.world.kernel.now
        due = self.core.due(now / 1000)
        times = [now + 60_000]
        if due is not None:
            times.append(int(due * 1000) + 1)
        if self.core.state == "writing" and self._upto is not None:
            times.append(self._next_at)
        self.job.world.kernel.wait(max(1, min(times) - now))

    def _work(self) -> None:
        """Write what the model has said by now."""
        core, job = self.core, self.job
        if core.state != "writing":
            return
        now = job.world.kernel.now
        if self._upto is None:
            self._upto = core.already
            if core.epoch and core.already:
                job.world.faults.note("taken-over")
        while self._upto < job.length and self._next_at <= now and not core.full:
            core.write(encode(said(job.label, self._upto)))
            self._upto += 1
            pause = job.interval
            if job.silence and job.dice.random() < 0.1:
                pause = 1_000 * job.dice.choice([10, 45])
            self._next_at = now + pause
            if job.dice.random() < 0.1:
                core.flush()
        if job.sloppy:
            self._be_sloppy()
        if self._hands_over and 0 < self._upto < job.length:
            core.hand_over()
            job.world.faults.note("handed-over")
            self._hands_over = False
        elif self._upto >= job.length:
            if job.ending == "leave":
                core.leave()
            else:
                # Half an emoji, as a text that was cut has it.
                message = "it broke \ud83d" if job.ending == "error" else None
                core.end(job.ending, message)
            if job.sloppy:
                self._be_sloppy()

    def _be_sloppy(self) -> None:
        """Write what cannot be written, or when nothing can be any more: the job is
        told, and nothing else happens."""
        core, before = self.core, self.core.written
        wrong: list[Callable[[], object]] = [
            lambda: core.write('"' + "x" * 30_000 + '"'),
            lambda: core.write(encode(_Loop())),
            lambda: core.write(encode({"at": float("nan")})),
            lambda: core.end("whatever", None),  # type: ignore[arg-type]
            lambda: core.hand_over(lease=0),
        ]
        for one in wrong:
            try:
                one()
            except (TooLarge, StreamEnded, Invalid):
                continue
            except Exception as error:  # noqa: BLE001 - whatever ended the run
                # It was ended by this before, and the job is told so whatever it does.
                assert error is core.error, error
            else:
                raise AssertionError("what cannot be written was taken")
        assert core.written == before

    def _done(self, error: BaseException | None) -> None:
        """The machine is gone, or the core is closed."""
        self.stopped = True
        job, world = self.job, self.job.world
        world.end_to_write(job.stream)
        if isinstance(error, Killed):
            world.faults.note("died")
        failure = self.core.error
        world.note(f"{self.name} stops: {error!r} {failure!r}")
        if error is not None and not isinstance(error, Killed):
            raise error
        job.run = job.run if job.named else None
        if failure is None and error is None and self._upto == job.length:
            job.done = True
        elif failure is None and error is None:
            job.again(1)  # handed over
        elif failure is None or isinstance(failure, Unavailable | Busy):
            job.again(job.dice.choice([100, 5_000, 30_000]))
        else:
            job.done = True
