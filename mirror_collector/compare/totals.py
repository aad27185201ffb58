"""Sums over many pairs: per route, and per pair of variants within it.

Counts only ever grow, so they can be kept in a store and taken up again after a restart.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from mirror_collector.compare.comparison import AGREEMENT, TokenSource
from mirror_collector.compare.histogram import Histogram
from mirror_collector.compare.outcomes import SignTable, has_floor, signs_of
from mirror_collector.compare.traits import TRAITS
from mirror_collector.exchange import Role, UnpairedReason

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mirror_collector.compare.comparison import Comparison, Measures

__all__ = ["LegTally", "Mean", "PairTally", "RouteTally", "Share"]


@dataclass(slots=True, kw_only=True)
class RouteTally:
    """What became of the legs of one route: legs = those in pairs + unpaired + still waiting."""

    legs: Counter[Role] = field(default_factory=Counter)
    pairs: int = 0
    paired: int = 0
    """Legs in pairs; two of each, or three."""

    unpaired: Counter[UnpairedReason] = field(default_factory=Counter)
    without_noise: int = 0
    """Pairs whose announced second copy never came."""

    @property
    def unaccounted(self) -> int:
        """Legs that are neither in a pair nor counted as unpaired."""
        return self.legs.total() - self.paired - self.unpaired.total()

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `from_json` reads."""
        return {
            "legs": {role.value: n for role, n in self.legs.items()},
            "pairs": self.pairs,
            "paired": self.paired,
            "unpaired": {reason.value: n for reason, n in self.unpaired.items()},
            "without_noise": self.without_noise,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> RouteTally:
        """The tally `to_json` wrote, earlier versions included."""
        return cls(
            legs=Counter({Role(role): n for role, n in value["legs"].items()}),
            pairs=value["pairs"],
            paired=value.get("paired", 2 * value["pairs"]),
            unpaired=Counter({UnpairedReason(reason): n for reason, n in value["unpaired"].items()}),
            without_noise=value.get("without_noise", 0),
        )


@dataclass(slots=True)
class Share:
    """How many of how many."""

    same: int = 0
    of: int = 0

    def add(self, same: bool | None) -> None:  # noqa: FBT001 - the one thing it takes
        """Count one finding; None is none."""
        if same is not None:
            self.same += same
            self.of += 1

    def merge(self, other: Share) -> None:
        """Add all of `other`."""
        self.same += other.same
        self.of += other.of


@dataclass(slots=True)
class Mean:
    """A mean and how sure it is."""

    n: int = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, value: float | None) -> None:
        """Add one value; None is none."""
        if value is not None:
            self.n += 1
            self.total += value
            self.squares += value * value

    def merge(self, other: Mean) -> None:
        """Add all of `other`."""
        self.n += other.n
        self.total += other.total
        self.squares += other.squares

    @property
    def value(self) -> float | None:
        """The mean; None without values."""
        return self.total / self.n if self.n else None

    @property
    def margin(self) -> float | None:
        """Half the width of the 95 % interval around the mean, by the normal curve; None below two values."""
        if self.n < _LEAST:
            return None
        mean = self.total / self.n
        return 1.96 * math.sqrt(max(0.0, self.squares / self.n - mean * mean) / (self.n - 1))


_LEAST: Final = 2


@dataclass(slots=True, kw_only=True)
class LegTally:
    """Times and tokens of one side of the pairs; only successes have times."""

    failed: int = 0
    total: Histogram = field(default_factory=Histogram)
    first_token: Histogram = field(default_factory=Histogram)
    inter_token: Histogram = field(default_factory=Histogram)
    tokens: int = 0

    def add(self, measures: Measures) -> None:
        """Count one leg of a pair whose client stayed."""
        self.tokens += measures.tokens or 0
        if not measures.succeeded:
            self.failed += 1
            return
        for name in _TIMES:
            value = getattr(measures, f"{name}_ms")
            if value is not None:
                getattr(self, name).add(value)

    def merge(self, other: LegTally) -> None:
        """Add all of `other`."""
        self.failed += other.failed
        self.tokens += other.tokens
        for name in _TIMES:
            getattr(self, name).merge(getattr(other, name))

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `from_json` reads."""
        times = {name: getattr(self, name).to_json() for name in _TIMES}
        return {"failed": self.failed, "tokens": self.tokens, **times}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> LegTally:
        """The tally `to_json` wrote."""
        times = {name: Histogram.from_json(value[name]) for name in _TIMES}
        return cls(failed=value["failed"], tokens=value["tokens"], **times)


_TIMES: Final = ("total", "first_token", "inter_token")
_STATUS: Final = ("status", "status_class")
_NUMBERS: Final = ("pairs", "client_left", "limited", "trios", "tokens_of", "tokens_estimated")


@dataclass(slots=True, kw_only=True)
class PairTally:
    """The findings of all pairs of one primary and one shadow variant."""

    pairs: int = 0
    client_left: int = 0
    """Pairs that count in nothing below."""

    limited: int = 0
    """Pairs whose copy our own limits kept from being answered; they count in nothing below either."""

    trios: int = 0
    """Pairs with a second answer of the primary's variant that counts."""

    status: Share = field(default_factory=Share)
    status_class: Share = field(default_factory=Share)
    like: dict[str, Mean] = field(default_factory=dict)
    """By measure, how alike the shadow's answers and the primary's are: 0 to 1."""

    floor: dict[str, Mean] = field(default_factory=dict)
    """By measure, how alike two answers of the primary's variant are."""

    traits: dict[str, list[int]] = field(default_factory=dict)
    """By trait: primaries and shadows that have it, and pairs it applies to."""

    signs: SignTable = field(default_factory=SignTable)
    length_ratio: Mean = field(default_factory=Mean)
    tokens_of: int = 0
    """Pairs with token counts on both sides."""

    tokens_estimated: int = 0
    """Those of them whose counts are estimates."""

    noise_tokens: int = 0
    """What second copies cost, where it is known."""

    primary: LegTally = field(default_factory=LegTally)
    shadow: LegTally = field(default_factory=LegTally)

    def add(self, found: Comparison) -> None:
        """Count one pair."""
        self.pairs += 1
        if found.noise is not None:
            self.noise_tokens += found.noise.spent or 0
        if found.client_left or found.limited:
            self.client_left += found.client_left
            self.limited += found.limited and not found.client_left
            return
        self.status.add(found.status_same)
        self.status_class.add(found.status_class_same)
        self._add_likeness(found)
        self._add_traits(found)
        self.signs.add(signs_of(found))
        self.length_ratio.add(found.length_ratio)
        self.tokens_of += found.token_source is not TokenSource.NONE
        self.tokens_estimated += found.token_source is TokenSource.CHUNKS
        self.primary.add(found.primary)
        self.shadow.add(found.shadow)

    def _add_likeness(self, found: Comparison) -> None:
        for name in AGREEMENT:
            _add(self.like, name, getattr(found.like, name))
        if has_floor(found):
            self.trios += 1
            for name in AGREEMENT:
                _add(self.floor, name, getattr(found.floor, name))

    def _add_traits(self, found: Comparison) -> None:
        for name in TRAITS:
            one, other = getattr(found.primary.traits, name), getattr(found.shadow.traits, name)
            if one is not None or other is not None:
                counts = self.traits.setdefault(name, [0, 0, 0])
                counts[0] += bool(one)
                counts[1] += bool(other)
                counts[2] += 1

    def merge(self, other: PairTally) -> None:
        """Add all of `other`."""
        for name in _STATUS:
            getattr(self, name).merge(getattr(other, name))
        for name in (*_NUMBERS, "noise_tokens"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for mine, theirs in ((self.like, other.like), (self.floor, other.floor)):
            for name, mean in theirs.items():
                mine.setdefault(name, Mean()).merge(mean)
        for name, counts in other.traits.items():
            known = self.traits.get(name, [0, 0, 0])
            self.traits[name] = [a + b for a, b in zip(known, counts, strict=True)]
        self.signs.merge(other.signs)
        self.length_ratio.merge(other.length_ratio)
        self.primary.merge(other.primary)
        self.shadow.merge(other.shadow)

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `from_json` reads."""
        return {
            **{name: [getattr(self, name).same, getattr(self, name).of] for name in _STATUS},
            **{name: getattr(self, name) for name in (*_NUMBERS, "noise_tokens")},
            "like": {name: _numbers(mean) for name, mean in self.like.items()},
            "floor": {name: _numbers(mean) for name, mean in self.floor.items()},
            "traits": self.traits,
            "signs": self.signs.to_json(),
            "length_ratio": _numbers(self.length_ratio),
            "primary": self.primary.to_json(),
            "shadow": self.shadow.to_json(),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> PairTally:
        """The tally `to_json` wrote."""
        tally = cls(
            like={name: Mean(*mean) for name, mean in value["like"].items()},
            floor={name: Mean(*mean) for name, mean in value["floor"].items()},
            traits={name: list(counts) for name, counts in value["traits"].items()},
            signs=SignTable.from_json(value["signs"]),
            length_ratio=Mean(*value["length_ratio"]),
            primary=LegTally.from_json(value["primary"]),
            shadow=LegTally.from_json(value["shadow"]),
        )
        for name in _STATUS:
            setattr(tally, name, Share(*value[name]))
        for name in (*_NUMBERS, "noise_tokens"):
            setattr(tally, name, value[name])
        return tally


def _add(means: dict[str, Mean], name: str, value: float | None) -> None:
    if value is not None:
        mean = means.get(name)
        if mean is None:
            mean = means[name] = Mean()
        mean.add(float(value))


def _numbers(mean: Mean) -> list[float]:
    return [mean.n, mean.total, mean.squares]
