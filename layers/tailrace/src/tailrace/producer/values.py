"""Chunks as jobs have them: text, JSON values, and the objects of LLM libraries."""

from __future__ import annotations

from typing import Any

from .. import chunks
from ..errors import Invalid


def encode(chunk: Any) -> str:
    """Return the JSON text of a chunk; `Invalid` for what has none.

    Pydantic models (of OpenAI, Anthropic and others), whatever has `to_dict`, and
    dataclasses become objects, also inside of lists and dicts.
    """
    try:
        return chunks.encode(chunk)
    except Invalid as refused:
        try:
            plain = chunks.plain(chunk)
        except RecursionError:
            raise refused from None
        except Exception as error:  # of pydantic, or whatever `to_dict` meets
            raise Invalid(f"chunk: not JSON ({type(error).__name__})") from error
        return chunks.encode(plain)
