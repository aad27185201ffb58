"""How counts of comparison outcomes become a verdict on two backends: evidence, thresholds and messages."""

from __future__ import annotations

from math import comb, exp, log
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror_collector import compare
from mirror_collector.exchange import Api
from xds_server.analysis.verdicts import (
    ApiCounts,
    ComparisonCounts,
    Equivalence,
    EquivalenceResult,
    MeasureResult,
    PairCounts,
    assess_equivalence,
)
from xds_server.analysis.verdicts.equivalence_measures import (
    API_SHARES,
    MEASURES,
    Measure,
    api_share,
    evidence_of_difference,
    evidence_within,
)

COINS = np.linspace(0, 1, 200_001)


def assess(
    outcomes: dict[str, ComparisonCounts], *, alpha: float = 0.05, trios: int = 1_000
) -> EquivalenceResult:
    """Assess the outcomes of each measure."""
    return assess_equivalence(PairCounts(counted=1_000, trios=trios, outcomes=outcomes), alpha=alpha)


def measure_result(name: str, outcomes: ComparisonCounts, alpha: float = 0.05) -> MeasureResult:
    """Return the result of the only measure."""
    (found,) = assess({name: outcomes}, alpha=alpha).measures
    return found


def mean_over_coins(less: int, more: int, *, from_: float) -> float:
    """Return the likelihood of the flips against a fair coin, on average over all coins above a bound."""
    coins = COINS[from_ <= COINS]
    return float(np.mean((2 * coins) ** less * (2 * (1 - coins)) ** more))


def test_all_measures_and_apis_together_spend_alpha() -> None:
    assert sum(measure.alpha for measure in MEASURES.values()) == pytest.approx(1.0)
    unlisted = 10 * api_share("an API of a newer collector", alone=False)
    assert sum(API_SHARES.values()) + unlisted == pytest.approx(1.0)
    assert api_share("unknown", alone=True) == 1.0


def test_every_api_and_judged_measure_of_the_collector_has_its_share() -> None:
    assert set(API_SHARES) == {api.value for api in Api}
    assert set(compare.MEASURES) - set(MEASURES) == {"exact", "edit", "meaning"}
    assert set(MEASURES) <= set(compare.MEASURES)


def test_each_measure_has_its_margin() -> None:
    third = pytest.approx(1 / 3)
    text = dict.fromkeys(("rouge_l", *compare.ANSWER_MEASURES), (0.2, 0.0, False))
    rare = ("failed", "unreadable", "empty", "invalid_json", "invalid_calls")
    found = {name: (one.margin, one.of_own, one.worse_only) for name, one in MEASURES.items()}
    assert found == text | dict.fromkeys(rare, (0.01, third, True)) | {
        "finish_reason": (0.05, third, False),
        "tool_calls": (0.01, third, False),
        "language": (0.05, third, True),
        "refused": (0.01, third, False),
        "cut": (0.05, third, False),
        "length": (0.25, 0.0, False),
    }


def test_a_measure_reports_its_evidence_relative_to_the_deciding_value() -> None:
    outcomes = ComparisonCounts(less=5, more=1, same=20)
    found = measure_result("cut", outcomes)
    assert found.against == pytest.approx(
        evidence_of_difference(outcomes, one_sided=False) / -log(0.05 * MEASURES["cut"].alpha)
    )
    assert 0 < found.against < 1
    assert measure_result("failed", ComparisonCounts(more=20)).against == 0.0


# Evidence


@pytest.mark.parametrize(("less", "more"), [(0, 0), (1, 0), (3, 1), (1, 3), (20, 5), (5, 20)])
def test_evidence_against_a_fair_coin_is_a_bet_on_all_others(less: int, more: int) -> None:
    two_sided = 2 ** (less + more) / ((less + more + 1) * comb(less + more, less))
    assert exp(
        evidence_of_difference(ComparisonCounts(less=less, more=more), one_sided=False)
    ) == pytest.approx(two_sided)
    assert mean_over_coins(less, more, from_=0.0) == pytest.approx(two_sided, rel=1e-3)
    one_sided = exp(evidence_of_difference(ComparisonCounts(less=less, more=more), one_sided=True))
    assert one_sided == pytest.approx(mean_over_coins(less, more, from_=0.5), rel=1e-3)


def test_pairs_without_a_difference_are_no_evidence_of_one() -> None:
    for one_sided in (True, False):
        assert evidence_of_difference(
            ComparisonCounts(less=4, more=2, same=99), one_sided=one_sided
        ) == evidence_of_difference(ComparisonCounts(less=4, more=2), one_sided=one_sided)


def test_a_much_better_candidate_gives_no_evidence_of_a_difference() -> None:
    assert evidence_of_difference(ComparisonCounts(more=5_000), one_sided=True) < -1_000


@pytest.mark.parametrize(("margin", "of_own"), [(0.2, 0.0), (0.05, 0.25)])
@pytest.mark.parametrize("counts", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (5, 3, 2), (0, 200, 0)])
def test_evidence_for_equivalence_is_a_mean_of_bets(
    counts: tuple[int, int, int], margin: float, of_own: float
) -> None:
    good, neither, bad = counts
    bets = []
    for twelfth in range(1, 12):
        stake = twelfth / 12 / (1 - margin)
        wins = [1 - stake * (score - margin) for score in (-1 - of_own, 0.0, 1.0)]
        bets.append(wins[0] ** good * wins[1] ** neither * wins[2] ** bad)
    measure = Measure(alpha=1.0, margin=margin, of_own=of_own, less="")
    assert evidence_within(good, neither, bad, measure) == pytest.approx(log(sum(bets) / 11))


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("own", [0.0, 0.03, 0.3])
def test_at_the_margin_the_evidence_for_equivalence_does_not_grow(name: str, own: float) -> None:
    """Each bet is fair if `less` exceeds `more` by exactly the margin: its mean stays 1."""
    measure = MEASURES[name]
    less = measure.margin + own * (1 + measure.of_own)
    shares = {(0, 0, 1): less, (1, 0, 0): own, (0, 1, 0): 1 - less - own}
    mean = sum(share * exp(evidence_within(*outcome, measure)) for outcome, share in shares.items())
    assert mean == pytest.approx(1.0)


# Verdicts


def least_different(name: str, *, side: str, alpha: float = 0.05) -> int:
    """Return the least number of outcomes on one side for which the backends are different."""
    return next(
        n
        for n in range(1, 200)
        if measure_result(name, ComparisonCounts(**{side: n}), alpha).equivalence is Equivalence.DIFFERENT
    )


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("alpha", [0.05, 0.001])
def test_a_difference_is_proven_at_the_share_of_alpha_of_its_measure(name: str, alpha: float) -> None:
    measure = MEASURES[name]
    n = least_different(name, side="less", alpha=alpha)
    evidence = [
        2 ** (k + 1) * (1 - 0.5 ** (k + 1)) / (k + 1) if measure.worse_only else 2**k / (k + 1)
        for k in (n - 1, n)
    ]
    assert evidence[0] < 1 / (alpha * measure.alpha) <= evidence[1]
    if not measure.worse_only:
        assert least_different(name, side="more", alpha=alpha) == n


@pytest.mark.parametrize("name", [name for name, measure in MEASURES.items() if measure.worse_only])
def test_a_better_candidate_is_not_different(name: str) -> None:
    found = measure_result(name, ComparisonCounts(more=5_000))
    assert (found.equivalence, found.against) == (Equivalence.EQUIVALENT, 0.0)


@pytest.mark.parametrize("name", MEASURES)
def test_equivalence_requires_the_number_of_pairs_that_follows_from_the_margin(name: str) -> None:
    measure, alpha = MEASURES[name], 0.05
    sides = [ComparisonCounts(same=n) for n in range(1, 2_000)]
    n = next(one.n for one in sides if measure_result(name, one).equivalence is Equivalence.EQUIVALENT)
    assert evidence_within(0, n - 1, 0, measure) < -log(alpha) <= evidence_within(0, n, 0, measure)


@pytest.mark.parametrize("name", [name for name, measure in MEASURES.items() if not measure.worse_only])
def test_a_two_sided_measure_requires_equivalence_on_both_sides(name: str) -> None:
    less_similar = ComparisonCounts(less=30, same=470)
    more_similar = ComparisonCounts(more=30, same=470)
    assert measure_result(name, less_similar).support == pytest.approx(
        measure_result(name, more_similar).support
    )
    worst = min(
        evidence_within(0, 470, 30, MEASURES[name]),
        evidence_within(30, 470, 0, MEASURES[name]),
    )
    assert measure_result(name, less_similar).support == pytest.approx(max(0.0, worst / -log(0.05)))


@given(st.integers(0, 400), st.integers(0, 400), st.integers(0, 400), st.sampled_from(sorted(MEASURES)))
def test_the_result_of_a_measure_follows_from_its_evidence(
    less: int, more: int, same: int, name: str
) -> None:
    outcomes = ComparisonCounts(less=less, more=more, same=same)
    if not outcomes.n:
        assert assess({name: outcomes}).measures == ()
        return
    found = measure_result(name, outcomes)
    assert found.outcomes == outcomes
    if found.equivalence is Equivalence.DIFFERENT:
        assert found.against >= 1
    elif found.equivalence is Equivalence.EQUIVALENT:
        assert found.against < 1 <= found.support
    else:
        assert max(found.against, found.support) < 1
    measure = MEASURES[name]
    assert found.message == (measure.less if less >= more else measure.more)


# The verdict on all measures


EQUIVALENT = ComparisonCounts(less=200, more=200)


def test_one_difference_is_enough_and_the_strongest_comes_first() -> None:
    outcomes = {
        "rouge_l": EQUIVALENT,
        "refused": ComparisonCounts(less=15, same=500),
        "cut": ComparisonCounts(less=90, same=500),
        "failed": ComparisonCounts(same=900),
    }
    found = assess(outcomes)
    assert found.equivalence is Equivalence.DIFFERENT
    assert (
        found.message
        == "the candidate's answers are cut off more often (cut: 90 of the 90 pairs that differ); "
        "the candidate refuses more often (refused: 15 of the 15 pairs that differ)"
    )


def test_equivalence_requires_all_measures_and_a_noise_baseline() -> None:
    equivalent = {"rouge_l": EQUIVALENT, "failed": ComparisonCounts(same=900)}
    found = assess(equivalent)
    assert found.equivalence is Equivalence.EQUIVALENT
    assert found.message.startswith(
        "no measure differs by more than its margin (1,000 pairs were read, 1,000 "
    )
    without_baseline = assess(equivalent, trios=0)
    assert (
        without_baseline.equivalence,
        "texts can be compared only with a noise baseline" in without_baseline.message,
    ) == (
        Equivalence.INCONCLUSIVE,
        True,
    )
    assert assess(equivalent | {"cut": ComparisonCounts(same=10)}).equivalence is Equivalence.INCONCLUSIVE
    nothing = assess_equivalence(PairCounts(trios=5, outcomes=equivalent))
    assert (nothing.equivalence, nothing.message) == (
        Equivalence.INCONCLUSIVE,
        "no pair of answers was compared yet",
    )


def test_the_missing_pairs_are_estimated_from_the_slowest_measure() -> None:
    found = assess(
        {"rouge_l": EQUIVALENT, "cut": ComparisonCounts(same=30), "failed": ComparisonCounts(same=40)}
    )
    undecided = {one.measure: one for one in found.measures if one.equivalence is Equivalence.INCONCLUSIVE}
    assert sorted(undecided) == ["cut", "failed"]
    slowest = min(undecided.values(), key=lambda one: one.support)
    pairs = slowest.outcomes.n * (1 / slowest.support - 1)
    assert found.message == (
        "not enough pairs yet to exclude a difference in failed, cut; "
        f"about {max(1, round(pairs)):,} more pairs are needed at this rate"
    )
    none = assess({"rouge_l": ComparisonCounts(less=14, more=6)})
    assert none.message == "not enough pairs yet to exclude a difference in rouge_l"


# APIs


def api_counts(pairs: int, **overrides: Any) -> ApiCounts:
    """Return the counts of an API whose pairs were all read and do not differ."""
    same = ComparisonCounts(same=pairs)
    fields: dict[str, Any] = {
        "pairs": pairs,
        "counted": pairs,
        "read": pairs,
        "trios": pairs,
        "outcomes": {"failed": same, "rouge_l": same},
    }
    return ApiCounts(**fields | overrides)


def unread(pairs: int, *legs: str, reason: str = "encoding") -> ApiCounts:
    """Return the counts of an API of which no pair was read."""
    unread_legs = {(leg, reason): pairs for leg in legs}
    return ApiCounts(pairs=pairs, counted=pairs, unread=pairs, unread_legs=unread_legs)


def assess_apis(min_pairs: int = 100, **apis: ApiCounts) -> EquivalenceResult:
    """Assess the counts of several APIs."""
    parts = list(apis.values())
    return assess_equivalence(
        PairCounts(
            pairs=sum(one.pairs for one in parts),
            counted=sum(one.counted for one in parts),
            trios=sum(one.trios for one in parts),
            apis=apis,
        ),
        min_pairs=min_pairs,
    )


@pytest.mark.parametrize("legs", [("shadow",), ("primary",), ("primary", "shadow")])
@pytest.mark.parametrize("pairs", [1, 200, 100_000])
def test_what_could_not_be_read_is_never_equivalent(legs: tuple[str, ...], pairs: int) -> None:
    found = assess_apis(speech=unread(pairs, *legs, reason="binary"))
    assert (found.equivalence, found.blind) == (Equivalence.INCONCLUSIVE, True)
    assert found.message.startswith(f"{pairs:,} of {pairs:,} pairs could not be read (")
    assert f"{legs[0]} binary {pairs:,}" in found.message


def test_every_api_with_a_share_of_five_percent_needs_its_own_pairs() -> None:
    found = assess_apis(chat=api_counts(2_000), embeddings=unread(200, "shadow"))
    assert (found.equivalence, found.blind) == (Equivalence.INCONCLUSIVE, True)
    assert found.message.startswith("embeddings: 200 of 200 pairs could not be read (unread answers ")
    assert found.message.endswith("by leg and reason: shadow encoding 200)")
    few = assess_apis(chat=api_counts(2_000), embeddings=api_counts(2_000, read=80, outcomes={}))
    assert few.message == "embeddings: 80 of 2,000 pairs were read; at least 100 are required"
    assert assess_apis(min_pairs=80, chat=api_counts(2_000), embeddings=api_counts(2_000)).equivalence is (
        Equivalence.EQUIVALENT
    )


def test_an_api_with_a_smaller_share_is_named_as_not_required() -> None:
    found = assess_apis(chat=api_counts(2_000), rerank=unread(40, "shadow"))
    assert (found.equivalence, found.blind) == (Equivalence.EQUIVALENT, False)
    assert found.message.endswith("; not required, too few pairs: rerank (40 pairs)")


def test_a_difference_in_any_api_is_a_difference() -> None:
    broken = api_counts(20, outcomes={"unreadable": ComparisonCounts(less=20)})
    found = assess_apis(chat=api_counts(100_000), rerank=broken)
    assert found.equivalence is Equivalence.DIFFERENT
    assert found.message == (
        "rerank: the candidate's answers are unreadable more often "
        "(unreadable: 20 of the 20 pairs that differ)"
    )


def test_answers_that_only_the_candidate_sends_in_an_unreadable_form_hold_the_verdict() -> None:
    """The unread answers may be the ones that differ, although most pairs were read."""
    some = api_counts(1_000, read=850, unread=150, unread_legs={("shadow", "truncated"): 150})
    found = assess_apis(chat=some)
    assert (found.equivalence, found.blind) == (Equivalence.INCONCLUSIVE, True)
    assert found.message == (
        "150 of 1,000 answers of the candidate could not be read, and 0 of the stable backend "
        "(unread answers by leg and reason: shadow truncated 150)"
    )
    legs = {("shadow", "truncated"): 150, ("primary", "truncated"): 140, ("noise", "truncated"): 900}
    both = api_counts(1_000, read=850, unread=150, unread_legs=legs)
    assert assess_apis(chat=both).equivalence is Equivalence.EQUIVALENT


def test_a_measure_of_few_pairs_is_named_and_one_of_more_is_required() -> None:
    def with_calls(n: int) -> EquivalenceResult:
        same = ComparisonCounts(same=10_000)
        outcomes = {"failed": same, "rouge_l": same, "invalid_calls": ComparisonCounts(same=n)}
        return assess_apis(chat=api_counts(10_000, outcomes=outcomes))

    assert with_calls(99).message.endswith("; not required, too few pairs: invalid_calls (99 pairs)")
    assert with_calls(99).equivalence is Equivalence.EQUIVALENT
    assert with_calls(100).equivalence is Equivalence.INCONCLUSIVE
    assert with_calls(400).equivalence is Equivalence.EQUIVALENT


def test_a_collector_without_apis_is_judged_as_one_unknown_api() -> None:
    found = assess({"rouge_l": EQUIVALENT, "failed": ComparisonCounts(same=900)})
    (api,) = found.apis
    assert (api.api, api.counts.read, api.required) == ("unknown", 1_000, True)
    assert found.equivalence is Equivalence.EQUIVALENT


def test_counts_of_collectors_add_up() -> None:
    one = PairCounts(
        pairs=1,
        client_left=2,
        limited=3,
        counted=4,
        trios=5,
        repeated=6,
        outcomes={"cut": ComparisonCounts(less=1, more=2, same=3)},
        tokens={"shadow": 7},
        apis={"chat": unread(3, "shadow")},
    )
    other = PairCounts(
        pairs=10,
        outcomes={"cut": ComparisonCounts(less=10), "failed": ComparisonCounts(more=1)},
        tokens={"primary": 1},
        apis={"chat": api_counts(2, unread_legs={("shadow", "corrupt"): 1}), "rerank": api_counts(1)},
    )
    assert PairCounts.sum([one, other, one]) == PairCounts(
        pairs=12,
        client_left=4,
        limited=6,
        counted=8,
        trios=10,
        repeated=12,
        outcomes={"cut": ComparisonCounts(less=12, more=4, same=6), "failed": ComparisonCounts(more=1)},
        tokens={"shadow": 14, "primary": 1},
        apis={
            "chat": api_counts(
                8,
                read=2,
                trios=2,
                unread=6,
                outcomes={"failed": ComparisonCounts(same=2), "rouge_l": ComparisonCounts(same=2)},
                unread_legs={("shadow", "encoding"): 6, ("shadow", "corrupt"): 1},
            ),
            "rerank": api_counts(1),
        },
    )
    assert PairCounts.sum([]) == PairCounts()
