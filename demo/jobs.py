"""Starting jobs as processes of their own, and ending them as a crash would."""

import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from demo.local_aws import ROOT


@dataclass(frozen=True)
class Job:
    run: str
    question: str
    process: subprocess.Popen[bytes]


@dataclass
class Jobs:
    """The jobs of one server, by stream. What they print goes to `log_file`;
    `tokens_per_second` is their model's pace."""

    environment: Mapping[str, str]
    log_file: Path
    tokens_per_second: float
    _latest: dict[str, Job] = field(default_factory=dict)
    _processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self, *, stream: str, run: str, question: str) -> None:
        """Start a job for a run; if the run was begun, it goes on behind what is in."""
        with self._lock, self.log_file.open("ab") as log:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "demo.job"),
                    *("--stream", stream, "--run", run, "--question", question),
                    *("--per-second", str(self.tokens_per_second)),
                ],
                cwd=ROOT,
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            self._latest[stream] = Job(run, question, process)
            living = [old for old in self._processes if old.poll() is None]
            self._processes = [*living, process]

    def restart(self, *, stream: str, run: str) -> bool:
        """Deliver the job once more, as a queue would; whether it is known."""
        job = self._latest.get(stream)
        if job is None or job.run != run:
            return False
        self.start(stream=stream, run=run, question=job.question)
        return True

    def kill(self, *, stream: str, run: str) -> bool:
        """Kill the job without a warning; whether it was alive."""
        job = self._latest.get(stream)
        if job is None or job.run != run or job.process.poll() is not None:
            return False
        job.process.kill()
        job.process.wait()
        return True

    def stop(self) -> None:
        """Kill what is left."""
        with self._lock:
            for process in self._processes:
                process.kill()
                process.wait()
