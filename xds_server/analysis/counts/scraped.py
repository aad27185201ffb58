"""The same counts from a database of metrics: cumulative series → what was added (pure).

Two looks at the same series are compared and nothing is interpolated, so the counts are whole numbers, and
the same that the proxies told. A series that fell has begun anew.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from xds_server.analysis.counts.proxy_counters import EDGES, Sums

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from xds_server.analysis.counts.counts import Counts, Leg

__all__ = ["QUERY", "Scraped"]

QUERY: Final = '{__name__=~"envoy_llm_.+",__name__!~".+_sum"}'
"""All series there are of requests, tokens and times."""

_PREFIX: Final = "envoy_llm_"
_BUCKET: Final = "_bucket"
_COUNT: Final = "_count"

Series = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class Scraped:
    """What every series said at the last look."""

    _last: dict[Series, float] = field(default_factory=dict)
    _begun: bool = False

    def look(self, samples: Iterable[tuple[Mapping[str, str], float]]) -> dict[Leg, Counts]:
        """Return what was counted since the last look; nothing at the first."""
        now = {tuple(sorted(labels.items())): value for labels, value in samples}
        added = {
            series: value - before if value >= before else value
            for series, value in now.items()
            if (before := self._last.get(series, 0.0)) != value
        }
        # A series that is not told for once (a scrape that failed) goes on from where it was.
        self._last |= now
        if not self._begun:
            self._begun = True
            return {}
        return dict(_sums(added).legs())


def _sums(added: Mapping[Series, float]) -> Sums:
    sums = Sums()
    below: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
    for series, value in added.items():
        labels = dict(series)
        name = labels.get("__name__", "").removeprefix(_PREFIX)
        cluster, edge = labels.get("cluster"), labels.get("le")
        if cluster is None:
            continue
        if edge is not None and name.removesuffix(_BUCKET) in EDGES:
            # Buckets of one proxy are cumulative among themselves.
            proxy = repr([pair for pair in series if pair[0] not in {"le", "__name__"}])
            below.setdefault((cluster, name.removesuffix(_BUCKET), proxy), []).append((float(edge), value))
        elif name.removesuffix(_COUNT) not in EDGES:
            sums.count(cluster, name, value, labels.get("code"))
    for (cluster, name, _), row in below.items():
        before = 0.0
        for edge_, value in sorted(row):
            if value > before:
                place = EDGES[name].get(edge_, len(EDGES[name]))
                sums.sort(cluster, name, place, round(value - before))
                before = value
    return sums
