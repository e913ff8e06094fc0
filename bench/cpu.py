"""How much CPU our code takes for a record, a slice, a replayed chunk, an invocation.

The real handlers and adapters run in this process, over real sockets without TLS, to a
local AWS and a stub of `@connections` in processes of their own; CPU is this process's.
`bench.cost` and `bench.latency` make Lambda durations of these figures.

    .venv/bin/python -m bench.cpu [--keep]
"""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.queues import SimpleQueue
from typing import Any
from unittest.mock import patch

import boto3
import botocore.handlers

from bench import kept, posts, startup
from bench.cloud.functions import Container
from bench.cloud.patches import ENVIRONMENT, RING
from bench.cloud.template import ROOT
from demo.local_aws import local_aws
from demo.stack import build
from tailrace import ids, tokens
from tailrace.adapters.apigateway import ApiGateway
from tailrace.adapters.calls import config, local_clock
from tailrace.adapters.dynamodb import DynamoDBLog, DynamoDBState
from tailrace.log import Log
from tailrace.positions import Position
from tailrace.replay import Replay
from tests.support.tables import create_tables

TOKENS = [f" word{n}" for n in range(5)]
ROUNDS = 5
BUILDERS = {"websocket": "session", "publish": "publish", "fanout": "fanout"}
START = """
import sys
sys.path.insert(0, %r)
import app
app.%s()
print(0)
"""


class Context:
    aws_request_id = "8e7a1b5c-0000-4000-8000-000000000000"
    function_name = "bench"

    def get_remaining_time_in_millis(self) -> int:
        return 30_000


class Calls:
    """How many requests botocore sends."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, **_: Any) -> None:
        self.count += 1


def cpu(what: Callable[[int], object], times: int) -> float:
    """Return the microseconds of CPU of one call: the least of a few rounds, since
    what else the machine does only adds."""
    found = []
    for number in range(ROUNDS):
        begun = time.process_time()
        for one in range(times):
            what(number * times + one)
        found.append((time.process_time() - begun) / times * 1e6)
    return min(found)


@contextlib.contextmanager
def surroundings(calls: Calls) -> Iterator[None]:
    """A local AWS with the tables and the key ring, a stub of `@connections`."""
    port: SimpleQueue[int] = SimpleQueue(ctx=multiprocessing.get_context())
    stub = multiprocessing.Process(target=posts.serve, args=(port,), daemon=True)
    stub.start()
    handler = ("before-send", calls)
    botocore.handlers.BUILTIN_HANDLERS.append(handler)
    try:
        with local_aws() as aws:
            environment = {
                **ENVIRONMENT,
                **aws.environment,
                "TAILRACE_CONNECTIONS_URL": f"http://127.0.0.1:{port.get()}/v1",
                "TAILRACE_FANOUT_FUNCTION": "tailrace-fanout",
                "TAILRACE_KEY_RING_ARN": "KeyRing",
            }
            with patch.dict(os.environ, environment):
                create_tables(boto3.client("dynamodb"), "Log", "State")
                boto3.client("secretsmanager").create_secret(
                    Name="KeyRing", SecretString=json.dumps(RING)
                )
                yield
    finally:
        botocore.handlers.BUILTIN_HANDLERS.remove(handler)
        stub.terminate()


class Bench:
    """What is measured, over one set of tables."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        session = boto3.Session()
        client = session.client("dynamodb", config=config(read_timeout=3))
        self._log = Log(
            DynamoDBLog(client, "Log"),
            DynamoDBState(client, "State"),
            local_clock,
            retention=3_600,
            lease=30,
        )
        self._gateway = ApiGateway(session, os.environ["TAILRACE_CONNECTIONS_URL"])
        self._modules = {
            name: Container(name).module for name in ("publish", "fanout", "websocket")
        }
        self._streams = 0

    def call(self) -> float:
        """One request to a table, and no more around it than the adapter."""
        stream, writer = self._new(), "0123456789abcdef0123"
        record = self._log.open(stream, writer)
        behind = [record]

        def put(_: int) -> None:
            texts = [json.dumps(token) for token in TOKENS]
            behind[0] = self._log.append(
                stream, record.run, writer, behind[0].next, texts
            )

        return cpu(put, 60)

    def push(self) -> float:
        return cpu(lambda _: self._gateway.push(posts.CONNECTION, posts.FRAME), 500)

    def replayed(self) -> float:
        """A chunk of a replay, from the table to frames; 5 chunks a record."""
        stream, writer = self._new(), "0123456789abcdef0123"
        record = self._log.open(stream, writer)
        run = record.run
        texts = [json.dumps(token) for token in TOKENS]
        for _ in range(200):
            record = self._log.append(stream, run, writer, record.next, texts)

        def replay(_: int) -> None:
            answer = Replay(self._log, stream, Position())
            assert sum(piece.count for piece in answer.slices()) == 1_000

        return cpu(replay, 5) / 1_000

    def publish(self) -> tuple[float, float]:
        """Return the CPU of an `append`'s invocation, and its calls."""
        stream, writer = self._new(), "0123456789abcdef0123"
        run = ids.new_run(local_clock(), os.urandom(10))
        about = {"stream": stream, "run": run, "writer": writer}
        answer = self._handle("publish", {"operation": "open", **about})

        def append(_: int) -> None:
            nonlocal answer
            payload = {"operation": "append", **about, "chunks": TOKENS}
            answer = self._handle("publish", {**payload, "seq": answer["next"]})

        return self._counted(append, 60)

    def fanout(self) -> tuple[float, float]:
        """Return the CPU of a batch of three records for one watcher, and its calls."""
        stream = self._new()
        self._connect("fan", stream)
        batch = json.loads((ROOT / "events/fanout/batch.json").read_text())
        entry = next(
            one
            for one in batch["Records"]
            if one["dynamodb"]["NewImage"]["kind"]["S"] == "data"
        )
        entries = []
        for number in range(3):
            one = json.loads(json.dumps(entry))
            image = one["dynamodb"]["NewImage"]
            image["stream"]["S"] = stream
            image["seq"]["N"] = str(2 + 5 * number)
            image["count"]["N"] = "5"
            image["chunks"]["S"] = ",".join(json.dumps(token) for token in TOKENS)
            entries.append(one)
        event = {"Records": entries}
        return self._counted(lambda _: self._handle("fanout", event), 60)

    def websocket(self) -> tuple[float, float]:
        """Return the CPU of one of the invocations of a connection that comes, syncs
        and goes, and its calls."""
        streams = [self._new() for _ in range(ROUNDS * 15)]

        def live(number: int) -> None:
            id = f"TkQ2mfSeo{number:06x}="
            self._connect(id, streams[number])
            self._socket(id, "DISCONNECT")

        us, calls = self._counted(live, 15)
        return us / 3, calls / 3

    # ---- parts -----------------------------------------------------------------------

    def _new(self) -> str:
        self._streams += 1
        return f"bench:{self._streams}"

    def _counted(
        self, what: Callable[[int], object], times: int
    ) -> tuple[float, float]:
        before = self._calls.count
        us = cpu(what, times)
        return us, (self._calls.count - before) / (ROUNDS * times)

    def _connect(self, id: str, stream: str) -> None:
        now = int(time.time())
        token = tokens.mint(RING, sub="user", now=now, expires_in=900, read=[stream])
        self._socket(
            id, "CONNECT", headers={"Sec-WebSocket-Protocol": f"bearer.{token}"}
        )
        frame = {"type": "sync", "n": 1, "streams": {stream: None}}
        self._socket(id, "MESSAGE", body=json.dumps(frame))

    def _socket(self, id: str, kind: str, **parts: Any) -> None:
        about = {"eventType": kind, "connectionId": id}
        answer = self._handle("websocket", {"requestContext": about, **parts})
        assert answer["statusCode"] == 200, answer

    def _handle(self, function: str, event: Any) -> Any:
        answer = self._modules[function].handler(event, Context())
        assert "error" not in answer, answer
        return answer


def start(function: str) -> float:
    """Return the microseconds of CPU of a function's start, interpreter and all."""
    layer = build().parent / "TailraceLayer" / "python"
    code = START % (str(ROOT / "functions" / function), BUILDERS[function])
    startup.start(code, layer)
    found = []
    for _ in range(ROUNDS):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        startup.start(code, layer)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        user, system = (
            after.ru_utime - before.ru_utime,
            after.ru_stime - before.ru_stime,
        )
        found.append((user + system) * 1e6)
    return min(found)


def main() -> None:
    starts = {name: round(start(name)) for name in BUILDERS}
    calls = Calls()
    with surroundings(calls), contextlib.redirect_stdout(io.StringIO()):
        bench = Bench(calls)
        call, push, replayed = bench.call(), bench.push(), bench.replayed()
        whole = {
            "publish": bench.publish(),
            "fanout": bench.fanout(),
            "websocket": bench.websocket(),
        }
    pushes = {"publish": 0, "fanout": 1, "websocket": 1 / 3}
    invocation = {
        name: round(max(0.0, us - made * call - pushes[name] * push))
        for name, (us, made) in whole.items()
    }
    found = {
        "us": {
            "call": round(call),
            "push": round(push),
            "replayed_chunk": round(replayed, 2),
            "whole": {name: round(us) for name, (us, _) in whole.items()},
            "calls": {name: round(made, 2) for name, (_, made) in whole.items()},
            "invocation": invocation,
            "start": starts,
        }
    }
    print(json.dumps(found, indent=1))
    if "--keep" in sys.argv:
        kept.save("cpu", "python -m bench.cpu --keep", found)


if __name__ == "__main__":
    main()
