"""Errors: what a caller in another process is told, and rebuilds."""

from __future__ import annotations

import pickle

import pytest

from tailrace import errors
from tailrace.errors import Busy, Fenced, Superseded, TailraceError


def test_facts_are_attributes() -> None:
    error = Busy("somebody is", run="r", until=7)
    assert (error.run, error.until, error.retryable) == ("r", 7, True)


# Of the protocol; the consumer has two more of its own.
CLASSES = [
    cls for cls in TailraceError.__subclasses__() if vars(errors).get(cls.__name__)
]


@pytest.mark.parametrize("cls", CLASSES)
def test_every_error_survives_the_way_to_a_caller(cls: type[TailraceError]) -> None:
    error = cls("why", run="r")
    rebuilt = errors.from_dict(error.as_dict())
    assert type(rebuilt) is cls
    assert (rebuilt.message, rebuilt.facts) == ("why", {"run": "r"})


def test_every_code_is_told_apart() -> None:
    codes = [cls.code for cls in CLASSES]
    assert len(set(codes)) == len(codes)


def test_an_unknown_code_is_still_an_error() -> None:
    rebuilt = errors.from_dict({"code": "from-the-future", "message": "?"})
    assert type(rebuilt) is TailraceError


def test_errors_can_be_pickled() -> None:
    again = pickle.loads(pickle.dumps(Fenced("x", run="r", epoch=2)))
    assert (type(again), again.epoch, str(again)) == (Fenced, 2, "x")
    assert isinstance(again, Fenced) and not isinstance(again, Superseded)
