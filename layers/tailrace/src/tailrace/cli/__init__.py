"""The command `tailrace`: publish, tail, cancel, status, token.

Exit codes:

    0    done; of `tail`: the run completed
    1    something unforeseen
    2    wrong usage, or something malformed
    3    no such stack, not logged in, or not allowed
    4    the run ended otherwise: failed, cancelled, superseded, taken over, lost
    5    somebody else is writing
    6    AWS does not answer
    130  interrupted
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command, and exit with its code."""
    try:
        import click  # noqa: F401
        import rich  # noqa: F401
        import websockets  # noqa: F401
    except ImportError as missing:
        sys.stderr.write(
            f"tailrace: {missing.name} is not installed\n"
            "  try: pip install 'tailrace[cli]'\n"
        )
        sys.exit(1)
    from .app import run

    sys.exit(run())
