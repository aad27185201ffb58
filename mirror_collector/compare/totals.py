"""Totals over many pairs: per route, and per pair of variants of a route.

Totals only grow. The store keeps them as JSON, so they survive a restart and outlive the pairs themselves.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from mirror_collector.compare.comparison import AGREEMENT_MEASURES, TokenSource
from mirror_collector.compare.histogram import Histogram
from mirror_collector.compare.outcomes import OutcomesByMeasure, has_baseline, outcomes_of
from mirror_collector.compare.readability import Coverage
from mirror_collector.compare.traits import TRAITS
from mirror_collector.exchange import Role, UnpairedReason

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mirror_collector.compare.comparison import Comparison, LegMeasures

__all__ = ["LegTotals", "Mean", "PairTotals", "Proportion", "RouteTotals"]


@dataclass(slots=True, kw_only=True)
class RouteTotals:
    """Totals of the legs of one route; every received leg is in a pair, unpaired, or waiting."""

    legs: Counter[Role] = field(default_factory=Counter)
    """Received legs."""

    pairs: int = 0
    paired: int = 0
    """Legs in pairs: two per pair, or three with a noise leg."""

    unpaired: Counter[UnpairedReason] = field(default_factory=Counter)
    without_noise: int = 0
    """Pairs whose announced noise leg did not arrive."""

    @property
    def waiting(self) -> int:
        """Legs that are neither in a pair nor counted as unpaired."""
        return self.legs.total() - self.paired - self.unpaired.total()

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object that `from_json` reads."""
        return {
            "legs": {role.value: n for role, n in self.legs.items()},
            "pairs": self.pairs,
            "paired": self.paired,
            "unpaired": {reason.value: n for reason, n in self.unpaired.items()},
            "without_noise": self.without_noise,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> RouteTotals:
        """Return the totals that `to_json` of this or an earlier release wrote."""
        return cls(
            legs=Counter({Role(role): n for role, n in value["legs"].items()}),
            pairs=value["pairs"],
            paired=value.get("paired", 2 * value["pairs"]),
            unpaired=Counter({UnpairedReason(reason): n for reason, n in value["unpaired"].items()}),
            without_noise=value.get("without_noise", 0),
        )


@dataclass(slots=True)
class Proportion:
    """Number of pairs that agree, out of the pairs where agreement could be determined."""

    same: int = 0
    of: int = 0

    def add(self, same: bool | None) -> None:  # noqa: FBT001 - its only argument
        """Count one pair; ignore None."""
        if same is not None:
            self.same += same
            self.of += 1

    def merge(self, other: Proportion) -> None:
        """Add the counts of `other`."""
        self.same += other.same
        self.of += other.of


@dataclass(slots=True)
class Mean:
    """A mean and its margin of error, computed from running sums."""

    n: int = 0
    total: float = 0.0
    squares: float = 0.0
    """Sum of the squared values."""

    def add(self, value: float | None) -> None:
        """Add one value; ignore None."""
        if value is not None:
            self.n += 1
            self.total += value
            self.squares += value * value

    def merge(self, other: Mean) -> None:
        """Add the sums of `other`."""
        self.n += other.n
        self.total += other.total
        self.squares += other.squares

    @property
    def value(self) -> float | None:
        """The mean; None without values."""
        return self.total / self.n if self.n else None

    @property
    def margin(self) -> float | None:
        """Half the width of the 95 % confidence interval (normal approximation); None below two values."""
        if self.n < _MIN_VALUES:
            return None
        mean = self.total / self.n
        return 1.96 * math.sqrt(max(0.0, self.squares / self.n - mean * mean) / (self.n - 1))


_MIN_VALUES: Final = 2


@dataclass(slots=True, kw_only=True)
class LegTotals:
    """Times and tokens of the legs on one side of the pairs; only successful legs have times."""

    failed: int = 0
    total: Histogram = field(default_factory=Histogram)
    first_token: Histogram = field(default_factory=Histogram)
    inter_token: Histogram = field(default_factory=Histogram)
    tokens: int = 0

    def add(self, measures: LegMeasures) -> None:
        """Add one leg of a pair that is not limited and whose client did not disconnect."""
        self.tokens += measures.tokens or 0
        if not measures.succeeded:
            self.failed += 1
            return
        for name in _TIMES:
            value = getattr(measures, f"{name}_ms")
            if value is not None:
                getattr(self, name).add(value)

    def merge(self, other: LegTotals) -> None:
        """Add the totals of `other`."""
        self.failed += other.failed
        self.tokens += other.tokens
        for name in _TIMES:
            getattr(self, name).merge(getattr(other, name))

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object that `from_json` reads."""
        times = {name: getattr(self, name).to_json() for name in _TIMES}
        return {"failed": self.failed, "tokens": self.tokens, **times}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> LegTotals:
        """Return the totals that `to_json` wrote."""
        times = {name: Histogram.from_json(value[name]) for name in _TIMES}
        return cls(failed=value["failed"], tokens=value["tokens"], **times)


_TIMES: Final = ("total", "first_token", "inter_token")
_STATUS: Final = ("status", "status_class")
_TRAITS_OF_UNREAD: Final = frozenset({"failed", "unreadable"})
_NUMBERS: Final = (
    "pairs",
    "client_left",
    "limited",
    "trios",
    "tokens_of",
    "tokens_estimated",
    "noise_tokens",
)


@dataclass(slots=True, kw_only=True)
class PairTotals:
    """Totals of the comparisons of one primary variant with one shadow variant."""

    pairs: int = 0
    client_left: int = 0
    """Pairs whose client disconnected; the totals below exclude them, except `noise_tokens`."""

    limited: int = 0
    """Pairs whose shadow did not answer due to the limits on shadow traffic; excluded below as well."""

    trios: int = 0
    """Pairs with a usable noise leg."""

    coverage: dict[str, Coverage] = field(default_factory=dict)
    """By API, how many pairs were read. Unread pairs are part of neither the agreement nor the lengths, and
    of the traits only part of `failed` and `unreadable`."""

    status: Proportion = field(default_factory=Proportion)
    status_class: Proportion = field(default_factory=Proportion)
    agreement: dict[str, Mean] = field(default_factory=dict)
    """By measure, the agreement of the shadow with the primary in [0, 1]."""

    baseline: dict[str, Mean] = field(default_factory=dict)
    """By measure, the agreement of the noise leg with the primary in [0, 1]."""

    traits: dict[str, list[int]] = field(default_factory=dict)
    """By trait: number of primaries with it, number of shadows with it, number of pairs it applies to."""

    outcomes: OutcomesByMeasure = field(default_factory=OutcomesByMeasure)
    length_ratio: Mean = field(default_factory=Mean)
    tokens_of: int = 0
    """Pairs with token counts for both legs."""

    tokens_estimated: int = 0
    """Pairs in `tokens_of` whose counts are estimates."""

    noise_tokens: int = 0
    """Completion tokens of the noise legs of all pairs, as far as they could be counted."""

    primary: LegTotals = field(default_factory=LegTotals)
    shadow: LegTotals = field(default_factory=LegTotals)

    def add(self, comparison: Comparison) -> None:
        """Add one comparison."""
        self.pairs += 1
        if comparison.noise is not None:
            self.noise_tokens += comparison.noise.tokens_used or 0
        if comparison.client_left or comparison.limited:
            self.client_left += comparison.client_left
            self.limited += comparison.limited and not comparison.client_left
            return
        self.coverage.setdefault(comparison.api.value, Coverage()).add(comparison)
        self.status.add(comparison.status_same)
        self.status_class.add(comparison.status_class_same)
        self._add_agreement(comparison)
        self._add_traits(comparison)
        self.outcomes.add(outcomes_of(comparison))
        self.length_ratio.add(comparison.length_ratio)
        self.tokens_of += comparison.token_source is not TokenSource.NONE
        self.tokens_estimated += comparison.token_source is TokenSource.CHUNKS
        self.primary.add(comparison.primary)
        self.shadow.add(comparison.shadow)

    def _add_agreement(self, comparison: Comparison) -> None:
        if comparison.is_unread:
            return
        for measure in AGREEMENT_MEASURES:
            _add(self.agreement, measure, getattr(comparison.agreement, measure))
        if has_baseline(comparison):
            self.trios += 1
            for measure in AGREEMENT_MEASURES:
                _add(self.baseline, measure, getattr(comparison.baseline, measure))

    def _add_traits(self, comparison: Comparison) -> None:
        for trait in TRAITS:
            primary = getattr(comparison.primary.traits, trait)
            shadow = getattr(comparison.shadow.traits, trait)
            if comparison.is_unread and trait not in _TRAITS_OF_UNREAD:
                continue
            if primary is not None or shadow is not None:
                counts = self.traits.setdefault(trait, [0, 0, 0])
                counts[0] += bool(primary)
                counts[1] += bool(shadow)
                counts[2] += 1

    def merge(self, other: PairTotals) -> None:
        """Add the totals of `other`."""
        for name in _STATUS:
            getattr(self, name).merge(getattr(other, name))
        for name in _NUMBERS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for means, added in ((self.agreement, other.agreement), (self.baseline, other.baseline)):
            for measure, mean in added.items():
                means.setdefault(measure, Mean()).merge(mean)
        for api, coverage in other.coverage.items():
            self.coverage.setdefault(api, Coverage()).merge(coverage)
        for trait, counts in other.traits.items():
            known = self.traits.get(trait, [0, 0, 0])
            self.traits[trait] = [a + b for a, b in zip(known, counts, strict=True)]
        self.outcomes.merge(other.outcomes)
        self.length_ratio.merge(other.length_ratio)
        self.primary.merge(other.primary)
        self.shadow.merge(other.shadow)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object that `from_json` reads."""
        return {
            **{name: [getattr(self, name).same, getattr(self, name).of] for name in _STATUS},
            **{name: getattr(self, name) for name in _NUMBERS},
            "like": {measure: _sums(mean) for measure, mean in self.agreement.items()},
            "floor": {measure: _sums(mean) for measure, mean in self.baseline.items()},
            "traits": self.traits,
            "signs": self.outcomes.to_json(),
            "coverage": {api: coverage.to_json() for api, coverage in self.coverage.items()},
            "length_ratio": _sums(self.length_ratio),
            "primary": self.primary.to_json(),
            "shadow": self.shadow.to_json(),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> PairTotals:
        """Return the totals that `to_json` of this or an earlier release wrote."""
        totals = cls(
            coverage={api: Coverage.from_json(one) for api, one in value.get("coverage", {}).items()},
            agreement={measure: Mean(*sums) for measure, sums in value["like"].items()},
            baseline={measure: Mean(*sums) for measure, sums in value["floor"].items()},
            traits={trait: list(counts) for trait, counts in value["traits"].items()},
            outcomes=OutcomesByMeasure.from_json(value["signs"]),
            length_ratio=Mean(*value["length_ratio"]),
            primary=LegTotals.from_json(value["primary"]),
            shadow=LegTotals.from_json(value["shadow"]),
        )
        for name in _STATUS:
            setattr(totals, name, Proportion(*value[name]))
        for name in _NUMBERS:
            setattr(totals, name, value[name])
        return totals


def _add(means: dict[str, Mean], measure: str, value: float | None) -> None:
    if value is not None:
        mean = means.get(measure)
        if mean is None:
            mean = means[measure] = Mean()
        mean.add(float(value))


def _sums(mean: Mean) -> list[float]:
    return [mean.n, mean.total, mean.squares]
