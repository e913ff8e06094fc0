"""`consume`, on real sockets, against the real session and fan-out."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gc
import json
import socket
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Any

import pytest

from tailrace import consume
from tailrace.consumer import aio, sockets
from tailrace.consumer.events import Event
from tailrace.consumer.shell import expiry_of
from tailrace.errors import (
    Cancelled,
    Forbidden,
    Invalid,
    StreamEnded,
    TailraceError,
    Unauthorized,
    Unavailable,
)
from tailrace.producer.aio import AsyncProducer
from tests.support.local_server import LocalServer, losing

STREAM = "chat:42"


@pytest.fixture
async def server() -> AsyncIterator[LocalServer]:
    async with LocalServer().listening() as server:
        yield server


def produce(server: LocalServer, **options: Any) -> AsyncProducer:
    return AsyncProducer(STREAM, transport=server.publish, min_interval=0, **options)


async def write(server: LocalServer, *chunks: Any, **options: Any) -> None:
    async with produce(server, **options) as stream:
        for chunk in chunks:
            await stream.write(chunk)


async def read(server: LocalServer, **options: Any) -> list[Any]:
    token = options.pop("token", server.token())
    watching = consume(server.url, token, STREAM, **options)
    return [chunk async for chunk in watching]


@contextlib.asynccontextmanager
async def reading(server: LocalServer, **options: Any) -> AsyncIterator[Any]:
    """Read in the background until the run ends; give the task that has its events."""
    token = options.pop("token", server.token())
    watching = consume(server.url, token, STREAM, **options)

    async def watch() -> list[Event]:
        return [event async for event in watching.events()]

    task = asyncio.create_task(watch())
    while watching.status != "live":
        await asyncio.sleep(0.001)
    try:
        yield task
    finally:
        await asyncio.wait_for(task, 30)


def chunks_of(events: list[Event]) -> list[Any]:
    return [event.chunk for event in events if event.type == "chunk"]


# ---- chunks --------------------------------------------------------------------------


async def test_an_answer_that_is_over_is_replayed(server: LocalServer) -> None:
    await write(server, "a", {"b": 1}, None)
    assert await read(server) == ["a", {"b": 1}, None]


async def test_an_answer_is_seen_live(server: LocalServer) -> None:
    async with reading(server) as seen:
        await write(server, *range(50), meta={"model": "m"})
    events = await seen
    assert chunks_of(events) == list(range(50))
    assert [event.seq for event in events] == list(range(1, 53))
    assert events[0].meta == {"model": "m"}
    assert {event.via for event in events} == {"live"}
    # By an estimate of AWS time, which is off by what frames took on their way.
    assert all(abs(event.received - (event.at or 0)) < 60_000 for event in events)
    assert (events[-1].type, events[-1].reason) == ("end", "completed")


async def test_half_an_answer_is_replayed_and_half_of_it_live(
    server: LocalServer,
) -> None:
    async with produce(server) as stream:
        await stream.write("before")
        await stream.flush()
        async with reading(server) as seen:
            await stream.write("after")
            await stream.end()
    assert [(e.chunk, e.via) for e in await seen if e.type == "chunk"] == [
        ("before", "replay"),
        ("after", "live"),
    ]


async def test_connections_that_are_cut_cost_nothing(server: LocalServer) -> None:
    async with reading(server) as seen, produce(server) as stream:
        for number in range(100):
            await stream.write(number)
            if number % 30 == 15:
                await stream.flush()
                server.cut()
                await asyncio.sleep(0)
    assert chunks_of(await seen) == list(range(100))
    assert len(server.handshakes) > 1


async def test_pushes_that_are_lost_are_asked_for(server: LocalServer) -> None:
    server.lose = losing(0.5)
    async with reading(server) as seen, produce(server) as stream:
        for number in range(30):
            await stream.write(number)
            await stream.flush()
        server.lose = losing(0)
    assert chunks_of(await seen) == list(range(30))
    assert "repair" in {event.via for event in await seen}


async def test_a_reader_that_is_slow_stops_the_server_and_misses_nothing(
    server: LocalServer,
) -> None:
    await write(server, *(f"{number} {'x' * 20_000}" for number in range(200)))
    watching = consume(server.url, server.token(), STREAM)
    seen = []
    async for chunk in watching:
        seen.append(int(chunk.split()[0]))
        if len(seen) == 1:
            while not watching._paused:
                await asyncio.sleep(0.001)
            assert watching._queued < 3_000_000
    assert seen == list(range(200))


# ---- ends ----------------------------------------------------------------------------


async def test_an_end_that_is_no_completion_is_raised(server: LocalServer) -> None:
    with contextlib.suppress(ValueError):
        async with produce(server, error_message="Try again."):
            raise ValueError
    with pytest.raises(StreamEnded, match=r"^Try again\.$") as failed:
        await read(server)
    assert failed.value.reason == "error"
    async with produce(server) as stream:
        await stream.write("a")
        await stream.flush()
        server.log.cancel(STREAM, stream.run)
        with pytest.raises(Cancelled) as cancelled:
            await read(server)
        assert cancelled.value.run == stream.run
        with pytest.raises(Cancelled):
            await stream.end()


async def test_a_run_that_is_superseded_ends(server: LocalServer) -> None:
    first = await produce(server).open()
    async with reading(server) as seen:
        await write(server, "b")
    end = (await seen)[-1]
    assert (end.type, end.run, end.reason, end.seq) == (
        "end",
        first.run,
        "superseded",
        None,
    )
    with pytest.raises(TailraceError):
        await first.end()


async def test_a_follower_goes_on_through_later_runs(server: LocalServer) -> None:
    watching = consume(server.url, server.token(), STREAM, follow=True)
    seen: list[Any] = []
    writing = asyncio.create_task(write(server, 1, 2))
    async for chunk in watching:
        seen.append(chunk)
        if chunk == 2:
            await writing
            writing = asyncio.create_task(write(server, 3, 4))
        if chunk == 4:
            break
    await writing
    assert seen == [1, 2, 3, 4]


async def test_a_run_that_was_given_up_goes_on_for_those_who_stayed(
    server: LocalServer,
) -> None:
    first = await produce(server, lease=1).open()
    await first.write("a")
    hand_over = await first.hand_over()
    async with reading(server) as seen:
        while server.log.look(STREAM).active:
            await asyncio.sleep(0.05)
        async with AsyncProducer(
            STREAM, transport=server.publish, run=hand_over["run"], resume="continue"
        ) as second:
            await second.write("b")
    events = await seen
    assert [event.reason for event in events if event.type == "end"] == [
        "producer_lost",
        "completed",
    ]
    assert chunks_of(events) == ["a", "b"]
    assert "claim" in {event.type for event in events}


async def test_who_iterates_the_chunks_is_told_that_the_producer_is_lost(
    server: LocalServer,
) -> None:
    stream = await produce(server, lease=1).open()
    await stream.write("a")
    await stream.hand_over()
    while server.log.look(STREAM).active:
        await asyncio.sleep(0.05)
    watching = consume(server.url, server.token(), STREAM)
    with pytest.raises(StreamEnded) as lost:
        _ = [chunk async for chunk in watching]
    assert lost.value.reason == "producer_lost"
    cursor = {"run": stream.run, "seq": 3, "ended": True, "lost": True}
    assert watching.cursor == cursor


async def test_who_waits_for_a_lost_run_is_shown_no_other(server: LocalServer) -> None:
    stream = await produce(server, lease=1).open()
    await stream.write("a")
    await stream.hand_over()
    while server.log.look(STREAM).active:
        await asyncio.sleep(0.05)
    async with produce(server) as another:
        await another.write("x")
    events = [
        one
        async for one in consume(
            server.url, server.token(), STREAM, run=stream.run
        ).events()
    ]
    assert chunks_of(events) == ["a"]
    ends = [one.reason for one in events if one.type == "end"]
    assert ends == ["producer_lost", "superseded"]
    cursor = {"run": stream.run, "seq": 3, "ended": True, "lost": True}
    with pytest.raises(StreamEnded) as superseded:
        await read(server, after=cursor)
    assert superseded.value.reason == "superseded"


# ---- positions -----------------------------------------------------------------------


async def test_a_kept_cursor_goes_on_where_it_was(server: LocalServer) -> None:
    async with produce(server) as stream:
        await stream.write("a")
        await stream.write("b")
        await stream.flush()
        first = consume(server.url, server.token(), STREAM)
        async for chunk in first:
            if chunk == "a":
                break
        await stream.write("c")
    kept = json.loads(json.dumps(first.cursor))
    assert kept == {"run": stream.run, "seq": 2}
    assert await read(server, after=kept) == ["b", "c"]
    with pytest.raises(Invalid, match="after"):
        await read(server, after={"seq": 2})


async def test_a_run_can_be_awaited_by_its_name(server: LocalServer) -> None:
    await write(server, "another run")
    run = server.log.new_run(server.log.store.last(STREAM))
    async with reading(server, run=run) as seen:
        await write(server, "this one", run=run)
    assert chunks_of(await seen) == ["this one"]


# ---- tokens and connections ----------------------------------------------------------


async def test_the_token_may_travel_in_the_query(server: LocalServer) -> None:
    await write(server, "a")
    assert await read(server, handshake="query") == ["a"]
    assert "token=" in server.handshakes[0].path
    assert "Sec-WebSocket-Protocol" not in server.handshakes[0].headers


async def test_a_stream_that_is_not_granted_is_forbidden(server: LocalServer) -> None:
    with pytest.raises(Forbidden):
        await read(server, token=server.token(read=["chat:1"]))


async def test_a_token_that_is_refused_and_cannot_be_renewed_ends_it(
    server: LocalServer,
) -> None:
    with pytest.raises(Unauthorized, match="renew"):
        await read(server, token="forged")
    with pytest.raises(Unauthorized):
        await read(server, token=server.token(expires_in=-10))


async def test_three_fresh_tokens_that_are_refused_end_it(server: LocalServer) -> None:
    fetched = []

    def fetch() -> str:
        fetched.append("forged")
        return "forged"

    with pytest.raises(TailraceError) as refused:
        await read(server, token=fetch)
    assert refused.value.code == "refused"
    assert len(fetched) == 3


async def test_an_expired_token_is_fetched_again(server: LocalServer) -> None:
    tokens = [server.token(expires_in=-10), server.token()]

    async def fetch() -> str:
        return tokens.pop(0)

    await write(server, "a")
    assert await read(server, token=fetch) == ["a"]
    assert tokens == []


async def test_a_token_is_renewed_on_the_living_socket(server: LocalServer) -> None:
    fetched = 0

    def fetch() -> str:
        nonlocal fetched
        fetched += 1
        return server.token(expires_in=2)

    async with produce(server) as stream, reading(server, token=fetch) as seen:
        while fetched < 3:
            await asyncio.sleep(0.01)
        await stream.write("after two renewals")
        await stream.end()
    assert chunks_of(await seen) == ["after two renewals"]
    assert len(server.handshakes) == 1


async def test_a_token_that_cannot_be_fetched_now_is_fetched_later(
    server: LocalServer,
) -> None:
    failures: list[Exception] = [OSError("backend"), ValueError("backend")]

    def fetch() -> str:
        if failures:
            raise failures.pop()
        return server.token()

    await write(server, "a")
    assert await read(server, token=fetch) == ["a"]

    def never() -> str:
        raise Forbidden("you are banned")

    with pytest.raises(Forbidden, match="banned"):
        await read(server, token=never)


@pytest.mark.parametrize("page", ["<h1>502 Bad Gateway</h1>", "", None])
async def test_what_is_fetched_and_is_no_token_is_not_offered(
    server: LocalServer, page: Any
) -> None:
    given = [page]
    await write(server, "a")
    assert await read(
        server, token=lambda: given.pop() if given else server.token()
    ) == ["a"]
    assert len(server.handshakes) == 1


async def test_a_text_that_is_no_token_ends_it(server: LocalServer) -> None:
    with pytest.raises(Unauthorized, match="token"):
        await read(server, token="no token")
    assert server.handshakes == []


async def test_the_first_failure_of_a_token_function_is_logged_by_its_type(
    server: LocalServer, caplog: pytest.LogCaptureFixture
) -> None:
    failures: list[Exception] = [ValueError("b"), Unavailable("https://me:secret@b")]

    def fetch() -> str:
        if failures:
            raise failures.pop()
        return server.token()

    await write(server, "a")
    assert await read(server, token=fetch) == ["a"]
    (warning,) = [one for one in caplog.records if one.name == "tailrace"]
    assert warning.levelname == "WARNING"
    assert warning.getMessage() == "no token yet: Unavailable"


async def test_how_things_stand_is_told(server: LocalServer) -> None:
    told: list[str] = []
    await write(server, "a")
    await read(server, on_status=told.append)
    assert told == ["connecting", "replaying", "live", "closed"]


async def test_a_server_that_is_away_is_waited_for() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
    server = LocalServer()
    await write(server, "a")
    away = asyncio.Event()

    def note(status: str) -> None:
        if status == "offline":
            away.set()

    url = f"ws://127.0.0.1:{port}/v1"
    watching = consume(url, server.token(), STREAM, on_status=note)

    async def watch() -> list[Any]:
        return [chunk async for chunk in watching]

    task = asyncio.create_task(watch())
    await asyncio.wait_for(away.wait(), 30)
    assert isinstance(watching.problem, ConnectionRefusedError)
    async with server.listening(port):
        assert await asyncio.wait_for(task, 30) == ["a"]
    assert watching.problem is None


async def test_a_server_in_trouble_says_nothing_of_the_token(
    server: LocalServer,
) -> None:
    await write(server, "a")
    server.refuse = HTTPStatus.SERVICE_UNAVAILABLE
    task = asyncio.create_task(read(server))
    while len(server.handshakes) < 4:
        await asyncio.sleep(0.01)
    server.refuse = None
    assert await asyncio.wait_for(task, 30) == ["a"]


# ---- leaving and cancelling ----------------------------------------------------------


async def test_leaving_the_loop_closes_the_connection(server: LocalServer) -> None:
    async with produce(server) as stream:
        await stream.write("a")
        async for _ in consume(server.url, server.token(), STREAM):
            break
        async with consume(server.url, server.token(), STREAM) as watching:
            async for _ in watching:
                break
        while server.connections:
            await asyncio.sleep(0.001)


async def test_a_reading_that_the_collector_closes_complains_of_nothing(
    server: LocalServer,
) -> None:
    """As of a web framework's response that its client has left."""
    problems: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _, why: problems.append(why)
    )
    async with produce(server) as stream:
        await stream.write("a")
        await stream.flush()
        tasks = len(asyncio.all_tasks())
        cycle: list[Any] = [aiter(consume(server.url, server.token(), STREAM))]
        assert await anext(cycle[0]) == "a"
        cycle.append(cycle)
        del cycle
        gc.collect()
        while server.connections or len(asyncio.all_tasks()) > tasks:
            await asyncio.sleep(0.001)
    gc.collect()
    assert problems == []


async def test_a_task_that_is_cancelled_closes_the_connection(
    server: LocalServer,
) -> None:
    task = asyncio.create_task(read(server))
    while not server.connections:
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    while server.connections:
        await asyncio.sleep(0.001)


async def test_a_consumer_can_stop_the_answer_for_everyone(server: LocalServer) -> None:
    async with produce(server) as stream:
        await stream.write("a")
        watching = consume(server.url, server.token(), STREAM)
        with pytest.raises(Cancelled):
            async for _ in watching:
                assert await watching.cancel() == "cancelled"
        with pytest.raises(Cancelled):
            await stream.end()


async def test_leaving_the_loop_waits_for_the_cancel_that_comes_with_it(
    server: LocalServer,
) -> None:
    """A loop that is left closes its iterator beside whatever comes next."""
    async with produce(server) as stream:
        await stream.write("a")
        async with consume(server.url, server.token(), STREAM) as watching:
            async for _ in watching:
                break
            assert await watching.cancel() == "cancelled"
        with pytest.raises(Cancelled):
            await stream.end()
        assert not server.connections


async def test_a_cancel_once_the_reading_is_over_is_refused_and_cancels_nothing(
    server: LocalServer,
) -> None:
    async with produce(server) as stream:
        await stream.write("a")
        watching = consume(server.url, server.token(), STREAM)
        shown = aiter(watching)
        assert await anext(shown) == "a"
        await watching.aclose()
        with pytest.raises(Invalid, match="reading is over"):
            await watching.cancel()
        await stream.end()


async def test_a_cancel_that_is_not_answered_holds_up_no_leaving_for_long(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aio, "CANCEL_SECONDS", 0.01)
    async with produce(server) as stream:
        await stream.write("a")
        async with consume(server.url, server.token(), STREAM) as watching:
            shown = aiter(watching)
            assert await anext(shown) == "a"
            server.lose = lambda frame: True
            cancel = asyncio.create_task(watching.cancel())
            await asyncio.sleep(0)  # it is under way
        with pytest.raises(Unavailable, match="before the cancel's answer"):
            await cancel
        # Whether it came through is not known.
        with contextlib.suppress(Cancelled):
            await stream.end()


async def test_a_cancel_that_is_not_granted_is_refused(server: LocalServer) -> None:
    async with produce(server) as stream:
        await stream.write("a")
        watching = consume(server.url, server.token(read=["*"]), STREAM)
        with pytest.raises(Invalid, match="no run"):
            await watching.cancel()
        async for _ in watching:
            with pytest.raises(Forbidden):
                await watching.cancel()
            break


async def test_a_cancel_that_nobody_waits_for_any_more_harms_no_reading(
    server: LocalServer,
) -> None:
    async with produce(server) as stream:
        await stream.write("a")
        watching = consume(server.url, server.token(read=["*"]), STREAM)
        shown = aiter(watching)
        assert await anext(shown) == "a"
        for _ in range(2):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(watching.cancel(), 1e-6)
        with pytest.raises(Forbidden):
            await watching.cancel()  # answered after the others
        await stream.write("b")
        assert await anext(shown) == "b"
        await watching.aclose()


async def test_a_consumption_is_read_once(server: LocalServer) -> None:
    await write(server, "a")
    watching = consume(server.url, server.token(), STREAM)
    assert [chunk async for chunk in watching] == ["a"]
    with pytest.raises(Invalid, match="once"):
        _ = [chunk async for chunk in watching]


def test_wrong_arguments_are_refused_at_once() -> None:
    with pytest.raises(Invalid, match="stream"):
        consume("wss://x", "token", "no spaces")
    for url in (
        "https://x",
        "wss://",
        "wss://x:99999",
        "wss://x:y",
        "wss://a..b",
        None,
    ):
        with pytest.raises(Invalid, match="wss://"):
            consume(url, "token", STREAM)  # type: ignore[arg-type]
    with pytest.raises(Invalid, match="token"):
        consume("wss://x", None, STREAM)  # type: ignore[arg-type]
    for after in ('{"run": "r", "seq": 1}', {"run": "r"}, {"run": "r", "seq": "1"}):
        with pytest.raises(Invalid, match="after"):
            consume("wss://x", "token", STREAM, after=after)  # type: ignore[arg-type]


async def test_what_a_proxy_lacks_is_named(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect(*_: Any, **__: Any) -> None:
        raise ImportError("a SOCKS proxy requires python-socks")

    monkeypatch.setattr(sockets, "connect", connect)
    with pytest.raises(Invalid, match="proxy: a SOCKS proxy"):
        await read(server)


@pytest.mark.parametrize("token", ["", "a.b.c", "a.e30.c", "a.bnVsbA.c"])
def test_a_token_that_tells_no_expiry_has_none(token: str) -> None:
    assert expiry_of(token) is None


@pytest.mark.parametrize("exp", [1764547200, 1764547200.9])
def test_any_number_is_an_expiry(exp: float) -> None:
    body = base64.urlsafe_b64encode(json.dumps({"exp": exp}).encode()).decode()
    assert expiry_of(f"head.{body.rstrip('=')}.signature") == 1764547200
