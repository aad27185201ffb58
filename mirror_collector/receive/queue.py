"""The queue between the receiving endpoints and the pipeline.

It is bounded in legs and in bytes. On overflow, the newest leg is dropped and counted as ``queue_full``: legs
already queued probably have a counterpart that is queued or waiting as well.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mirror_collector.exchange import ExposureCounts, Rejection, RejectionReason

if TYPE_CHECKING:
    from mirror_collector.exchange import Exposure, Leg, Role, RouteName

__all__ = ["LegQueue", "LegQueueLimits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LegQueueLimits:
    """Limits of the queue."""

    max_legs: int = 20_000
    max_bytes: int = 256 << 20
    max_routes: int = 1_000
    """Maximum number of routes ever accepted; the collector keeps totals for each of them."""

    max_body: int = 1 << 20
    """Maximum number of bytes kept of each body."""


class LegQueue:
    """Queued legs, and counts of the legs, exposures and drops since the counts were last read.

    Belongs to one event loop; not thread-safe.
    """

    def __init__(self, limits: LegQueueLimits, known_routes: frozenset[RouteName] = frozenset()) -> None:
        self.limits = limits
        self._routes = set(known_routes)
        self._legs: deque[Leg] = deque()
        self._bytes = 0
        self._drops: Counter[str] = Counter()
        self._received: Counter[tuple[RouteName, Role]] = Counter()
        self._exposures = ExposureCounts()
        self._closed = False
        self._wake = asyncio.Event()

    def __len__(self) -> int:
        """Number of queued legs."""
        return len(self._legs)

    @property
    def queued_bytes(self) -> int:
        """Size of the queued legs in bytes, as charged to the limit."""
        return self._bytes

    @property
    def drops(self) -> Counter[str]:
        """Number of drops by reason since the last `drain_drops`."""
        return self._drops

    @property
    def drained(self) -> bool:
        """Whether the queue is closed and empty."""
        return self._closed and not self._legs

    def put(self, leg: Leg) -> Rejection | None:
        """Queue a leg; return the reason if it is rejected, after counting it as a drop."""
        if self._closed:
            detail = "the collector is stopping; send the leg again after it has restarted"
            return self.reject(Rejection(reason=RejectionReason.STOPPING, detail=detail))
        if leg.route not in self._routes:
            if len(self._routes) >= self.limits.max_routes:
                detail = (
                    f"route: the collector already has the maximum of {self.limits.max_routes} routes; use"
                    " the name of one of them"
                )
                return self.reject(Rejection(reason=RejectionReason.TOO_MANY_ROUTES, detail=detail))
            self._routes.add(leg.route)
        if len(self._legs) >= self.limits.max_legs or self._bytes + leg.size > self.limits.max_bytes:
            detail = "the receive queue is full; send the leg again later"
            return self.reject(Rejection(reason=RejectionReason.QUEUE_FULL, detail=detail))
        self._received[leg.route, leg.role] += 1
        self._legs.append(leg)
        self._bytes += leg.size
        self._wake.set()
        return None

    def add_exposure(self, exposure: Exposure) -> None:
        """Count an exposure of an A/B test; an exposure beyond the limit is counted as a drop."""
        if self._closed:
            self.reject(Rejection(reason=RejectionReason.STOPPING))
        else:
            self._exposures.add(exposure)

    def drain_exposures(self) -> ExposureCounts:
        """Return the exposures received since the last call."""
        exposures, self._exposures = self._exposures, ExposureCounts()
        if exposures.dropped:
            self._drops[RejectionReason.QUEUE_FULL.value] += exposures.dropped
        return exposures

    def reject(self, rejection: Rejection) -> Rejection:
        """Count a rejection as a drop and return it."""
        self._drops[rejection.reason.value] += 1
        return rejection

    async def get_batch(self, *, max_legs: int, max_bytes: int, wait: float) -> list[Leg]:
        """Remove and return at most `max_legs` queued legs; stop after the leg that reaches `max_bytes`.

        Waits up to `wait` seconds for a first leg. The list is empty after a timeout, or if the queue is
        closed and empty.
        """
        if not self._legs and not self._closed:
            self._wake.clear()
            try:
                async with asyncio.timeout(wait):
                    await self._wake.wait()
            except TimeoutError:
                return []
        batch: list[Leg] = []
        size = 0
        while self._legs and len(batch) < max_legs and size < max_bytes:
            leg = self._legs.popleft()
            size += leg.size
            batch.append(leg)
        self._bytes -= size
        return batch

    def drain_received(self) -> Counter[tuple[RouteName, Role]]:
        """Return the number of legs queued since the last call, including those still queued.

        Legs are counted when they enter the queue, so that legs lost in a crash count as received.
        """
        received, self._received = self._received, Counter()
        return received

    def drain_drops(self) -> Counter[str]:
        """Return the number of drops by reason since the last call."""
        drops, self._drops = self._drops, Counter()
        return drops

    def close(self) -> None:
        """Reject further legs; queued legs can still be removed."""
        self._closed = True
        self._wake.set()
