"""All totals of a collector at one moment.

Published totals never change. `CollectorTotals.fork` returns a copy that may be changed and that copies only
the entries it changes. Readers therefore need no lock, and a failed write leaves the published totals intact.
"""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

from mirror_collector.compare.totals import PairTotals, RouteTotals
from mirror_collector.exchange import Role, RouteName, UnpairedReason, Variant

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mirror_collector.compare.comparison import Comparison
    from mirror_collector.exchange import Pair

__all__ = ["CollectorTotals", "LegCounts", "PairKey"]

PairKey: TypeAlias = tuple[RouteName, Variant, Variant]
"""Route, variant of the primary, variant of the shadow."""

_MAX_VARIANTS: Final = 64
_OTHER: Final = Variant("(other)")
"""Name of both variants in the totals that add up all pairs of variants beyond `_MAX_VARIANTS` per route."""


@dataclass(slots=True, kw_only=True)
class LegCounts:
    """Counts of received legs, unpaired legs and drops, of which the store keeps only the totals."""

    legs: Counter[tuple[RouteName, Role]] = field(default_factory=Counter)
    unpaired: Counter[tuple[RouteName, UnpairedReason]] = field(default_factory=Counter)
    drops: Counter[str] = field(default_factory=Counter)

    def __bool__(self) -> bool:
        """Whether any count is greater than zero."""
        return bool(self.legs or self.unpaired or self.drops)

    def merge(self, other: LegCounts) -> None:
        """Add the counts of `other`."""
        self.legs.update(other.legs)
        self.unpaired.update(other.unpaired)
        self.drops.update(other.drops)


class CollectorTotals:
    """Totals by route, totals by route and variants, and drops by reason."""

    def __init__(
        self,
        routes: Mapping[RouteName, RouteTotals] | None = None,
        pairs: Mapping[PairKey, PairTotals] | None = None,
        drops: Mapping[str, int] | None = None,
    ) -> None:
        self._routes = dict(routes or {})
        self._pairs = dict(pairs or {})
        self._drops = Counter(drops or {})
        self.changed_routes: set[RouteName] = set()
        self.changed_pairs: set[PairKey] = set()
        self.changed_drops: set[str] = set()

    @property
    def routes(self) -> Mapping[RouteName, RouteTotals]:
        """Totals of the legs by route."""
        return self._routes

    @property
    def pairs(self) -> Mapping[PairKey, PairTotals]:
        """Totals of the comparisons by route and variants."""
        return self._pairs

    @property
    def drops(self) -> Mapping[str, int]:
        """Number of rejected entries and lost legs by reason."""
        return self._drops

    def fork(self) -> CollectorTotals:
        """Return a copy that may be changed; its `changed_*` sets are empty."""
        return CollectorTotals(self._routes, self._pairs, self._drops)

    def add_counts(self, counts: LegCounts) -> None:
        """Add counts of legs and drops."""
        for (route, role), n in counts.legs.items():
            self._route(route).legs[role] += n
        for (route, reason), n in counts.unpaired.items():
            self._route(route).unpaired[reason] += n
        self.add_drops(counts.drops)

    def add_drops(self, drops: Mapping[str, int]) -> None:
        """Add drops by reason."""
        self.changed_drops.update(drops)
        self._drops.update(drops)

    def add_pair(self, pair: Pair, comparison: Comparison) -> None:
        """Add one compared pair."""
        route = pair.primary.route
        totals = self._route(route)
        totals.pairs += 1
        totals.paired += len(pair.legs)
        totals.without_noise += pair.primary.expects_noise and pair.noise is None
        self._pair((route, pair.primary.variant, pair.shadow.variant)).add(comparison)

    def count_lost_legs(self) -> int:
        """Count as unpaired the legs that were waiting when the process died; return their number."""
        lost = 0
        for route, totals in list(self._routes.items()):
            if totals.waiting > 0:
                lost += totals.waiting
                self._route(route).unpaired[UnpairedReason.RESTART] += totals.waiting
        return lost

    def _route(self, route: RouteName) -> RouteTotals:
        if route not in self.changed_routes:
            self.changed_routes.add(route)
            self._routes[route] = copy.deepcopy(self._routes.get(route, RouteTotals()))
        return self._routes[route]

    def _pair(self, key: PairKey) -> PairTotals:
        # Senders choose the names of variants, so the number of pairs of variants per route is limited.
        if key not in self._pairs and sum(1 for known in self._pairs if known[0] == key[0]) >= _MAX_VARIANTS:
            key = (key[0], _OTHER, _OTHER)
        if key not in self.changed_pairs:
            self.changed_pairs.add(key)
            self._pairs[key] = copy.deepcopy(self._pairs.get(key, PairTotals()))
        return self._pairs[key]
