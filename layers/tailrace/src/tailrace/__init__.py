"""Tailrace: LLM answers that reach the browser whatever happens on the way."""

__version__ = "0.1.0"
