"""The clock of the engine and the discovery hub; tests pass a clock that they advance by hand."""

from __future__ import annotations

import time
from typing import Protocol

__all__ = ["Clock", "SystemClock"]


class Clock(Protocol):
    """Time in seconds. Wall time is stored and shown; monotonic time measures intervals."""

    def now(self) -> float:
        """Return seconds since the epoch; may jump when the system clock is set."""

    def monotonic(self) -> float:
        """Return seconds since an arbitrary start; never goes back."""


class SystemClock:
    """The clocks of the operating system."""

    def now(self) -> float:
        """Return seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Return seconds of the monotonic clock."""
        return time.monotonic()
