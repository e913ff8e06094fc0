"""The process of the local AWS: ministack, and what API Gateway adds to it.

Runs in the environment of the functions (see local_aws.py), where nothing of this
repository can be imported. Seven things are added to the emulator:

- a web page may use the socket, and nothing else: the emulator itself lets every page
  in, and so any could run functions on this machine;
- a socket's subprotocol is the one that `$connect` answered with;
- a frame of more than 32 KB closes the socket with 1009 before any function sees it;
- what a function writes is kept in `functions/<name>.log`, also for WebSocket events,
  whose output the emulator drops;
- events of sockets may be served by several processes side by side, as Lambda does it,
  where the emulator has one that takes them one by one;
- a condition of the template may split a parameter: what it selects of that is taken
  for empty, so that a function is to be named by its name, not its ARN;
- a stack that is deployed anew may change its event source mappings: the emulator keeps
  the size of a batch as the text that a parameter is, and the alias that the function
  was named by, and then serves no feed any more.
"""

import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Any

from ministack import app as emulator
from ministack.core import lambda_runtime
from ministack.core.lambda_runtime import Worker
from ministack.services import apigateway, lambda_svc
from ministack.services.cloudformation import engine, provisioners

FRAME_BYTES = 32 * 1024

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# A handshake and the frames after it are one task.
_subprotocol: ContextVar[str | None] = ContextVar("subprotocol", default=None)


def answer_with_the_subprotocol_of_connect() -> None:
    invoke = apigateway._invoke_ws_lambda

    async def remember(*arguments: Any, **named: Any) -> Any:
        response = await invoke(*arguments, **named)
        headers = (response or {}).get("headers") or {}
        for name, value in headers.items():
            if name.lower() == "sec-websocket-protocol":
                _subprotocol.set(value)
        return response

    apigateway._invoke_ws_lambda = remember


def let_a_condition_split() -> None:
    select = engine._select

    def select_or_nothing(index: int, items: Any) -> Any:
        return "" if isinstance(items, dict) else select(index, items)

    engine._select = select_or_nothing


def let_a_mapping_change() -> None:
    handlers = provisioners._RESOURCE_HANDLERS["AWS::Lambda::EventSourceMapping"]
    update = handlers["update"]

    def update_wholly(
        id: str, old: dict[str, Any], new: dict[str, Any], stack: str
    ) -> Any:
        new = {**new, "BatchSize": int(new["BatchSize"])}
        updated = update(id, old, new, stack)
        _, alias = lambda_svc._resolve_name_and_qualifier(new["FunctionName"])
        lambda_svc._esms[updated[0]]["Qualifier"] = alias
        return updated

    handlers["update"] = update_wholly


def limit_sockets() -> None:
    serve = emulator.app

    async def limited(scope: Message, receive: Receive, send: Send) -> None:
        async def send_on(message: Message) -> None:
            if message["type"] == "websocket.accept" and _subprotocol.get():
                message = {**message, "subprotocol": _subprotocol.get()}
            await send(message)

        async def receive_bounded() -> Message:
            message = await receive()
            frame = message.get("text") or ""
            if len(frame.encode(errors="surrogatepass")) > FRAME_BYTES:
                await send({"type": "websocket.close", "code": 1009})
                return {"type": "websocket.disconnect", "code": 1009}
            return message

        if scope["type"] == "websocket":
            await serve(scope, receive_bounded, send_on)
        else:
            await serve(scope, receive, send)

    emulator.app = limited


def refuse_pages() -> None:
    """A browser says `Origin` or `Sec-Fetch-Site`, which no SDK does; or, of a page
    that had its own name resolve to this machine, that name as `Host`."""
    serve = emulator.app

    async def refusing(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _is_of_a_page(scope):
            await send({"type": "http.response.start", "status": 403, "headers": []})
            await send({"type": "http.response.body", "body": b""})
        else:
            await serve(scope, receive, send)

    emulator.app = refusing


def _is_of_a_page(scope: Message) -> bool:
    headers = dict(scope["headers"])
    # Any port: there may be a proxy.
    if headers.get(b"host", b"").split(b":")[0] not in (b"127.0.0.1", b"localhost"):
        return True
    # No path is let through, not even the socket's: the emulator goes by the query as
    # well. To a client that asks whether the socket's server answers, 403 is an answer.
    return b"origin" in headers or headers.get(b"sec-fetch-site", b"none") != b"none"


def serve_sockets_side_by_side(most: int) -> None:
    """By so many processes at most: what comes while all are busy waits its turn."""
    places = threading.Semaphore(most)

    class Leased:
        """Stands for a worker, and takes a free one for each event."""

        def __init__(self, *arguments: Any, **named: Any) -> None:
            self._acquire = partial(lambda_runtime.acquire_worker, *arguments, **named)

        def invoke(self, *event: Any, **named: Any) -> Any:
            with places:
                worker, _ = self._acquire()
                try:
                    return worker.invoke(*event, **named)
                finally:
                    lambda_runtime.release_worker(worker)

    lambda_runtime.get_or_create_worker = Leased


def keep_what_functions_write(directory: Path) -> None:
    directory.mkdir(exist_ok=True)

    def read_stderr(worker: Any) -> None:
        path = directory / f"{worker.func_name}.log"
        with path.open("a", buffering=1, encoding="utf-8") as log:
            for line in worker._proc.stderr:
                log.write(line)
                worker._stderr_queue.put(line.rstrip("\n"))

    Worker._read_stderr = read_stderr


def follow_the_parent() -> None:
    """Die, with all that was started here, when the other end of stdin is gone."""

    def wait() -> None:
        sys.stdin.buffer.read()
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    follow_the_parent()
    answer_with_the_subprotocol_of_connect()
    limit_sockets()
    refuse_pages()
    let_a_condition_split()
    let_a_mapping_change()
    serve_sockets_side_by_side(int(os.environ["SOCKET_PROCESSES"]))
    keep_what_functions_write(Path("functions"))
    emulator.main()
