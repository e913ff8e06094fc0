"""What template.yaml says of the functions and of the change feed."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]


class _Loader(yaml.SafeLoader):
    """Reads CloudFormation's tags as the plain values behind them."""


def _plain(loader: _Loader, _: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.ScalarNode):
        return loader.construct_scalar(node)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    assert isinstance(node, yaml.MappingNode)
    return loader.construct_mapping(node, deep=True)


_Loader.add_multi_constructor("!", _plain)


@cache
def template() -> dict[str, Any]:
    text = (ROOT / "template.yaml").read_text()
    loaded: dict[str, Any] = yaml.load(text, _Loader)  # noqa: S506 - it is a safe one
    return loaded


def parameter(name: str) -> Any:
    """Return the default of a parameter."""
    return template()["Parameters"][name]["Default"]


def memory(function: str) -> int:
    """Return how many MB a function has."""
    return int(resource(f"{function.capitalize()}Function")["MemorySize"])


def resource(name: str) -> dict[str, Any]:
    """Return the properties of a resource."""
    found: dict[str, Any] = template()["Resources"][name]["Properties"]
    return found
