"""Cumulative series of a Prometheus server → counts by leg (pure).

Two samples of the same series are subtracted without interpolation, so the counts are whole numbers, the same
as those proxies report directly. A series whose value fell has restarted from zero.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from xds_server.analysis.counts.proxy_counters import EDGES, CounterTotals

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from xds_server.analysis.counts.counts import Counts, Leg

__all__ = ["QUERY", "CumulativeSeries"]

QUERY: Final = '{__name__=~"envoy_llm_.+",__name__!~".+_sum"}'
"""The query for all series of requests, tokens and times."""

_PREFIX: Final = "envoy_llm_"
_BUCKET: Final = "_bucket"
_COUNT: Final = "_count"

Series = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class CumulativeSeries:
    """The last value of every series."""

    _last: dict[Series, float] = field(default_factory=dict)
    _started: bool = False

    def increments(self, samples: Iterable[tuple[Mapping[str, str], float]]) -> dict[Leg, Counts]:
        """Return the counts since the previous call; the first call returns none."""
        now = {tuple(sorted(labels.items())): value for labels, value in samples}
        added = {
            series: value - before if value >= before else value
            for series, value in now.items()
            if (before := self._last.get(series, 0.0)) != value
        }
        # A series missing from one scrape (a failed one) continues from its last value.
        self._last |= now
        if not self._started:
            self._started = True
            return {}
        return dict(_totals(added).legs())


def _totals(added: Mapping[Series, float]) -> CounterTotals:
    totals = CounterTotals()
    below: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
    for series, value in added.items():
        labels = dict(series)
        name = labels.get("__name__", "").removeprefix(_PREFIX)
        cluster, edge = labels.get("cluster"), labels.get("le")
        if cluster is None:
            continue
        if edge is not None and name.removesuffix(_BUCKET) in EDGES:
            # The buckets of each proxy are cumulative: each includes those below it.
            proxy = repr([pair for pair in series if pair[0] not in {"le", "__name__"}])
            below.setdefault((cluster, name.removesuffix(_BUCKET), proxy), []).append((float(edge), value))
        elif name.removesuffix(_COUNT) not in EDGES:
            totals.add_counter(name, value, labels)
    for (cluster, name, _), row in below.items():
        before = 0.0
        for edge_, value in sorted(row):
            if value > before:
                index = EDGES[name].get(edge_, len(EDGES[name]))
                totals.row(cluster, name)[index] += round(value - before)
                before = value
    return totals
