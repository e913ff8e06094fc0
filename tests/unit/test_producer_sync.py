"""The producer for plain code: a thread between the job and a log in memory."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tailrace.errors import (
    Busy,
    Cancelled,
    Invalid,
    StreamEnded,
    TooLarge,
    Unavailable,
)
from tailrace.producer import base, sync
from tailrace.producer.base import ERROR_MESSAGE, PublicError
from tailrace.producer.sync import Producer
from tailrace.transports.in_process import InProcess
from tailrace.watchers import Subscription
from tailrace.writers import Answer
from tests.support.gate import PATIENCE, Gate, answer, end
from tests.support.worlds import NOW, STREAM, World, run_id


@pytest.fixture
def produce(gate: Gate) -> Callable[..., Producer]:
    def make(stream: str = STREAM, **options: Any) -> Producer:
        return Producer(stream, transport=gate, **options)

    return make


# ---- leaving the block ---------------------------------------------------------------


def test_leaving_normally_ends_the_run(
    produce: Callable[..., Producer], world: World
) -> None:
    with produce() as stream:
        for token in ("Hello", ", ", "world"):
            stream.write(token)
    assert answer(world) == ["Hello", ", ", "world"]
    assert end(world).reason == "completed"
    assert (stream.seq, stream.already) == (5, 3)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_leaving_by_an_exception_ends_it_without_quoting_it(
    produce: Callable[..., Producer], world: World, error: type[BaseException]
) -> None:
    with pytest.raises(error, match="secret"), produce() as stream:
        stream.write("a")
        raise error("the key is a planted-secret")
    assert answer(world) == ["a"]
    assert (end(world).reason, end(world).message) == ("error", ERROR_MESSAGE)


def test_an_exception_that_is_marked_as_public_is_shown(
    produce: Callable[..., Producer], world: World
) -> None:
    class QuotaExceeded(PublicError):
        pass

    with pytest.raises(QuotaExceeded), produce():
        raise QuotaExceeded("Your quota is used up." + "!" * 600)
    assert (end(world).message or "").startswith("Your quota is used up.!")
    with pytest.raises(PublicError), produce():
        raise PublicError
    assert end(world).message == ERROR_MESSAGE


def test_the_text_that_is_shown_can_be_chosen(
    produce: Callable[..., Producer], world: World
) -> None:
    with pytest.raises(ValueError), produce(error_message="Leider nicht."):
        raise ValueError
    assert end(world).message == "Leider nicht."
    with pytest.raises(Invalid, match="message"):
        produce(error_message="x" * 501)


def test_a_job_that_ended_the_run_itself_has_ended_it(
    produce: Callable[..., Producer], world: World
) -> None:
    with produce() as stream:
        stream.write("a")
        stream.end("error", "The model refused.")
        with pytest.raises(StreamEnded):
            stream.write("b")
    assert world.kinds() == ["open", "data", "end"]
    assert end(world).message == "The model refused."


@pytest.mark.parametrize(
    "wrong", [("done",), ("cancelled",), (None,), ("error", "x" * 501), ("error", 7)]
)
def test_an_end_with_wrong_arguments_does_not_leave_the_run_without_one(
    produce: Callable[..., Producer], world: World, wrong: tuple[Any, ...]
) -> None:
    with produce() as stream:
        stream.write("a")
        with pytest.raises(Invalid):
            stream.end(*wrong)
        stream.write("b")
    assert answer(world) == ["a", "b"]
    assert world.records()[-1].reason == "completed"


def test_what_befell_the_run_goes_on_and_nothing_is_put(
    produce: Callable[..., Producer], world: World
) -> None:
    with pytest.raises(Cancelled) as cancelled, produce() as stream:
        stream.write("a")
        stream.flush()
        world.log.cancel(STREAM, stream.run)
        stream.write("b")
        stream.flush()
    assert cancelled.value is stream.error
    assert world.kinds() == ["open", "data", "end"]
    with pytest.raises(Cancelled):
        stream.write("c")


def test_a_cancel_is_learnt_at_the_end_too(
    produce: Callable[..., Producer], world: World
) -> None:
    with pytest.raises(Cancelled), produce() as stream:
        world.log.cancel(STREAM, stream.run)


def test_a_job_that_has_dealt_with_it_is_not_told_twice(
    produce: Callable[..., Producer], world: World
) -> None:
    with produce() as stream:
        world.log.cancel(STREAM, stream.run)
        with pytest.raises(Cancelled):
            while True:
                stream.write("a")


def test_an_end_that_could_not_be_put_is_noted_on_the_exception(
    produce: Callable[..., Producer], gate: Gate
) -> None:
    gate.fault = Unavailable("no network")
    with (
        pytest.raises(ValueError, match="of the job") as raised,
        produce(give_up_after=0) as stream,
    ):
        stream.write("a")
        raise ValueError("of the job")
    assert "no network" in raised.value.__notes__[0]


def test_an_exception_can_leave_the_run_to_the_next_attempt(
    produce: Callable[..., Producer], world: World
) -> None:
    options = {"run": run_id(1), "resume": "continue", "on_error": "hand_over"}
    with pytest.raises(ValueError), produce(**options) as first:
        first.write("a")
        raise ValueError
    assert world.kinds() == ["open", "data"]
    with produce(**options) as second:
        assert second.already == 1
        second.write("b")
    assert answer(world) == ["a", "b"]
    with pytest.raises(PublicError), produce(run=run_id(2), on_error="hand_over"):
        raise PublicError("Final.")
    assert end(world).message == "Final."


def test_a_hand_over_is_taken_once(
    produce: Callable[..., Producer], world: World
) -> None:
    with produce() as first:
        first.write("a")
        handed = first.hand_over()
        with pytest.raises(StreamEnded):
            first.write("lost")
    with produce(**handed) as second:
        with pytest.raises(Busy), produce(**handed):
            pass
        assert second.already == 1
        second.write("b")
    assert answer(world) == ["a", "b"]
    assert world.kinds() == ["open", "data", "claim", "data", "end"]


# ---- opening -------------------------------------------------------------------------


def test_a_refused_open_is_raised_at_the_door(
    produce: Callable[..., Producer], world: World
) -> None:
    with produce(run=run_id(1)) as stream:
        with pytest.raises(Busy), produce(on_active="fail"):
            raise AssertionError("let in")
        stream.write("unharmed")
    assert answer(world) == ["unharmed"]


def test_a_producer_is_used_open_and_opened_once(
    produce: Callable[..., Producer],
) -> None:
    stream = produce()
    for use in (
        lambda: stream.write("a"),
        stream.flush,
        stream.end,
        lambda: stream.run,
    ):
        with pytest.raises(Invalid, match="not open"):
            use()
    with stream.open() as opened:
        assert opened is stream
        with pytest.raises(Invalid, match="once"):
            stream.open()


@pytest.mark.parametrize(
    "wrong",
    [
        {"meta": {"x": object()}},
        {"meta": {"x": "y" * 2_000}},
        {"on_error": "ignore"},
        {"lease": 0},
        {"run": "no uuid"},
        {"stream": "no spaces"},
    ],
)
def test_wrong_arguments_are_refused_before_anything_happens(
    produce: Callable[..., Producer], wrong: dict[str, Any]
) -> None:
    with pytest.raises((Invalid, TooLarge)):
        produce(**wrong)


# ---- writing -------------------------------------------------------------------------


def test_write_does_not_wait_for_the_append(
    produce: Callable[..., Producer], gate: Gate, world: World
) -> None:
    gate.open_gate.clear()
    with produce(min_interval=0) as stream:
        stream.write("a")
        gate.wait_for_an_append()
        for chunk in "bcd":
            stream.write(chunk)
        assert (stream.seq, stream.already) == (1, 0)
        gate.open_gate.set()
    assert [record.count for record in world.records()] == [1, 1, 3, 1]


def test_write_waits_while_the_buffer_is_full(
    produce: Callable[..., Producer], gate: Gate, world: World
) -> None:
    gate.open_gate.clear()
    written = []

    def write_all(stream: Producer) -> None:
        for number in range(200):
            stream.write(number)
            written.append(number)

    with produce(min_interval=0, buffer=1_000) as stream:
        stream.write("first")
        gate.wait_for_an_append()
        thread = threading.Thread(target=write_all, args=[stream])
        thread.start()
        while stream._core.waiting < 10:
            time.sleep(0.001)
        assert len(written) <= 11
        gate.open_gate.set()
        thread.join(PATIENCE)
    assert answer(world) == ["first", *range(200)]


def test_a_blocked_write_learns_what_ended_the_run(
    produce: Callable[..., Producer], gate: Gate, world: World
) -> None:
    gate.open_gate.clear()
    with pytest.raises(Cancelled), produce(min_interval=0, buffer=500) as stream:
        stream.write("first")
        gate.wait_for_an_append()
        world.log.cancel(STREAM, stream.run)
        threading.Timer(0.05, gate.open_gate.set).start()
        while True:
            stream.write("more")


def test_a_chunk_that_cannot_be_written_does_not_end_the_run(
    produce: Callable[..., Producer], world: World
) -> None:
    with produce() as stream:
        with pytest.raises(TooLarge):
            stream.write("x" * 28_000)
        with pytest.raises(Invalid):
            stream.write(object())
        stream.write({"fine": True})
    assert answer(world) == [{"fine": True}]


def test_flush_waits_until_all_is_in(
    produce: Callable[..., Producer], world: World
) -> None:
    with produce(min_interval=60) as stream:
        for number in range(3):
            stream.write(number)
            stream.flush()
            assert answer(world) == list(range(number + 1))
        assert stream.seq == 4


def test_giving_up_says_what_is_safe(
    produce: Callable[..., Producer], gate: Gate
) -> None:
    with pytest.raises(Unavailable) as gave_up, produce(give_up_after=0) as stream:
        stream.write("a")
        stream.flush()
        gate.fault = Unavailable("no network")
        stream.write("b")
        stream.flush()
    assert (gave_up.value.facts["seq"], gave_up.value.facts["already"]) == (2, 1)


def test_relay_writes_and_passes_on(
    produce: Callable[..., Producer], world: World
) -> None:
    with produce() as stream:
        assert "".join(stream.relay("abc")) == "abc"
    assert answer(world) == ["a", "b", "c"]


@pytest.mark.parametrize("fault", [Cancelled("stop"), PermissionError("AccessDenied")])
def test_relay_closes_what_it_relays_when_the_run_is_over(
    produce: Callable[..., Producer], gate: Gate, fault: Exception
) -> None:
    closed = []

    def llm() -> Iterator[str]:
        try:
            while True:
                yield "token"
        finally:
            closed.append(True)
            raise ConnectionError("a fault of the closing is not what ended the run")

    upstream = llm()
    with pytest.raises(type(fault)), produce(min_interval=0) as stream:
        for count, _ in enumerate(stream.relay(upstream)):
            if count == 3:
                gate.fault = fault
    assert closed == [True]


def test_watchers_are_counted(produce: Callable[..., Producer], world: World) -> None:
    with produce() as stream:
        assert stream.watchers() == 0
        world.state.subscribe(Subscription(STREAM, "c", 1, NOW), NOW)
        assert stream.watchers() == 1


def test_a_silent_job_is_told_at_once_that_it_may_stop(
    produce: Callable[..., Producer], world: World
) -> None:
    told: list[BaseException] = []
    stop = threading.Event()

    def on_stop(error: BaseException) -> None:
        told.append(error)
        stop.set()
        raise RuntimeError("a fault of the callback is logged")

    with pytest.raises(Cancelled), produce(lease=1, on_stop=on_stop) as stream:
        world.log.cancel(STREAM, stream.run)
        assert stop.wait(PATIENCE)
        assert isinstance(stream.error, Cancelled)
    assert told == [stream.error]


def closed_by(stop: threading.Event) -> Iterator[str]:
    """As an LLM's stream: it raises an error of its own once it is closed."""
    yield "token"
    assert stop.wait(PATIENCE)
    raise ConnectionError("the response is closed")


@pytest.mark.parametrize("relayed", [True, False])
def test_what_on_stop_makes_the_job_raise_leaves_as_what_ended_the_run(
    produce: Callable[..., Producer], world: World, relayed: bool
) -> None:
    stop = threading.Event()
    with (
        pytest.raises(Cancelled) as cancelled,
        produce(lease=1, on_stop=lambda error: stop.set()) as stream,
    ):
        source = closed_by(stop)
        for _ in stream.relay(source) if relayed else source:
            world.log.cancel(STREAM, stream.run)
    assert isinstance(cancelled.value.__cause__, ConnectionError)


def test_what_the_job_makes_of_the_end_itself_is_left_to_it(
    produce: Callable[..., Producer], world: World
) -> None:
    with pytest.raises(ValueError), produce() as stream:
        world.log.cancel(STREAM, stream.run)
        try:
            while True:
                stream.write("a")
        except Cancelled as stopped:
            raise ValueError("of the job") from stopped


def test_a_fault_that_is_none_of_ours_is_raised_as_it_is(
    produce: Callable[..., Producer], gate: Gate
) -> None:
    gate.fault = PermissionError("AccessDenied")
    with pytest.raises(PermissionError), produce() as stream:
        stream.write("a")
        stream.flush()


# ---- threads and processes -----------------------------------------------------------


def test_threads_may_share_a_producer(
    produce: Callable[..., Producer], world: World
) -> None:
    with produce(min_interval=0, buffer=2_000) as stream, ThreadPoolExecutor(8) as pool:
        list(pool.map(stream.write, range(500)))
    assert sorted(answer(world)) == list(range(500))


def test_100_producers_at_once(produce: Callable[..., Producer], world: World) -> None:
    together = threading.Barrier(100)

    def job(number: int) -> None:
        with produce(f"chat:{number}") as stream:
            together.wait(PATIENCE)
            for token in range(20):
                stream.write(f"{number}-{token}")

    with ThreadPoolExecutor(100) as pool:
        list(pool.map(job, range(100)))
    for number in range(100):
        assert answer(world, f"chat:{number}") == [f"{number}-{i}" for i in range(20)]
        assert world.kinds(f"chat:{number}")[-1] == "end"


@pytest.mark.parametrize("stored", [False, True])
def test_a_producer_that_was_dropped_puts_its_chunks_and_stops(
    produce: Callable[..., Producer],
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    stored: bool,
) -> None:
    monkeypatch.setattr(base, "DROPPED_SECONDS", 0)
    before = set(threading.enumerate())
    stream = produce(lease=1).open()
    (thread,) = set(threading.enumerate()) - before
    stream.write("a")
    if stored:
        stream.flush()
    with pytest.warns(ResourceWarning, match="without `end`"):
        del stream
        gc.collect()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert world.kinds() == ["open", "data"]


def test_a_block_that_is_left_behind_the_drop_of_its_producer_ends_the_run(
    produce: Callable[..., Producer],
    world: World,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The collector drops all that a generator has before it closes the generator."""
    monkeypatch.setattr(base, "DROPPED_SECONDS", PATIENCE)
    with produce() as stream:
        assert stream._pump is not None
        with pytest.warns(ResourceWarning):
            stream._pump.drop()
        stream.write("a")
        stream.flush()
    assert world.kinds() == ["open", "data", "end"]


def test_a_generator_that_is_collected_in_its_producers_own_thread_ends_its_run(
    world: World,
) -> None:
    class Collecting(InProcess):
        def renew(self, *args: Any, **kwargs: Any) -> Answer:
            gc.collect()
            return super().renew(*args, **kwargs)

    def job() -> Iterator[None]:
        with Producer(STREAM, transport=Collecting(world.log), lease=1) as stream:
            try:
                stream.write("a")
                yield
            finally:
                stream.write("b")
                with pytest.raises(Invalid, match="collector"):
                    stream.flush()

    before = set(threading.enumerate())
    gc.disable()
    try:
        cycle: list[Any] = [job()]
        next(cycle[0])
        cycle.append(cycle)
        (thread,) = set(threading.enumerate()) - before
        with pytest.warns(ResourceWarning):
            del cycle
            thread.join(PATIENCE)
    finally:
        gc.enable()
    assert not thread.is_alive()
    assert answer(world) == ["a", "b"]
    assert end(world).reason == "error"


SETUP = """
import os, signal, sys, threading, time
from tailrace import Cancelled, Invalid, Producer
from tailrace.adapters.memory import MemoryLog, MemoryState
from tailrace.log import Log
from tailrace.transports.in_process import InProcess

# A shell that starts tests in the background has them ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)
clock = lambda: time.time_ns() // 1_000_000
log = Log(MemoryLog(), MemoryState(), clock, retention=3600, lease=30)
gate = threading.Event()

class Slow(InProcess):
    def append(self, *args):
        gate.wait()
        return super().append(*args)

def show():
    for record in log.store.range("s", 1):
        print(record.kind, record.chunks or record.reason or "", flush=True)
"""


def run_script(body: str) -> str:
    """Run a job in a process of its own; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SETUP + textwrap.dedent(body)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_interrupt_while_write_waits_ends_the_run_with_all_that_was_taken() -> None:
    printed = run_script("""
        def interrupt():
            while not stream._core.full: time.sleep(0.001)
            os.kill(os.getpid(), signal.SIGINT)
            gate.set()

        try:
            with Producer("s", transport=Slow(log), buffer=200) as stream:
                threading.Thread(target=interrupt).start()
                for number in range(100): stream.write(number)
        except KeyboardInterrupt:
            print("interrupted")
        show()
    """)
    lines = printed.splitlines()
    assert lines[:2] == ["interrupted", "open "]
    assert lines[-1] == "end error"
    numbers = [int(n) for line in lines[2:-1] for n in line.split()[1].split(",")]
    assert numbers == list(range(len(numbers)))
    assert 2 <= len(numbers) <= 4


def test_an_interrupt_while_the_run_opens_ends_it() -> None:
    printed = run_script("""
        class Opening(InProcess):
            def open(self, *args, **kwargs):
                os.kill(os.getpid(), signal.SIGINT)
                gate.wait()
                return super().open(*args, **kwargs)

        try:
            with Producer("s", transport=Opening(log)):
                print("let in")
        except KeyboardInterrupt:
            print("interrupted")
        gate.set()
        while not (tail := log.store.last("s")) or tail.active: time.sleep(0.001)
        show()
    """)
    assert printed.split() == ["interrupted", "open", "end", "error"]


def test_an_interrupt_at_any_moment_of_the_opening_leaves_no_lock_taken() -> None:
    """The threads switch at each chance, so that it comes where `open` just has the
    lock."""
    printed = run_script("""
        class Opening(InProcess):
            def open(self, *args, **kwargs):
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.001)
                return super().open(*args, **kwargs)

        def busy():
            while True: pass

        sys.setswitchinterval(1e-6)
        for _ in range(2): threading.Thread(target=busy, daemon=True).start()
        for number in range(100):
            try:
                with Producer(f"s{number}", transport=Opening(log)):
                    while True: time.sleep(0.001)
            except KeyboardInterrupt:
                while not (tail := log.store.last(f"s{number}")) or tail.active:
                    time.sleep(0.0001)
        print("done")
    """)
    assert printed == "done\n"


def test_a_signal_handler_that_meets_the_producer_at_work_is_refused() -> None:
    """It runs inside the work that it interrupts, and would wait for it for ever."""
    printed = run_script("""
        def stop(*_):
            global refused
            try: stream.flush()
            except Invalid as error: refused = str(error)

        def busy():
            while not refused:
                os.kill(os.getpid(), signal.SIGUSR1)
                time.sleep(0.0005)

        refused = ""
        signal.signal(signal.SIGUSR1, stop)
        with Producer("s", transport=InProcess(log), min_interval=0) as stream:
            threading.Thread(target=busy).start()
            while not refused: stream.write("a")
        print(refused)
        print(log.store.last("s").reason)
    """)
    refused, reason = printed.splitlines()
    assert "raise an exception" in refused
    assert reason == "completed"


def test_a_transport_that_gives_no_answer_is_told() -> None:
    class Garbage(InProcess):
        def append(self, *args: Any) -> Any:
            return None

    with (
        pytest.raises(TypeError, match="no Answer"),
        Producer(STREAM, transport=Garbage(World().log)) as stream,
    ):
        stream.write("a")
        stream.flush()


def test_what_was_written_is_put_when_the_process_ends_without_end() -> None:
    printed = run_script("""
        import atexit
        atexit.register(show)  # runs after what was registered later
        from tailrace.producer import base, sync
        atexit.unregister(sync._finish_all); atexit.register(sync._finish_all)
        stream = Producer("s", transport=InProcess(log), min_interval=60).open()
        stream.write("first"); stream.flush()
        stream.write("last")
    """)
    assert printed.splitlines() == ["open ", 'data "first"', 'data "last"']


def test_a_producer_whose_thread_could_not_be_started_is_not_waited_for(
    produce: Callable[..., Producer], monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    before = set(sync._pumps)
    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(RuntimeError, match="thread"):
        produce().open()
    assert sync._pumps <= before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_leaves_its_parents_run_alone() -> None:
    printed = run_script("""
        gate.set()
        with Producer("s", transport=Slow(log)) as stream:
            stream.write("parent")
            if (child := os.fork()) == 0:
                try:
                    stream.write("child")
                except Invalid as refused:
                    print(refused, flush=True)
            else:
                os.waitpid(child, 0)
                stream.write("parent again")
        if child: show()
    """)
    lines = printed.splitlines()
    assert lines[0] == "the producer belongs to the process that opened it"
    assert "parent again" in printed
    assert lines[-1] == "end completed"
    assert printed.count("end") == 1
