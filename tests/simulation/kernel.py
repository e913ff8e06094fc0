"""Virtual time, and tasks that run real, synchronous code until their next wait.

One heap of events is all there is: no threads, no sleeps, no real time. An event is
either a plain call or the waking of a task, which is a greenlet that stops wherever the
code in it waits for the network. A process that was killed never wakes again; one that
is frozen wakes when it thaws.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Sequence
from typing import Any

from greenlet import getcurrent, greenlet

START = 1_764_547_200_000


class Killed(BaseException):
    """The process is gone; no code may see it but by its `finally`."""


class Process:
    """What lives and dies as one: a function's invocation, or a producer's machine.

    `calls_left`: after so many waits it is killed; `deadline`: when it is timed out.
    `clock` is what its code is given; it is `ahead`, too, until AWS's first answer has
    set it.
    """

    def __init__(self, kernel: Kernel, name: str, skew: int = 0) -> None:
        self.name = name
        self.began = kernel.now
        self.dead = False
        self.thaws_at = 0
        self.calls_left: int | None = None
        self.deadline: int | None = None
        self.skew = skew
        self.ahead = 0
        self._kernel = kernel

    def clock(self) -> int:
        return self._kernel.now + self.skew + self.ahead

    def kill(self) -> None:
        self.dead = True

    def freeze(self, ms: int) -> None:
        self.thaws_at = max(self.thaws_at, self._kernel.now + ms)


class _Task(greenlet):
    process: Process
    scope: object
    # How long it has stood still for other tasks.
    parked: int


class Kernel:
    """The heap, the time, and the dice: one for each purpose, so that taking one actor
    or fault away leaves the others' chances as they were."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.now = START
        self.steps = 0
        self._heap: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = 0
        self._dice: dict[str, random.Random] = {}

    def dice(self, name: str) -> random.Random:
        dice = self._dice.get(name)
        if dice is None:
            dice = self._dice[name] = random.Random(f"{self.seed}/{name}")
        return dice

    def after(self, ms: int, call: Callable[..., None], *args: Any) -> None:
        self._order += 1
        heapq.heappush(self._heap, (self.now + ms, self._order, call, args))

    def step(self) -> bool:
        """Let the next event happen; False if there is none."""
        if not self._heap:
            return False
        at, _, call, args = heapq.heappop(self._heap)
        self.now = max(self.now, at)
        self.steps += 1
        call(*args)
        return True

    # ---- tasks -----------------------------------------------------------------------

    def start(
        self,
        process: Process,
        play: Callable[[], None],
        on_done: Callable[[BaseException | None], None] | None = None,
        *,
        scope: object = None,
    ) -> None:
        """Run `play` as a task of the process. `on_done` gets what it raised, if it
        did. It is told of a killed process, too. `scope`: what the task, and those that
        it runs side by side, are a part of."""

        def run() -> None:
            error: BaseException | None = None
            try:
                play()
            except Killed as killed:
                error = killed
            except Exception as raised:  # noqa: BLE001 - it is what is looked at
                error = raised
            if on_done is not None:
                on_done(error)
            elif error is not None and not isinstance(error, Killed):
                raise error

        task = _Task(run)
        task.process = process
        task.scope = scope
        task.parked = 0
        self.after(0, self._wake, task)

    def wait(self, ms: int) -> None:
        """Let time pass for the task that calls this."""
        task = getcurrent()
        assert isinstance(task, _Task), "only a task can wait"
        process = task.process
        if process.calls_left is not None:
            process.calls_left -= 1
            if process.calls_left < 0:
                process.dead = True
        if process.dead:
            raise Killed
        self.after(ms, self._wake, task)
        self._yield(task)

    def park(self, begin: Callable[[Callable[[], None]], None]) -> None:
        """Stop the task that calls this until what `begin` is given is called."""
        task = getcurrent()
        assert isinstance(task, _Task), "only a task can wait"
        began = self.now
        begin(lambda: self.after(0, self._wake, task))
        self._yield(task)
        task.parked += self.now - began

    @property
    def parked(self) -> int:
        """How long (ms) the running task has waited for other tasks, in all."""
        task = getcurrent()
        assert isinstance(task, _Task)
        return task.parked

    @property
    def scope(self) -> object:
        """What the running task is a part of: a scope, else its process."""
        task = getcurrent()
        assert isinstance(task, _Task)
        return task.process if task.scope is None else task.scope

    def _yield(self, task: _Task) -> None:
        assert task.parent is not None
        task.parent.switch()
        process = task.process
        if process.deadline is not None and self.now > process.deadline:
            process.dead = True
        if process.dead:
            raise Killed

    def process(self) -> Process:
        """Return the process whose code is running."""
        task = getcurrent()
        assert isinstance(task, _Task)
        return task.process

    def side_by_side(self, tasks: Sequence[Callable[[], None]]) -> None:
        """Run calls as tasks of the same process; return when all have returned."""
        if not tasks:
            return
        left = len(tasks)
        errors: list[BaseException] = []

        def begin(wake: Callable[[], None]) -> None:
            def done(error: BaseException | None) -> None:
                nonlocal left
                left -= 1
                if error is not None:
                    errors.append(error)
                if left == 0:
                    wake()

            process, scope = self.process(), self.scope
            for one in tasks:
                self.start(process, one, done, scope=scope)

        self.park(begin)
        if errors:
            raise errors[0]

    def _wake(self, task: _Task) -> None:
        process = task.process
        if process.thaws_at > self.now and not process.dead:
            self.after(process.thaws_at - self.now, self._wake, task)
            return
        task.parent = getcurrent()
        task.switch()
