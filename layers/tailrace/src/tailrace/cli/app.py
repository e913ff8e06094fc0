"""The commands' options, and what all commands have in common."""

from __future__ import annotations

import io
import json
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import click

from .. import __version__
from ..deployment import Deployment, find, find_transport
from ..errors import Invalid
from ..records import MAX_LEASE_SECONDS
from ..rules import CANCELLED
from ..writers import Transport
from . import failures

DEFAULT_STACK = "tailrace"

# Others (a token, a transport) say nothing of where the stack is.
_LEADS_TO_A_STACK = (
    "TAILRACE_STACK",
    "TAILRACE_PUBLISH_FUNCTION",
    "TAILRACE_LOG_TABLE",
    "TAILRACE_STATE_TABLE",
    "TAILRACE_KEY_RING_ARN",
    "TAILRACE_SOCKET_URL",
    "TAILRACE_KEY_RING",
)


class Context:
    """The stack that a command works on, looked up when it is needed."""

    def __init__(self, stack: str | None, *, in_process: bool) -> None:
        configured = any(os.environ.get(name) for name in _LEADS_TO_A_STACK)
        self.stack = stack or (None if configured else DEFAULT_STACK)
        self._kind = "in-process" if in_process else None

    @property
    def found(self) -> Deployment:
        return find(self.stack)

    @property
    def transport(self) -> Transport:
        return find_transport(self._kind, stack=self.stack)


class JsonObject(click.ParamType):
    name = "json"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:
        try:
            read = json.loads(value)
        except (ValueError, RecursionError):
            read = None
        if not isinstance(read, dict):
            self.fail(f"{value!r} is no JSON object", param, ctx)
        return read


class Input(click.File):
    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:
        if value == "-" and sys.stdin is None:
            self.fail("standard input is closed", param, ctx)
        return super().convert(value, param, ctx)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tailrace")
@click.option(
    "--stack",
    metavar="NAME",
    help="The CloudFormation stack.  [default: what TAILRACE_… variables name, else"
    " tailrace]",
)
@click.option(
    "--in-process",
    is_flag=True,
    help="Use the tables directly, not through the publish function.",
)
@click.pass_context
def cli(context: click.Context, stack: str | None, *, in_process: bool) -> None:
    """Publish, watch and stop streams.

    Against AWS by your usual credentials and region; against a local AWS by
    AWS_ENDPOINT_URL.
    """
    context.obj = Context(stack, in_process=in_process)


@cli.command()
@click.argument("stream")
@click.argument("file", type=Input(encoding="utf-8"), default="-")
@click.option(
    "--json", "as_json", is_flag=True, help="Each line is a JSON value, not a text."
)
@click.option("--rate", type=click.FloatRange(min=0.01), help="Lines a second.")
@click.option("--meta", type=JsonObject(), help="A JSON object for those who watch.")
@click.option("--run", help="The id of the run.  [default: a new one]")
@click.option(
    "--resume",
    type=click.Choice(["continue", "restart"]),
    help="What to do if an earlier attempt has begun the run. `continue` skips the"
    " lines that are in.",
)
@click.option(
    "--on-active",
    type=click.Choice(["supersede", "fail"]),
    default="supersede",
    show_default=True,
    help="What to do if another run is active.",
)
@click.option(
    "--lease",
    type=click.IntRange(1, MAX_LEASE_SECONDS),
    default=30,
    show_default=True,
)
@click.option(
    "--min-interval", type=click.FloatRange(min=0), default=0.05, show_default=True
)
@click.pass_obj
def publish(context: Context, /, **options: Any) -> int:
    """Publish FILE (or standard input), line by line, as one run of STREAM.

    Each line is a chunk, with its line break; with --json, or from a file named
    *.jsonl, it is a JSON value. The end of the input completes the run.
    """
    from .publish import publish

    return publish(context.transport, **options)


@cli.command()
@click.argument("stream")
@click.option("--from-start", is_flag=True, help="Begin with the current run's start.")
@click.option("--run", help="Show this run, from its start, also if it is yet to come.")
@click.option("--follow", "-f", is_flag=True, help="Go on through later runs.")
@click.option("--json", "as_json", is_flag=True, help="Print each event as JSON.")
@click.option(
    "--token",
    envvar="TAILRACE_TOKEN",
    show_envvar=True,
    help="Use this token, and mint none.",
)
@click.option("--url", help="Where to connect.  [default: as the stack says]")
@click.pass_obj
def tail(
    context: Context, /, token: str | None, url: str | None, **options: Any
) -> int:
    """Show STREAM as it is written, until its run ends.

    Chunks go to standard output, everything else to standard error.
    """
    from .tail import tail

    if url is None:
        url = context.found.socket_url
    if not url:
        raise Invalid("the socket's URL is not known: give --url or --stack")
    return tail(url, token or _minting(context, options["stream"]), **options)


def _minting(context: Context, stream: str) -> Any:
    from ..minting import mint_token

    def mint() -> str:
        return mint_token("tailrace-cli", read=[stream], stack=context.stack)

    mint()  # the consumer would go on asking, and say nothing
    return mint


@cli.command()
@click.argument("stream")
@click.option("--run", help="The run to cancel.  [default: the active one]")
@click.pass_obj
def cancel(context: Context, stream: str, run: str | None) -> int:
    """Stop the answer in STREAM, for everyone."""
    payload = {"operation": "cancel", "stream": stream}
    answer = context.transport.ask(payload if run is None else {**payload, "run": run})
    reason = answer["reason"]
    if reason == CANCELLED:
        click.echo(f"cancelled {answer['run']}")
    elif answer["run"] is None or reason is None:
        click.echo("nothing to cancel")
    else:
        click.echo(f"nothing to cancel: {answer['run']} is {reason}")
    return 0


@cli.command()
@click.argument("stream")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.pass_obj
def status(context: Context, stream: str, *, as_json: bool) -> int:
    """Show what goes on in STREAM."""
    from .status import status

    return status(context.transport, stream, as_json=as_json)


@cli.command()
@click.option("--sub", default="tailrace-cli", show_default=True, help="Who it is for.")
@click.option("--read", multiple=True, metavar="GRANT", help="May watch.  Repeatable.")
@click.option("--cancel", multiple=True, metavar="GRANT", help="May stop answers.")
@click.option("--send", multiple=True, metavar="GRANT", help="May ask.")
@click.option(
    "--expires-in",
    type=click.IntRange(1),
    default=900,
    show_default=True,
    help="Seconds.",
)
@click.option("--key", help="The key to sign with.  [default: the ring's current]")
@click.pass_obj
def token(context: Context, /, sub: str, **options: Any) -> int:
    """Mint a token for a browser, and print it.

    A GRANT is the name of a stream, or a prefix followed by * (all: *, or chat:*).
    """
    from ..minting import mint_token

    if not (options["read"] or options["cancel"] or options["send"]):
        raise click.UsageError("a token without grants is good for nothing: --read …")
    click.echo(mint_token(sub, **options, stack=context.stack))
    return 0


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command; say in a line what went wrong; return the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # where a terminal has no such sign
    try:
        code = cli.main(
            given or ["--help"], prog_name="tailrace", standalone_mode=False
        )
    except SystemExit:
        return 0  # of click: whoever reads our output has enough
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - it is told
        return _fail(error)
    return code if isinstance(code, int) else 0


def _fail(error: BaseException) -> int:
    failure = failures.explain(error)
    if failure is None:
        traceback.print_exception(error)
        click.echo("tailrace: this is a fault in tailrace; please report it", err=True)
        return 1
    mark = click.style("tailrace:", fg="red", bold=True)
    click.echo(f"{mark} {failure.line}", err=True)
    if failure.hint is not None:
        click.echo(f"  {click.style('hint:', dim=True)} {failure.hint}", err=True)
    return failure.code
