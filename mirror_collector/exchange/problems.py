"""The text of several problems of one input (pure)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["join_problems"]


def join_problems(problems: Sequence[str], most: int) -> str:
    """Return the first `most` problems, and how many more there are, separated by semicolons."""
    rest = len(problems) - most
    more = [f"and {rest} more problem{'s' if rest != 1 else ''}"] if rest > 0 else []
    return "; ".join([*problems[:most], *more])
