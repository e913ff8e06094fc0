"""Producers: the code that writes a run, whatever happens to it."""

from __future__ import annotations

from .base import HandOver, PublicError
from .sync import Producer

__all__ = ["HandOver", "Producer", "PublicError"]
