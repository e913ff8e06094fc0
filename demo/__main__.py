"""`make demo`: a local AWS, this stack on it, and a page to see it at work.

Ctrl-C stops all of it.
"""

import argparse
import contextlib
import json
import os
import signal
import sys
import threading
import time
import webbrowser

from demo import chat
from demo.local_aws import ROOT, LocalAwsError
from demo.server import Server, serving
from demo.stack import local_stack

PORT = 8080
# For `sam local invoke --env-vars`; README.md says how.
ENVIRONMENT = ROOT / ".local" / "env.json"
_NOTABLE_SECONDS = 0.1


def main() -> int:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument(
        "--port", type=int, help=f"of the page ({PORT}, or a free one if that is taken)"
    )
    parser.add_argument("--no-browser", action="store_true", help="do not open one")
    arguments = parser.parse_args()
    progress = Progress()
    try:
        server = _server(arguments.port)
    except (OSError, OverflowError) as error:
        print(f"The page cannot have port {arguments.port}: {error}", file=sys.stderr)
        return 1
    try:
        with (
            local_stack(
                # Also of a page of one's own: who has no token stays outside.
                parameters={"AllowedOrigins": "*", "JobFunction": chat.JOB},
                progress=progress,
            ) as stack,
            serving(server, stack) as url,
            contextlib.ExitStack() as left,
        ):
            progress("Building the chat")
            chat.build_page()
            chat.deploy_job(stack)
            progress.done()
            environment = json.dumps(stack.sam_local_environment(), indent=2)
            left.callback(_forget, environment)
            ENVIRONMENT.write_text(environment)
            logs = stack.aws.log_file.parent
            lines = (f"Open  {url}", f"Chat  {url}/chat/", f"Logs  {logs}")
            print(_box(*lines, "Stop  Ctrl-C"))
            print("  For the SDK and the command, in another terminal:\n")
            print(f"  {stack.exports}\n", flush=True)
            if not arguments.no_browser:
                _open_browser(url)
            while True:
                signal.pause()
    except (KeyboardInterrupt, SystemExit):  # SIGINT; SIGTERM and SIGHUP
        print("\n  Stopped.")
    except LocalAwsError as error:
        print(f"\nThe demo did not start: {error}", file=sys.stderr)
        return 1
    return 0


def _forget(environment: str) -> None:
    """Remove what `sam local` is told, unless a later demo has told it anew."""
    if ENVIRONMENT.exists() and ENVIRONMENT.read_text() == environment:
        ENVIRONMENT.unlink()


class Progress:
    """A line for each step, with the time that the step before it took."""

    def __init__(self) -> None:
        self._step = time.monotonic()
        self._open = False

    def __call__(self, line: str) -> None:
        self._close()
        print(f"  {line}", end="", flush=True)
        self._step, self._open = time.monotonic(), True

    def done(self) -> None:
        self._close()

    def _close(self) -> None:
        if self._open:
            took = time.monotonic() - self._step
            print(f" … {took:.1f} s" if took > _NOTABLE_SECONDS else "", flush=True)
            self._open = False


def _server(port: int | None) -> Server:
    if port is not None:
        return Server(port)
    try:
        return Server(PORT)
    except OSError:
        return Server()


def _box(*lines: str) -> str:
    width = max(map(len, lines)) + 4
    body = [f"  │  {line:<{width - 2}}│" for line in lines]
    return "\n".join(["", f"  ╭{'─' * width}╮", *body, f"  ╰{'─' * width}╯", ""])


def _open_browser(url: str) -> None:
    """Open the page where there is a screen; a text browser would take the terminal."""
    if sys.platform.startswith("linux") and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    ):
        return
    threading.Thread(target=webbrowser.open, args=[url], daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
