"""What goes wrong in worlds of chats: the gateway, the queue, the pushers' tables."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tailrace.chat import Chats
from tailrace.errors import Unavailable
from tailrace.ports import Push, Repair

from .faults import Faults
from .gateway import Api, Connection
from .kernel import Killed

if TYPE_CHECKING:
    from .chats import ChatWorld

BEHIND = ("state-fails", "state-lost", "read-fails", "slow-table", "queue-fails")
_RECEIVES = 5
_VISIBILITY = 60_000


class ChatFaults(Faults):
    """The tables and the queue fail those who push, not those who answer a frame: what
    cannot be begun is told as an error, and that is another story."""

    def hit(self, kind: str, share: float = 1.0) -> bool:
        behind = ("fanout", "repairs")
        if kind in BEHIND and self._kernel.process().name not in behind:
            return False
        return super().hit(kind, share)


class RoughApi(Api):
    """A gateway that fails visibly: 429, 5xx, time-outs, applied or not, or late."""

    def _push(self, connection: Connection | None, frame: str) -> Push:
        world, dice = self._world, self._dice
        world.network("push")
        if connection is None or not connection.open:
            return Push.GONE
        chance = dice.random() if world.faults.on else 1.0
        if chance < 0.10:
            return dice.choice((Push.THROTTLED, Push.FAILED))
        if chance < 0.16:
            when = dice.choice(("never", "now", "late"))
            if when == "now":
                self._deliver(connection, json.loads(frame))
            elif when == "late":
                late = dice.choice((5, 400, 3_000))
                world.kernel.after(late, self._deliver, connection, json.loads(frame))
            world.kernel.wait(500)
            return Push.SLOW
        self._deliver(connection, json.loads(frame))
        world.network("push")
        return Push.DONE


class Queue:
    """SQS: a message comes after its delay, once or more; what fails comes again."""

    def __init__(self, world: ChatWorld) -> None:
        self._world = world
        self._dice = world.kernel.dice("queue")
        self.dead: list[Repair] = []

    @property
    def given_up(self) -> set[str]:
        """Requests that nobody looks after any more (docs/runbook.md,
        RepairFailuresAlarm)."""
        return {one.request for one in self.dead if one.watch is not None or one.frame}

    def ask(self, repair: Repair, seconds: int) -> None:
        self._world.network("queue")
        faults = self._world.faults
        if faults.hit("queue-fails"):
            raise Unavailable("the queue did not answer")
        late = self._dice.randrange(500)
        self._world.kernel.after(seconds * 1_000 + late, self._deliver, repair, 1)
        if faults.hit("queue-repeats"):
            self._world.kernel.after(seconds * 1_000 + 900, self._deliver, repair, 1)

    def _deliver(self, repair: Repair, receives: int) -> None:
        def play(chats: Chats) -> None:
            chats.look_after(repair)

        def done(error: BaseException | None) -> None:
            if error is None:
                return
            if not isinstance(error, Killed | Unavailable):
                raise error
            if receives == _RECEIVES:
                self.dead.append(repair)
                return
            again = self._deliver
            self._world.kernel.after(_VISIBILITY, again, repair, receives + 1)

        self._world.invoke("repairs", play, done)
