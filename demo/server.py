"""The demo's backend: serves the page, mints tokens, starts jobs.

It never sees a word of an answer: those go from the job to the log, and from there to
the page. What it does is what a backend of yours would do, but for `kill`.
"""

import contextlib
import functools
import json
import mimetypes
import re
import secrets
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from demo import chat
from demo.answers import QUESTIONS
from demo.job import LEASE_SECONDS, TOKENS_PER_SECOND
from demo.jobs import Jobs
from demo.local_aws import ROOT
from demo.stack import LocalStack
from tailrace import mint_token, new_run

HOST = "127.0.0.1"
TOKEN_SECONDS = 120
"""Short, so that a visitor sees tokens being refreshed."""
MAX_BODY = 16_000
MAX_QUESTION = 500

# The page has no build step: its modules are served as they are.
_STATIC = {
    "/page/": ROOT / "demo" / "page",
    "/tailrace/": ROOT / "clients" / "js" / "src",
    "/chat/": chat.PAGE,
}
_VISITOR = re.compile(r"(?:^|;)\s*visitor=([0-9a-f]{24})\s*(?:;|$)")
_TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8"}

Json = dict[str, Any]


class BadRequest(Exception):
    """The request is the page's mistake; the message says which."""


@dataclass(frozen=True)
class Backend:
    """What the routes need. A visitor has one stream, and may read and stop it."""

    stack: LocalStack
    jobs: Jobs

    def session(self, visitor: str, _body: Json) -> Json:
        return {
            "url": self.stack.socket_url,
            "stream": _stream(visitor),
            "questions": list(QUESTIONS),
            "lease": LEASE_SECONDS,
        }

    def token(self, visitor: str, body: Json) -> Json:
        seconds = body.get("seconds", TOKEN_SECONDS)
        if not isinstance(seconds, int) or not 1 <= seconds <= TOKEN_SECONDS:
            raise BadRequest(f"seconds: must be 1 to {TOKEN_SECONDS}")
        grants = [_stream(visitor)]
        return self._token(visitor, seconds, grants)

    def chat_session(self, visitor: str, _body: Json) -> Json:
        # The local AWS echoes no subprotocol.
        return {
            "url": self.stack.socket_url,
            "handshake": "query",
            "user": visitor,
            "ways": list(chat.WAYS),
        }

    def chat_token(self, visitor: str, _body: Json) -> Json:
        grants = [f"chat:{visitor}/*"]
        return self._token(visitor, TOKEN_SECONDS, grants, send=grants)

    def chat_turn(self, visitor: str, body: Json) -> Json:
        return {"run": chat.take_turn(self.stack, visitor, body)}

    def _token(
        self, visitor: str, seconds: int, grants: list[str], send: Iterable[str] = ()
    ) -> Json:
        return {
            "token": mint_token(
                visitor,
                read=grants,
                cancel=grants,
                send=send,
                expires_in=seconds,
                keys=self._key_ring,
            )
        }

    def ask(self, visitor: str, body: Json) -> Json:
        question = _text(body, "question").strip()
        if not 1 <= len(question) <= MAX_QUESTION:
            raise BadRequest(f"question: must have 1 to {MAX_QUESTION} characters")
        # Named before there is a job, so that the page can watch and stop it from now.
        run = new_run()
        self.jobs.start(stream=_stream(visitor), run=run, question=question)
        return {"run": run}

    def kill(self, visitor: str, body: Json) -> Json:
        run = _text(body, "run")
        return {"killed": self.jobs.kill(stream=_stream(visitor), run=run)}

    def redeliver(self, visitor: str, body: Json) -> Json:
        run = _text(body, "run")
        return {"started": self.jobs.restart(stream=_stream(visitor), run=run)}

    @functools.cached_property
    def _key_ring(self) -> dict[str, str]:
        secret = self.stack.secretsmanager.get_secret_value(
            SecretId=self.stack.key_ring_arn
        )
        ring: dict[str, str] = json.loads(secret["SecretString"])
        return ring

    @property
    def routes(self) -> dict[str, Callable[[str, Json], Json]]:
        return {
            "/api/session": self.session,
            "/api/token": self.token,
            "/api/ask": self.ask,
            "/api/kill": self.kill,
            "/api/redeliver": self.redeliver,
            "/api/chat": self.chat_turn,
            "/api/chat/session": self.chat_session,
            "/api/chat/token": self.chat_token,
        }


def _stream(visitor: str) -> str:
    return f"demo:{visitor}"


def _text(body: Json, name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str):
        raise BadRequest(f"{name}: must be text")
    return value


class Server(ThreadingHTTPServer):
    """Bound when it is made, so that its address is known before the stack is."""

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__((HOST, port), _Handler)
        self.backend: Backend | None = None

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that leaves in mid-answer is no error."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.server_port}"

    @property
    def origins(self) -> list[str]:
        """Where the page may come from."""
        return [self.url, f"http://localhost:{self.server_port}"]


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    server_version = "tailrace-demo"
    sys_version = ""

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if not self._is_addressed_here():
            self._send(HTTPStatus.FORBIDDEN)
        elif path == "/":
            self._send_file(_STATIC["/page/"] / "index.html", self._new_visitor())
        elif path == "/chat/":
            self._send_file(_STATIC["/chat/"] / "index.html", self._new_visitor())
        else:
            self._send_file(_static(path))

    def do_POST(self) -> None:
        backend = self.server.backend
        route = backend.routes.get(self.path) if backend else None
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > MAX_BODY:
            # What was not read cannot be told from the next request.
            self.close_connection = True
            self._send(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return
        text = self.rfile.read(int(length))
        if not self._is_addressed_here() or not self._is_from_here():
            self._send(HTTPStatus.FORBIDDEN)
            return
        visitor = self._visitor()
        if route is None or visitor is None:
            missing = HTTPStatus.NOT_FOUND if visitor else HTTPStatus.UNAUTHORIZED
            self._send(missing)
            return
        try:
            body = json.loads(text)
            if not isinstance(body, dict):
                raise BadRequest("must be a JSON object")
            answer = route(visitor, body)
        except (BadRequest, ValueError, RecursionError) as error:
            self._send_json({"error": str(error)}, HTTPStatus.BAD_REQUEST)
        else:
            self._send_json(answer)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the terminal shows the URL."""

    # Without these two checks, any page in the browser could start jobs, or, through
    # a host name of its own that resolves to this machine, read the answers.

    def _is_addressed_here(self) -> bool:
        return f"http://{self.headers.get('Host')}" in self.server.origins

    def _is_from_here(self) -> bool:
        return self.headers.get("Origin") in self.server.origins

    def _visitor(self) -> str | None:
        # Cookies know no ports: those of all servers on this machine come here, and
        # `http.cookies` gives up at the first that it cannot read.
        found = _VISITOR.search(self.headers.get("Cookie", ""))
        return found and found[1]

    def _new_visitor(self) -> dict[str, str]:
        """A stand-in for a log-in."""
        if self._visitor():
            return {}
        cookie = f"visitor={secrets.token_hex(12)}; Path=/; HttpOnly; SameSite=Strict"
        return {"Set-Cookie": cookie}

    def _send_file(
        self, file: Path | None, headers: dict[str, str] | None = None
    ) -> None:
        if file is None or not file.is_file():
            self._send(HTTPStatus.NOT_FOUND)
            return
        kind = _TYPES.get(file.suffix) or mimetypes.guess_type(file.name)[0]
        self._send(
            HTTPStatus.OK,
            file.read_bytes(),
            {"Content-Type": kind or "application/octet-stream"} | (headers or {}),
        )

    def _send_json(self, value: Json, status: HTTPStatus = HTTPStatus.OK) -> None:
        body = json.dumps(value).encode()
        self._send(status, body, {"Content-Type": "application/json"})

    def _send(
        self,
        status: HTTPStatus,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
    ) -> None:
        self.send_response(status)
        for name, value in (_POLICY | (headers or {})).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


_POLICY = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
        " connect-src 'self' ws://127.0.0.1:* http://127.0.0.1:*; base-uri 'none';"
        " form-action 'none';"
        " frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def _static(path: str) -> Path | None:
    for prefix, folder in _STATIC.items():
        if path.startswith(prefix):
            file = (folder / path.removeprefix(prefix)).resolve()
            return file if file.is_relative_to(folder) else None
    return None


@contextlib.contextmanager
def serving(
    server: Server,
    stack: LocalStack,
    *,
    tokens_per_second: float = TOKENS_PER_SECOND,
) -> Iterator[str]:
    """Serve the demo for a stack; yields the page's URL. Its jobs end with it."""
    jobs = Jobs(
        environment=stack.environment
        | {"TAILRACE_PUBLISH_FUNCTION": stack.function("publish")},
        log_file=stack.aws.log_file.with_name("jobs.log"),
        tokens_per_second=tokens_per_second,
    )
    server.backend = Backend(stack, jobs)
    thread = threading.Thread(target=server.serve_forever, name="demo-server")
    thread.start()
    try:
        yield server.url
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        jobs.stop()
