"""Equivalence verdicts: few wrong verdicts, under any number of checks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xds_server.analysis.verdicts import (
    ComparisonCounts,
    Equivalence,
    EquivalenceResult,
    PairCounts,
    assess_equivalence,
)

RUNS = 400
UNCHANGED_MEASURES = ("failed", "empty", "refused", "cut", "finish_reason")


def counts(less: int, more: int, same: int, *, trios: bool = True, **others: ComparisonCounts) -> PairCounts:
    n = less + more + same
    outcomes = {name: ComparisonCounts(same=n) for name in UNCHANGED_MEASURES} | {
        "length": ComparisonCounts(less=n // 2, more=n - n // 2)
    }
    if trios:
        outcomes["rouge_l"] = ComparisonCounts(less=less, more=more, same=same)
    return PairCounts(pairs=n, counted=n, trios=n if trios else 0, outcomes=outcomes | others)


def assessed(*args: int, **more: Any) -> EquivalenceResult:
    return assess_equivalence(counts(*args, **more))


def first_verdict(rng: np.random.Generator, less: float, more: float, pairs: int) -> tuple[Equivalence, int]:
    """Assess after every pair until there is a verdict; return it and the number of pairs."""
    drawn = rng.random(pairs)
    lost, won = np.cumsum(drawn < less), np.cumsum((drawn >= less) & (drawn < less + more))
    for n in range(1, pairs + 1):
        found = assessed(int(lost[n - 1]), int(won[n - 1]), n - int(lost[n - 1]) - int(won[n - 1]))
        if found.equivalence is not Equivalence.INCONCLUSIVE:
            return found.equivalence, n
    return Equivalence.INCONCLUSIVE, pairs


@pytest.mark.parametrize("share", [0.5, 0.47, 0.2])
def test_equal_backends_are_rarely_different(share: float) -> None:
    rng = np.random.default_rng(3)
    found = [first_verdict(rng, share, share, 400)[0] for _ in range(RUNS // 4)]
    assert found.count(Equivalence.DIFFERENT) <= 0.05 * len(found) + 3
    assert found.count(Equivalence.EQUIVALENT) >= 0.6 * len(found)


def test_a_difference_beyond_the_margin_is_rarely_equivalent() -> None:
    rng = np.random.default_rng(4)
    found = [first_verdict(rng, 0.6, 0.4, 600)[0] for _ in range(RUNS // 4)]
    assert found.count(Equivalence.EQUIVALENT) <= 0.05 * len(found) + 3


def test_a_large_difference_is_detected_soon() -> None:
    rng = np.random.default_rng(5)
    found = [first_verdict(rng, 0.8, 0.2, 200) for _ in range(100)]
    assert all(verdict is Equivalence.DIFFERENT for verdict, _ in found)
    assert np.median([n for _, n in found]) <= 40


def test_too_little_evidence_is_inconclusive() -> None:
    assert assess_equivalence(PairCounts()).message == "no pair of answers was compared yet"
    without_baseline = assessed(0, 0, 500, trios=False)
    assert without_baseline.equivalence is Equivalence.INCONCLUSIVE
    assert "only with a noise baseline" in without_baseline.message
    few = assess_equivalence(counts(4, 4, 0), min_pairs=5)
    assert few.equivalence is Equivalence.INCONCLUSIVE
    assert "rouge_l" in few.message
    assert assessed(4, 4, 0).message == "8 of 8 pairs were read; at least 100 are required"
    assert "more pairs" in assessed(60, 60, 0).message


def test_the_message_names_the_measures_with_their_counts() -> None:
    found = assessed(60, 20, 0)
    assert found.equivalence is Equivalence.DIFFERENT
    assert found.message.startswith("the candidate's texts differ more")
    assert "(rouge_l: 60 of the 80 pairs that differ)" in found.message
    less_varied = assessed(10, 70, 0)
    assert "vary less" in less_varied.message
    refusals = assessed(100, 100, 0, refused=ComparisonCounts(less=15, same=185))
    assert "the candidate refuses more often (refused: 15 of the 15 pairs that differ)" in refusals.message


def test_a_candidate_that_fails_less_is_equivalent() -> None:
    better = assessed(150, 150, 200, failed=ComparisonCounts(more=100, same=400))
    assert better.equivalence is Equivalence.EQUIVALENT
    worse = assessed(150, 150, 200, failed=ComparisonCounts(less=20, same=480))
    assert worse.equivalence is Equivalence.DIFFERENT


def test_equivalence_requires_every_measure() -> None:
    assert assessed(200, 200, 0).equivalence is Equivalence.EQUIVALENT
    found = assessed(200, 200, 0, tool_calls=ComparisonCounts(same=5))
    assert found.equivalence is Equivalence.INCONCLUSIVE
    assert "tool_calls" in found.message


comparison_counts = st.builds(
    ComparisonCounts, less=st.integers(0, 2000), more=st.integers(0, 2000), same=st.integers(0, 2000)
)
parts = st.lists(
    st.builds(
        PairCounts,
        pairs=st.integers(0, 99),
        counted=st.integers(0, 99),
        trios=st.integers(0, 99),
        outcomes=st.dictionaries(
            st.sampled_from(["rouge_l", "failed", "unknown_measure"]), comparison_counts
        ),
        tokens=st.dictionaries(st.sampled_from(["primary", "shadow"]), st.integers(0, 9)),
    ),
    max_size=5,
)


@given(parts)
def test_pair_counts_add_up_in_any_order(several: list[PairCounts]) -> None:
    assert PairCounts.sum(several) == PairCounts.sum(reversed(several))
    halves = [PairCounts.sum(several[:2]), PairCounts.sum(several[2:])]
    assert PairCounts.sum(halves) == PairCounts.sum(several)
    assert isinstance(assess_equivalence(PairCounts.sum(several)), EquivalenceResult)


@given(comparison_counts)
def test_a_different_measure_has_deciding_evidence(one: ComparisonCounts) -> None:
    found = assessed(one.less, one.more, one.same).measures
    (text,) = (measure for measure in found if measure.measure == "rouge_l") if one.n else (None,)
    if text is not None and text.equivalence is Equivalence.DIFFERENT:
        assert text.against >= 1
