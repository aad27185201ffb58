"""How counts of signs become a verdict on two backends: evidence, thresholds and sentences."""

from __future__ import annotations

from math import comb, exp, log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xds_server.analysis.verdicts import (
    ComparisonCounts,
    Equivalence,
    EquivalenceResult,
    MeasureResult,
    PairCounts,
    assess_equivalence,
)
from xds_server.analysis.verdicts.equivalence import (
    _MEASURES,
    _log_evidence_of_difference,
    _log_evidence_within,
)

COINS = np.linspace(0, 1, 200_001)


def judged(
    signs: dict[str, ComparisonCounts], *, alpha: float = 0.05, trios: int = 1_000
) -> EquivalenceResult:
    """Judge the signs of each measure."""
    return assess_equivalence(PairCounts(counted=1_000, trios=trios, outcomes=signs), alpha=alpha)


def opinion(name: str, signs: ComparisonCounts, alpha: float = 0.05) -> MeasureResult:
    """Return the opinion on the only measure."""
    (found,) = judged({name: signs}, alpha=alpha).measures
    return found


def mean_over_coins(less: int, more: int, *, from_: float) -> float:
    """Return the likelihood of the flips against a fair coin, on average over all coins above a bound."""
    coins = COINS[from_ <= COINS]
    return float(np.mean((2 * coins) ** less * (2 * (1 - coins)) ** more))


def test_all_measures_together_spend_alpha() -> None:
    assert sum(measure.alpha for measure in _MEASURES.values()) == pytest.approx(1.0)


def test_what_each_measure_may_spend_and_how_far_the_candidate_may_be_off() -> None:
    found = {name: (measure.alpha, measure.margin, measure.worse_only) for name, measure in _MEASURES.items()}
    assert found == {
        "rouge_l": (0.5, 0.2, False),
        "finish_reason": (0.05, 0.1, False),
        "tool_calls": (0.05, 0.1, False),
        "language": (0.05, 0.1, True),
        "failed": (0.05, 0.05, True),
        "empty": (0.05, 0.05, True),
        "refused": (0.05, 0.05, False),
        "cut": (0.05, 0.1, False),
        "invalid_json": (0.05, 0.05, True),
        "invalid_calls": (0.05, 0.05, True),
        "length": (0.05, 0.25, False),
    }


def test_an_opinion_reports_its_evidence_as_a_share_of_what_decides() -> None:
    signs = ComparisonCounts(less=5, more=1, same=20)
    found = opinion("cut", signs)
    assert found.against == pytest.approx(
        _log_evidence_of_difference(signs, one_sided=False) / -log(0.05 * 0.05)
    )
    assert 0 < found.against < 1
    assert opinion("failed", ComparisonCounts(more=20)).against == 0.0


# Evidence


@pytest.mark.parametrize(("less", "more"), [(0, 0), (1, 0), (3, 1), (1, 3), (20, 5), (5, 20)])
def test_evidence_against_a_fair_coin_is_a_bet_on_all_others(less: int, more: int) -> None:
    two_sided = 2 ** (less + more) / ((less + more + 1) * comb(less + more, less))
    assert exp(
        _log_evidence_of_difference(ComparisonCounts(less=less, more=more), one_sided=False)
    ) == pytest.approx(two_sided)
    assert mean_over_coins(less, more, from_=0.0) == pytest.approx(two_sided, rel=1e-3)
    one_sided = exp(_log_evidence_of_difference(ComparisonCounts(less=less, more=more), one_sided=True))
    assert one_sided == pytest.approx(mean_over_coins(less, more, from_=0.5), rel=1e-3)


def test_pairs_without_a_difference_are_no_evidence_of_one() -> None:
    for one_sided in (True, False):
        assert _log_evidence_of_difference(
            ComparisonCounts(less=4, more=2, same=99), one_sided=one_sided
        ) == _log_evidence_of_difference(ComparisonCounts(less=4, more=2), one_sided=one_sided)


def test_far_on_the_good_side_there_is_no_evidence_at_all() -> None:
    assert _log_evidence_of_difference(ComparisonCounts(more=5_000), one_sided=True) < -1_000


@pytest.mark.parametrize("margin", [0.05, 0.2])
@pytest.mark.parametrize("counts", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (5, 3, 2), (0, 200, 0)])
def test_evidence_for_equivalence_is_a_mean_of_bets(counts: tuple[int, int, int], margin: float) -> None:
    good, neither, bad = counts
    bound = (1 + margin) / 2
    bets = []
    for twelfth in range(1, 12):
        stake = twelfth / 12 / (1 - bound)
        wins = [1 - stake * (score - bound) for score in (0.0, 0.5, 1.0)]
        bets.append(wins[0] ** good * wins[1] ** neither * wins[2] ** bad)
    assert _log_evidence_within(good, neither, bad, margin) == pytest.approx(log(sum(bets) / 11))


# Verdicts


def first(name: str, *, side: str, alpha: float = 0.05) -> int:
    """Return how many signs on one side it takes to call the backends different."""
    return next(
        n
        for n in range(1, 200)
        if opinion(name, ComparisonCounts(**{side: n}), alpha).equivalence is Equivalence.DIFFERENT
    )


@pytest.mark.parametrize("name", _MEASURES)
@pytest.mark.parametrize("alpha", [0.05, 0.001])
def test_a_difference_is_proven_at_the_share_of_alpha_of_its_measure(name: str, alpha: float) -> None:
    measure = _MEASURES[name]
    n = first(name, side="less", alpha=alpha)
    evidence = [
        2 ** (k + 1) * (1 - 0.5 ** (k + 1)) / (k + 1) if measure.worse_only else 2**k / (k + 1)
        for k in (n - 1, n)
    ]
    assert evidence[0] < 1 / (alpha * measure.alpha) <= evidence[1]
    if not measure.worse_only:
        assert first(name, side="more", alpha=alpha) == n


@pytest.mark.parametrize("name", [name for name, measure in _MEASURES.items() if measure.worse_only])
def test_a_candidate_that_does_better_is_not_different(name: str) -> None:
    found = opinion(name, ComparisonCounts(more=5_000))
    assert (found.equivalence, found.against) == (Equivalence.EQUIVALENT, 0.0)


@pytest.mark.parametrize("name", _MEASURES)
def test_equivalence_takes_as_many_pairs_as_its_margin_asks_for(name: str) -> None:
    measure, alpha = _MEASURES[name], 0.05
    sides = [ComparisonCounts(same=n) for n in range(1, 2_000)]
    n = next(one.n for one in sides if opinion(name, one).equivalence is Equivalence.EQUIVALENT)
    assert (
        _log_evidence_within(0, n - 1, 0, measure.margin)
        < -log(alpha)
        <= _log_evidence_within(0, n, 0, measure.margin)
    )


@pytest.mark.parametrize("name", [name for name, measure in _MEASURES.items() if not measure.worse_only])
def test_a_measure_with_two_sides_must_be_alike_on_both(name: str) -> None:
    few = ComparisonCounts(less=30, same=470)
    turned = ComparisonCounts(more=30, same=470)
    assert opinion(name, few).support == pytest.approx(opinion(name, turned).support)
    worst = min(
        _log_evidence_within(0, 470, 30, _MEASURES[name].margin),
        _log_evidence_within(30, 470, 0, _MEASURES[name].margin),
    )
    assert opinion(name, few).support == pytest.approx(max(0.0, worst / -log(0.05)))


@given(st.integers(0, 400), st.integers(0, 400), st.integers(0, 400), st.sampled_from(sorted(_MEASURES)))
def test_an_opinion_is_what_its_evidence_reaches(less: int, more: int, same: int, name: str) -> None:
    signs = ComparisonCounts(less=less, more=more, same=same)
    if not signs.n:
        assert judged({name: signs}).measures == ()
        return
    found = opinion(name, signs)
    assert found.outcomes == signs
    if found.equivalence is Equivalence.DIFFERENT:
        assert found.against >= 1
    elif found.equivalence is Equivalence.EQUIVALENT:
        assert found.against < 1 <= found.support
    else:
        assert max(found.against, found.support) < 1
    measure = _MEASURES[name]
    assert found.message == (measure.less if less >= more else measure.more)


# The verdict on all measures


ALIKE = ComparisonCounts(less=200, more=200)


def test_one_difference_is_enough_and_the_clearest_is_listed_first() -> None:
    signs = {
        "rouge_l": ALIKE,
        "refused": ComparisonCounts(less=15, same=500),
        "cut": ComparisonCounts(less=90, same=500),
        "failed": ComparisonCounts(same=900),
    }
    found = judged(signs)
    assert found.equivalence is Equivalence.DIFFERENT
    assert (
        found.message == "it is cut off more often (cut: 90 to 0); it refuses more often (refused: 15 to 0)"
    )


def test_equivalence_takes_all_measures_and_a_noise_baseline() -> None:
    alike = {"rouge_l": ALIKE, "failed": ComparisonCounts(same=900)}
    found = judged(alike)
    assert found.equivalence is Equivalence.EQUIVALENT
    assert found.message.startswith("1,000 pairs with a noise baseline and 1,000 in all: ")
    silent = judged(alike, trios=0)
    assert (silent.equivalence, "texts can be judged only with a noise baseline" in silent.message) == (
        Equivalence.INCONCLUSIVE,
        True,
    )
    assert judged(alike | {"cut": ComparisonCounts(same=10)}).equivalence is Equivalence.INCONCLUSIVE
    nothing = assess_equivalence(PairCounts(trios=5, outcomes=alike))
    assert (nothing.equivalence, nothing.message) == (
        Equivalence.INCONCLUSIVE,
        "no pair of answers was compared yet",
    )


def test_what_is_missing_is_estimated_from_the_slowest_measure() -> None:
    found = judged({"rouge_l": ALIKE, "cut": ComparisonCounts(same=30), "failed": ComparisonCounts(same=40)})
    open_ones = {one.measure: one for one in found.measures if one.equivalence is Equivalence.INCONCLUSIVE}
    assert sorted(open_ones) == ["cut", "failed"]
    slowest = min(open_ones.values(), key=lambda one: one.support)
    pairs = slowest.outcomes.n * (1 / slowest.support - 1)
    assert found.message == (
        "not enough pairs yet to exclude a difference in failed, cut, "
        f"about {max(1, round(pairs)):,} more pairs at this rate"
    )
    none = judged({"rouge_l": ComparisonCounts(less=14, more=6)})
    assert none.message == "not enough pairs yet to exclude a difference in rouge_l"


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
    )
    other = PairCounts(
        pairs=10,
        outcomes={"cut": ComparisonCounts(less=10), "failed": ComparisonCounts(more=1)},
        tokens={"primary": 1},
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
    )
    assert PairCounts.sum([]) == PairCounts()
