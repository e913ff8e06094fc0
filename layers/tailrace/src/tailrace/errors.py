"""Every way in which Tailrace refuses or fails, under one root.

    TailraceError
     +-- Cancelled          somebody cancelled the run
     +-- Superseded         a later run is in the log
     +-- Fenced             another writer has the run, or this writer's name
     +-- StreamEnded        the run is over
     +-- Busy               somebody else's run or writer is alive    (retryable)
     +-- TooLarge           over a size limit
     +-- Invalid            malformed
     +-- Unavailable        AWS did not answer in time                (retryable)
     +-- Unauthorized       no valid token
     +-- Forbidden          the token does not grant it
     +-- UnknownConnection  the connection has no row                 (retryable)
     +-- TooMany            over a count limit
     +-- TooFast            over a rate                               (retryable)
     +-- Unsupported        the stack was deployed without what it needs

`code` is the word that PROTOCOL.md §5 fixes, the same on the socket and in the publish
API. The facts of a refusal are attributes, named as there.
"""

from __future__ import annotations

from typing import Any, ClassVar


class TailraceError(Exception):
    """The root. `retryable`: the same call may succeed later."""

    code: ClassVar[str] = "error"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message)
        self.message = message
        self.facts = facts
        for name, value in facts.items():
            setattr(self, name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.facts)

    def as_dict(self) -> dict[str, Any]:
        """Return code, message, `retryable` and facts: the `error` of the publish API,
        of a `synced` tail, and what an `error` frame has beside its type."""
        return {
            "code": self.code,
            "message": self.message,
            "retryable": self.retryable,
            **self.facts,
        }


class Cancelled(TailraceError):
    """The run was cancelled: stop, and stop paying for tokens."""

    code = "cancelled"
    run: str


class Superseded(TailraceError):
    """A later run (`run`) is in the log; this one can write no more."""

    code = "superseded"
    run: str


class Fenced(TailraceError):
    """Another writer claimed the run, or another producer uses this writer's name."""

    code = "fenced"
    run: str
    epoch: int


class StreamEnded(TailraceError):
    """The run is over, by `reason` (PROTOCOL.md §2.2)."""

    code = "ended"
    run: str
    reason: str


class Busy(TailraceError):
    """Somebody else's run or writer is alive until `until` (ms), or longer."""

    code = "busy"
    retryable = True
    run: str
    until: int


class TooLarge(TailraceError):
    """Over the size limit `limit`, in bytes."""

    code = "too_large"
    limit: int


class Invalid(TailraceError):
    """Malformed; the message says what and where."""

    code = "invalid"


class Unavailable(TailraceError):
    """AWS did not answer in time. What was asked may or may not have happened;
    repeating the same call settles it and doubles nothing. A producer that has given
    up says up to which `seq` all is in the log, and how many chunks are (`already`)."""

    code = "unavailable"
    retryable = True
    seq: int
    already: int


class NotNow(Unavailable):
    """Nothing failed, but the same call has to wait; so this is no outage."""


class Unauthorized(TailraceError):
    """No token, or one that is forged, expired, for somebody else or not yet valid."""

    code = "unauthorized"


class Forbidden(TailraceError):
    """The token is good, but grants no such thing for this stream."""

    code = "forbidden"


class UnknownConnection(TailraceError):
    """The connection has no row: it expired, or never passed the handshake."""

    code = "unknown_connection"
    retryable = True


class TooMany(TailraceError):
    """Over the count limit `limit`."""

    code = "too_many"
    limit: int


class TooFast(TailraceError):
    """More frames than a connection may send, `limit` a second for long."""

    code = "too_fast"
    retryable = True
    limit: int


class Unsupported(TailraceError):
    """The stack was deployed without what this needs."""

    code = "unsupported"


_BY_CODE: dict[str, type[TailraceError]] = {
    cls.code: cls for cls in TailraceError.__subclasses__()
}


def from_dict(error: dict[str, Any]) -> TailraceError:
    """Rebuild the exception that `as_dict` described; unknown codes give the root."""
    facts = {
        name: value
        for name, value in error.items()
        if name not in ("code", "message", "retryable")
    }
    cls = _BY_CODE.get(str(error.get("code")), TailraceError)
    return cls(str(error.get("message", "")), **facts)


def _rebuild(
    cls: type[TailraceError], message: str, facts: dict[str, Any]
) -> TailraceError:
    return cls(message, **facts)
