"""Do two backends give equivalent answers? A sequential test on counts of compared shadow answers (pure).

If both backends run the same model, the shadow's answer and a second answer of the stable backend are
exchangeable: which of them is more similar to the user's answer is a fair coin, for any prompt, any sampling
and any measure. The evidence against a fair coin is a bet on all other coins at once; if the coin is fair, it
stays below 1/alpha with a probability of at least 1-alpha, however often it is checked. It depends on counts
alone, so the counts of several periods and collectors can be added.

`Equivalent` is the reverse: proof, measure by measure, that the candidate is not less similar by more than a
margin. Without enough pairs the verdict is `Inconclusive`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from math import inf, lgamma, log, log1p
from typing import TYPE_CHECKING, Final

from scipy.special import betainc

from xds_server.analysis.verdicts.e_values import log_mean_exp

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "ComparisonCounts",
    "Equivalence",
    "EquivalenceResult",
    "MeasureResult",
    "PairCounts",
    "assess_equivalence",
]


class Equivalence(Enum):
    """The verdict on the equivalence of two backends."""

    EQUIVALENT = "Equivalent"
    DIFFERENT = "Different"
    INCONCLUSIVE = "Inconclusive"


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonCounts:
    """How often the candidate was less similar, more similar, or neither.

    For a trait such as `refused`, `less` counts the pairs in which only the candidate's answer has it; for
    `length`, those in which it is shorter.
    """

    less: int = 0
    more: int = 0
    same: int = 0

    @property
    def n(self) -> int:
        """The number of comparisons."""
        return self.less + self.more + self.same


@dataclass(frozen=True, slots=True, kw_only=True)
class PairCounts:
    """The counts of compared pairs of two backends, over all collectors.

    `pairs` has all pairs: those whose client disconnected (`client_left`), those whose copy the shadow's
    limits cut off (`limited`), those of a user or session that was counted before (`repeated`), and all
    others (`counted`). `trios` are the pairs with a noise baseline, at most one per user or session.
    """

    pairs: int = 0
    client_left: int = 0
    limited: int = 0
    counted: int = 0
    trios: int = 0
    repeated: int = 0
    outcomes: Mapping[str, ComparisonCounts] = field(default_factory=dict)
    tokens: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def sum(cls, parts: Iterable[PairCounts]) -> PairCounts:
        """Return the sum of several counts."""
        numbers = dict.fromkeys(_NUMBERS, 0)
        outcomes: dict[str, list[int]] = {}
        tokens: dict[str, int] = {}
        for part in parts:
            for name in _NUMBERS:
                numbers[name] += getattr(part, name)
            for name, one in part.outcomes.items():
                known = outcomes.setdefault(name, [0, 0, 0])
                known[0] += one.less
                known[1] += one.more
                known[2] += one.same
            for role, count in part.tokens.items():
                tokens[role] = tokens.get(role, 0) + count
        return cls(
            **numbers,
            outcomes={name: ComparisonCounts(less=a, more=b, same=c) for name, (a, b, c) in outcomes.items()},
            tokens=tokens,
        )


_NUMBERS: Final = ("pairs", "client_left", "limited", "counted", "trios", "repeated")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measure:
    """The parameters of one measure: its share of alpha, its margin, and how to describe a difference."""

    alpha: float
    margin: float
    worse_only: bool = False
    """Whether only a worse candidate counts as different."""

    less: str
    more: str


_ALPHA: Final = 0.05
_MEASURES: Final = {
    # Half of alpha goes to the text, where almost every difference shows; the other measures share the rest
    # evenly.
    "rouge_l": _Measure(
        alpha=0.5,
        margin=0.2,
        less="the candidate's texts differ more from users' answers than the stable backend's second answers",
        more="the candidate's texts vary less than the stable backend's",
    ),
    "finish_reason": _Measure(
        alpha=0.05,
        margin=0.1,
        less="the candidate's answers end for other finish reasons",
        more="the candidate's finish reasons vary less",
    ),
    "tool_calls": _Measure(
        alpha=0.05,
        margin=0.1,
        less="the candidate calls other tools",
        more="the candidate's tool calls vary less",
    ),
    "language": _Measure(
        alpha=0.05,
        margin=0.1,
        worse_only=True,
        less="the candidate answers in other languages",
        more="",
    ),
    "failed": _Measure(
        alpha=0.05, margin=0.05, worse_only=True, less="the candidate fails more often", more=""
    ),
    "empty": _Measure(
        alpha=0.05, margin=0.05, worse_only=True, less="the candidate's answers are empty more often", more=""
    ),
    "refused": _Measure(
        alpha=0.05,
        margin=0.05,
        less="the candidate refuses more often",
        more="the candidate refuses less often",
    ),
    "cut": _Measure(
        alpha=0.05,
        margin=0.1,
        less="the candidate's answers are cut off more often",
        more="the candidate's answers are cut off less often",
    ),
    "invalid_json": _Measure(
        alpha=0.05, margin=0.05, worse_only=True, less="the candidate's JSON is invalid more often", more=""
    ),
    "invalid_calls": _Measure(
        alpha=0.05,
        margin=0.05,
        worse_only=True,
        less="the candidate's tool calls are invalid more often",
        more="",
    ),
    "length": _Measure(
        alpha=0.05,
        margin=0.25,
        less="the candidate's answers are shorter",
        more="the candidate's answers are longer",
    ),
}
_BETS: Final = tuple(step / 12 for step in range(1, 12))


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureResult:
    """The result of one measure; `against` and `support` are log e-values, scaled so that 1 decides."""

    measure: str
    outcomes: ComparisonCounts
    equivalence: Equivalence
    against: float
    support: float
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EquivalenceResult:
    """The verdict with its counts; `message` gives the reason, or what is missing for a verdict."""

    equivalence: Equivalence
    message: str
    counts: PairCounts
    measures: tuple[MeasureResult, ...] = ()


def assess_equivalence(counts: PairCounts, *, alpha: float = _ALPHA) -> EquivalenceResult:
    """Return the equivalence verdict on the counts of all pairs so far.

    Args:
        counts: The counts of all collectors since the shadow began.
        alpha: The probability of calling equal backends different, over all checks together; the probability
            of calling different ones equivalent is the same.
    """
    results = tuple(
        _measure_result(name, measure, counts, alpha)
        for name, measure in _MEASURES.items()
        if _applies(counts, name)
    )
    different = [result for result in results if result.equivalence is Equivalence.DIFFERENT]
    if different:
        message = "; ".join(map(_describe, sorted(different, key=lambda result: -result.against)))
        return EquivalenceResult(
            equivalence=Equivalence.DIFFERENT, message=message, counts=counts, measures=results
        )
    missing = _missing_evidence(counts, results)
    verdict = Equivalence.INCONCLUSIVE if missing else Equivalence.EQUIVALENT
    message = missing or (
        f"{counts.trios:,} pairs with a noise baseline and {counts.counted:,} in all: "
        "no measure differs by more than its margin"
    )
    return EquivalenceResult(equivalence=verdict, message=message, counts=counts, measures=results)


def _applies(counts: PairCounts, name: str) -> bool:
    outcomes = counts.outcomes.get(name)
    return outcomes is not None and outcomes.n > 0


def _measure_result(name: str, measure: _Measure, counts: PairCounts, alpha: float) -> MeasureResult:
    outcomes = counts.outcomes[name]
    needed = -log(alpha * measure.alpha)
    against = _log_evidence_of_difference(outcomes, one_sided=measure.worse_only)
    support = _log_evidence_within(outcomes.more, outcomes.same, outcomes.less, measure.margin)
    if not measure.worse_only:
        reverse = _log_evidence_within(outcomes.less, outcomes.same, outcomes.more, measure.margin)
        support = min(support, reverse)
    verdict = Equivalence.INCONCLUSIVE
    if against >= needed:
        verdict = Equivalence.DIFFERENT
    elif support >= -log(alpha):
        verdict = Equivalence.EQUIVALENT
    return MeasureResult(
        measure=name,
        outcomes=outcomes,
        equivalence=verdict,
        against=max(0.0, against / needed),
        support=max(0.0, support / -log(alpha)),
        message=measure.less if outcomes.less >= outcomes.more else measure.more,
    )


def _describe(result: MeasureResult) -> str:
    outcomes = result.outcomes
    most, differing = max(outcomes.less, outcomes.more), outcomes.less + outcomes.more
    return f"{result.message} ({result.measure}: {most:,} of the {differing:,} pairs that differ)"


def _missing_evidence(counts: PairCounts, results: tuple[MeasureResult, ...]) -> str:
    """Return what an Equivalent verdict still needs; "" if nothing is missing."""
    if not counts.counted:
        return "no pair of answers was compared yet"
    if not counts.trios:
        return (
            "no difference so far; texts can be judged only with a noise baseline "
            "(shadow.compare.noiseBaseline)"
        )
    undecided = [result for result in results if result.equivalence is Equivalence.INCONCLUSIVE]
    if not undecided:
        return ""
    slowest = min(undecided, key=lambda result: result.support)
    remaining = ""
    if slowest.support > 0:
        pairs = max(1, round(slowest.outcomes.n * (1 / slowest.support - 1)))
        remaining = f", about {pairs:,} more pairs at this rate"
    names = ", ".join(result.measure for result in undecided)
    return f"not enough pairs yet to exclude a difference in {names}{remaining}"


def _log_evidence_of_difference(outcomes: ComparisonCounts, *, one_sided: bool) -> float:
    """Return the log evidence against a fair coin; if `one_sided`, only for a less similar candidate."""
    less, more = outcomes.less, outcomes.more
    n = less + more
    even = lgamma(1 + less) + lgamma(1 + more) - lgamma(2 + n) + n * log(2)
    if not one_sided:
        return even
    beyond = float(betainc(1 + more, 1 + less, 0.5))
    return even + log(2 * beyond) if beyond > 0 else -inf


def _log_evidence_within(better: int, equal: int, worse: int, margin: float) -> float:
    """Return the log evidence that `worse` exceeds `better` by less than `margin` of all pairs.

    Each pair scores 0 (better), ½ or 1 (worse); the bet is against a mean score of at least ½ + margin/2.
    """
    bound = (1 + margin) / 2
    bets = []
    for share in _BETS:
        bet = share / (1 - bound)
        low = log1p(-share)
        bets.append(
            better * log1p(bet * bound) + equal * log1p(bet * (bound - 0.5)) + (worse * low if worse else 0.0)
        )
    return log_mean_exp(bets)
