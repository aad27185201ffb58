"""Parsing of JSON from untrusted senders."""

from __future__ import annotations

import json
from typing import Any

import orjson

__all__ = ["load_json"]


def load_json(data: bytes) -> Any:
    """Return the value of a JSON text; None if it is invalid or nested too deeply."""
    try:
        return orjson.loads(data)
    except ValueError:
        pass
    try:
        # Slower, but accepts what orjson does not: lone surrogates, NaN, and invalid UTF-8 within strings.
        return json.loads(data.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
