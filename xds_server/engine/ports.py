"""What the engine needs from the outside, as Protocols; `app.py` passes the implementations.

The engine imports no discovery server, no collector client and no tracer. Each optional part has
a stand-in that does nothing, for a control plane without that part.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from contextlib import AbstractContextManager

    from xds_server import ir
    from xds_server.analysis.counts import Counts, Leg
    from xds_server.analysis.experiments import Exposures
    from xds_server.analysis.verdicts import PairCounts, PairSummary
    from xds_server.health import BackendCheck
    from xds_server.view import Convergence, ProxyView
    from xds_server.view.uncounted import StatisticsDefect
    from xds_server.xds.server.counters import Counters
    from xds_server.xds.snapshot import Snapshot

__all__ = [
    "EngineObserver",
    "HealthWatcher",
    "MakePublisher",
    "MetricsSource",
    "NoEvidence",
    "NoMetrics",
    "NoObserver",
    "Publisher",
    "ShadowEvidence",
]


class Publisher(Protocol):
    """Serves snapshots to proxies: the hub of this process, or a pool of worker processes."""

    def publish(self, group: str) -> None:
        """Build the newest snapshot of each node class of a group and send it to the group's proxies."""

    def convergence(self, group: str) -> Convergence:
        """Return how many proxies of a group are connected, synced and NACKing."""

    def proxies(self) -> tuple[ProxyView, ...]:
        """Return every connected proxy, sorted by group and node id."""

    def statistics_defects(self) -> Mapping[tuple[str, str], StatisticsDefect | None]:
        """Return the statistics defect of each client that sends statistics, by group and node id.

        The value is None for a client without a defect.
        """

    @property
    def counters(self) -> Counters:
        """The totals of all streams since the process started."""


P_co = TypeVar("P_co", bound=Publisher, covariant=True)


class MakePublisher(Protocol[P_co]):
    """Constructs the publisher from the engine's callbacks; the class `Hub` is such a constructor."""

    def __call__(
        self,
        snapshot_for: Callable[[ir.NodeClass], Snapshot],
        /,
        *,
        on_change: Callable[[str], None],
        on_counts: Callable[[str, Mapping[Leg, Counts]], None],
    ) -> P_co:
        """Return a publisher; `on_change` and `on_counts` receive the name of a group as first argument."""


class ShadowEvidence(Protocol):
    """What the collectors found: pairs of a shadow and their costs, and the users of A/B tests."""

    def summary(self, route: str, stable: str, candidate: str | None) -> PairSummary | None:
        """Return the summary of the pairs of two backends; None before the first pair."""

    def pair_counts(self, route: str, stable: str, candidate: str, since: float) -> PairCounts | None:
        """Return the compared pairs of two backends since a time (epoch seconds); None if there are none."""

    def exposures(self, route: str, experiment: str) -> Exposures | None:
        """Return what was counted of the users of an A/B test; None before the first user."""


class MetricsSource(Protocol):
    """The newest results of the PromQL queries of all routes."""

    def results(self, route: str) -> Mapping[str, float | None]:
        """Return the newest result of each query of a route by name; None for a query that failed."""


class HealthWatcher(Protocol):
    """Checks the health of backends, and reports it to the `ReconcileInbox` (not through this interface)."""

    def watch(self, watched: Collection[BackendCheck]) -> None:
        """Replace the set of checked backends; an unchanged one keeps its state."""


class EngineObserver(Protocol):
    """Receives what the engine does. No method may block or raise."""

    def span(self, name: str, **fields: str | int) -> AbstractContextManager[None]:
        """Return a context manager that traces what runs inside it."""

    def event_recorded(self) -> None:
        """A line was added to the history of a route."""

    def published(self, group: str, convergence: Convergence) -> None:
        """A new snapshot was offered to a group; `convergence` counts the proxies right after."""

    def group_changed(self, group: str, convergence: Convergence) -> None:
        """The convergence of a group changed."""


class NoEvidence:
    """Stands in for collectors: there are no pairs and no users."""

    def summary(self, route: str, stable: str, candidate: str | None) -> None:
        """Return None: no pair was compared."""

    def pair_counts(self, route: str, stable: str, candidate: str, since: float) -> None:
        """Return None: no pair was compared."""

    def exposures(self, route: str, experiment: str) -> None:
        """Return None: no user was counted."""


class NoMetrics:
    """Stands in for Prometheus: no query has a result."""

    def results(self, route: str) -> Mapping[str, float | None]:  # noqa: ARG002
        """Return no results."""
        return {}


class NoObserver:
    """Stands in for traces and notifications: nothing is reported."""

    def span(self, name: str, **fields: str | int) -> AbstractContextManager[None]:  # noqa: ARG002
        """Return a context manager that does nothing."""
        return nullcontext()

    def event_recorded(self) -> None:
        """Report nothing."""

    def published(self, group: str, convergence: Convergence) -> None:
        """Report nothing."""

    def group_changed(self, group: str, convergence: Convergence) -> None:
        """Report nothing."""
