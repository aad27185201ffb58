"""Evidence of all collectors as one source: pair counts from the streams, summaries from HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xds_server.analysis.experiments import Exposures
    from xds_server.analysis.verdicts import PairCounts, PairSummary
    from xds_server.sources.collector import CollectorSource
    from xds_server.sources.evidence import EvidenceSource

__all__ = ["CollectorEvidence"]


class CollectorEvidence:
    """Combine the two sources, each of which may be None; a missing source has no data."""

    def __init__(self, summaries: CollectorSource | None, streams: EvidenceSource | None) -> None:
        """`summaries` polls one collector over HTTP, `streams` receives the counts of all collectors."""
        self._summaries = summaries
        self._streams = streams

    def summary(self, route: str, stable: str, candidate: str | None) -> PairSummary | None:
        """Return the summary of the pairs of two backends; None before the first pair."""
        return None if self._summaries is None else self._summaries.summary(route, stable, candidate)

    def pair_counts(self, route: str, stable: str, candidate: str, since: float) -> PairCounts | None:
        """Return the compared pairs of two backends since a time (epoch seconds); None if there are none."""
        return None if self._streams is None else self._streams.counts(route, stable, candidate, since)

    def exposures(self, route: str, experiment: str) -> Exposures | None:
        """Return the exposures of an A/B test; None before the first user."""
        return None if self._summaries is None else self._summaries.exposures(route, experiment)
