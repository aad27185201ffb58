"""Faults a running simulated server can be told to have, and which requests they hit."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import random

__all__ = ["NO_FAULT", "Fault", "FaultBoard", "FaultError", "FaultMode"]


class FaultMode(Enum):
    """What goes wrong for a request that is hit."""

    NONE = "none"
    ERROR = "error"
    """Answered 500 at once."""
    SLOW = "slow"
    """Ten times the configured times, at least 100 ms to the first token."""
    HANG = "hang"
    """The request is read and never answered; the connection closes when the fault is changed."""
    GIBBERISH = "gibberish"
    """Answered 200 with words of no language."""
    REFUSE_READ = "refuse_read"
    """The body is never read, so that a large upload stalls; closes when the fault is changed."""
    CUT_STREAM = "cut_stream"
    """The connection closes halfway through the answer."""


class FaultError(ValueError):
    """A fault that was asked for and does not exist; the message names what is allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A fault and the share (0..1) of requests it hits."""

    mode: FaultMode
    rate: float = 1.0

    @classmethod
    def parse(cls, document: object) -> Fault:
        """A fault from its JSON document ``{"mode": ..., "rate": 0..1}``.

        Raises:
            FaultError: unknown mode or field, or a rate outside 0..1.
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
        """The JSON document ``parse`` reads."""
        return {"mode": self.mode.value, "rate": self.rate}


NO_FAULT: Final = Fault(mode=FaultMode.NONE)


class FaultBoard:
    """The fault in force. Requests that hang wait here until it changes or the server stops."""

    def __init__(self, rng: random.Random, fault: Fault = NO_FAULT) -> None:
        self._rng = rng
        self._fault = fault
        self._changed = asyncio.Event()
        self._closed = False

    @property
    def fault(self) -> Fault:
        """What is in force now."""
        return self._fault

    def put(self, fault: Fault) -> None:
        """Put a fault in force and let go of every request the earlier one held."""
        self._fault = fault
        self._release()

    def close(self) -> None:
        """Let go of every held request and hold none from now on: the server is stopping."""
        self._closed = True
        self._release()

    def draw(self) -> FaultMode:
        """The fault of the next request."""
        fault = self._fault
        if fault.mode is FaultMode.NONE or self._rng.random() >= fault.rate:
            return FaultMode.NONE
        return fault.mode

    async def held(self) -> None:
        """Wait until the fault in force is changed."""
        if not self._closed:
            await self._changed.wait()

    def _release(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
