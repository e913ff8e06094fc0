"""How much CPU a push takes: the gateway's, beside boto3's own client.

Both push to a server on loopback in a process of its own, in turns, so that what else
the machine does falls on both. CPU is this process's.

    .venv/bin/python -m bench.posts [rounds] [--keep]
"""

from __future__ import annotations

import argparse
import multiprocessing
import socketserver
import statistics
import time
from collections.abc import Callable
from multiprocessing.queues import SimpleQueue

import boto3
from botocore.config import Config

from bench import kept
from tailrace.adapters.apigateway import ApiGateway

CONNECTION = "TkQ2mfSeoAMCKHQ="
FRAME = '{"type":"slice","stream":"chat:42","seq":7,"next":8,"chunks":["hello"]}'
PUSHES = 1_000


class Handler(socketserver.StreamRequestHandler):
    """Answers every request on a kept-alive connection with 200."""

    def handle(self) -> None:
        while self.rfile.readline():
            length = 0
            while (line := self.rfile.readline()) not in (b"\r\n", b""):
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            self.rfile.read(length)
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


def serve(port: SimpleQueue[int]) -> None:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        port.put(server.server_address[1])
        server.serve_forever()


def cpu(push: Callable[[], object]) -> float:
    """Return the milliseconds of CPU of one push."""
    begun = time.process_time()
    for _ in range(PUSHES):
        push()
    return (time.process_time() - begun) / PUSHES * 1000


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.posts")
    parser.add_argument("rounds", type=int, nargs="?", default=7)
    parser.add_argument("--keep", action="store_true")
    given = parser.parse_args()
    port: SimpleQueue[int] = SimpleQueue(ctx=multiprocessing.get_context())
    server = multiprocessing.Process(target=serve, args=(port,), daemon=True)
    server.start()
    url = f"http://127.0.0.1:{port.get()}/v1"
    session = boto3.Session("none", "none", region_name="us-east-1")
    plain = Config(read_timeout=1, retries={"total_max_attempts": 1})
    client = session.client("apigatewaymanagementapi", endpoint_url=url, config=plain)
    gateway = ApiGateway(session, url)

    def theirs() -> object:
        return client.post_to_connection(ConnectionId=CONNECTION, Data=FRAME.encode())

    def ours() -> object:
        return gateway.push(CONNECTION, FRAME)

    cpu(theirs), cpu(ours)
    pairs = [(cpu(theirs), cpu(ours)) for _ in range(given.rounds)]
    low = statistics.median(pair[1] for pair in pairs)
    high = statistics.median(pair[0] for pair in pairs)
    ratio = statistics.median(pair[0] / pair[1] for pair in pairs)
    print(f"boto3   {high:.3f} ms of CPU a push, {1000 / high:6.0f} a CPU second")
    print(f"gateway {low:.3f} ms of CPU a push, {1000 / low:6.0f} a CPU second")
    print(f"{ratio:.2f} times as many")
    server.terminate()
    if given.keep:
        found = {
            "rounds": given.rounds,
            "pushes": PUSHES,
            "ms": {"boto3's client": round(high, 3), "the gateway": round(low, 3)},
            "ratio": round(ratio, 2),
        }
        kept.save("posts", "python -m bench.posts --keep", found)


if __name__ == "__main__":
    main()
