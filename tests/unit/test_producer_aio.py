"""The producer for asyncio, against a log in memory."""

from __future__ import annotations

import asyncio
import gc
import logging
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor, Future
from typing import Any

import pytest

from tailrace.errors import Busy, Cancelled, Invalid, StreamEnded, Unavailable
from tailrace.producer import aio, base
from tailrace.producer.aio import AsyncProducer
from tailrace.producer.base import ERROR_MESSAGE, PublicError
from tailrace.transports.in_process import InProcess
from tailrace.watchers import Subscription
from tailrace.writers import Answer
from tests.support.gate import PATIENCE, Gate, answer, end
from tests.support.worlds import NOW, STREAM, World


@pytest.fixture
def produce(gate: Gate) -> Callable[..., AsyncProducer]:
    def make(stream: str = STREAM, **options: Any) -> AsyncProducer:
        return AsyncProducer(stream, transport=gate, **options)

    return make


# ---- leaving the block ---------------------------------------------------------------


async def test_leaving_normally_ends_the_run(
    produce: Callable[..., AsyncProducer], world: World
) -> None:
    async with produce() as stream:
        for token in ("Hello", ", ", "world"):
            await stream.write(token)
    assert answer(world) == ["Hello", ", ", "world"]
    assert end(world).reason == "completed"
    assert (stream.seq, stream.already) == (5, 3)


async def test_leaving_by_an_exception_ends_it(
    produce: Callable[..., AsyncProducer], world: World
) -> None:
    with pytest.raises(ValueError, match="secret"):
        async with produce() as stream:
            await stream.write("a")
            raise ValueError("the key is secret")
    assert (end(world).reason, end(world).message) == ("error", ERROR_MESSAGE)
    with pytest.raises(PublicError):
        async with produce():
            raise PublicError("Your quota is used up.")
    assert end(world).message == "Your quota is used up."


async def test_a_cancelled_task_ends_its_run_with_all_that_was_written(
    produce: Callable[..., AsyncProducer], world: World, gate: Gate
) -> None:
    async def job() -> None:
        async with produce(min_interval=0) as stream:
            for number in range(3):
                await stream.write(number)
            await asyncio.Event().wait()

    gate.open_gate.clear()
    task = asyncio.create_task(job())
    await gate.await_an_append()
    task.cancel()
    gate.open_gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert answer(world) == [0, 1, 2]
    assert end(world).reason == "error"


async def test_a_cancelled_open_ends_the_run_that_it_opened(world: World) -> None:
    opening, go_on = threading.Event(), threading.Event()

    class Slow(InProcess):
        def open(self, *args: Any, **kwargs: Any) -> Answer:
            opening.set()
            assert go_on.wait(PATIENCE)
            return super().open(*args, **kwargs)

    stream = AsyncProducer(STREAM, transport=Slow(world.log))
    task = asyncio.create_task(stream.open())
    await asyncio.to_thread(opening.wait, PATIENCE)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go_on.set()
    while stream._core.state != "closed":
        await asyncio.sleep(0.001)
    assert world.kinds() == ["open", "end"]


def test_every_run_is_ended_when_the_loop_is_torn_down(
    produce: Callable[..., AsyncProducer], world: World
) -> None:
    """`asyncio.run` cancels all tasks at once; those that end runs must get to it."""

    async def job(number: int, going: asyncio.Barrier) -> None:
        async with produce(f"chat:{number}") as stream:
            await stream.write(number)
            await going.wait()
            await asyncio.Event().wait()

    async def main() -> None:
        going = asyncio.Barrier(11)
        tasks = [asyncio.create_task(job(number, going)) for number in range(10)]
        await going.wait()
        assert tasks
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    for number in range(10):
        assert answer(world, f"chat:{number}") == [number]
        assert world.records(f"chat:{number}")[-1].reason == "error"


async def test_what_befell_the_run_goes_on_and_nothing_is_put(
    produce: Callable[..., AsyncProducer], world: World
) -> None:
    with pytest.raises(Cancelled):
        async with produce() as stream:
            world.log.cancel(STREAM, stream.run)
    with pytest.raises(Cancelled):
        await stream.write("a")
    assert world.kinds() == ["open", "end"]


async def test_an_end_that_could_not_be_put_is_noted_on_the_exception(
    produce: Callable[..., AsyncProducer], gate: Gate
) -> None:
    gate.fault = Unavailable("no network")
    with pytest.raises(ValueError, match="of the job") as raised:
        async with produce(give_up_after=0) as stream:
            await stream.write("a")
            raise ValueError("of the job")
    assert "no network" in raised.value.__notes__[0]


async def test_a_hand_over_is_taken_once(
    produce: Callable[..., AsyncProducer], world: World
) -> None:
    async with produce() as first:
        await first.write("a")
        handed = await first.hand_over()
        with pytest.raises(StreamEnded):
            await first.write("lost")
    async with produce(**handed) as second:
        with pytest.raises(Busy):
            await produce(**handed).open()
        await second.write("b")
    assert answer(world) == ["a", "b"]


async def test_a_producer_is_used_open_and_opened_once(
    produce: Callable[..., AsyncProducer],
) -> None:
    stream = produce()
    for use in (stream.write("a"), stream.flush(), stream.end(), stream.watchers()):
        with pytest.raises(Invalid, match="not open"):
            await use
    async with await stream.open() as opened:
        assert opened is stream
        with pytest.raises(Invalid, match="once"):
            await stream.open()


# ---- writing -------------------------------------------------------------------------


async def test_write_waits_only_while_the_buffer_is_full(
    produce: Callable[..., AsyncProducer], gate: Gate, world: World
) -> None:
    gate.open_gate.clear()
    async with produce(min_interval=0, buffer=1_000) as stream:
        await stream.write("first")
        await gate.await_an_append()
        written = 0
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                while True:
                    await stream.write(written)
                    written += 1
        assert written == 10
        gate.open_gate.set()
        await stream.write("more")
    assert answer(world) == ["first", *range(written), "more"]


class Inline(Executor):
    """Calls take no time, and no thread."""

    def submit(self, call: Any, /, *args: Any, **options: Any) -> Future[Any]:
        made: Future[Any] = Future()
        try:
            made.set_result(call(*args, **options))
        except Exception as error:  # noqa: BLE001 - whoever has the future is told
            made.set_exception(error)
        return made


async def test_a_source_that_never_suspends_is_streamed_and_stopped(
    produce: Callable[..., AsyncProducer],
    world: World,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A plain LLM client in a coroutine: nothing but `write` lets the loop run."""
    loop, now = asyncio.get_running_loop(), 0.0
    monkeypatch.setattr(loop, "time", lambda: now)
    monkeypatch.setattr(aio, "callers", Inline)
    with pytest.raises(Cancelled):
        async with produce() as stream:
            for number in range(9):
                now += 0.25
                await stream.write(number)
                assert answer(world) == list(range(number + 1))
            world.log.cancel(STREAM, stream.run)
            for _ in range(2):
                now += 0.25
                await stream.write("not wanted any more")


async def test_write_suspends_no_more_often_than_every_10_ms(
    produce: Callable[..., AsyncProducer], monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, now = asyncio.get_running_loop(), 0.0
    monkeypatch.setattr(loop, "time", lambda: now)
    async with produce() as stream:
        for _ in range(3):
            now += 0.003
            with pytest.raises(StopIteration):
                stream.write("a").send(None)
        now += 0.003
        writing = stream.write("a")
        writing.send(None)
        writing.close()


async def test_flush_waits_until_all_is_in(
    produce: Callable[..., AsyncProducer], world: World
) -> None:
    async with produce(min_interval=60) as stream:
        for number in range(3):
            await stream.write(number)
            await stream.flush()
            assert answer(world) == list(range(number + 1))


async def test_watchers_are_counted(
    produce: Callable[..., AsyncProducer], world: World
) -> None:
    world.state.subscribe(Subscription(STREAM, "c", 1, NOW), NOW)
    async with produce() as stream:
        assert await stream.watchers() == 1


async def test_1000_runs_at_once(
    produce: Callable[..., AsyncProducer], world: World
) -> None:
    going = asyncio.Barrier(1_000)

    async def job(number: int) -> None:
        async with produce(f"chat:{number}") as stream:
            await going.wait()
            for token in range(10):
                await stream.write(f"{number}-{token}")
                await asyncio.sleep(0)

    await asyncio.gather(*map(job, range(1_000)))
    for number in range(1_000):
        assert answer(world, f"chat:{number}") == [f"{number}-{i}" for i in range(10)]
        assert world.records(f"chat:{number}")[-1].reason == "completed"


# ---- relaying ------------------------------------------------------------------------


async def tokens(*texts: str) -> AsyncIterator[str]:
    for text in texts:
        await asyncio.sleep(0)
        yield text


@pytest.mark.parametrize("upstream", [lambda: tokens("a", "b", "c"), lambda: "abc"])
async def test_relay_writes_and_passes_on(
    produce: Callable[..., AsyncProducer], world: World, upstream: Callable[[], Any]
) -> None:
    async with produce() as stream:
        assert [chunk async for chunk in stream.relay(upstream())] == ["a", "b", "c"]
    assert answer(world) == ["a", "b", "c"]


async def test_a_silent_upstream_is_stopped_when_the_run_is_cancelled(
    produce: Callable[..., AsyncProducer], world: World
) -> None:
    stopped: list[str] = []

    async def llm() -> AsyncIterator[str]:
        yield "token"
        try:
            await asyncio.Event().wait()
        finally:
            stopped.append("upstream")

    with pytest.raises(Cancelled):
        async with produce(
            lease=1, on_stop=lambda error: stopped.append(type(error).__name__)
        ) as stream:
            async for _ in stream.relay(llm()):
                world.log.cancel(STREAM, stream.run)
    assert stopped == ["Cancelled", "upstream"]
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_what_a_stopped_upstream_raises_leaves_as_what_ended_the_run(
    produce: Callable[..., AsyncProducer], world: World
) -> None:
    async def llm() -> AsyncIterator[str]:
        yield "token"
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ConnectionError("the response is closed") from None

    with pytest.raises(Cancelled) as cancelled:
        async with produce(lease=1) as stream:
            async for _ in stream.relay(llm()):
                world.log.cancel(STREAM, stream.run)
    assert isinstance(cancelled.value.__cause__, ConnectionError)


async def test_what_on_stop_makes_the_job_raise_leaves_as_what_ended_the_run(
    produce: Callable[..., AsyncProducer], world: World
) -> None:
    stop = asyncio.Event()
    with pytest.raises(Cancelled) as cancelled:
        async with produce(lease=1, on_stop=lambda error: stop.set()) as stream:
            world.log.cancel(STREAM, stream.run)
            await stop.wait()
            raise ConnectionError("the response is closed")
    assert isinstance(cancelled.value.__cause__, ConnectionError)


async def test_a_relaying_task_that_is_cancelled_itself_stays_cancelled(
    produce: Callable[..., AsyncProducer], world: World
) -> None:
    begun = asyncio.Event()

    async def silent() -> AsyncIterator[str]:
        begun.set()
        await asyncio.Event().wait()
        yield "never"

    async def job() -> None:
        async with produce() as stream:
            async for _ in stream.relay(silent()):
                raise AssertionError("nothing comes")

    task = asyncio.create_task(job())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert end(world).reason == "error"


@pytest.mark.parametrize("fault", [Cancelled("stop"), PermissionError("AccessDenied")])
async def test_what_is_relayed_is_closed_when_a_write_finds_the_run_over(
    produce: Callable[..., AsyncProducer], gate: Gate, fault: Exception
) -> None:
    class Upstream:
        """As an LLM library's stream: `close` is a coroutine, and no generator's."""

        closed = 0

        def __aiter__(self) -> Upstream:
            return self

        async def __anext__(self) -> str:
            await asyncio.sleep(0)
            return "token"

        async def close(self) -> None:
            self.closed += 1
            raise ConnectionError("a fault of the closing is not what ended the run")

    upstream = Upstream()
    with pytest.raises(type(fault)):
        async with produce(min_interval=0) as stream:
            async for _ in stream.relay(upstream):
                gate.fault = fault
    assert upstream.closed == 1


async def test_a_fault_of_on_stop_is_logged(
    produce: Callable[..., AsyncProducer],
    world: World,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def on_stop(error: BaseException) -> None:
        raise RuntimeError("of the callback")

    with caplog.at_level(logging.ERROR, "tailrace"), pytest.raises(Cancelled):
        async with produce(on_stop=on_stop) as stream:
            world.log.cancel(STREAM, stream.run)
            await stream.write("a")
            await stream.flush()
    assert "of the callback" in caplog.text


# ---- being dropped -------------------------------------------------------------------


async def test_a_producer_that_was_dropped_stops(
    produce: Callable[..., AsyncProducer],
    world: World,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(base, "DROPPED_SECONDS", 0)
    stream = await produce(lease=1).open()
    core = stream._core
    await stream.write("a")
    with pytest.warns(ResourceWarning, match="without `end`"):
        del stream
        gc.collect()
    while core.state != "closed":
        await asyncio.sleep(0.01)
    assert world.kinds() == ["open", "data"]


async def test_a_block_that_is_left_behind_the_drop_of_its_producer_ends_the_run(
    produce: Callable[..., AsyncProducer],
    world: World,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The collector drops all that a generator has before it closes the generator."""
    monkeypatch.setattr(base, "DROPPED_SECONDS", PATIENCE)
    async with produce() as stream:
        assert stream._pump is not None
        with pytest.warns(ResourceWarning):
            stream._pump.drop()
        await stream.write("a")
        await stream.flush()
    assert world.kinds() == ["open", "data", "end"]


def test_a_process_that_ends_with_its_runs_open_does_not_hang() -> None:
    script = """
import asyncio, time
from tailrace import AsyncProducer
from tailrace.adapters.memory import MemoryLog, MemoryState
from tailrace.log import Log
from tailrace.transports.in_process import InProcess
log = Log(MemoryLog(), MemoryState(), lambda: 0, retention=3600, lease=30)
async def main():
    global stream
    stream = await AsyncProducer("s", transport=InProcess(log)).open()
    await stream.write("a")
asyncio.run(main())
"""
    assert run_script(script) == ""


def test_a_loop_in_a_thread_writes_on_when_the_main_threads_code_is_over() -> None:
    script = """
import threading
over = threading.Event()
# Behind that of `concurrent.futures`, which is registered later, and so runs before.
threading._register_atexit(over.set)
import asyncio
from tailrace import AsyncProducer
from tailrace.adapters.memory import MemoryLog, MemoryState
from tailrace.log import Log
from tailrace.transports.in_process import InProcess
log = Log(MemoryLog(), MemoryState(), lambda: 0, retention=3600, lease=30)
async def main():
    async with AsyncProducer("s", transport=InProcess(log)) as stream:
        over.wait()
        await stream.write("a")
    print([record.chunks or record.reason for record in log.store.range("s", 2)])
threading.Thread(target=lambda: asyncio.run(main())).start()
"""
    assert run_script(script) == "['\"a\"', 'completed']\n"


def test_the_end_of_the_process_waits_for_what_is_being_put() -> None:
    script = """
import asyncio, atexit, threading, time
from tailrace import AsyncProducer
from tailrace.adapters.memory import MemoryLog, MemoryState
from tailrace.log import Log
from tailrace.transports.in_process import InProcess
begun, over = threading.Event(), threading.Event()
class Slow(MemoryLog):
    def put(self, record):
        if record.kind == "data":
            begun.set()
            over.wait()
            time.sleep(0.2)  # the call takes so long
            print("put", flush=True)
        return super().put(record)
log = Log(Slow(), MemoryState(), lambda: 0, retention=3600, lease=30)
async def main():
    stream = await AsyncProducer("s", transport=InProcess(log)).open()
    atexit.register(over.set)
    await stream.write("a")
    while not begun.is_set():
        await asyncio.sleep(0)
asyncio.run(main())
"""
    assert run_script(script) == "put\n"


def run_script(script: str) -> str:
    """Run a job in a process of its own; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout
