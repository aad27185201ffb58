"""A clock that a test moves by hand."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ManualClock"]


class ManualClock:
    """Wall time comes from `now`; monotonic time from `monotonic`, or from the system."""

    def __init__(self, now: Callable[[], float], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._monotonic = monotonic

    def now(self) -> float:
        return self._now()

    def monotonic(self) -> float:
        return self._monotonic()
