"""From texts to the verdict: models that sample are not blamed for sampling, and a changed one is found."""

from __future__ import annotations

import statistics

from bench.likeness import run
from xds_server.analysis.verdicts import Equivalence

RUNS = 40
SAMPLING = 0.3


def test_the_same_model_is_not_called_different_for_sampling() -> None:
    found = [run(seed, SAMPLING, 0.0, 150)[0] for seed in range(RUNS)]
    assert found.count(Equivalence.DIFFERENT) <= 2


def test_a_tenth_of_the_words_changed_is_found_within_sixty_pairs() -> None:
    found = [run(seed, SAMPLING, 0.1, 150) for seed in range(RUNS)]
    assert all(verdict is Equivalence.DIFFERENT for verdict, _ in found)
    assert statistics.median(pairs for _, pairs in found) <= 60
