"""Jobs that a `send` on the socket starts: a Lambda handler made of what answers."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, overload

from ..errors import Cancelled, Fenced, Invalid, StreamEnded, Superseded
from .sync import Producer

_ANY_RUN = "00000000-0000-7000-8000-000000000000"
_STOPS = (Cancelled, Fenced, StreamEnded, Superseded)


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked, and by whom. `sub` may send to `stream`, as its token says; all
    of `untrusted` is from the client, unchecked: `messages`, `body`, `headers`, …"""

    stream: str
    run: str
    seq: int
    sub: str
    untrusted: dict[str, Any]

    @property
    def message_id(self) -> str:
        """The id of the message that the answer belongs to: the last that was sent, if
        that is the assistant's, as after a tool that the page ran; else the run."""
        messages = self.untrusted.get("messages")
        last = messages[-1] if isinstance(messages, list) and messages else None
        if not isinstance(last, dict) or last.get("role") != "assistant":
            return self.run
        id = last.get("id")
        # To regenerate, or to continue an earlier message, is not to continue this one.
        meant = self.untrusted.get("messageId") in (None, id)
        return id if meant and isinstance(id, str) and id else self.run


Job = Callable[[Asked, Producer], Any]
Handler = Callable[..., None]


@overload
def job(answer: Job) -> Handler: ...
@overload
def job(
    *, resume: Literal["continue", "restart"] = "restart", **options: Any
) -> Callable[[Job], Handler]: ...


def job(
    answer: Job | None = None,
    *,
    resume: Literal["continue", "restart"] = "restart",
    **options: Any,
) -> Any:
    """Make a Lambda handler of a function that writes the answer to what was asked.

    Lambda may deliver an event more than once. While another delivery is at work,
    `Busy` is raised, so that Lambda comes again; once the answer has ended, or is
    cancelled or superseded, nothing is done. `resume` says what becomes of an answer
    whose job died after its first chunk: `"restart"` begins it anew, as a later run,
    `"continue"` calls the function again, which skips `already` chunks. `options` are
    the producer's.
    """
    # What a producer does not take is told where it is written, not at the first turn.
    Producer("chat", run=_ANY_RUN, resume="continue", seq=1, **options)
    if resume not in ("continue", "restart"):
        raise Invalid('resume: must be "continue" or "restart"')
    if answer is None:
        return functools.partial(job, resume=resume, **options)
    for unfit in (
        inspect.iscoroutinefunction,
        inspect.isgeneratorfunction,
        inspect.isasyncgenfunction,
    ):
        if unfit(answer):
            raise Invalid("job: must be a plain function, without `async` and `yield`")

    @functools.wraps(answer)
    def handler(event: Any, context: Any = None) -> None:
        asked = _asked(event)
        begun = {"run": asked.run, **options}
        try:
            stream = Producer(
                asked.stream, resume="continue", seq=asked.seq, **begun
            ).open()
            if stream.already and resume == "restart":
                stream.hand_over()
                stream = Producer(asked.stream, resume="restart", **begun).open()
        except _STOPS:
            return  # nobody waits for it any more
        try:
            with stream:
                answer(asked, stream)
        except _STOPS as stop:
            # That of another stream, which the job writes as well, is its failure.
            if stop is not stream.error:
                raise

    return handler


def _asked(event: Any) -> Asked:
    names = ("stream", "run", "seq", "sub", "untrusted")
    if not isinstance(event, dict) or event.get("tailrace") != 1:
        raise Invalid("event: is none that a `send` gives rise to")
    return Asked(**{name: event[name] for name in names})
