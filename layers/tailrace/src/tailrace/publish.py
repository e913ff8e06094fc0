"""The publish API: the payload of `lambda:InvokeFunction` (PROTOCOL.md §4).

Checks what a caller sent, calls the log, and says what happened. A refusal is an answer
too, so that a caller in any language finds it in the payload.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import chunks as chunk_texts
from . import ids, onecall
from .errors import Invalid, TailraceError, Unavailable
from .log import Log
from .ports import Count, Gateway, State
from .positions import check_position
from .records import Record, check_message
from .replay import Replay
from .rules import Reason, ended_by

MAX_READ_BYTES = 1_000_000

Answer = dict[str, Any]


class Publish:
    """The operations of the publish function. `settle` waits, in Direct delivery, for
    the pushes of what a call has put, within a bound of its own. `on_refusal` is told
    what a call is refused by."""

    def __init__(
        self,
        log: Log,
        state: State,
        gateway: Gateway,
        *,
        count: Count = lambda name, value: None,
        on_refusal: Callable[[TailraceError], None] = lambda refusal: None,
        settle: Callable[[], Any] = lambda: None,
    ) -> None:
        self._log = log
        self._settle = settle
        self._state = state
        self._gateway = gateway
        self._count = count
        self._on_refusal = on_refusal
        self._operations: dict[str, Callable[[_Call], Answer]] = {
            "open": self._open,
            "claim": self._claim,
            "append": self._append,
            "end": self._end,
            "cancel": self._cancel,
            "renew": self._renew,
            "tail": self._tail,
            "read": self._read,
            "watchers": self._watchers,
            "delete": self._delete,
            "disconnect": self._disconnect,
        }

    def handle(self, payload: Any) -> Answer:
        """Answer one call; refusals and failures are answers with `error`."""
        answer = self._perform(payload)
        self._settle()
        return answer

    def _perform(self, payload: Any) -> Answer:
        try:
            if not isinstance(payload, dict):
                raise Invalid("payload: must be an object")
            call = _Call(payload)
            if "operation" not in payload:
                return self._one_call(call)
            operation = payload["operation"]
            if not isinstance(operation, str) or operation not in self._operations:
                raise Invalid(
                    f"operation: must be one of {', '.join(self._operations)}"
                )
            return self._operations[operation](call)
        except TailraceError as problem:
            self._on_refusal(problem)
            return {"error": problem.as_dict()}

    # ---- operations ------------------------------------------------------------------

    def _open(self, call: _Call) -> Answer:
        on_active = call.get("on_active", "supersede")
        if on_active not in ("supersede", "fail"):
            raise Invalid('on_active: must be "supersede" or "fail"')
        run = call.get("run")
        record = self._log.open(
            call.stream,
            call.writer,
            None if run is None else ids.check_run(run),
            on_active=on_active,
            lease=call.get("lease"),
            meta=call.get("meta"),
        )
        return _answer(
            record, seq=record.base, epoch=record.epoch, already=record.chunks_in
        )

    def _claim(self, call: _Call) -> Answer:
        record = self._log.claim(
            call.stream,
            call.run,
            call.writer,
            None if call.get("seq") is None else call.seq,
            lease=call.get("lease"),
        )
        return _answer(
            record, seq=record.seq, epoch=record.epoch, already=record.chunks_in
        )

    def _append(self, call: _Call) -> Answer:
        texts = call.texts
        record = self._log.append(call.stream, call.run, call.writer, call.seq, texts)
        self._count("ChunksAppended", len(texts))
        return _answer(record, seq=call.seq)

    def _end(self, call: _Call) -> Answer:
        record = self._log.end(
            call.stream,
            call.run,
            call.writer,
            call.seq,
            call.get("reason"),
            call.get("message"),
        )
        return _answer(record, seq=record.seq, reason=record.reason)

    def _cancel(self, call: _Call) -> Answer:
        run = None if call.get("run") is None else call.run
        record = self._log.cancel(call.stream, run)
        if record is None:
            return {"stream": call.stream, "run": run, "next": None, "reason": None}
        return _answer(record, reason=ended_by(record))

    def _renew(self, call: _Call) -> Answer:
        handed_over = call.get("handed_over", False)
        if not isinstance(handed_over, bool):
            raise Invalid("handed_over: must be true or false")
        record, lease = self._log.renew(
            call.stream,
            call.run,
            call.writer,
            lease=call.get("lease"),
            handed_over=handed_over,
        )
        return _answer(record, until=lease.until)

    def _tail(self, call: _Call) -> Answer:
        look = self._log.look(call.stream)
        tail = look.tail
        if tail is None or tail.expired(self._log.clock()):
            last = tail.last if tail else 0
            return {
                "stream": call.stream,
                "run": None,
                "next": last + 1,
                "tail": last,
                "active": False,
            }
        facts = {
            "tail": tail.last,
            "active": look.active,
            "seq": tail.seq,
            "kind": tail.kind,
            "writer": tail.writer,
            "epoch": tail.epoch,
            "index": tail.chunks_in,
            "at": tail.at,
        }
        if tail.reason is not None:
            facts["reason"] = tail.reason
        return _answer(tail, **facts)

    def _read(self, call: _Call) -> Answer:
        limit = call.get("limit", MAX_READ_BYTES)
        if type(limit) is not int or not 1 <= limit <= MAX_READ_BYTES:
            raise Invalid(f"limit: must be 1 to {MAX_READ_BYTES} bytes")
        position = check_position(call.get("run"), call.get("after"))
        replay = Replay(self._log, call.stream, position)
        frames: list[str] = []
        for piece in replay.slices():
            frame = piece.frame(replay=True)
            limit -= chunk_texts.size(frame)
            if limit < 0 and frames:
                break
            frames.append(frame)
        return {
            "stream": call.stream,
            "run": replay.run,
            "next": replay.tail + 1,
            # As texts: half an emoji, which JSON's escape carries, would kill
            # Lambda's runtime as a value.
            "slices": frames,
            "tail": replay.tail,
            "from": replay.start,
            "active": replay.active,
            "more": replay.more,
        }

    def _watchers(self, call: _Call) -> Answer:
        now = self._log.clock()
        subscribers = self._state.subscribers(call.stream)
        watching = {one.connection for one in subscribers if one.exp * 1000 > now}
        return {"stream": call.stream, "watchers": len(watching)}

    def _delete(self, call: _Call) -> Answer:
        return {"stream": call.stream, "deleted": self._log.delete(call.stream)}

    def _disconnect(self, call: _Call) -> Answer:
        sub = ids.check_sub(call.get("sub"))
        connections = self._state.connections_of(sub)
        failed: Unavailable | None = None
        for connection in connections:
            # Closed first: nothing reaches it any more, and by its rows a call that is
            # repeated finds it.
            try:
                self._gateway.disconnect(connection)
                self._state.remove_connection(connection, sub)
            except Unavailable as error:  # the others do not wait for it
                failed = error
        if failed is not None:
            raise failed
        return {"disconnected": len(connections)}

    def _one_call(self, call: _Call) -> Answer:
        stream = call.stream
        end = _end(call.get("end"))
        texts = [] if end and not call.get("chunks") else call.texts
        message, key, run = call.get("message"), call.get("key"), call.get("run")
        check_message(message)
        record = onecall.publish(
            self._log,
            stream,
            texts,
            run=None if run is None else ids.check_run(run),
            end=end,
            message=message,
            key=None if key is None else ids.check_key(key),
            lease=call.get("lease"),
        )
        self._count("ChunksAppended", len(texts))
        facts = {} if record.reason is None else {"reason": record.reason}
        return _answer(record, **facts)


class _Call:
    """The arguments of one call, checked as they are asked for."""

    def __init__(self, payload: dict[str, Any]) -> None:
        self._payload = payload

    def get(self, name: str, default: Any = None) -> Any:
        value = self._payload.get(name)
        return default if value is None else value

    @property
    def stream(self) -> str:
        return ids.check_stream(self._payload.get("stream"))

    @property
    def run(self) -> str:
        return ids.check_run(self._payload.get("run"))

    @property
    def writer(self) -> str:
        return ids.check_writer(self._payload.get("writer"))

    @property
    def seq(self) -> int:
        seq = self._payload.get("seq")
        if type(seq) is not int or not 1 <= seq < 1 << 53:
            raise Invalid("seq: must be a whole number from 1")
        return seq

    @property
    def texts(self) -> list[str]:
        chunks = self._payload.get("chunks")
        if not isinstance(chunks, list) or not chunks:
            raise Invalid("chunks: must be an array, not empty")
        return [chunk_texts.encode(chunk) for chunk in chunks]


def _end(given: Any) -> Reason | None:
    if given is None or given is False:
        return None
    if given is True or given == "completed":
        return "completed"
    if given == "error":
        return "error"
    raise Invalid('end: must be true, "completed" or "error"')


def _answer(record: Record, **facts: Any) -> Answer:
    return {
        "stream": record.stream,
        "run": record.run,
        "next": record.next,
        **facts,
    }
