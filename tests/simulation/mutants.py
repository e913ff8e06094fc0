"""Does the simulator bite? Known bugs, planted one at a time: `make mutants`.

Each is a text that stands once in a file, and what a mistake would make of it. The
package and the tests are copied, the copy is changed, and the simulation must fail
within 2,000 seeds.

    python -m tests.simulation.mutants [NAME …]
"""

# ruff: noqa: E501, RUF005, T201

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = "layers/tailrace/src/tailrace"
WORLD = "tests/simulation"
SEEDS, STEPS = 2_000, 600


RULES = {
    "delivery 1": "§7: nothing is pushed that is not in the log",
    "delivery 2": "§7: the fan-out reads subscriptions after the record exists, pushes in"
    " order, and fails for no client",
    "delivery 3": "§3.2, §3.4, §7: a subscription before the read, an answer without a hole",
    "delivery 4": "§3.3: a sync puts the subscriptions again and replays what is missing",
    "delivery 5": "§3.3, §3.5: what a consumer drops, holds and takes; `n` of unsubscribe",
    "delivery 6": "§7: Direct",
    "delivery 7": "§7: large audiences",
    "starting": "§3.7: a repeated `send` is one run",
    "rights": "§3.1, §5, §6: tokens, grants, frames that are none",
}
"""The rules of PROTOCOL.md beside §2.1 that have mutants."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """`rule`: what it breaks: `log N` (a rule of PROTOCOL.md §2.1; 0: the put itself), or
    a name of `RULES`."""

    name: str
    rule: str
    file: str
    was: str
    becomes: str


def _in(file: str, name: str, rule: str, was: str, becomes: str) -> Mutant:
    return Mutant(name, rule, f"{PACKAGE}/{file}", was, becomes)


MUTANTS = (
    # ---- the put ----------------------------------------------------------------------
    _in(
        "adapters/memory.py",
        "a put has no condition",
        "log 0",
        "            if winner is None:\n                records[record.seq] = record",
        "            winner = None\n            if True:\n"
        "                records[record.seq] = record",
    ),
    _in(
        "producer/core.py",
        "an unresolved append is given up for the next one",
        "log 1",
        "        elif now < give_up_at:\n            self._retry_at",
        "        elif isinstance(self._call, Append):\n"
        "            self._call = None\n"
        "        elif now < give_up_at:\n            self._retry_at",
    ),
    _in(
        "rules.py",
        "own record is success, whatever it holds",
        "log 2",
        "    if winner.kind == put.kind and winner.chunks == put.chunks:",
        "    if True:",
    ),
    _in(
        "rules.py",
        "another writer's record is success",
        "log 2",
        "    if winner.run != put.run or winner.writer != put.writer:",
        "    if winner.run != put.run:",
    ),
    _in(
        "rules.py",
        "a cancel is told as a fence",
        "log 2",
        '    if record.kind == "end":\n        if record.reason == CANCELLED:',
        '    if record.kind == "end" and record.reason != CANCELLED:\n'
        "        if record.reason == CANCELLED:",
    ),
    _in(
        "rules.py",
        "every later record is told as a cancel",
        "log 2",
        "    if record.run > run:\n        return Superseded(",
        '    if record.run > run:\n        return Cancelled("x", run=run)\n'
        "    if record.run > run:\n        return Superseded(",
    ),
    _in(
        "rules.py",
        "an earlier run may be opened",
        "log 3",
        "    if tail is None or run > tail.run:\n        return None\n"
        "    if run < tail.run:\n        raise",
        "    if tail is None or run != tail.run:\n        return None\n"
        "    if run < tail.run:\n        raise",
    ),
    _in(
        "rules.py",
        "a run that has ended is opened again",
        "log 3",
        "    if not tail.active:\n        raise refusal(run, tail)\n"
        "    if tail.writer != writer:\n        raise Busy(",
        "    if not tail.active:\n        return None\n"
        "    if tail.writer != writer:\n        raise Busy(",
    ),
    _in(
        "log.py",
        "open does not check the lease",
        "log 3",
        "            look = self.look(stream)\n            tail, now",
        "            tail = self.store.last(stream)\n"
        "            look = Look(tail, bool(tail and tail.active), tail.at if tail else 0)\n"
        "            tail, now",
    ),
    _in(
        "rules.py",
        "a claim does not count",
        "log 4",
        '"claim", stamp, epoch=tail.epoch + 1)',
        '"claim", stamp, epoch=tail.epoch)',
    ),
    _in(
        "log.py",
        "a claim does not wait for the lease",
        "log 4",
        "                if until > now and not (row and row.handed_over):",
        "                if until > now + 10**9 and not (row and row.handed_over):",
    ),
    _in(
        "log.py",
        "a claim forgets the lease row",
        "log 4",
        "                until = rules.alive_until(tail, row.until if row else None)\n"
        "                if until > now and not (row",
        "                until = rules.alive_until(tail, None)\n"
        "                if until > now and not (row",
    ),
    _in(
        "records.py",
        "what is in is counted one short",
        "log 4",
        "        return self.index + (self.count if",
        "        return self.index + (self.count - 1 if",
    ),
    _in(
        "log.py",
        "a cancel hits whatever is active",
        "log 5",
        "            if tail is not None and tail.run == run:\n                if gone:",
        "            if tail is not None and tail.active:\n                run = tail.run\n"
        "            if tail is not None and tail.run == run:\n                if gone:",
    ),
    _in(
        "log.py",
        "a cancel ends what has ended",
        "log 5",
        "                if not tail.active:\n                    return tail\n"
        "                stamp = self._stamp(canceller",
        "                stamp = self._stamp(canceller",
    ),
    _in(
        "log.py",
        "a cancel that met somebody says it is done",
        "log 5",
        "                self._on_conflict(winner.kind)\n                # A race lost",
        "                return record\n                # A race lost",
    ),
    _in(
        "log.py",
        "the lease row does not keep alive",
        "log 6",
        "            until = rules.alive_until(tail, lease.until if lease else None)",
        "            until = rules.alive_until(tail, None)",
    ),
    _in(
        "log.py",
        "a clock counts that the read has set back",
        "log 6",
        "        return min(before, self.clock())",
        "        return before",
    ),
    _in(
        "log.py",
        "who looks never ends a run",
        "log 6",
        "            if until > now:\n                return Look(tail, active=True, "
        "until=until)\n            lease =",
        "            if until > 0:\n                return Look(tail, active=True, "
        "until=until)\n            lease =",
    ),
    _in(
        "log.py",
        "a silent run is renewed without a look at its tail",
        "log 6",
        "        tail = self._owned_tail(stream, run, writer)\n        seconds =",
        "        tail = self.store.last(stream)\n        assert tail\n        seconds =",
    ),
    _in(
        "log.py",
        "a lease is a tenth as long",
        "log 6",
        "        row = Lease(self.clock() + seconds * 1000, handed_over)",
        "        row = Lease(self.clock() + seconds * 100, handed_over)",
    ),
    _in(
        "rules.py",
        "times of leases are taken for seconds",
        "log 6",
        "    return max(tail.at + tail.lease * 1000, renewed_until or 0)",
        "    return max(tail.at + tail.lease * 100, renewed_until or 0)",
    ),
    _in(
        "rules.py",
        "a stream begins anew behind what expired",
        "log 7",
        "    seq = tail.next if tail else 1\n",
        "    seq = tail.next if tail and not tail.expired(stamp.at) else 1\n",
    ),
    _in(
        "rules.py",
        "a claim may follow what expired",
        "log 7",
        "    if tail is None or tail.expired(now):\n"
        '        raise StreamEnded("the run is not in the log", run=run, '
        'reason="expired")\n    if tail.run != run or (not',
        "    if tail is None:\n"
        '        raise StreamEnded("the run is not in the log", run=run, '
        'reason="expired")\n    if tail.run != run or (not',
    ),
    _in(
        "log.py",
        "a writer trusts what it knows for ever",
        "log 7",
        "            and self.clock() - known.at < self.retention * 500\n",
        "",
    ),
    _in(
        "log.py",
        "a caller's seq is not checked",
        "log 8",
        "            and known.next == seq\n",
        "            and True\n",
    ),
    _in(
        "onecall.py",
        "a key is forgotten",
        "log 9",
        '            self._writer = "call:" + hashlib.sha256(key.encode()).hexdigest()'
        "[:40]",
        '            self._writer = "call:" + log.new_writer()',
    ),
    _in(
        "onecall.py",
        "one call writes into a producer's run",
        "log 9",
        "        if not tail.shared:\n            raise Busy(",
        "        if False:\n            raise Busy(",
    ),
    _in(
        "onecall.py",
        "a repeated call looks behind the tail only",
        "log 9",
        "            for record in self._log.store.range(self._stream, self._start):",
        "            for record in self._log.store.range(self._stream, look.tail.next):",
    ),
    # ---- delivery ---------------------------------------------------------------------
    _in(
        "session.py",
        "a cancel is shown before it is in the log",
        "delivery 1",
        "        record = self._log.cancel(frame.stream, frame.run)\n",
        '        self._answer(connection.id, type="cancelled", stream=frame.stream, '
        'run=frame.run, reason="cancelled", n=frame.n)\n'
        "        record = self._log.cancel(frame.stream, frame.run)\n",
    ),
    Mutant(
        "the feed runs before the put",
        "delivery 1",
        f"{WORLD}/world.py",
        "        winner = self.log.put(record)\n        if winner is None:\n",
        "        winner = self.log.put(record)\n        if winner is not record:\n",
    ),
    Mutant(
        "the query for subscriptions is not consistent",
        "delivery 2",
        f"{WORLD}/world.py",
        "        found = self.state.subscribers(stream)\n",
        "        late = self.kernel.now - 500\n"
        "        found = [\n"
        "            one\n"
        "            for one in self.state.subscribers(stream)\n"
        "            if self.book.rows[stream, one.connection][2] < late\n"
        "        ]\n",
    ),
    _in(
        "delivery.py",
        "exp is not checked",
        "delivery 2",
        "    return one.exp * 1000\n",
        "    return one.exp * 1000 + 10**9\n",
    ),
    _in(
        "pushing.py",
        "a throttled push fails the batch",
        "delivery 2",
        '            self._count("PushesFailed", 1)\n',
        '            self._count("PushesFailed", 1)\n'
        '            raise RuntimeError("429")\n',
    ),
    _in(
        "delivery.py",
        "a client that was throttled fails its stream",
        "delivery 2",
        "        return Delivered(failed, rest)",
        "        return Delivered({*failed, *(queues and streams)}, rest)",
    ),
    _in(
        "fanout.py",
        "a stream is reported from its last record on",
        "delivery 2",
        "            first.setdefault(record.stream, change.sequence_number)",
        "            first[record.stream] = change.sequence_number",
    ),
    _in(
        "fanout.py",
        "what failed is not reported",
        "delivery 2",
        "        return [number for stream, number in first.items() if stream in failed]",
        "        return []",
    ),
    _in(
        "delivery.py",
        "a failed push is overtaken by the next slice",
        "delivery 2",
        "            if outcome is Push.DONE:\n                pushed += 1\n",
        "            pushed += 1\n"
        "            if outcome is not Push.GONE:\n"
        "                outcome = Push.DONE\n",
    ),
    _in(
        "delivery.py",
        "two pushes to one connection at a time",
        "delivery 2",
        "self._serve, queues.get(one, []), errands.get(one, []), deadline\n"
        "                )\n"
        "                for one in {**queues, **errands}\n",
        "self._serve, [part], errands.get(one, []), deadline\n"
        "                )\n"
        "                for one in {**queues, **errands}\n"
        "                for part in queues.get(one, [])\n",
    ),
    _in(
        "fanout.py",
        "the records of a batch are not in order",
        "delivery 2",
        "[by_seq[seq] for seq in sorted(by_seq)]",
        "[by_seq[seq] for seq in sorted(by_seq, reverse=True)]",
    ),
    _in(
        "adapters/memory.py",
        "a 410 drops whatever row is there",
        "delivery 2",
        "            if there is not None and there.n == subscription.n:\n"
        "                del rows",
        "            if there is not None:\n                del rows",
    ),
    _in(
        "slices.py",
        "slices are merged across a gap",
        "delivery 2",
        "        if record.seq != self.next or",
        "        if record.seq < self.next or",
    ),
    _in(
        "slices.py",
        "slices are merged beyond a frame",
        "delivery 2",
        "        if size > MAX_FRAME_BYTES:\n            return False\n        self._add",
        "        self._add",
    ),
    _in(
        "fanout.py",
        "a poisoned record fails the batch",
        "delivery 2",
        "            except Invalid:\n                record = None",
        "            except ZeroDivisionError:\n                record = None",
    ),
    _in(
        "session.py",
        "the log is read before the row is put",
        "delivery 3",
        "        there = self._put_subscription(connection.id, stream, n, "
        "connection.rights.exp)\n"
        "        replay = Replay(self._log, stream, position, compact, "
        "ahead=not budget.stopped)\n",
        "        replay = Replay(self._log, stream, position, compact, "
        "ahead=not budget.stopped)\n"
        "        there = self._put_subscription(connection.id, stream, n, "
        "connection.rights.exp)\n",
    ),
    _in(
        "session.py",
        "an answer goes on behind a failed push",
        "delivery 3",
        "                if pushed is not Push.DONE:",
        "                if pushed is Push.GONE:",
    ),
    _in(
        "replay.py",
        "a record that straddles the cursor is skipped",
        "delivery 3",
        "                record = record.behind(after)\n",
        "                expected = record.next\n                continue\n",
    ),
    _in(
        "replay.py",
        "a cursor of another run gets the current run",
        "delivery 3",
        "            or held.run != run\n",
        "            or held.run != run\n            or run != tail.run\n",
    ),
    _in(
        "replay.py",
        "an answer says that it is whole when it is not",
        "delivery 3",
        '        """Yield the slices from `start` to the tail that was found, in order."""'
        "\n",
        '        """Yield them."""\n        self.start = min(self.start + 1, self.tail)\n',
    ),
    _in(
        "session.py",
        "sync does not put the rows again",
        "delivery 4",
        "        # The row before the read, so that what is appended between is pushed.\n"
        "        there = self._put_subscription(connection.id, stream, n, "
        "connection.rights.exp)\n",
        "        there = None\n",
    ),
    _in(
        "session.py",
        "sync replays nothing",
        "delivery 4",
        "        if not budget.stopped:\n            for piece in replay.slices():",
        "        if False:\n            for piece in replay.slices():",
    ),
    _in(
        "adapters/memory.py",
        "an older unsubscribe removes a newer row",
        "delivery 5",
        "            if there is not None and there.n <= n:",
        "            if there is not None:",
    ),
    Mutant(
        "the consumer does not drop what it has",
        "delivery 5",
        f"{WORLD}/consumers.py",
        "            first = reader.cursor[1] + 1\n",
        "            pass\n",
    ),
    Mutant(
        "the consumer takes a later run over a gap",
        "delivery 5",
        f"{WORLD}/consumers.py",
        'return "take" if "open" in slice and seq == at + 1 else "hold"',
        'return "take" if "open" in slice and seq > at else "hold"',
    ),
    Mutant(
        "the consumer takes what is ahead",
        "delivery 5",
        f"{WORLD}/consumers.py",
        '            if seq > at + 1:\n                return "hold"\n',
        "",
    ),
    # ---- direct delivery --------------------------------------------------------------
    _in(
        "direct.py",
        "a publisher pushes before it puts",
        "delivery 1",
        "        winner = self._store.put(record)\n",
        "        self._tell(record)\n        winner = self._store.put(record)\n",
    ),
    _in(
        "direct.py",
        "a publisher begins a batch while another is under way",
        "delivery 6",
        "            queue.pushing, queue.due = True, now + self._interval",
        "            queue.pushing, queue.due = False, now + self._interval",
    ),
    _in(
        "direct.py",
        "a publisher's list of subscribers is five seconds old",
        "delivery 6",
        "        return self._known(stream, LIST_MS)",
        "        return self._known(stream, 5 * LIST_MS)",
    ),
    _in(
        "session.py",
        "who was not on a publisher's list is not told to ask again",
        "delivery 6",
        "        if new and self._direct and replay.at > self._clock() - RECENT_MS:",
        "        if False:",
    ),
    _in(
        "direct.py",
        "whom a publisher could not look up is forgotten",
        "delivery 6",
        "                if again:",
        "                if again and now < 0:",
    ),
    _in(
        "direct.py",
        "what is put during a push is forgotten",
        "delivery 6",
        "        return self.due(stream)",
        "        return None",
    ),
    _in(
        "direct.py",
        "what is put during a push is dropped",
        "delivery 6",
        "                queue.pushing = False\n",
        "                queue.pushing = False\n                queue.records = {}\n",
    ),
    _in(
        "direct.py",
        "a put is pushed by the append itself",
        "delivery 6",
        "            return None if known else queue.due",
        "            due = None if known else queue.due\n"
        "        return due if due is None else self.push(record.stream)",
    ),
    _in(
        "transports/in_process.py",
        "an append waits for its pushes",
        "delivery 6",
        "        return _of(self._log.append(stream, run, writer, seq, texts))",
        "        record = self._log.append(stream, run, writer, seq, texts)\n"
        "        self._settle(stream)\n        return _of(record)",
    ),
    # ---- large audiences --------------------------------------------------------------
    _in(
        "delivery.py",
        "a batch ends before its shares",
        "delivery 7",
        "                if not done():",
        "                if not done:",
    ),
    _in(
        "delivery.py",
        "a share that was refused is forgotten",
        "delivery 7",
        "                    self.push(share)\n",
        "",
    ),
    _in(
        "delivery.py",
        "what lies behind the first share is forgotten",
        "delivery 7",
        "        while some := list(islice(subscriptions, self._share)):",
        "        if some := list(islice(subscriptions, self._share)):",
    ),
    _in(
        "fanout.py",
        "a large audience is not left alone",
        "delivery 7",
        "        if left > 0:",
        "        if left > 9**9:",
    ),
    _in(
        "delivery.py",
        "a slow connection is passed over for minutes",
        "delivery 2",
        "PASS_OVER_MS = 10_000",
        "PASS_OVER_MS = 300_000",
    ),
    _in(
        "delivery.py",
        "a connection is passed over that was slow but once",
        "delivery 2",
        "        again = one.slow_until > now - PASS_OVER_MS",
        "        again = True",
    ),
    # ---- starting ---------------------------------------------------------------------
    _in(
        "chat.py",
        "a repeated send opens another run",
        "starting",
        '        writer = f"send.{asked[:40]}"',
        '        writer = f"send.{asked[:20]}{self._log.new_writer()}"',
    ),
    # ---- rights -----------------------------------------------------------------------
    _in(
        "session.py",
        "grants are not checked at subscribe",
        "rights",
        "        if not tokens.granted(connection.rights.read, stream):",
        "        if not connection.rights.sub:",
    ),
    _in(
        "session.py",
        "an expired connection is still served",
        "rights",
        "        if connection.rights.exp <= self._now():\n"
        '            raise Unauthorized("token: expired")\n',
        "",
    ),
    _in(
        "frames.py",
        "a frame that nests too deep is an error of the function",
        "rights",
        "    except (ValueError, RecursionError):\n"
        '        raise Invalid("frame: not JSON") from None\n',
        "    except ZeroDivisionError:\n"
        '        raise Invalid("frame: not JSON") from None\n',
    ),
    _in(
        "session.py",
        "frames are logged",
        "rights",
        "            self._handle(connection, frames.decode(body))\n",
        "            import logging\n\n"
        '            logging.warning("frame: %s", body)\n'
        "            self._handle(connection, frames.decode(body))\n",
    ),
)


def plant(mutant: Mutant, root: Path) -> None:
    """Change a copy of the repository."""
    file = root / mutant.file
    source = file.read_text()
    if source.count(mutant.was) != 1:
        raise LookupError(f"{mutant.name}: {mutant.file} has its text not just once")
    file.write_text(source.replace(mutant.was, mutant.becomes))


def hunt(mutant: Mutant | None, seeds: int = SEEDS) -> str | None:
    """Simulate a copy with the mutant; return what was found, if anything was."""
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        ignore = shutil.ignore_patterns("__pycache__")
        for part in (PACKAGE, WORLD):
            shutil.copytree(ROOT / part, root / part, ignore=ignore)
        if mutant is not None:
            plant(mutant, root)
        source = str(root / PACKAGE.rpartition("/")[0])
        done = subprocess.run(
            [sys.executable, "-m", "tests.simulation", "--quick"]
            + [f"--seeds={seeds}", f"--steps={STEPS}"],
            cwd=root,
            env={**os.environ, "PYTHONPATH": f"{source}:{root}"},
            capture_output=True,
            text=True,
            check=False,
        )
    found = re.search(r"seed \d+ fails: .*", done.stdout)
    if done.returncode and not found and "never reached" not in done.stdout:
        raise RuntimeError(done.stdout + done.stderr)
    return found[0] if found else None


def main(names: list[str]) -> int:
    chosen = [one for one in MUTANTS if not names or one.name in names]
    survivors = []
    for number, mutant in enumerate(chosen, 1):
        began = time.monotonic()
        found = hunt(mutant)
        spent = time.monotonic() - began
        print(f"{number:>3} {mutant.rule:<11} {mutant.name}: ", end="")
        print(f"{found[:110] if found else 'SURVIVES'} ({spent:.0f} s)", flush=True)
        if found is None:
            survivors.append(mutant.name)
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} caught")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
