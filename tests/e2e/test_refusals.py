"""On the deployed stack: what is refused, how it is told, and that nobody else notices.

Every test runs while a bystander watches a stream of its own, who must get nothing but
that, and the logs are searched for what nobody may write into them.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import jwt
import pytest
from websockets.exceptions import InvalidStatus

from tailrace import tokens
from tests.support.deployed import Deployed
from tests.support.socket import Socket, open_socket

PLANTED = "planted-chunk-that-no-log-may-have"


@pytest.fixture
async def bystander(deployed: Deployed) -> AsyncIterator[Socket]:
    """A watcher of a stream that goes on, who must not notice anything."""
    stream = deployed.new_stream("bystander")
    meta = {"title": "planted-meta"}
    opened = deployed.ask("open", stream, writer="job", meta=meta)
    token = deployed.token(stream)
    async with open_socket(deployed.stack.socket_url, token) as socket:
        await socket.ask("subscribe", "subscribed", stream=stream)
        before = len(socket.frames)
        yield socket
        deployed.ask(
            "append",
            stream,
            run=opened["run"],
            writer="job",
            seq=2,
            chunks=[PLANTED],
        )
        await socket.until(lambda frame: frame.get("chunks") == [PLANTED])
        others = [frame for frame in socket.frames[before:] if "chunks" not in frame]
        assert others == [], "the bystander noticed something"


def forge(deployed: Deployed, **changes: Any) -> str:
    """Sign a token with the stack's own key, or what a change says."""
    kid = deployed.ring["current"]
    now = int(time.time())
    claims = {"sub": "u", "aud": "tailrace", "exp": now + 60, "read": ["*"], **changes}
    secret = claims.pop("secret", deployed.ring[kid])
    headers = {"kid": claims.pop("kid", kid)}
    return jwt.encode(claims, secret, algorithm="HS256", headers=headers)


def unsigned(deployed: Deployed) -> str:
    def part(value: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    header = {"alg": "none", "kid": deployed.ring["current"]}
    claims = {"sub": "u", "aud": "tailrace", "exp": int(time.time()) + 60}
    return f"{part(header)}.{part(claims)}."


async def refused(deployed: Deployed, token: str | None, **options: Any) -> int:
    with pytest.raises(InvalidStatus) as told:
        async with open_socket(deployed.stack.socket_url, token, **options):
            pass
    status: int = told.value.response.status_code
    return status


@pytest.mark.parametrize(
    "why",
    [
        *("missing", "empty", "nonsense", "forged", "alg none", "wrong audience"),
        *("not yet valid", "unknown kid", "no exp"),
    ],
)
async def test_a_bad_token_does_not_get_through_the_door(
    deployed: Deployed, bystander: Socket, why: str
) -> None:
    bad: dict[str, Callable[[], str | None]] = {
        "missing": lambda: None,
        "empty": lambda: "",
        "nonsense": lambda: "nonsense",
        "forged": lambda: forge(deployed, secret="a secret of the forger's own making"),
        "alg none": lambda: unsigned(deployed),
        "wrong audience": lambda: forge(deployed, aud="another"),
        "not yet valid": lambda: forge(deployed, nbf=int(time.time()) + 600),
        "unknown kid": lambda: forge(deployed, kid="k9"),
        "no exp": lambda: forge(deployed, exp=None),
    }
    token = bad[why]()
    # The emulator answers every refusal with 403; API Gateway passes 401 on.
    assert await refused(deployed, token) in (401, 403)


async def test_an_expired_token_is_told_in_band(
    deployed: Deployed, bystander: Socket
) -> None:
    token = forge(deployed, exp=int(time.time()) - 1)
    async with open_socket(deployed.stack.socket_url, token) as socket:
        answer = await socket.ask("sync", "synced", streams={})
        assert (answer["code"], answer["retryable"]) == ("unauthorized", False)
        await socket.closed()
    async with open_socket(deployed.stack.socket_url, token) as socket:
        answer = await socket.ask("auth", "authorized", token=forge(deployed))
        assert answer["type"] == "authorized"
        assert (await socket.ask("sync", "synced", streams={}))["type"] == "synced"


async def test_a_stream_that_is_not_granted_shows_nothing(
    deployed: Deployed, bystander: Socket
) -> None:
    mine, other = deployed.new_stream("user:1/a"), deployed.new_stream("user:12/b")
    opened = deployed.ask("open", other, writer="job")
    token = deployed.token("user:1/*")
    async with open_socket(deployed.stack.socket_url, token) as socket:
        answer = await socket.ask("subscribe", "subscribed", stream=other)
        assert (answer["code"], answer["stream"]) == ("forbidden", other)
        synced = await socket.ask("sync", "synced", streams={other: None, mine: None})
        assert synced["tails"][other]["error"]["code"] == "forbidden"
        assert synced["tails"][mine]["tail"] == 0
        answer = await socket.ask(
            "cancel", "cancelled", stream=other, run=opened["run"]
        )
        assert answer["code"] == "forbidden"
        deployed.ask(
            "append", other, run=opened["run"], writer="job", seq=2, chunks=[PLANTED]
        )
        run = deployed.ask("open", mine, writer="job")["run"]
        assert (await socket.until("slice"))["run"] == run
    assert not any(PLANTED in json.dumps(frame) for frame in socket.frames)


BAD_FRAMES = [
    ("not JSON", "{'type': 1}"),
    ("an array", "[]"),
    ("no type", "{}"),
    ("an unknown type", '{"type":"shout","n":1}'),
    ("$disconnect", '{"type":"$disconnect","n":1}'),
    ("$connect", '{"type":"$connect","n":1}'),
    ("$default", '{"type":"$default","n":1}'),
    ("a type that is no text", '{"type":{"a":1},"n":1}'),
    ("a wrong stream", '{"type":"subscribe","stream":"a b","n":1}'),
    ("a stream that is no text", '{"type":"subscribe","stream":7,"n":1}'),
    ("no n", '{"type":"subscribe","stream":"a"}'),
    ("a run that is none", '{"type":"cancel","stream":"a","run":"x","n":1}'),
    # As deep as the emulator's own parser goes; tests/unit/test_session.py goes deeper.
    ("nesting", "[" * 900 + '"' + "x" * 18_000 + '"' + "]" * 900),
    (
        "nesting in a field",
        '{"type":"sync","n":1,"streams":' + "[" * 900 + "]" * 900 + "}",
    ),
    ("a broken end", '{"type":"sync","n":1,"streams":' + "[" * 900),
    ("nothing", ""),
]


@pytest.mark.parametrize("body", [body for _, body in BAD_FRAMES], ids=dict(BAD_FRAMES))
async def test_a_bad_frame_is_answered_and_the_connection_lives(
    deployed: Deployed, bystander: Socket, body: str
) -> None:
    async with open_socket(deployed.stack.socket_url, deployed.token()) as socket:
        await socket.connection.send(body)
        answer = await socket.receive()
        assert (answer["type"], answer["code"]) == ("error", "invalid")
        assert (await socket.ask("sync", "synced", streams={}))["type"] == "synced"


async def test_the_twentieth_bad_frame_closes_the_connection(
    deployed: Deployed, bystander: Socket
) -> None:
    async with open_socket(deployed.stack.socket_url, deployed.token()) as socket:
        for _ in range(20):
            await socket.connection.send("no")
            assert (await socket.receive())["code"] == "invalid"
        await socket.closed()


async def test_nothing_is_pushed_after_unsubscribe_nor_after_disconnect(
    deployed: Deployed, bystander: Socket
) -> None:
    stream = deployed.new_stream()
    token = deployed.token(stream, sub="leaver")
    async with open_socket(deployed.stack.socket_url, token) as socket:
        await socket.ask("subscribe", "subscribed", stream=stream)
        await socket.ask("unsubscribe", "unsubscribed", stream=stream)
        deployed.ask("open", stream, writer="job")
        await socket.ask("sync", "synced", streams={})
        assert not any(frame["type"] == "slice" for frame in socket.frames)
        assert deployed.call(operation="disconnect", sub="leaver") == {
            "disconnected": 1
        }
        await socket.closed()


async def test_half_an_emoji_arrives_as_it_was_written(
    deployed: Deployed, bystander: Socket
) -> None:
    stream = deployed.new_stream()
    run = deployed.ask("open", stream, writer="job")["run"]
    halves = ["\ud83d", "\ude00"]
    deployed.ask("append", stream, run=run, writer="job", seq=2, chunks=halves)
    token = deployed.token(stream)
    async with open_socket(deployed.stack.socket_url, token) as socket:
        await socket.send("subscribe", stream=stream)
        slice_ = await socket.until("slice")
    assert slice_["chunks"] == halves


def test_bad_publish_calls_are_told_what_is_wrong(deployed: Deployed) -> None:
    stream = deployed.new_stream()
    run = deployed.ask("open", stream, writer="job")["run"]
    about = {"stream": stream, "run": run, "writer": "job", "seq": 2}
    for code, payload in [
        ("invalid", {"operation": "explode", "stream": stream}),
        ("invalid", {"operation": "append", **about, "chunks": []}),
        ("invalid", {"operation": "append", **about, "seq": 9, "chunks": ["a"]}),
        ("invalid", {"operation": "append", **about, "chunks": [float("nan")]}),
        ("too_large", {"operation": "append", **about, "chunks": ["x" * 28_000]}),
        ("invalid", {"operation": "tail", "stream": "a b"}),
        ("busy", {"stream": stream, "chunks": ["a"]}),
    ]:
        answer = deployed.call(**payload)
        assert answer["error"]["code"] == code, payload
    assert deployed.ask("tail", stream)["next"] == 2


def test_no_log_has_a_secret_a_token_or_a_chunk(deployed: Deployed) -> None:
    """Last in this file: the logs of all that went before, and a token of now."""
    logged = "\n".join(
        line
        for name in ("websocket", "publish", "fanout")
        for line in deployed.stack.logs(name)
    )
    assert "ChunksAppended" in logged, "there is something to search"
    secrets = [secret for kid, secret in deployed.ring.items() if kid != "current"]
    token = tokens.mint(deployed.ring, sub="x", now=int(time.time()), read=["*"])
    for planted in (PLANTED, *secrets, token.split(".")[0], "bearer."):
        assert planted not in logged
