"""Stand-ins for the LLM providers: they speak the streaming formats of the real ones,
as recorded, on loopback."""

from __future__ import annotations

import json
import struct
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

TOKENS = ["The", " sky", " is", " blue", " because", " …"]
TEXT = "".join(TOKENS)
PATIENCE = 30


class Provider:
    """All providers at one address. `pause_after` events it says nothing more until
    `go_on` is set; `fail` answers with a status instead. `left` is set when a client
    hangs up on it."""

    def __init__(self) -> None:
        self.pause_after: int | None = None
        self.go_on = threading.Event()
        self.left = threading.Event()
        self.fail: list[int] = []
        self.requests: list[tuple[str, Any]] = []
        self.url = ""

    @contextmanager
    def listening(self) -> Iterator[Provider]:
        provider = self

        class Handler(_Handler):
            at = provider

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield self
        finally:
            self.go_on.set()
            server.shutdown()
            thread.join()
            server.server_close()


class _Handler(BaseHTTPRequestHandler):
    at: Provider
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        body = json.loads(self.rfile.read(length) or b"{}")
        self.at.requests.append((self.path, body))
        if self.at.fail:
            self._json({"error": {"message": "overloaded"}}, self.at.fail.pop(0))
        elif self.path.endswith("/converse-stream"):
            self._stream("application/vnd.amazon.eventstream", map(_frame, bedrock()))
        elif self.path == "/v1/messages":
            self._stream("text/event-stream", map(_sse, anthropic()))
        elif body.get("background"):
            self._json(openai()[0]["response"])
        else:
            self._stream("text/event-stream", map(_sse, openai()))

    def do_GET(self) -> None:
        self.at.requests.append((self.path, None))
        after = parse_qs(urlsplit(self.path).query).get("starting_after", ["-1"])[0]
        events = [one for one in openai() if one["sequence_number"] > int(after)]
        self._stream("text/event-stream", map(_sse, events))

    def _json(self, answer: Any, status: int = 200) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, kind: str, events: Iterator[bytes]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for number, event in enumerate(events):
                if number == self.at.pause_after:
                    self._wait()
                self.wfile.write(f"{len(event):x}\r\n".encode() + event + b"\r\n")
                self.wfile.flush()
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.at.left.set()
            self.close_connection = True

    def _wait(self) -> None:
        """Say nothing, and notice when the client hangs up."""
        self.connection.settimeout(0.01)
        for _ in range(PATIENCE * 100):
            if self.at.go_on.is_set():
                break
            try:
                if not self.connection.recv(1):
                    raise ConnectionResetError
            except TimeoutError:
                continue
        self.connection.settimeout(None)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


# ---- formats -------------------------------------------------------------------------


def _sse(event: dict[str, Any]) -> bytes:
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()


def _frame(event: tuple[str, dict[str, Any]]) -> bytes:
    """Return a message of application/vnd.amazon.eventstream."""
    kind, payload = event
    named = {
        ":event-type": kind,
        ":content-type": "application/json",
        ":message-type": "event",
    }
    headers = b"".join(
        struct.pack(f">B{len(name)}sBH", len(name), name.encode(), 7, len(value))
        + value.encode()
        for name, value in named.items()
    )
    body = json.dumps(payload).encode()
    prelude = struct.pack(">II", 16 + len(headers) + len(body), len(headers))
    message = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + body
    return message + struct.pack(">I", zlib.crc32(message))


# ---- what they say -------------------------------------------------------------------


def bedrock() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the events of `converse_stream`."""
    yield "messageStart", {"role": "assistant"}
    for token in TOKENS:
        yield "contentBlockDelta", {"delta": {"text": token}, "contentBlockIndex": 0}
    yield "contentBlockStop", {"contentBlockIndex": 0}
    yield "messageStop", {"stopReason": "end_turn"}
    usage = {"inputTokens": 11, "outputTokens": 6, "totalTokens": 17}
    yield "metadata", {"usage": usage, "metrics": {"latencyMs": 361}}


def anthropic() -> Iterator[dict[str, Any]]:
    """Yield the events of `messages` with `stream`."""
    usage = {"input_tokens": 11, "output_tokens": 1}
    yield {
        "type": "message_start",
        "message": {
            "id": "msg_01", "type": "message", "role": "assistant", "content": [],
            "model": "claude-sonnet-5-5", "stop_reason": None, "stop_sequence": None,
            "usage": usage,
        },
    }  # fmt: skip
    block = {"type": "text", "text": ""}
    yield {"type": "content_block_start", "index": 0, "content_block": block}
    yield {"type": "ping"}
    for token in TOKENS:
        delta = {"type": "text_delta", "text": token}
        yield {"type": "content_block_delta", "index": 0, "delta": delta}
    yield {"type": "content_block_stop", "index": 0}
    ended = {"stop_reason": "end_turn", "stop_sequence": None}
    yield {"type": "message_delta", "delta": ended, "usage": {"output_tokens": 6}}
    yield {"type": "message_stop"}


def openai() -> list[dict[str, Any]]:
    """Return the events of `responses` with `stream`."""
    response = {
        "id": "resp_01", "object": "response", "created_at": 1764000000,
        "status": "in_progress", "error": None, "incomplete_details": None,
        "instructions": None, "metadata": {}, "model": "gpt-5.4-mini", "output": [],
        "parallel_tool_calls": True, "temperature": 1.0, "tool_choice": "auto",
        "tools": [], "top_p": 1.0,
    }  # fmt: skip
    item = {"id": "msg_01", "type": "message", "role": "assistant"}
    part = {"type": "output_text", "annotations": [], "logprobs": []}
    whole = {**part, "text": TEXT}
    done = {**item, "status": "completed", "content": [whole]}
    at = {"item_id": "msg_01", "output_index": 0, "content_index": 0}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": response},
        {"type": "response.in_progress", "response": response},
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": {**item, "status": "in_progress", "content": []},
        },
        {"type": "response.content_part.added", **at, "part": {**part, "text": ""}},
        *(
            {
                "type": "response.output_text.delta",
                **at,
                "delta": token,
                "logprobs": [],
            }
            for token in TOKENS
        ),
        {"type": "response.output_text.done", **at, "text": TEXT, "logprobs": []},
        {"type": "response.content_part.done", **at, "part": whole},
        {"type": "response.output_item.done", "output_index": 0, "item": done},
        {
            "type": "response.completed",
            "response": {**response, "status": "completed", "output": [done]},
        },
    ]
    return [{**event, "sequence_number": at} for at, event in enumerate(events)]
