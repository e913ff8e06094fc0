"""All WebSocket routes in one function, so that it is warm; and the queue of repairs.

Dispatches on the event type, which API Gateway sets; never on the route key, which a
client can name in its frame.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from tailrace import wiring
from tailrace.config import starts_in_lambda
from tailrace.errors import Forbidden, Unauthorized, Unavailable
from tailrace.frames import SUBPROTOCOL
from tailrace.telemetry import Telemetry

if TYPE_CHECKING:
    from tailrace.session import Session

BEARER = "bearer."
STATUSES = {Unauthorized.code: 401, Forbidden.code: 403, Unavailable.code: 503}

telemetry = Telemetry()


@cache
def session() -> Session:
    return wiring.session(telemetry)


if starts_in_lambda():
    # The start has more CPU than an event, and SnapStart keeps what it built.
    session()


@telemetry.wrap
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    if "Records" in event:  # of the queue: API Gateway's events have none
        return repair(event)
    about = event["requestContext"]
    connection = about["connectionId"]
    kind = about["eventType"]
    if kind == "CONNECT":
        return connect(connection, event)
    if kind == "DISCONNECT":
        session().disconnect(connection)
    elif kind == "MESSAGE":
        session().receive(connection, event.get("body"))
    return {"statusCode": 200}


def repair(event: dict[str, Any]) -> dict[str, Any]:
    from tailrace.adapters.sqs import decode

    for one in decode(event):
        wiring.chats(telemetry).look_after(one)
    return {}


def connect(connection: str, event: dict[str, Any]) -> dict[str, Any]:
    headers = {
        name.lower(): value for name, value in (event.get("headers") or {}).items()
    }
    offered = [
        name.strip() for name in headers.get("sec-websocket-protocol", "").split(",")
    ]
    bearers = [name.removeprefix(BEARER) for name in offered if name.startswith(BEARER)]
    query = event.get("queryStringParameters") or {}
    try:
        session().connect(
            connection,
            bearers[0] if bearers else query.get("token"),
            headers.get("origin"),
        )
    except (Unauthorized, Forbidden, Unavailable) as refusal:
        telemetry.refused(refusal)
        status = STATUSES[refusal.code]
        telemetry.count(f"HandshakesRefused{status}", 1)
        return {"statusCode": status}
    if SUBPROTOCOL in offered:
        # Only this one: the other is the token.
        return {"statusCode": 200, "headers": {"Sec-WebSocket-Protocol": SUBPROTOCOL}}
    return {"statusCode": 200}
