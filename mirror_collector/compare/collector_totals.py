"""All tallies together: what the collector can say about every route at one moment.

A published ledger is never changed. The next one is a fork that copies only the tallies it touches, so that
readers need no lock and a write that fails leaves nothing behind.
"""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

from mirror_collector.compare.totals import PairTally, RouteTally
from mirror_collector.exchange import Role, RouteName, UnpairedReason, Variant

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mirror_collector.compare.comparison import Comparison
    from mirror_collector.exchange import Pair

__all__ = ["Counts", "Ledger", "PairKey"]

PairKey: TypeAlias = tuple[RouteName, Variant, Variant]
"""Route, variant of the primary, variant of the shadow."""

_MAX_VARIANTS: Final = 64
_OTHER: Final = Variant("(other)")


@dataclass(slots=True, kw_only=True)
class Counts:
    """What is counted without being kept."""

    legs: Counter[tuple[RouteName, Role]] = field(default_factory=Counter)
    unpaired: Counter[tuple[RouteName, UnpairedReason]] = field(default_factory=Counter)
    drops: Counter[str] = field(default_factory=Counter)

    def __bool__(self) -> bool:
        """Whether anything was counted."""
        return bool(self.legs or self.unpaired or self.drops)

    def merge(self, other: Counts) -> None:
        """Add all of `other`."""
        self.legs.update(other.legs)
        self.unpaired.update(other.unpaired)
        self.drops.update(other.drops)


class Ledger:
    """Tallies by route, by variants within the route, and drops by reason."""

    def __init__(
        self,
        routes: Mapping[RouteName, RouteTally] | None = None,
        pairs: Mapping[PairKey, PairTally] | None = None,
        drops: Mapping[str, int] | None = None,
    ) -> None:
        self._routes = dict(routes or {})
        self._pairs = dict(pairs or {})
        self._drops = Counter(drops or {})
        self.touched_routes: set[RouteName] = set()
        self.touched_pairs: set[PairKey] = set()
        self.touched_drops: set[str] = set()

    @property
    def routes(self) -> Mapping[RouteName, RouteTally]:
        """What became of the legs, by route."""
        return self._routes

    @property
    def pairs(self) -> Mapping[PairKey, PairTally]:
        """The findings, by route and variants."""
        return self._pairs

    @property
    def drops(self) -> Mapping[str, int]:
        """What never became a leg or was lost, by reason."""
        return self._drops

    def fork(self) -> Ledger:
        """A ledger that starts as this one and may be changed; nothing of it is touched yet."""
        return Ledger(self._routes, self._pairs, self._drops)

    def add_counts(self, counts: Counts) -> None:
        """Add counts."""
        for (route, role), n in counts.legs.items():
            self._route(route).legs[role] += n
        for (route, reason), n in counts.unpaired.items():
            self._route(route).unpaired[reason] += n
        self.add_drops(counts.drops)

    def add_drops(self, drops: Mapping[str, int]) -> None:
        """Add drops, by reason."""
        self.touched_drops.update(drops)
        self._drops.update(drops)

    def add_pair(self, pair: Pair, found: Comparison) -> None:
        """Add one compared pair."""
        route = pair.primary.route
        tally = self._route(route)
        tally.pairs += 1
        tally.paired += len(pair.legs)
        tally.without_noise += pair.primary.expects_noise and pair.noise is None
        self._pair((route, pair.primary.variant, pair.shadow.variant)).add(found)

    def settle_lost(self) -> int:
        """Count the legs that waited when the collector died as unpaired; returns how many."""
        lost = 0
        for route, tally in list(self._routes.items()):
            if tally.unaccounted > 0:
                lost += tally.unaccounted
                self._route(route).unpaired[UnpairedReason.RESTART] += tally.unaccounted
        return lost

    def _route(self, route: RouteName) -> RouteTally:
        if route not in self.touched_routes:
            self.touched_routes.add(route)
            self._routes[route] = copy.deepcopy(self._routes.get(route, RouteTally()))
        return self._routes[route]

    def _pair(self, key: PairKey) -> PairTally:
        # Variants come from outside, so their number is bounded per route.
        if key not in self._pairs and sum(1 for known in self._pairs if known[0] == key[0]) >= _MAX_VARIANTS:
            key = (key[0], _OTHER, _OTHER)
        if key not in self.touched_pairs:
            self.touched_pairs.add(key)
            self._pairs[key] = copy.deepcopy(self._pairs.get(key, PairTally()))
        return self._pairs[key]
