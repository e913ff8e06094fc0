"""Pages with `useChat`, of each major of the AI SDK, and the backend behind them."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from demo.local_aws import ROOT
from demo.stack import LocalStack
from tailrace import Producer, PublicError
from tailrace.aisdk import Answer, from_text
from tailrace.errors import TailraceError
from tailrace.transports.function import PublishFunction

PAGE = ROOT / "tests" / "support" / "page"
CLIENT = ROOT / "clients" / "js"


def bundle(major: int, folder: Path) -> Path:
    """Bundle the page with that major's own hook."""
    out = folder / f"chat-{major}.js"
    subprocess.run(
        [
            CLIENT / "node_modules" / ".bin" / "esbuild",
            PAGE / "chat.jsx",
            *("--bundle", "--format=esm", "--jsx=automatic", "--log-level=error"),
            "--define:process.env.NODE_ENV='development'",
            f"--alias:ai-react=ai-react{major}",
            f"--alias:ai-sdk=ai{major}",
            f"--alias:tailrace/ai={CLIENT / 'src' / 'ai.js'}",
            f"--outfile={out}",
        ],
        check=True,
        env={"NODE_PATH": str(CLIENT / "node_modules"), "PATH": "/usr/bin:/bin"},
        cwd=CLIENT,
    )
    return out


@dataclass
class Backend:
    """Answers the turns of one chat with runs, whose jobs do what the question says:

    `count N` writes so many words; `wait` waits in mid-answer for `go`; `tool` calls a
    tool; `fail` fails; `die` is heard of no more; `long N` writes N times 800
    characters, and waits for `go`.
    """

    stack: LocalStack
    go: threading.Event = field(default_factory=threading.Event)
    turns: list[dict[str, Any]] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    threads: list[threading.Thread] = field(default_factory=list)

    def take(self, turn: dict[str, Any]) -> dict[str, str]:
        """A turn that was posted."""
        what = self._asked(turn).partition(" ")[0]
        producer = self._producer(f"chat:{turn['id']}", what)
        producer.open()
        self._start(producer, turn)
        return {"run": producer.run}

    def job(self, event: dict[str, Any]) -> dict[str, str]:
        """A turn that came by the socket."""
        turn = event["untrusted"]
        what = self._asked(turn).partition(" ")[0]
        producer = self._producer(
            event["stream"],
            what,
            run=event["run"],
            seq=event["seq"],
            resume="continue",
        )
        producer.open()
        self._start(producer, turn)
        return {"run": producer.run}

    def _producer(self, stream: str, what: str, **how: Any) -> Producer:
        function = PublishFunction(self.stack.lambda_, self.stack.function("publish"))
        lease = 2 if what == "die" else 30
        return Producer(stream, transport=function, lease=lease, **how)

    def _asked(self, turn: dict[str, Any]) -> str:
        question: str = next(
            part["text"]
            for message in reversed(turn["messages"])
            if message["role"] == "user"
            for part in message["parts"]
        )
        return question

    def _start(self, producer: Producer, turn: dict[str, Any]) -> None:
        self.turns.append(turn)
        what, _, argument = self._asked(turn).partition(" ")
        job = threading.Thread(target=self._work, args=(producer, what, argument))
        job.start()
        self.threads.append(job)

    def _work(self, producer: Producer, what: str, argument: str) -> None:
        answer = Answer(producer.run)
        try:
            for chunk in from_text(self._words(what, argument), answer=answer):
                producer.write(chunk)
            if what == "tool":
                for chunk in answer.tool("c1", "weather"):
                    producer.write(chunk)
                for chunk in [
                    *answer.tool_input('{"city":"Kiel"}'),
                    *answer.end_tool(),
                ]:
                    producer.write(chunk)
                producer.write(answer.tool_output("c1", {"sky": "grey"}))
            for chunk in answer.finish():
                producer.write(chunk)
            producer.end()
        except _Death:
            # As if the process were gone: nothing ends the run, nothing renews it.
            producer.hand_over(lease=1)
        except PublicError as error:
            producer.end("error", str(error))
        except TailraceError as error:
            self.stopped.append(error.code)

    def _words(self, what: str, argument: str) -> Iterator[str]:
        if what == "long":
            for number in range(int(argument)):
                yield f"{number:07} " * 100
            self.go.wait()
            return
        for number in range(int(argument or 20)):
            if what != "count" and number == 10:
                yield from self._halfway(what)
            yield f"{number} "
            time.sleep(0.01)

    def _halfway(self, what: str) -> Iterator[str]:
        if what == "fail":
            raise PublicError("Too long a question.")
        if what == "die":
            raise _Death
        yield "half "
        while what == "wait" and not self.go.wait(0.1):
            yield ". "


class _Death(Exception):
    """The job's process was killed."""


@dataclass
class Site:
    """Serves the pages, and takes their turns to the backend of each chat."""

    folder: Path
    url: str = ""
    backends: dict[str, Backend] = field(default_factory=dict)

    @contextmanager
    def serving(self) -> Iterator[Site]:
        with ThreadingHTTPServer(("127.0.0.1", 0), self._handler()) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            self.url = f"http://127.0.0.1:{server.server_port}/chat.html"
            yield self
            server.shutdown()
            thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = Path(self.path.partition("?")[0]).name
                folder = site.folder if name.endswith(".js") else PAGE
                kind = "text/javascript" if name.endswith(".js") else "text/html"
                self._answer((folder / name).read_bytes(), f"{kind}; charset=utf-8")

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                turn = json.loads(body)
                if self.path == "/job":
                    name = turn["stream"].removeprefix("chat:")
                    answer = site.backends[name].job(turn)
                else:
                    answer = site.backends[turn["id"]].take(turn)
                self._answer(json.dumps(answer).encode(), "application/json")

            def _answer(self, body: bytes, kind: str) -> None:
                self.send_response(200)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler
