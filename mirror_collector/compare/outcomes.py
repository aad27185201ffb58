"""Comparison outcomes: the result of one pair for each measure, reduced to less, more or same.

If both variants are the same model, the shadow's answer and the noise leg's answer are interchangeable.
Which of the two is closer to the primary's answer is then a fair coin toss, for every prompt and every
measure. The same holds for the shadow's answer and the primary's answer when they are checked for a trait
such as being empty or refused, or for their length.

A pair has an outcome only for measures that apply to it. An answer that could not be read has no outcome
except `unreadable`, and only if the body is at fault and the other answer was read. If only the primary or
only the shadow failed, the pair has the outcome `failed` in any case.

The evidence that the control plane receives consists of counts: of these outcomes, and of pairs, unread
answers and tokens. Counts can be added up over blocks and over collectors.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from mirror_collector.compare.comparison import AGREEMENT_MEASURES, Agreement, Comparison
from mirror_collector.compare.traits import TRAITS
from mirror_collector.exchange import Role

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["MEASURES", "ComparisonOutcomes", "OutcomesByMeasure", "has_baseline", "outcomes_of"]

_NOT_COMPARED: Final = Agreement()
_TOLERANCE: Final = 1e-9
_NOTHING_TO_AGREE_ON: Final = frozenset({"exact", "rouge_l", "edit", "meaning", "tool_calls"})
"""Measures that are None if both answers lack what is compared, such as words or tool calls. Two answers that
both lack it agree fully. In all other measures, None means that the answer itself could not be measured."""

MEASURES: Final = (*AGREEMENT_MEASURES, *TRAITS, "length")
"""Names of all measures that have outcomes."""


@dataclass(slots=True)
class ComparisonOutcomes:
    """Number of pairs by outcome of one measure.

    =======  =====================================  ===========================  ==============
    field    agreement measures                     traits                       length
    =======  =====================================  ===========================  ==============
    `less`   the candidate agrees with the primary  only the candidate has it    its answer is
             less than the noise leg does                                        shorter
    `more`   it agrees more                         only the primary has it      it is longer
    `same`   it agrees equally                      both have it or neither has  equally long
    =======  =====================================  ===========================  ==============
    """

    less: int = 0
    more: int = 0
    same: int = 0

    def add(self, outcome: int) -> None:
        """Count one outcome: -1 is `less`, 1 is `more`, 0 is `same`."""
        if outcome < 0:
            self.less += 1
        elif outcome > 0:
            self.more += 1
        else:
            self.same += 1

    def merge(self, other: ComparisonOutcomes) -> None:
        """Add the counts of `other`."""
        self.less += other.less
        self.more += other.more
        self.same += other.same

    def to_json(self) -> list[int]:
        """Return a JSON value that `from_json` reads."""
        return [self.less, self.more, self.same]

    @classmethod
    def from_json(cls, value: list[int]) -> ComparisonOutcomes:
        """Return the counts that `to_json` wrote."""
        return cls(*value)


@dataclass(slots=True)
class OutcomesByMeasure:
    """Comparison outcomes by name of the measure."""

    by_measure: dict[str, ComparisonOutcomes] = field(default_factory=dict)

    def add(self, outcomes: Mapping[str, int]) -> None:
        """Count the outcomes of one pair."""
        for measure, outcome in outcomes.items():
            counts = self.by_measure.get(measure)
            if counts is None:
                counts = self.by_measure[measure] = ComparisonOutcomes()
            counts.add(outcome)

    def merge(self, other: OutcomesByMeasure) -> None:
        """Add the counts of `other`."""
        for measure, counts in other.by_measure.items():
            self.by_measure.setdefault(measure, ComparisonOutcomes()).merge(counts)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object that `from_json` reads."""
        return {measure: counts.to_json() for measure, counts in sorted(self.by_measure.items())}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> OutcomesByMeasure:
        """Return the counts that `to_json` wrote."""
        return cls({measure: ComparisonOutcomes.from_json(counts) for measure, counts in value.items()})


def outcomes_of(comparison: Comparison) -> dict[str, int]:
    """Return the outcome of each measure that applies to a pair: -1 is less, 1 is more, 0 is same."""
    if comparison.client_left or comparison.limited:
        return {}
    outcomes = _trait_outcomes(comparison)
    if comparison.baseline is not None and has_baseline(comparison):
        outcomes.update(_agreement_outcomes(comparison.agreement, comparison.baseline))
    return outcomes


def has_baseline(comparison: Comparison) -> bool:
    """Whether all answers were read, and both the shadow and the noise leg could be compared."""
    return (
        not comparison.unread
        and comparison.baseline is not None
        and _NOT_COMPARED not in (comparison.agreement, comparison.baseline)
    )


def _agreement_outcomes(agreement: Agreement, baseline: Agreement) -> dict[str, int]:
    outcomes = {}
    for measure in AGREEMENT_MEASURES:
        candidate, noise = getattr(agreement, measure), getattr(baseline, measure)
        if candidate is None and noise is None:
            continue
        missing = 1.0 if measure in _NOTHING_TO_AGREE_ON else 0.0
        difference = (missing if candidate is None else candidate) - (missing if noise is None else noise)
        outcomes[measure] = 0 if abs(difference) < _TOLERANCE else (1 if difference > 0 else -1)
    return outcomes


def _trait_outcomes(comparison: Comparison) -> dict[str, int]:
    candidate, primary = comparison.shadow.traits, comparison.primary.traits
    if candidate.failed or primary.failed:
        # A failed leg has no answer, so its other traits and its length mean nothing.
        outcome = primary.failed - candidate.failed
        return {} if comparison.is_unread and not outcome else {"failed": outcome}
    if comparison.is_unread:
        leg = comparison.unreadable_leg
        return {} if leg is None else {"unreadable": -1 if leg is Role.SHADOW else 1}
    outcomes = {}
    for trait in TRAITS:
        first, second = getattr(primary, trait), getattr(candidate, trait)
        if first is not None or second is not None:
            outcomes[trait] = bool(first) - bool(second)
    if comparison.primary.characters or comparison.shadow.characters:
        length = comparison.shadow.characters - comparison.primary.characters
        outcomes["length"] = (length > 0) - (length < 0)
    return outcomes
