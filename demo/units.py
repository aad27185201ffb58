"""Durations as people type them on the demo's command lines."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["duration"]

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m)")
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0}


def duration(text: str) -> float:
    """Seconds of a duration with a unit: ``250ms``, ``20s``, ``1.5m``.

    Raises:
        ValueError: the text has no unit or is not a duration.
    """
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is not a duration; allowed: a number with a unit, as 250ms, 20s or 1.5m")
    return float(found[1]) * _SECONDS[found[2]]
