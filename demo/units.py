"""Parses durations on the command lines of the demo."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["duration"]

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m)")
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0}


def duration(text: str) -> float:
    """Return the seconds of a duration such as ``250ms``, ``20s`` or ``1.5m``.

    Raises:
        ValueError: The text is not a number followed by ms, s or m.
    """
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise ValueError(
            f"{text!r} is not a duration; allowed: a number and ms, s or m, such as 250ms or 1.5m"
        )
    return float(found[1]) * _SECONDS[found[2]]
