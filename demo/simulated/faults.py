"""Faults that can be injected into a running simulated server."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import random

__all__ = ["NO_FAULT", "Fault", "FaultBoard", "FaultError", "FaultMode"]


class FaultMode(Enum):
    """The effect on a request that the fault hits."""

    NONE = "none"
    ERROR = "error"
    """The response is a 500, sent at once."""
    SLOW = "slow"
    """The answer takes ten times as long as configured, and at least 100 ms to the first token."""
    HANG = "hang"
    """No response is sent; the connection closes when the fault is changed."""
    GIBBERISH = "gibberish"
    """The response is a 200 with random letter sequences."""
    REFUSE_READ = "refuse_read"
    """The body is not read, so a large upload stalls; the connection closes when the fault is changed."""
    CUT_STREAM = "cut_stream"
    """The connection closes halfway through the answer."""


class FaultError(ValueError):
    """An invalid fault; the message names the allowed values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A fault and the share of requests that it hits, in [0, 1]."""

    mode: FaultMode
    rate: float = 1.0

    @classmethod
    def parse(cls, document: object) -> Fault:
        """Return the fault of a JSON document ``{"mode": ..., "rate": 0..1}``.

        Raises:
            FaultError: The mode or a field is unknown, or the rate is outside 0..1.
        """
        if not isinstance(document, dict):
            raise FaultError('the body must be a JSON object {"mode": ..., "rate": 0..1}')
        unknown = sorted(set(document) - {"mode", "rate"})
        if unknown:
            raise FaultError(f"unknown field {unknown[0]!r}; allowed: mode, rate")
        rate = document.get("rate", 1.0)
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate <= 1:
            raise FaultError(f"rate {rate!r}; allowed: a number from 0 to 1")
        try:
            mode = FaultMode(document.get("mode"))
        except ValueError as error:
            allowed = ", ".join(known.value for known in FaultMode)
            raise FaultError(f"mode {document.get('mode')!r}; allowed: {allowed}") from error
        return cls(mode=mode, rate=float(rate))

    def document(self) -> dict[str, Any]:
        """Return the JSON document that ``parse`` reads."""
        return {"mode": self.mode.value, "rate": self.rate}


NO_FAULT: Final = Fault(mode=FaultMode.NONE)


class FaultBoard:
    """The active fault; requests that the fault holds wait until the fault changes or the server stops."""

    def __init__(self, rng: random.Random, fault: Fault = NO_FAULT) -> None:
        self._rng = rng
        self._fault = fault
        self._changed = asyncio.Event()
        self._closed = False

    @property
    def fault(self) -> Fault:
        """The active fault."""
        return self._fault

    def put(self, fault: Fault) -> None:
        """Activate a fault and release every request that the previous one held."""
        self._fault = fault
        self._release()

    def close(self) -> None:
        """Release every held request and hold none from now on, because the server is stopping."""
        self._closed = True
        self._release()

    def draw(self) -> FaultMode:
        """Return the effect on the next request, drawn at the fault's rate."""
        fault = self._fault
        if fault.mode is FaultMode.NONE or self._rng.random() >= fault.rate:
            return FaultMode.NONE
        return fault.mode

    async def wait_for_change(self) -> None:
        """Wait until the active fault changes; return at once after ``close``."""
        if not self._closed:
            await self._changed.wait()

    def _release(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
