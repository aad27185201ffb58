"""From texts to verdicts: sampling alone is not a difference, and a changed model is detected."""

from __future__ import annotations

import statistics

import pytest

from bench import shadow_rates
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


@pytest.mark.parametrize("name", [name for name in shadow_rates.SETTINGS if name.startswith("1 %")])
def test_a_candidate_with_one_percent_of_faults_is_not_equivalent(name: str) -> None:
    """The test allows 5 % of such candidates; most of these also vary by themselves and need more pairs."""
    found = [shadow_rates.run(seed, shadow_rates.SETTINGS[name], 1_500)[0] for seed in range(5)]
    assert Equivalence.EQUIVALENT not in [one.equivalence for one in found]


@pytest.mark.parametrize(
    ("name", "expected", "blind"),
    [
        ("always HTML", Equivalence.DIFFERENT, True),
        ("5 % of calls: cut arguments", Equivalence.DIFFERENT, False),
        ("always an unknown encoding", Equivalence.INCONCLUSIVE, True),
        ("30 % an unknown encoding", Equivalence.INCONCLUSIVE, True),
        ("only the user with 40 %: HTML", Equivalence.INCONCLUSIVE, False),
    ],
)
def test_what_a_candidate_sends_decides_and_not_who_receives_it(
    name: str, expected: Equivalence, blind: bool
) -> None:
    found, _ = shadow_rates.run(1, shadow_rates.SETTINGS[name], 2_000)
    assert (found.equivalence, found.blind) == (expected, blind)
