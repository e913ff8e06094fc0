"""Through the publish function, from wherever AWS can be reached."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ..adapters.calls import AwsClock, attempt
from ..errors import Unavailable, from_dict
from ..rules import OnActive, Reason
from ..writers import Answer


class NoAnswer(Unavailable):
    """The function answered nothing of the publish API: it crashed, or is another."""


class PublishFunction:
    """Through the publish function: its caller needs `lambda:InvokeFunction` on it, and
    nothing else. `client`: a boto3 Lambda client made with `adapters.calls.config`."""

    def __init__(self, client: Any, function: str) -> None:
        self._client = client
        self._function = function
        self._clock = AwsClock()
        self._clock.watch(client)

    def clock(self) -> int:
        return self._clock()

    def open(
        self,
        stream: str,
        run: str,
        writer: str,
        *,
        on_active: OnActive,
        lease: int,
        meta: dict[str, Any] | None,
    ) -> Answer:
        return self._call(
            "open",
            stream,
            run,
            writer,
            on_active=on_active,
            lease=lease,
            **({} if meta is None else {"meta": meta}),
        )

    def claim(
        self, stream: str, run: str, writer: str, *, seq: int | None, lease: int
    ) -> Answer:
        at = {} if seq is None else {"seq": seq}
        return self._call("claim", stream, run, writer, lease=lease, **at)

    def append(
        self, stream: str, run: str, writer: str, seq: int, texts: Sequence[str]
    ) -> Answer:
        head = _payload("append", stream, run, writer, seq=seq)
        # The chunks are JSON already.
        return self._answer(f'{head[:-1]},"chunks":[{",".join(texts)}]}}')

    def end(
        self,
        stream: str,
        run: str,
        writer: str,
        seq: int,
        reason: Reason,
        message: str | None,
    ) -> Answer:
        said = {} if message is None else {"message": message}
        return self._call("end", stream, run, writer, seq=seq, reason=reason, **said)

    def renew(
        self, stream: str, run: str, writer: str, *, lease: int, handed_over: bool
    ) -> Answer:
        return self._call(
            "renew", stream, run, writer, lease=lease, handed_over=handed_over
        )

    def ask(self, payload: dict[str, Any]) -> dict[str, Any]:
        answer = self._invoke(json.dumps(payload))
        if answer.get("stream") != payload.get("stream"):
            raise self._none()
        return answer

    def _call(
        self, operation: str, stream: str, run: str, writer: str, **arguments: Any
    ) -> Answer:
        return self._answer(_payload(operation, stream, run, writer, **arguments))

    def _answer(self, payload: str) -> Answer:
        answer = self._invoke(payload)
        try:
            return Answer(
                run=answer["run"],
                next=answer["next"],
                epoch=answer.get("epoch", 0),
                already=answer.get("already", 0),
            )
        except KeyError:
            raise self._none() from None

    def _none(self) -> NoAnswer:
        return NoAnswer(
            f"function {self._function!r} answers as no publish function does"
        )

    def _invoke(self, payload: str) -> dict[str, Any]:
        def invoke() -> tuple[Any, bytes]:
            response = self._client.invoke(
                FunctionName=self._function, Payload=payload.encode()
            )
            return response, response["Payload"].read()

        response, body = attempt(invoke)
        answer = _read(body)
        if "FunctionError" in response:
            # The type only: what a function says of its failure may quote anything.
            kind = answer.get("errorType")
            why = f" ({kind})" if isinstance(kind, str) else ""
            raise NoAnswer(f"function {self._function!r} crashed or timed out{why}")
        if isinstance(error := answer.get("error"), dict):
            raise from_dict(error)
        return answer


def _payload(
    operation: str, stream: str, run: str, writer: str, **arguments: Any
) -> str:
    return json.dumps(
        {
            "operation": operation,
            "stream": stream,
            "run": run,
            "writer": writer,
            **arguments,
        }
    )


def _read(body: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}
