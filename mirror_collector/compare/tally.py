"""Sums over many pairs: per route, and per pair of variants within it.

Counts only ever grow, so they can be kept in a store and taken up again after a restart.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mirror_collector.compare.comparison import TokenSource
from mirror_collector.compare.histogram import Histogram
from mirror_collector.exchange import Role, UnpairedReason

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mirror_collector.compare.comparison import Comparison, Measures

__all__ = ["LegTally", "PairTally", "RouteTally", "Share"]


@dataclass(slots=True, kw_only=True)
class RouteTally:
    """What became of the legs of one route: legs = 2 · pairs + unpaired + still waiting."""

    legs: Counter[Role] = field(default_factory=Counter)
    pairs: int = 0
    unpaired: Counter[UnpairedReason] = field(default_factory=Counter)

    @property
    def unaccounted(self) -> int:
        """Legs that are neither in a pair nor counted as unpaired."""
        return self.legs.total() - 2 * self.pairs - self.unpaired.total()

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `from_json` reads."""
        return {
            "legs": {role.value: n for role, n in self.legs.items()},
            "pairs": self.pairs,
            "unpaired": {reason.value: n for reason, n in self.unpaired.items()},
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> RouteTally:
        """The tally `to_json` wrote."""
        return cls(
            legs=Counter({Role(role): n for role, n in value["legs"].items()}),
            pairs=value["pairs"],
            unpaired=Counter({UnpairedReason(reason): n for reason, n in value["unpaired"].items()}),
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


@dataclass(slots=True, kw_only=True)
class LegTally:
    """Times and tokens of one side of the pairs; only successes have times."""

    failed: int = 0
    total: Histogram = field(default_factory=Histogram)
    first_token: Histogram = field(default_factory=Histogram)
    tokens: int = 0

    def add(self, measures: Measures) -> None:
        """Count one leg of a pair whose client stayed."""
        self.tokens += measures.tokens or 0
        if not measures.succeeded:
            self.failed += 1
            return
        if measures.total_ms is not None:
            self.total.add(measures.total_ms)
        if measures.first_token_ms is not None:
            self.first_token.add(measures.first_token_ms)

    def merge(self, other: LegTally) -> None:
        """Add all of `other`."""
        self.failed += other.failed
        self.tokens += other.tokens
        self.total.merge(other.total)
        self.first_token.merge(other.first_token)

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `from_json` reads."""
        return {
            "failed": self.failed,
            "tokens": self.tokens,
            "total": self.total.to_json(),
            "first_token": self.first_token.to_json(),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> LegTally:
        """The tally `to_json` wrote."""
        return cls(
            failed=value["failed"],
            tokens=value["tokens"],
            total=Histogram.from_json(value["total"]),
            first_token=Histogram.from_json(value["first_token"]),
        )


_SHARES = ("status", "status_class", "exact", "finish_reason", "tool_calls")


@dataclass(slots=True, kw_only=True)
class PairTally:
    """The findings of all pairs of one primary and one shadow variant."""

    pairs: int = 0
    client_left: int = 0
    """Pairs that count in nothing below."""

    status: Share = field(default_factory=Share)
    status_class: Share = field(default_factory=Share)
    exact: Share = field(default_factory=Share)
    finish_reason: Share = field(default_factory=Share)
    tool_calls: Share = field(default_factory=Share)
    rouge_l_sum: float = 0.0
    rouge_l_of: int = 0
    length_ratio_sum: float = 0.0
    length_ratio_of: int = 0
    tokens_of: int = 0
    """Pairs with token counts on both sides."""

    tokens_estimated: int = 0
    """Those of them whose counts are estimates."""

    primary: LegTally = field(default_factory=LegTally)
    shadow: LegTally = field(default_factory=LegTally)

    def add(self, found: Comparison) -> None:
        """Count one pair."""
        self.pairs += 1
        if found.client_left:
            self.client_left += 1
            return
        self.status.add(found.status_same)
        self.status_class.add(found.status_class_same)
        self.exact.add(found.exact)
        self.finish_reason.add(found.finish_reason_same)
        self.tool_calls.add(found.tool_calls_same)
        if found.rouge_l is not None:
            self.rouge_l_sum += found.rouge_l
            self.rouge_l_of += 1
        if found.length_ratio is not None:
            self.length_ratio_sum += found.length_ratio
            self.length_ratio_of += 1
        self.tokens_of += found.token_source is not TokenSource.NONE
        self.tokens_estimated += found.token_source is TokenSource.CHUNKS
        self.primary.add(found.primary)
        self.shadow.add(found.shadow)

    def merge(self, other: PairTally) -> None:
        """Add all of `other`."""
        for name in _SHARES:
            getattr(self, name).merge(getattr(other, name))
        for name in _NUMBERS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.primary.merge(other.primary)
        self.shadow.merge(other.shadow)

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `from_json` reads."""
        shares = {name: [getattr(self, name).same, getattr(self, name).of] for name in _SHARES}
        numbers = {name: getattr(self, name) for name in _NUMBERS}
        return {**shares, **numbers, "primary": self.primary.to_json(), "shadow": self.shadow.to_json()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> PairTally:
        """The tally `to_json` wrote."""
        tally = cls(primary=LegTally.from_json(value["primary"]), shadow=LegTally.from_json(value["shadow"]))
        for name in _SHARES:
            setattr(tally, name, Share(*value[name]))
        for name in _NUMBERS:
            setattr(tally, name, value[name])
        return tally


_NUMBERS = (
    "pairs",
    "client_left",
    "rouge_l_sum",
    "rouge_l_of",
    "length_ratio_sum",
    "length_ratio_of",
    "tokens_of",
    "tokens_estimated",
)
