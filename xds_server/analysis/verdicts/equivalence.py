"""Do two backends give equivalent answers? A sequential test on counts of compared answers (pure).

If both backends run the same model, the shadow's answer and a second answer of the stable backend are
exchangeable: which of them is more similar to the user's answer is a fair coin, for any prompt, any sampling
and any measure. The evidence against a fair coin is a bet on all other coins at once; if the coin is fair, it
stays below 1/alpha with a probability of at least 1-alpha, however often it is checked. It depends on counts
alone, so the counts of several periods and collectors can be added.

`Equivalent` is the reverse: proof, API by API and measure by measure, that the candidate is not less similar
by more than a margin. It needs a minimum of pairs that were read: what could not be read is no evidence.
Without enough pairs the verdict is `Inconclusive`.

For `Different`, alpha is split over APIs and measures, since one difference is enough. For `Equivalent` it is
not, since every measure has to be proven.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from math import log
from typing import TYPE_CHECKING, Final

from xds_server.analysis.verdicts.equivalence_measures import (
    MEASURES,
    Measure,
    api_share,
    evidence_of_difference,
    evidence_within,
)
from xds_server.analysis.verdicts.pair_counts import UNKNOWN_API

if TYPE_CHECKING:
    from xds_server.analysis.verdicts.pair_counts import ApiCounts, ComparisonCounts, PairCounts

__all__ = ["ApiResult", "Equivalence", "EquivalenceResult", "MeasureResult", "assess_equivalence"]


class Equivalence(Enum):
    """The verdict on the equivalence of two backends."""

    EQUIVALENT = "Equivalent"
    DIFFERENT = "Different"
    INCONCLUSIVE = "Inconclusive"


_ALPHA: Final = 0.05
_MIN_PAIRS: Final = 100
_LEAST_SHARE: Final = 0.05
"""APIs with a smaller share of the copies are not required for Equivalent, but are named."""

_LEAST_SHARE_OF_MEASURE: Final = 0.01
"""Measures that apply to a smaller share of an API's pairs are not required either, but are named."""

_MOST_UNREAD: Final = 0.5
_MOST_UNREAD_OF_CANDIDATE: Final = 0.1
"""By how much the unread answers of the candidate may exceed those of the stable backend, as a share of the
pairs. Above it, the pairs that were read are no fair sample: the unread answers may be those that differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureResult:
    """The result of one measure of one API.

    `against` and `support` are log e-values, scaled so that 1 decides. `required` is whether Equivalent needs
    this measure.
    """

    api: str
    measure: str
    outcomes: ComparisonCounts
    equivalence: Equivalence
    against: float
    support: float
    message: str
    required: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiResult:
    """The verdict on one API.

    `share` is its share of all copies, in [0, 1]. `required` is whether Equivalent needs this API. `blind` is
    whether too many of its answers could not be read. `message` describes the evidence that Equivalent still
    needs; it is empty if nothing is missing.
    """

    api: str
    share: float
    counts: ApiCounts
    required: bool
    blind: bool
    equivalence: Equivalence
    message: str
    measures: tuple[MeasureResult, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EquivalenceResult:
    """The verdict with its counts; `message` gives the reason, or what is missing for a verdict."""

    equivalence: Equivalence
    message: str
    counts: PairCounts
    apis: tuple[ApiResult, ...] = ()

    @property
    def measures(self) -> tuple[MeasureResult, ...]:
        """The results of the measures of all APIs."""
        return tuple(measure for api in self.apis for measure in api.measures)

    @property
    def blind(self) -> bool:
        """Whether too many answers of an API that Equivalent needs could not be read."""
        return any(api.required and api.blind for api in self.apis)


def assess_equivalence(
    counts: PairCounts, *, min_pairs: int = _MIN_PAIRS, alpha: float = _ALPHA
) -> EquivalenceResult:
    """Return the equivalence verdict on the counts of all pairs so far.

    Args:
        counts: The counts of all collectors since the shadow began.
        min_pairs: The minimum of pairs that were read, for each API with at least 5 % of the copies.
        alpha: The probability of calling equal backends different, over all checks, APIs and measures
            together; the probability of calling different ones equivalent is the same.
    """
    by_api = counts.by_api()
    total = sum(one.pairs for one in by_api.values()) or counts.counted
    apis = tuple(
        _assess_api(api, one, _share(one, total, len(by_api)), min_pairs, alpha)
        for api, one in sorted(by_api.items(), key=lambda item: (-item[1].pairs, item[0]))
    )
    verdict, message = _overall(counts, apis)
    return EquivalenceResult(equivalence=verdict, message=message, counts=counts, apis=apis)


def _share(counts: ApiCounts, total: int, apis: int) -> float:
    return 1.0 if apis == 1 else counts.pairs / total if total else 0.0


def _overall(counts: PairCounts, apis: tuple[ApiResult, ...]) -> tuple[Equivalence, str]:
    different = [one for api in apis for one in api.measures if one.equivalence is Equivalence.DIFFERENT]
    several = len(apis) > 1
    if different:
        found = sorted(different, key=lambda result: -result.against)
        return Equivalence.DIFFERENT, "; ".join(_describe(one, named=several) for one in found)
    if not counts.counted:
        return Equivalence.INCONCLUSIVE, "no pair of answers was compared yet"
    missing = [api for api in apis if api.required and api.equivalence is not Equivalence.EQUIVALENT]
    omitted = _describe_not_required(apis)
    if missing:
        words = "; ".join(f"{api.api}: {api.message}" if several else api.message for api in missing)
        return Equivalence.INCONCLUSIVE, words + omitted
    read = sum(api.counts.read for api in apis)
    words = (
        "no measure differs by more than its margin "
        f"({read:,} pairs were read, {counts.trios:,} pairs have a noise baseline)"
    )
    return Equivalence.EQUIVALENT, words + omitted


def _describe_not_required(apis: tuple[ApiResult, ...]) -> str:
    """Return the APIs and measures with too few pairs to be required for Equivalent; "" without any."""
    names = [f"{api.api} ({api.counts.pairs:,} pairs)" for api in apis if not api.required]
    names += [
        f"{one.measure} ({one.outcomes.n:,} pairs{f' of {api.api}' if len(apis) > 1 else ''})"
        for api in apis
        if api.required
        for one in api.measures
        if not one.required and one.equivalence is not Equivalence.EQUIVALENT
    ]
    return f"; not required, too few pairs: {', '.join(names)}" if names else ""


def _assess_api(api: str, counts: ApiCounts, share: float, min_pairs: int, alpha: float) -> ApiResult:
    of_api = alpha * api_share(api, alone=api == UNKNOWN_API)
    measures = tuple(
        _measure_result(api, name, counts, alpha, of_api)
        for name in MEASURES
        if name in counts.outcomes and counts.outcomes[name].n
    )
    unread = _too_many_unread(counts)
    missing = unread or _missing_evidence(counts, measures, min_pairs)
    verdict = Equivalence.INCONCLUSIVE if missing else Equivalence.EQUIVALENT
    if any(one.equivalence is Equivalence.DIFFERENT for one in measures):
        verdict = Equivalence.DIFFERENT
    return ApiResult(
        api=api,
        share=share,
        counts=counts,
        required=share >= _LEAST_SHARE,
        blind=bool(unread),
        equivalence=verdict,
        message=missing,
        measures=measures,
    )


def _measure_result(
    api: str, name: str, counts: ApiCounts, alpha: float, alpha_of_api: float
) -> MeasureResult:
    measure, outcomes = MEASURES[name], counts.outcomes[name]
    needed = -log(alpha_of_api * measure.alpha)
    against = evidence_of_difference(outcomes, one_sided=measure.worse_only)
    support = evidence_within(outcomes.more, outcomes.same, outcomes.less, measure)
    if not measure.worse_only:
        support = min(support, evidence_within(outcomes.less, outcomes.same, outcomes.more, measure))
    verdict = Equivalence.INCONCLUSIVE
    if against >= needed:
        verdict = Equivalence.DIFFERENT
    elif support >= -log(alpha):
        verdict = Equivalence.EQUIVALENT
    return MeasureResult(
        api=api,
        measure=name,
        outcomes=outcomes,
        equivalence=verdict,
        against=max(0.0, against / needed),
        support=max(0.0, support / -log(alpha)),
        message=measure.less if outcomes.less >= outcomes.more else measure.more,
        required=outcomes.n >= _LEAST_SHARE_OF_MEASURE * _possible(measure, counts),
    )


def _possible(measure: Measure, counts: ApiCounts) -> int:
    """Return the number of pairs to which a measure could apply."""
    return counts.trios if measure.needs_baseline else counts.read


def _describe(result: MeasureResult, *, named: bool) -> str:
    outcomes = result.outcomes
    api = f"{result.api}: " if named else ""
    most, differing = max(outcomes.less, outcomes.more), outcomes.less + outcomes.more
    return f"{api}{result.message} ({result.measure}: {most:,} of the {differing:,} pairs that differ)"


def _too_many_unread(counts: ApiCounts) -> str:
    """Return why the pairs that were read are no fair sample of the API's pairs; "" if they are."""
    legs = dict.fromkeys(("primary", "shadow"), 0)
    for (leg, _reason), n in counts.unread_legs.items():
        if leg in legs:
            legs[leg] += n
    if counts.unread > _MOST_UNREAD * counts.counted:
        words = f"{counts.unread:,} of {counts.counted:,} pairs could not be read"
    elif legs["shadow"] - legs["primary"] > _MOST_UNREAD_OF_CANDIDATE * counts.counted:
        words = (
            f"{legs['shadow']:,} of {counts.counted:,} answers of the candidate could not be read, "
            f"and {legs['primary']:,} of the stable backend"
        )
    else:
        return ""
    reasons = ", ".join(f"{leg} {reason} {n:,}" for (leg, reason), n in sorted(counts.unread_legs.items()))
    return f"{words} (unread answers by leg and reason: {reasons})"


def _missing_evidence(counts: ApiCounts, measures: tuple[MeasureResult, ...], min_pairs: int) -> str:
    """Return what an Equivalent verdict still needs; "" if nothing is missing."""
    if not counts.counted:
        return "no pair of answers was compared yet"
    if not counts.trios and counts.read:
        return (
            "no pair has a noise baseline yet; texts can be compared only with a noise baseline "
            "(shadow.compare.noiseBaseline)"
        )
    if counts.read < min_pairs or not counts.trios:
        return f"{counts.read:,} of {counts.counted:,} pairs were read; at least {min_pairs:,} are required"
    undecided = [one for one in measures if one.required and one.equivalence is Equivalence.INCONCLUSIVE]
    if not undecided:
        return ""
    slowest = min(undecided, key=lambda result: result.support)
    remaining = ""
    if slowest.support > 0:
        pairs = max(1, round(slowest.outcomes.n * (1 / slowest.support - 1)))
        remaining = f"; about {pairs:,} more pairs are needed at this rate"
    names = ", ".join(result.measure for result in undecided)
    return f"not enough pairs yet to exclude a difference in {names}{remaining}"
