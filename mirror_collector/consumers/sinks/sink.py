"""The interface of a sink."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections import Counter

    from mirror_collector.compare import Comparison, Replies
    from mirror_collector.exchange import Pair

__all__ = ["Sink"]


class Sink(Protocol):
    """Queues compared pairs and delivers them to one external system."""

    name: str
    """Type of the sink, as used in metric labels."""

    bodies: bool
    """Whether message texts are sent."""

    def enqueue(self, pair: Pair, replies: Replies, comparison: Comparison) -> None:
        """Queue a pair for delivery without waiting; `replies` are redacted already."""

    async def run(self) -> None:
        """Deliver queued pairs until canceled, or until the sink is closed and its queue is empty."""

    def close(self) -> None:
        """Accept no more pairs; queued pairs are still delivered while `run` runs."""

    @property
    def sent(self) -> int:
        """Number of delivered items."""

    @property
    def dropped(self) -> Counter[str]:
        """Number of lost items by reason."""
