"""Tailrace: LLM answers that reach the browser whatever happens on the way.

    from tailrace import Producer

    with Producer("chat:42") as stream:
        for chunk in llm:
            stream.write(chunk)

Names are imported when they are first used, so that a function that needs only a part
pays only for it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .consumer.aio import consume as consume
    from .deployment import find_transport as find_transport
    from .errors import Busy as Busy
    from .errors import Cancelled as Cancelled
    from .errors import Fenced as Fenced
    from .errors import Forbidden as Forbidden
    from .errors import Invalid as Invalid
    from .errors import StreamEnded as StreamEnded
    from .errors import Superseded as Superseded
    from .errors import TailraceError as TailraceError
    from .errors import TooFast as TooFast
    from .errors import TooLarge as TooLarge
    from .errors import TooMany as TooMany
    from .errors import Unauthorized as Unauthorized
    from .errors import Unavailable as Unavailable
    from .errors import Unsupported as Unsupported
    from .minting import mint_token as mint_token
    from .minting import new_run as new_run
    from .producer.aio import AsyncProducer as AsyncProducer
    from .producer.base import HandOver as HandOver
    from .producer.base import PublicError as PublicError
    from .producer.job import Asked as Asked
    from .producer.job import job as job
    from .producer.sync import Producer as Producer

__version__ = "0.1.0"

_HOME = {
    "consumer.aio": ("consume",),
    "producer.aio": ("AsyncProducer",),
    "producer.base": ("HandOver", "PublicError"),
    "producer.job": ("Asked", "job"),
    "producer.sync": ("Producer",),
    "deployment": ("find_transport",),
    "minting": ("mint_token", "new_run"),
    "errors": (
        "Busy",
        "Cancelled",
        "Fenced",
        "Forbidden",
        "Invalid",
        "StreamEnded",
        "Superseded",
        "TailraceError",
        "TooLarge",
        "TooFast",
        "TooMany",
        "Unauthorized",
        "Unavailable",
        "Unsupported",
    ),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = ["__version__", *_MODULE_OF]  # noqa: PLE0604 - all are texts


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        value = getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)
    except ModuleNotFoundError as missing:
        if missing.name != "websockets":
            raise
        needs = f"{name} needs websockets; try: pip install 'tailrace[consume]'"
        raise ModuleNotFoundError(needs, name=missing.name) from None
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
