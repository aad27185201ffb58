"""Comparison of tool calls by name and by the value of their JSON arguments."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mirror_collector.exchange import ToolCall

__all__ = ["same_calls"]


def same_calls(first: tuple[ToolCall, ...], second: tuple[ToolCall, ...]) -> bool | None:
    """Whether two answers have equal calls in equal order; None only if neither has a call."""
    if not first and not second:
        return None
    if len(first) != len(second):
        return False
    return all(
        one.name == other.name and _same_json(one.arguments, other.arguments)
        for one, other in zip(first, second, strict=True)
    )


def _same_json(first: str, second: str) -> bool:
    """Whether two JSON texts have equal values, regardless of key order, spacing and number format."""
    if first == second:
        return True
    try:
        return _equal(json.loads(first, parse_float=Decimal), json.loads(second, parse_float=Decimal))
    except (ArithmeticError, RecursionError, ValueError):
        return False


def _equal(first: Any, second: Any) -> bool:
    """Compare two JSON values; unlike in Python, true and 1 are different."""
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(
            _equal(value, second[key]) for key, value in first.items()
        )
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(_equal, first, second))
    if isinstance(first, bool) or isinstance(second, bool):
        return first is second
    return bool(first == second)
