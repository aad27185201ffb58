"""The clients that send statistics, and what is missing in these statistics.

A defect is derived from what a client sent, never from what it did not send yet: an idle proxy counts no
requests.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from xds_server.view.uncounted import StatisticsDefect

if TYPE_CHECKING:
    from xds_server.xds.session.proxy_statistics import StatisticsMessage

__all__ = ["StatisticsClient", "StatisticsClients"]

_FORWARDED: Final = 100
_SECONDS: Final = 300.0
"""Limits for the defect NO_REQUESTS: requests sent to backends, and seconds since the first of them.

A client that reaches both has the defect if none of these requests was counted at its end.
"""


@dataclass(slots=True)
class StatisticsClient:
    """What one node sent on its open streams.

    `forwarded` is the number of requests sent to backends since the last message that counted a request at
    its end; `forwarded_since` is when the first of them was reported.
    """

    streams: int = 0
    untagged: bool = False
    without_outcomes: bool = False
    other_buckets: bool = False
    forwarded: int = 0
    forwarded_since: float = 0.0

    def add(self, message: StatisticsMessage, now: float) -> None:
        """Add a message that arrived at `now` (seconds)."""
        if message.requests:
            self.untagged, self.forwarded = False, 0
        elif message.forwarded:
            self.forwarded_since = self.forwarded_since if self.forwarded else now
            self.forwarded += message.forwarded
        if message.responses:
            # One outcome is enough: requests that began with an earlier configuration end without one.
            self.without_outcomes = message.outcomes == 0
        self.untagged = self.untagged or message.untagged
        if message.histograms:
            self.other_buckets = message.other_buckets

    def defect(self, now: float) -> StatisticsDefect | None:
        """Return the gravest defect; None if nothing is missing."""
        if self.untagged:
            return StatisticsDefect.UNTAGGED
        if self.forwarded >= _FORWARDED and now - self.forwarded_since >= _SECONDS:
            return StatisticsDefect.NO_REQUESTS
        if self.without_outcomes:
            return StatisticsDefect.NO_OUTCOMES
        return StatisticsDefect.NO_BUCKETS if self.other_buckets else None


@dataclass(slots=True)
class StatisticsClients:
    """The clients with an open statistics stream, by group and node id."""

    _clients: dict[tuple[str, str], StatisticsClient] = field(default_factory=dict)

    def opened(self, group: str, node: str) -> StatisticsClient:
        """Add a stream of a node, and return the record of the node, shared by all its streams."""
        client = self._clients.setdefault((group, node), StatisticsClient())
        client.streams += 1
        return client

    def closed(self, group: str, node: str) -> None:
        """Remove a stream of a node, and with its last stream the record of the node."""
        client = self._clients[group, node]
        client.streams -= 1
        if not client.streams:
            del self._clients[group, node]

    def defects(self, now: float) -> dict[tuple[str, str], StatisticsDefect | None]:
        """Return the defect of each client at `now`, None for those without one."""
        return {key: client.defect(now) for key, client in self._clients.items()}
