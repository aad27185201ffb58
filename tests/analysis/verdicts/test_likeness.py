"""Do two backends answer alike: never a wrong word too often, however often one looks."""

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
    likeness,
)

RUNS = 400
QUIET = ("failed", "empty", "refused", "cut", "finish_reason")


def counts(less: int, more: int, same: int, *, trios: bool = True, **others: ComparisonCounts) -> PairCounts:
    n = less + more + same
    signs = {name: ComparisonCounts(same=n) for name in QUIET} | {
        "length": ComparisonCounts(less=n // 2, more=n - n // 2)
    }
    if trios:
        signs["rouge_l"] = ComparisonCounts(less=less, more=more, same=same)
    return PairCounts(pairs=n, counted=n, trios=n if trios else 0, signs=signs | others)


def judged(*args: int, **more: Any) -> EquivalenceResult:
    return likeness(counts(*args, **more))


def ends(rng: np.random.Generator, less: float, more: float, pairs: int) -> tuple[Equivalence, int]:
    """Look after every pair until something is said."""
    drawn = rng.random(pairs)
    lost, won = np.cumsum(drawn < less), np.cumsum((drawn >= less) & (drawn < less + more))
    for n in range(1, pairs + 1):
        found = judged(int(lost[n - 1]), int(won[n - 1]), n - int(lost[n - 1]) - int(won[n - 1]))
        if found.likeness is not Equivalence.INCONCLUSIVE:
            return found.likeness, n
    return Equivalence.INCONCLUSIVE, pairs


@pytest.mark.parametrize("share", [0.5, 0.47, 0.2])
def test_equal_backends_are_seldom_called_different(share: float) -> None:
    rng = np.random.default_rng(3)
    found = [ends(rng, share, share, 400)[0] for _ in range(RUNS // 4)]
    assert found.count(Equivalence.DIFFERENT) <= 0.05 * len(found) + 3
    assert found.count(Equivalence.EQUIVALENT) >= 0.6 * len(found)


def test_a_difference_beyond_the_margin_is_seldom_called_equivalent() -> None:
    rng = np.random.default_rng(4)
    found = [ends(rng, 0.6, 0.4, 600)[0] for _ in range(RUNS // 4)]
    assert found.count(Equivalence.EQUIVALENT) <= 0.05 * len(found) + 3


def test_a_clear_difference_is_found_soon() -> None:
    rng = np.random.default_rng(5)
    found = [ends(rng, 0.8, 0.2, 200) for _ in range(100)]
    assert all(likeness is Equivalence.DIFFERENT for likeness, _ in found)
    assert np.median([n for _, n in found]) <= 40


def test_nothing_proves_nothing() -> None:
    assert likeness(PairCounts()).words == "no pair of answers was compared yet"
    silent = judged(0, 0, 500, trios=False)
    assert silent.likeness is Equivalence.INCONCLUSIVE
    assert "without a noise baseline" in silent.words
    few = judged(4, 4, 0)
    assert few.likeness is Equivalence.INCONCLUSIVE
    assert "rouge_l" in few.words
    assert "pairs more" in judged(60, 60, 0).words


def test_why_is_said_with_its_numbers() -> None:
    found = judged(60, 20, 0)
    assert found.likeness is Equivalence.DIFFERENT
    assert found.words.startswith("its texts differ more")
    assert "(rouge_l: 60 to 20)" in found.words
    less_varied = judged(10, 70, 0)
    assert "vary less" in less_varied.words
    refusals = judged(100, 100, 0, refused=ComparisonCounts(less=15, same=185))
    assert "it refuses more often (refused: 15 to 0)" in refusals.words


def test_a_candidate_that_fails_less_is_no_worse() -> None:
    better = judged(150, 150, 200, failed=ComparisonCounts(more=100, same=400))
    assert better.likeness is Equivalence.EQUIVALENT
    worse = judged(150, 150, 200, failed=ComparisonCounts(less=20, same=480))
    assert worse.likeness is Equivalence.DIFFERENT


def test_equivalence_takes_every_measure() -> None:
    assert judged(200, 200, 0).likeness is Equivalence.EQUIVALENT
    found = judged(200, 200, 0, tool_calls=ComparisonCounts(same=3))
    assert found.likeness is Equivalence.INCONCLUSIVE
    assert "tool_calls" in found.words


signs = st.builds(
    ComparisonCounts, less=st.integers(0, 2000), more=st.integers(0, 2000), same=st.integers(0, 2000)
)
parts = st.lists(
    st.builds(
        PairCounts,
        pairs=st.integers(0, 99),
        counted=st.integers(0, 99),
        trios=st.integers(0, 99),
        signs=st.dictionaries(st.sampled_from(["rouge_l", "failed", "unheard_of"]), signs),
        tokens=st.dictionaries(st.sampled_from(["primary", "shadow"]), st.integers(0, 9)),
    ),
    max_size=5,
)


@given(parts)
def test_collectors_and_blocks_add_up_in_any_order(several: list[PairCounts]) -> None:
    assert PairCounts.sum(several) == PairCounts.sum(reversed(several))
    halves = [PairCounts.sum(several[:2]), PairCounts.sum(several[2:])]
    assert PairCounts.sum(halves) == PairCounts.sum(several)
    assert isinstance(likeness(PairCounts.sum(several)), EquivalenceResult)


@given(signs)
def test_no_measure_says_both(one: ComparisonCounts) -> None:
    found = judged(one.less, one.more, one.same).opinions
    (text,) = (opinion for opinion in found if opinion.measure == "rouge_l") if one.n else (None,)
    if text is not None and text.likeness is Equivalence.DIFFERENT:
        assert text.against >= 1
