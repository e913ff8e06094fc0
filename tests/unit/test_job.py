"""A job function: at least once delivered, once answered."""

from __future__ import annotations

from typing import Any

import pytest

from tailrace import chunks
from tailrace.errors import Busy, Cancelled, Invalid
from tailrace.producer.job import Asked, job
from tailrace.producer.sync import Producer
from tailrace.transports.in_process import InProcess
from tests.support.worlds import STREAM, World, run_id


class Stage(World):
    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Asked] = []

    def event(self) -> dict[str, Any]:
        """Return what a `send` gives rise to."""
        opened = self.log.open(STREAM, "send.1", lease=60)
        return {
            "tailrace": 1,
            "stream": STREAM,
            "run": opened.run,
            "seq": opened.next,
            "sub": "u7",
            "untrusted": {"messages": [1]},
        }

    def handler(self, *written: Any, **options: Any) -> Any:
        """Return a job that writes chunks, and fails at one that is an exception."""

        def answer(asked: Asked, stream: Producer) -> None:
            self.asked.append(asked)
            for chunk in written[stream.already :]:
                if isinstance(chunk, BaseException):
                    raise chunk
                stream.write(chunk)
                stream.flush()

        made = job(transport=InProcess(self.log), wait=0, **options)
        return made(answer)

    def written(self) -> list[Any]:
        return [one for r in self.records() for one in chunks.decode(r.chunks)]


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_a_job_takes_over_the_run_that_was_opened_for_it(stage: Stage) -> None:
    stage.handler("a", "b")(event := stage.event(), None)
    assert stage.kinds() == ["open", "claim", "data", "data", "end"]
    (asked,) = stage.asked
    assert (asked.run, asked.sub, asked.untrusted["messages"]) == (
        event["run"],
        "u7",
        [1],
    )


def asked(**untrusted: Any) -> Asked:
    return Asked("chat:42", run_id(1), 1, "u7", untrusted)


USER = {"id": "u1", "role": "user", "parts": []}
ASSISTANT = {"id": "a1", "role": "assistant", "parts": []}


@pytest.mark.parametrize("named", [{}, {"messageId": None}, {"messageId": "a1"}])
def test_an_answer_behind_the_assistants_message_continues_it(
    named: dict[str, Any],
) -> None:
    assert asked(messages=[USER, ASSISTANT], **named).message_id == "a1"


@pytest.mark.parametrize(
    "untrusted",
    [
        {},
        {"messages": []},
        {"messages": {"a": 1}},
        {"messages": ["a1"]},
        {"messages": [ASSISTANT, USER], "messageId": "u1"},
        {"messages": [{**ASSISTANT, "id": 7}]},
        {"messages": [{**ASSISTANT, "id": ""}]},
        {"messages": [{"role": "assistant"}]},
        {"messages": [ASSISTANT], "messageId": "a2"},
    ],
)
def test_any_other_answer_is_a_message_of_its_own(untrusted: dict[str, Any]) -> None:
    assert asked(**untrusted).message_id == run_id(1)


def test_a_second_delivery_of_what_is_answered_does_nothing(stage: Stage) -> None:
    event = stage.event()
    for _ in range(2):
        stage.handler("a")(event)
    assert stage.written() == ["a"]
    assert len(stage.asked) == 1


def test_a_second_delivery_meanwhile_comes_again_later(stage: Stage) -> None:
    event = stage.event()
    stage.log.claim(STREAM, event["run"], "other", event["seq"], lease=30)
    with pytest.raises(Busy):
        stage.handler("a")(event)


@pytest.mark.parametrize(
    ("resume", "kinds"), [("continue", ["a", "b"]), ("restart", ["a", "a", "b"])]
)
def test_a_job_that_died_on_the_way_is_begun_anew_or_gone_on_with(
    stage: Stage, resume: Any, kinds: list[str]
) -> None:
    event = stage.event()
    dead = stage.log.claim(STREAM, event["run"], "dead", event["seq"], lease=5)
    stage.log.append(STREAM, event["run"], "dead", dead.next, ['"a"'])
    stage.clock.advance(10)
    stage.handler("a", "b", resume=resume)(event)
    assert stage.written() == kinds
    assert len({r.run for r in stage.records()}) == len(kinds) - 1


def test_what_was_cancelled_before_it_began_is_not_answered(stage: Stage) -> None:
    event = stage.event()
    stage.log.cancel(STREAM, event["run"])
    stage.handler("a")(event)
    assert stage.asked == []


def test_what_is_cancelled_on_the_way_is_no_failure(stage: Stage) -> None:
    event = stage.event()

    @job(transport=InProcess(stage.log), wait=0)
    def handler(asked: Asked, stream: Producer) -> None:
        stream.write("a")
        stream.flush()
        stage.log.cancel(STREAM, event["run"])
        stream.write("b")
        stream.flush()

    handler(event)
    assert stage.records()[-1].reason == "cancelled"


def test_the_end_of_another_stream_is_a_failure_of_the_job(stage: Stage) -> None:
    @job(transport=InProcess(stage.log), wait=0)
    def handler(asked: Asked, stream: Producer) -> None:
        with Producer("audit", transport=InProcess(stage.log)) as audit:
            stage.log.cancel("audit", audit.run)
            audit.write("asked")

    with pytest.raises(Cancelled):
        handler(stage.event())
    assert stage.records()[-1].reason == "error"


def test_a_job_that_fails_fails_once(stage: Stage) -> None:
    event = stage.event()
    with pytest.raises(ValueError, match="no key"):
        stage.handler(ValueError("no key"))(event)
    stage.handler("a")(event)
    assert len(stage.asked) == 1
    assert stage.records()[-1].reason == "error"


def test_an_event_of_somebody_else_is_refused(stage: Stage) -> None:
    with pytest.raises(Invalid):
        stage.handler("a")({"stream": STREAM})


@pytest.mark.parametrize(
    ("options", "refusal", "names"),
    [
        ({"leese": 60}, TypeError, "leese"),
        ({"lease": 0}, Invalid, "lease"),
        ({"resume": "again"}, Invalid, "resume"),
        ({"run": run_id(1)}, TypeError, "run"),
        ({"seq": 2}, TypeError, "seq"),
    ],
)
def test_options_that_no_producer_takes_are_refused_where_the_job_is_made(
    options: dict[str, Any], refusal: type[Exception], names: str
) -> None:
    with pytest.raises(refusal, match=names):
        job(**options)


async def _async(asked: Asked, stream: Producer) -> None: ...


def _generator(asked: Asked, stream: Producer) -> Any:
    yield


async def _async_generator(asked: Asked, stream: Producer) -> Any:
    yield


@pytest.mark.parametrize("answer", [_async, _generator, _async_generator])
def test_a_function_that_would_not_run_is_refused_where_the_job_is_made(
    answer: Any,
) -> None:
    """To call it does nothing, and the answer would be whole, and empty."""
    with pytest.raises(Invalid, match="plain function"):
        job(answer)


def test_it_is_a_decorator_with_and_without_options() -> None:
    @job(lease=9)
    def with_options(asked: Asked, stream: Producer) -> None: ...

    @job
    def without(asked: Asked, stream: Producer) -> None: ...

    assert callable(with_options)
    assert callable(without)
