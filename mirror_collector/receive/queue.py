"""The queue between the doors and the pairing.

Bounded in legs and in bytes. Overflow policy: the newest leg is dropped and counted as ``queue_full``, so
that what is already here, whose other half is probably on its way, stays whole.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mirror_collector.exchange import Exposures, Rejection, RejectionReason

if TYPE_CHECKING:
    from mirror_collector.exchange import Exposure, Leg, Role, RouteName

__all__ = ["Intake", "IntakeLimits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeLimits:
    """How much may stand in the queue."""

    max_legs: int = 20_000
    max_bytes: int = 256 << 20
    max_routes: int = 1_000
    """Routes ever accepted; books are kept for each, so their number must end somewhere."""

    max_body: int = 1 << 20
    """Bytes kept of each body."""


class Intake:
    """Where the doors put legs and the pipeline takes them.

    Belongs to one event loop; not thread-safe.
    """

    def __init__(self, limits: IntakeLimits, known: frozenset[RouteName] = frozenset()) -> None:
        self.limits = limits
        self._routes = set(known)
        self._legs: deque[Leg] = deque()
        self._bytes = 0
        self._drops: Counter[str] = Counter()
        self._taken: Counter[tuple[RouteName, Role]] = Counter()
        self._exposures = Exposures()
        self._closed = False
        self._wake = asyncio.Event()

    def __len__(self) -> int:
        """Legs in the queue."""
        return len(self._legs)

    @property
    def queued_bytes(self) -> int:
        """Bytes the legs in the queue are accounted for."""
        return self._bytes

    @property
    def drops(self) -> Counter[str]:
        """What was dropped since `take_drops`, by reason."""
        return self._drops

    @property
    def finished(self) -> bool:
        """Whether it is closed and empty."""
        return self._closed and not self._legs

    def offer(self, leg: Leg) -> Rejection | None:
        """Take a leg in, or say why not; a refusal is counted."""
        if self._closed:
            return self.refuse(Rejection(reason=RejectionReason.STOPPING))
        if leg.route not in self._routes:
            if len(self._routes) >= self.limits.max_routes:
                return self.refuse(Rejection(reason=RejectionReason.TOO_MANY_ROUTES))
            self._routes.add(leg.route)
        if len(self._legs) >= self.limits.max_legs or self._bytes + leg.size > self.limits.max_bytes:
            return self.refuse(Rejection(reason=RejectionReason.QUEUE_FULL))
        self._taken[leg.route, leg.role] += 1
        self._legs.append(leg)
        self._bytes += leg.size
        self._wake.set()
        return None

    def expose(self, exposure: Exposure) -> None:
        """Take in that a user was exposed to a test; what finds no room is counted."""
        if self._closed:
            self.refuse(Rejection(reason=RejectionReason.STOPPING))
        else:
            self._exposures.add(exposure)

    def take_exposures(self) -> Exposures:
        """Return what was taken in since the last call."""
        taken, self._exposures = self._exposures, Exposures()
        if taken.lost:
            self._drops[RejectionReason.QUEUE_FULL.value] += taken.lost
        return taken

    def refuse(self, rejection: Rejection) -> Rejection:
        """Count something that is no leg, and hand it back."""
        self._drops[rejection.reason.value] += 1
        return rejection

    async def take(self, *, max_legs: int, max_bytes: int, wait: float) -> list[Leg]:
        """Return what is there, at most so much; wait up to `wait` seconds for the first leg.

        Empty after the wait, or once closed and empty.
        """
        if not self._legs and not self._closed:
            self._wake.clear()
            try:
                async with asyncio.timeout(wait):
                    await self._wake.wait()
            except TimeoutError:
                return []
        taken: list[Leg] = []
        size = 0
        while self._legs and len(taken) < max_legs and size < max_bytes:
            leg = self._legs.popleft()
            size += leg.size
            taken.append(leg)
        self._bytes -= size
        return taken

    def take_taken(self) -> Counter[tuple[RouteName, Role]]:
        """Legs taken in since the last call, those that still stand in the queue included.

        Counted here and not behind the queue: what a killed process had in it was received, and is lost.
        """
        taken, self._taken = self._taken, Counter()
        return taken

    def take_drops(self) -> Counter[str]:
        """What was dropped since the last call, by reason."""
        drops, self._drops = self._drops, Counter()
        return drops

    def close(self) -> None:
        """Take nothing more; what is in the queue can still be taken out."""
        self._closed = True
        self._wake.set()
