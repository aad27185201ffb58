"""From texts to verdicts: sampling alone is not a difference, and a changed model is detected."""

from __future__ import annotations

import statistics

from bench.equivalence import run
from xds_server.analysis.verdicts import Equivalence

RUNS = 40
SAMPLING = 0.3


def test_sampling_alone_is_rarely_different() -> None:
    found = [run(seed, SAMPLING, 0.0, 150)[0] for seed in range(RUNS)]
    assert found.count(Equivalence.DIFFERENT) <= 2


def test_a_tenth_of_changed_words_is_detected_within_sixty_pairs() -> None:
    found = [run(seed, SAMPLING, 0.1, 150) for seed in range(RUNS)]
    assert all(verdict is Equivalence.DIFFERENT for verdict, _ in found)
    assert statistics.median(pairs for _, pairs in found) <= 60
