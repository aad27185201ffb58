"""Evidence blocks: comparison outcomes of the pairs of two variants, counted per ten seconds.

Pairs of one user or session can resemble each other in ways independent prompts do not. Where requests carry
a user or session, only the first pair of each user or session with each API is therefore counted in the
outcomes. For measures that need a noise leg, it is the first pair that has one. Outcomes are counted by API,
because the answers of one API are no evidence about another.

A block is never final. If more pairs are counted in a block, the store replaces the block as a whole.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from mirror_collector.compare.outcomes import OutcomesByMeasure, has_baseline, outcomes_of
from mirror_collector.compare.readability import Coverage
from mirror_collector.compare.traits import TRAITS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mirror_collector.compare.comparison import Comparison

__all__ = ["BLOCK_SECONDS", "ApiCounts", "EvidenceBlock", "block_start"]

BLOCK_SECONDS: Final = 10
"""Duration of a block in seconds."""

_WITHOUT_BASELINE: Final = frozenset({*TRAITS, "length"})
"""Measures that need no noise leg."""


@dataclass(slots=True, kw_only=True)
class ApiCounts:
    """The counts of one API in a block."""

    pairs: int = 0
    """All pairs of the API, including those that are not counted in `outcomes`."""

    trios: int = 0
    coverage: Coverage = field(default_factory=Coverage)
    """Coverage of the pairs counted in `outcomes`."""

    outcomes: OutcomesByMeasure = field(default_factory=OutcomesByMeasure)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object that `from_json` reads."""
        return {
            "pairs": self.pairs,
            "trios": self.trios,
            "coverage": self.coverage.to_json(),
            "signs": self.outcomes.to_json(),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ApiCounts:
        """Return the counts that `to_json` wrote."""
        return cls(
            pairs=value["pairs"],
            trios=value["trios"],
            coverage=Coverage.from_json(value["coverage"]),
            outcomes=OutcomesByMeasure.from_json(value["signs"]),
        )


@dataclass(slots=True, kw_only=True)
class EvidenceBlock:
    """The counts of one block."""

    pairs: int = 0
    client_left: int = 0
    limited: int = 0
    counted: int = 0
    """Pairs counted in `outcomes` for the measures that need no noise leg."""

    trios: int = 0
    """Pairs counted in `outcomes` for the measures that need a noise leg."""

    repeated: int = 0
    """Pairs of a user or session of which an earlier pair with the same API was counted."""

    outcomes: OutcomesByMeasure = field(default_factory=OutcomesByMeasure)
    """Comparison outcomes by measure, of all APIs."""

    apis: dict[str, ApiCounts] = field(default_factory=dict)
    """The counts by API; empty in blocks of earlier releases."""

    tokens: Counter[str] = field(default_factory=Counter)
    """Completion tokens of all legs by role, as far as they could be counted."""

    def add(self, comparison: Comparison, *, first_of_unit: bool, first_baseline_of_unit: bool) -> None:
        """Count one pair.

        Args:
            comparison: the comparison of the pair.
            first_of_unit: whether no earlier pair of its user or session with this API was counted.
            first_baseline_of_unit: whether no earlier pair of its user or session with this API was counted
                in `trios`.
        """
        self.pairs += 1
        api = self.apis.setdefault(comparison.api.value, ApiCounts())
        api.pairs += 1
        for role, measures in (
            ("primary", comparison.primary),
            ("shadow", comparison.shadow),
            ("noise", comparison.noise),
        ):
            if measures is not None and measures.tokens_used:
                self.tokens[role] += measures.tokens_used
        if comparison.client_left or comparison.limited:
            self.client_left += comparison.client_left
            self.limited += comparison.limited and not comparison.client_left
            return
        outcomes = {
            measure: outcome
            for measure, outcome in outcomes_of(comparison).items()
            if (first_of_unit if measure in _WITHOUT_BASELINE else first_baseline_of_unit)
        }
        self.outcomes.add(outcomes)
        api.outcomes.add(outcomes)
        self.counted += first_of_unit
        if first_of_unit:
            api.coverage.add(comparison)
        trio = has_baseline(comparison) and first_baseline_of_unit
        self.trios += trio
        api.trios += trio
        self.repeated += not first_of_unit

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object that `from_json` reads."""
        numbers = {name: getattr(self, name) for name in _NUMBERS}
        return {
            **numbers,
            "signs": self.outcomes.to_json(),
            "apis": {api: counts.to_json() for api, counts in self.apis.items()},
            "tokens": dict(self.tokens),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> EvidenceBlock:
        """Return the block that `to_json` of this or an earlier release wrote."""
        numbers = {name: value[name] for name in _NUMBERS}
        outcomes = OutcomesByMeasure.from_json(value["signs"])
        apis = {api: ApiCounts.from_json(counts) for api, counts in value.get("apis", {}).items()}
        return cls(**numbers, outcomes=outcomes, apis=apis, tokens=Counter(value["tokens"]))


_NUMBERS: Final = ("pairs", "client_left", "limited", "counted", "trios", "repeated")


def block_start(now: float) -> int:
    """Return the start of the block that contains `now`, in seconds since the epoch."""
    return int(now // BLOCK_SECONDS) * BLOCK_SECONDS
