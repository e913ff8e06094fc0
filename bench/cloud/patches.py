"""What the package asks of its surroundings, led to the cloud: the time, threads, the
socket under a push, standard output, the environment.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import urllib3

from tailrace import deployment, wiring
from tailrace.adapters import background

if TYPE_CHECKING:
    from .cloud import Cloud

RING = {"current": "k1", "k1": "a key of the bench, good for nothing at all"}
KEY_RING = "arn:aws:secretsmanager:us-east-1:000000000000:secret:KeyRing"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_REGION": "us-east-1",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    "TAILRACE_LOG_TABLE": "Log",
    "TAILRACE_STATE_TABLE": "State",
    "TAILRACE_KEY_RING_ARN": KEY_RING,
    "TAILRACE_PUBLISH_FUNCTION": "tailrace-publish",
    "TAILRACE_FANOUT_FUNCTION": "tailrace-fanout",
    "TAILRACE_CONNECTIONS_URL": "https://abcdef1234.execute-api.us-east-1.amazonaws.com/v1",
    "TAILRACE_ORIGINS": "*",
    "TAILRACE_RETENTION_HOURS": "72",
    "TAILRACE_LEASE_SECONDS": "30",
    "POWERTOOLS_SERVICE_NAME": "tailrace",
    "POWERTOOLS_METRICS_NAMESPACE": "Tailrace",
    "POWERTOOLS_LOG_LEVEL": "INFO",
}


@contextlib.contextmanager
def patched(cloud: Cloud) -> Iterator[None]:
    from .cloud import Printed

    clock = _Time(cloud)

    def pool(workers: int = 8, *_: Any, **__: Any) -> Pool:
        return Pool(cloud, workers)

    with contextlib.ExitStack() as stack:
        stack.enter_context(patch.dict(os.environ, cloud.environment))
        instead = {
            "time": (time, clock),
            "ThreadPoolExecutor": (concurrent.futures.ThreadPoolExecutor, pool),
        }
        for module in list(sys.modules.values()):
            if not getattr(module, "__name__", "").startswith("tailrace."):
                continue
            for name, (real, ours) in instead.items():
                if getattr(module, name, None) is real:
                    stack.enter_context(patch.object(module, name, ours))
        # Locks elsewhere are held across no wait; here one thread waits for another.
        stack.enter_context(patch.object(background, "threading", Threading(cloud)))
        stack.enter_context(
            patch.object(concurrent.futures, "ThreadPoolExecutor", pool)
        )
        stack.enter_context(
            patch.object(urllib3.HTTPConnectionPool, "urlopen", _urlopen(cloud))
        )
        stack.enter_context(patch.object(sys, "stdout", Printed(cloud, sys.stdout)))
        # What was made in an earlier world leads to it.
        wiring._session.cache_clear()
        wiring._made.cache_clear()
        stack.enter_context(patch.object(deployment, "_shared", [deployment._Shared()]))
        stack.enter_context(patch("boto3.DEFAULT_SESSION", None))
        yield
    wiring._session.cache_clear()


class _Time:
    """The module `time`, in the cloud's time."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    def time_ns(self) -> int:
        return self._cloud.kernel.now * 1_000

    def time(self) -> float:
        return self._cloud.kernel.now / 1_000_000

    def monotonic(self) -> float:
        return self._cloud.kernel.now / 1_000_000

    def sleep(self, seconds: float) -> None:
        self._cloud.kernel.wait(round(seconds * 1_000_000))


class Future:
    """What a task in a pool comes to."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._waiting: list[Callable[[], None]] = []
        self._outcome: tuple[Any, BaseException | None] | None = None

    def finish(self, result: Any, error: BaseException | None) -> None:
        self._outcome = (result, error)
        for wake in self._waiting:
            wake()

    def done(self) -> bool:
        return self._outcome is not None

    def result(self, timeout: float | None = None) -> Any:
        if self._outcome is None:
            self._cloud.kernel.park(self._waiting.append)
        assert self._outcome is not None
        result, error = self._outcome
        if error is not None:
            raise error
        return result


class Pool:
    """A `ThreadPoolExecutor` of tasks of the process that submits them."""

    def __init__(self, cloud: Cloud, workers: int) -> None:
        self._cloud = cloud
        self._free = workers
        self._queue: deque[tuple[Any, Callable[[], Any], Future]] = deque()

    def submit(self, call: Callable[..., Any], *args: Any, **named: Any) -> Future:
        future = Future(self._cloud)
        process = self._cloud.kernel.process()
        self._queue.append((process, lambda: call(*args, **named), future))
        self._next()
        return future

    def shutdown(self, wait: bool = True, **_: Any) -> None: ...

    def _next(self) -> None:
        if not self._free or not self._queue:
            return
        self._free -= 1
        process, call, future = self._queue.popleft()
        results: list[Any] = []

        def done(error: BaseException | None) -> None:
            self._free += 1
            future.finish(results[0] if results else None, error)
            self._next()

        self._cloud.kernel.start(process, lambda: results.append(call()), done)


class Threading:
    """As much of `threading` as a publisher's pushes use."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    def Condition(self) -> Condition:  # noqa: N802
        return Condition(self._cloud)

    def Thread(  # noqa: N802
        self, *, target: Callable[[], None], name: str, daemon: bool
    ) -> Thread:
        return Thread(self._cloud, target)


class Thread:
    """A task of the process that starts it."""

    def __init__(self, cloud: Cloud, target: Callable[[], None]) -> None:
        self._cloud = cloud
        self._target = target

    def start(self) -> None:
        kernel = self._cloud.kernel
        kernel.start(kernel.process(), self._target)


class Condition:
    """Tasks take turns only where they wait, so that there is nothing to lock."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._waiting: list[Callable[[], None]] = []

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...

    def notify_all(self) -> None:
        waiting, self._waiting = self._waiting, []
        for wake in waiting:
            wake()

    def wait(self, timeout: float | None = None) -> None:
        def begin(wake: Callable[[], None]) -> None:
            woken = False

            def once() -> None:
                nonlocal woken
                if not woken:
                    woken = True
                    wake()

            self._waiting.append(once)
            if timeout is not None:
                self._cloud.kernel.after(round(timeout * 1_000_000), once)

        self._cloud.kernel.park(begin)

    def wait_for(self, what: Callable[[], bool], timeout: float) -> bool:
        kernel = self._cloud.kernel
        until = kernel.now + round(timeout * 1_000_000)
        while not what() and kernel.now < until:
            self.wait((until - kernel.now) / 1_000_000)
        return what()


class _Status:
    """As much of urllib3's answer as the gateway looks at."""

    def __init__(self, status: int) -> None:
        self.status = status


def _urlopen(cloud: Cloud) -> Callable[..., _Status]:
    def urlopen(pool: Any, method: str, url: str, **request: Any) -> _Status:
        if "/@connections/" not in url:
            raise RuntimeError(f"{method} {pool.host}{url} is not there")
        if method == "DELETE":
            return _Status(cloud.gateway.end(url))
        patience = pool.timeout.read_timeout
        status = cloud.gateway.post(url, request["body"], patience)
        if status is None:
            raise urllib3.exceptions.ReadTimeoutError(pool, url, "slow")
        return _Status(status)

    return urlopen
