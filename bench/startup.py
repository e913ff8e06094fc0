"""How long each function takes to start, beside one that only makes its boto3 clients.

A function's start is its imports and what it builds before its first event; the other
is the least that anything on AWS could do. Both run in fresh processes, one after the
other, so that what else the machine does falls on both.

The functions run as they are built: the layer's files, and of other packages only what
the Lambda runtime brings.

    .venv/bin/python -m bench.startup [rounds] [--keep]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
from pathlib import Path

from bench import kept
from demo.local_aws import PYTHON, ROOT
from demo.stack import build

CLIENTS = {
    "websocket": ["dynamodb", "apigatewaymanagementapi", "secretsmanager"],
    "publish": ["dynamodb", "apigatewaymanagementapi"],
    "fanout": ["dynamodb", "apigatewaymanagementapi"],
}

FLOOR = """
import time; begun = time.perf_counter()
import boto3
from botocore.config import Config
config = Config(connect_timeout=1, read_timeout=3, retries={"total_max_attempts": 1})
for name in %r:
    boto3.client(name, endpoint_url="https://example.invalid", config=config)
print(time.perf_counter() - begun)
"""
OURS = """
import sys, time; begun = time.perf_counter()
sys.path.insert(0, %r)
import app
print(time.perf_counter() - begun)
"""
ENVIRONMENT = {
    "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
    "AWS_ACCESS_KEY_ID": "none",
    "AWS_SECRET_ACCESS_KEY": "none",
    "AWS_DEFAULT_REGION": "us-east-1",
    "TAILRACE_LOG_TABLE": "Log",
    "TAILRACE_STATE_TABLE": "State",
    "TAILRACE_KEY_RING_ARN": "KeyRing",
    "TAILRACE_CONNECTIONS_URL": "https://example.invalid/v1",
    "TAILRACE_FANOUT_FUNCTION": "tailrace-fanout",
    "TAILRACE_ORIGINS": "*",
    "POWERTOOLS_SERVICE_NAME": "tailrace",
    "POWERTOOLS_METRICS_NAMESPACE": "Tailrace",
}


def start(code: str, layer: Path) -> float:
    """Return the milliseconds that a fresh process says it took."""
    done = subprocess.run(
        [PYTHON, "-c", code],
        env={
            **{k: v for k, v in os.environ.items() if not k.startswith("PYTHON")},
            **ENVIRONMENT,
            "PYTHONPATH": str(layer),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.startup")
    parser.add_argument("rounds", type=int, nargs="?", default=15)
    parser.add_argument("--keep", action="store_true")
    given = parser.parse_args()
    layer = build().parent / "TailraceLayer" / "python"
    print(f"{'function':10} {'floor ms':>9} {'ours ms':>9} {'ratio':>6}")
    functions = {}
    for name, clients in CLIENTS.items():
        floor = FLOOR % clients
        ours = OURS % str(ROOT / "functions" / name)
        for code in (floor, ours):  # byte code and page cache
            start(code, layer)
        pairs = [(start(floor, layer), start(ours, layer)) for _ in range(given.rounds)]
        low = statistics.median(pair[0] for pair in pairs)
        high = statistics.median(pair[1] for pair in pairs)
        ratio = statistics.median(pair[1] / pair[0] for pair in pairs)
        functions[name] = {
            "floor": round(low),
            "ours": round(high),
            "ratio": round(ratio, 3),
        }
        print(f"{name:10} {low:9.0f} {high:9.0f} {ratio:6.2f}")
    print(json.dumps({name: one["ratio"] for name, one in functions.items()}))
    if given.keep:
        found = {"rounds": given.rounds, "functions": functions}
        kept.save("startup", "python -m bench.startup --keep", found)


if __name__ == "__main__":
    main()
