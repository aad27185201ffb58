"""How counts of comparison outcomes become a verdict on two backends: evidence, thresholds and messages."""

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


def test_all_measures_together_spend_alpha() -> None:
    assert sum(measure.alpha for measure in _MEASURES.values()) == pytest.approx(1.0)


def test_each_measure_has_its_share_of_alpha_and_its_margin() -> None:
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


def test_a_measure_reports_its_evidence_relative_to_the_deciding_value() -> None:
    outcomes = ComparisonCounts(less=5, more=1, same=20)
    found = measure_result("cut", outcomes)
    assert found.against == pytest.approx(
        _log_evidence_of_difference(outcomes, one_sided=False) / -log(0.05 * 0.05)
    )
    assert 0 < found.against < 1
    assert measure_result("failed", ComparisonCounts(more=20)).against == 0.0


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


def test_a_much_better_candidate_gives_no_evidence_of_a_difference() -> None:
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


def least_different(name: str, *, side: str, alpha: float = 0.05) -> int:
    """Return the least number of outcomes on one side for which the backends are different."""
    return next(
        n
        for n in range(1, 200)
        if measure_result(name, ComparisonCounts(**{side: n}), alpha).equivalence is Equivalence.DIFFERENT
    )


@pytest.mark.parametrize("name", _MEASURES)
@pytest.mark.parametrize("alpha", [0.05, 0.001])
def test_a_difference_is_proven_at_the_share_of_alpha_of_its_measure(name: str, alpha: float) -> None:
    measure = _MEASURES[name]
    n = least_different(name, side="less", alpha=alpha)
    evidence = [
        2 ** (k + 1) * (1 - 0.5 ** (k + 1)) / (k + 1) if measure.worse_only else 2**k / (k + 1)
        for k in (n - 1, n)
    ]
    assert evidence[0] < 1 / (alpha * measure.alpha) <= evidence[1]
    if not measure.worse_only:
        assert least_different(name, side="more", alpha=alpha) == n


@pytest.mark.parametrize("name", [name for name, measure in _MEASURES.items() if measure.worse_only])
def test_a_better_candidate_is_not_different(name: str) -> None:
    found = measure_result(name, ComparisonCounts(more=5_000))
    assert (found.equivalence, found.against) == (Equivalence.EQUIVALENT, 0.0)


@pytest.mark.parametrize("name", _MEASURES)
def test_equivalence_requires_the_number_of_pairs_that_follows_from_the_margin(name: str) -> None:
    measure, alpha = _MEASURES[name], 0.05
    sides = [ComparisonCounts(same=n) for n in range(1, 2_000)]
    n = next(one.n for one in sides if measure_result(name, one).equivalence is Equivalence.EQUIVALENT)
    assert (
        _log_evidence_within(0, n - 1, 0, measure.margin)
        < -log(alpha)
        <= _log_evidence_within(0, n, 0, measure.margin)
    )


@pytest.mark.parametrize("name", [name for name, measure in _MEASURES.items() if not measure.worse_only])
def test_a_two_sided_measure_requires_equivalence_on_both_sides(name: str) -> None:
    less_similar = ComparisonCounts(less=30, same=470)
    more_similar = ComparisonCounts(more=30, same=470)
    assert measure_result(name, less_similar).support == pytest.approx(
        measure_result(name, more_similar).support
    )
    worst = min(
        _log_evidence_within(0, 470, 30, _MEASURES[name].margin),
        _log_evidence_within(30, 470, 0, _MEASURES[name].margin),
    )
    assert measure_result(name, less_similar).support == pytest.approx(max(0.0, worst / -log(0.05)))


@given(st.integers(0, 400), st.integers(0, 400), st.integers(0, 400), st.sampled_from(sorted(_MEASURES)))
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
    measure = _MEASURES[name]
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
    assert found.message.startswith("1,000 pairs with a noise baseline and 1,000 in all: ")
    without_baseline = assess(equivalent, trios=0)
    assert (
        without_baseline.equivalence,
        "texts can be judged only with a noise baseline" in without_baseline.message,
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
        "not enough pairs yet to exclude a difference in failed, cut, "
        f"about {max(1, round(pairs)):,} more pairs at this rate"
    )
    none = assess({"rouge_l": ComparisonCounts(less=14, more=6)})
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
