"""Who lives in a world, what happens to them, and how it comes to rest."""

from __future__ import annotations

import logging
from collections.abc import Callable

from . import invariants
from .backend import Backend
from .callers import Caller, OneCall
from .clients import PackageTab
from .consumers import Tab
from .intruder import Intruder
from .producers import Job
from .world import RETENTION, Violation, World

ACTORS = ("jobs", "calls", "callers", "tabs", "backend", "intruder", "users", "eras")
REST = 1_200_000
# Some worlds go on until their connections are replaced, before two hours are over.
LONG_REST = 9_000_000
MAX_REST_STEPS = 200_000


class Scenario:
    """A world with its people. `without`: kinds of faults, and of actors, to leave out;
    `beside`: what is left out unless asked for."""

    def __init__(
        self,
        seed: int,
        *,
        without: frozenset[str] = frozenset(),
        beside: frozenset[str] = frozenset(),
        trace: bool = False,
    ) -> None:
        self.world = World(seed, without=without, beside=beside, trace=trace)
        self.kernel = self.world.kernel
        self.without = without
        dice = self.dice = self.kernel.dice("scenario")
        self.streams = [f"s{number + 1}" for number in range(dice.choice([1, 1, 2, 3]))]
        self.world.streams = self.streams
        self.jobs: list[Job] = []
        self.tabs: list[Tab | PackageTab] = []
        self._people("jobs", dice.choice([1, 2, 3, 5]), self._job)
        self._people("calls", dice.choice([0, 0, 1, 3]), self._call)
        callers = self.kernel.dice("callers").choice([0, 0, 1, 2])
        self._people("callers", callers, self._caller)
        self._people("tabs", dice.choice([1, 2, 3]), self._tab)
        self._people("backend", dice.choice([0, 1, 4]), self._backend)
        self._people("intruder", dice.choice([0, 0, 1]), self._intruder)
        self._people("users", dice.choice([0, 3, 8]), self._user)
        self.kernel.after(9_000, Backend(self.world, "monitor", self.streams).look)
        self._people("eras", dice.choice([0, 0, 0, 1]), self._era)

    def run(self, steps: int) -> World:
        """Run the world with its faults, then to rest; raise what does not hold."""
        listener = _Listener(self.world)
        logging.getLogger().addHandler(listener)
        try:
            return self._run(steps)
        finally:
            logging.getLogger().removeHandler(listener)

    def _run(self, steps: int) -> World:
        world = self.world
        world.run(steps)
        world.faults.on = False
        world.resting = True
        world.rests_at = self.kernel.now
        world.note("the faults stop")
        for tab in Tab.of(world):
            tab.asleep_until = 0
            tab.start()
        for job in self.jobs:
            if not job.done and not any(not one.stopped for one in job.attempts):
                job.again(1_000)
        if world.direct:
            self._latecomers()
        long = self.kernel.dice("rest").random() < 0.02
        until = self.kernel.now + (LONG_REST if long else REST)
        limit = self.kernel.steps + MAX_REST_STEPS
        while self.kernel.now < until and self.kernel.steps < limit:
            if not self.kernel.step():
                break
            if world.violation is not None:
                raise world.violation
        for check in invariants.ON["rest"]:
            try:
                check(world)
            except AssertionError as error:
                raise Violation(check.__name__, str(error)) from None
        return world

    def _people(self, kind: str, count: int, begin: Callable[[int], None]) -> None:
        for number in range(count):
            if kind not in self.without:
                begin(number)

    def _job(self, number: int) -> None:
        dice = self.kernel.dice(f"job{number}/place")
        job = Job(self.world, f"job{number}", dice.choice(self.streams))
        self.jobs.append(job)
        self.kernel.after(dice.choice([0, 100, 2_000, 20_000]), job.deliver)

    def _call(self, number: int) -> None:
        dice = self.kernel.dice(f"call{number}/place")
        call = OneCall(self.world, f"call{number}", dice.choice(self.streams))
        self.kernel.after(dice.choice([0, 100, 2_000, 20_000]), call.begin)

    def _caller(self, number: int) -> None:
        dice = self.kernel.dice(f"caller{number}/place")
        caller = Caller(self.world, f"caller{number}", dice.choice(self.streams))
        self.kernel.after(dice.choice([0, 100, 2_000, 20_000]), caller.begin)

    def _tab(self, number: int) -> None:
        dice = self.kernel.dice(f"tab{number}/place")
        kind: type[Tab] | type[PackageTab] = Tab
        if dice.random() < 0.5:
            kind = PackageTab
        tab = kind(self.world, f"tab{number}", self.streams)
        self.tabs.append(tab)
        at = dice.choice([0, 50, 1_000, 10_000])
        self.kernel.after(at, tab.start)
        for stream in self.streams:
            if dice.random() < 0.8:
                self.kernel.after(at + dice.randrange(300), tab.watch, stream)

    def _latecomers(self) -> None:
        """Tabs that come while a job writes, which falls silent now and then: before it
        has asked anew who subscribes, as likely as not."""
        dice = self.kernel.dice("latecomers")
        job = Job(self.world, "latejob", dice.choice(self.streams))
        job.interval, job.silence, job.length = 300, True, 40
        self.jobs.append(job)
        self.kernel.after(5_000, job.deliver)
        for number in (60, 61):
            if "tabs" not in self.without:
                self.kernel.after(5_000 + dice.randrange(6_000), self._tab, number)

    def _backend(self, number: int) -> None:
        dice = self.kernel.dice(f"backend{number}/place")
        backend = Backend(self.world, f"backend{number}", self.streams)
        self.kernel.after(dice.choice([20, 500, 4_000, 30_000]), backend.ask)

    def _intruder(self, number: int) -> None:
        intruder = Intruder(self.world, f"intruder{number}", [*self.streams, "secret"])
        self.kernel.after(100, intruder.start)

    def _user(self, number: int) -> None:
        """Somebody does something to a tab."""
        dice = self.kernel.dice(f"user{number}")
        acts = ["cut", "cut", "half", "reload", "sleep", "toggle", "cancel", "auth"]
        acts += ["stall", "narrow", "open", "pause", "twin", "twin", "crowd", "quit"]
        act, at = dice.choice(acts), dice.choice([200, 1_500, 6_000, 25_000])
        stream, which = dice.choice(self.streams), dice.randrange(8)

        def happen() -> None:
            if not self.tabs or not self.world.faults.on:
                return
            tab = self.tabs[which % len(self.tabs)]
            if act in ("pause", "twin", "crowd", "quit") and isinstance(tab, Tab):
                return
            self.world.note(f"{tab.name}: {act}")
            if act not in ("cut", "half"):
                self.world.faults.note(act)
            if act in ("cut", "half"):
                if tab.connection is not None:
                    self.world.api.cut(tab.connection, half=act == "half")
            elif act == "reload":
                tab.reload()
            elif act == "sleep":
                tab.sleep(dice.choice([4_000, 40_000, 700_000]))
            elif act == "toggle":
                tab.watch(stream)
                tab.unwatch(stream)
                tab.watch(stream)
            elif act == "cancel":
                tab.cancel()
            elif act == "stall":
                tab.stalled_until = self.kernel.now + 700_000
            elif act == "narrow":
                tab.narrow()
            elif act == "open":
                self._tab(10 + number)
            elif act == "pause":
                tab.pause()
            elif act == "twin":
                tab.twin(stream)
            elif act == "crowd":
                tab.crowd()
            elif act == "quit":
                tab.quit()
            else:
                tab.auth()

        self.kernel.after(at, happen)

    def _era(self, number: int) -> None:
        """The retention passes, while some sleep; TTL deletes, on time or not."""
        dice = self.kernel.dice(f"era{number}")
        at = dice.choice([3_000, 40_000])
        hours = dice.choice([0.55, 1.1, 1.1, 3])

        def pass_by() -> None:
            if not self.world.faults.on:
                return
            self.world.note(f"{hours} hours pass")
            if not self.world.faults.has("ttl"):
                self.world.faults.note("kept-on")
            self.kernel.now += int(hours * RETENTION * 1000)
            for _ in range(3):
                self.kernel.after(dice.randrange(30_000), expire)
            self._job(90 + number)

        def expire() -> None:
            if self.world.faults.has("ttl"):
                self.world.expire(self.streams)

        self.kernel.after(at, pass_by)


def run(
    seed: int,
    steps: int,
    *,
    without: frozenset[str] = frozenset(),
    beside: frozenset[str] = frozenset(),
    trace: bool = False,
) -> World:
    """Run one seed; raise `Violation` if something does not hold."""
    return Scenario(seed, without=without, beside=beside, trace=trace).run(steps)


class _Listener(logging.Handler):
    """Hears every log line, of whatever level passes."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        self._world.observe("logged", self.format(record))
