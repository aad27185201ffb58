"""Reference estimates are a matter of seconds: ten blocks of one second act as one of ten."""

from __future__ import annotations

import numpy as np
import pytest

from xds_server.analysis.counts import Counts
from xds_server.analysis.verdicts.dispersion import Dispersion
from xds_server.analysis.verdicts.frozen_rate import FrozenRate
from xds_server.analysis.verdicts.incidents import ControlIncidents
from xds_server.analysis.verdicts.mean_difference import MeanStarts
from xds_server.analysis.verdicts.metric_state import MetricState
from xds_server.analysis.verdicts.metrics import Price
from xds_server.analysis.verdicts.policy import Guardrail

FREE = (Price(), Price())


def test_bursts_that_last_seconds_are_seen_in_blocks_of_one_second() -> None:
    rng = np.random.default_rng(4)
    long = short = Dispersion()
    for _ in range(200):
        seconds = np.zeros(10, dtype=int)
        for _ in range(rng.poisson(0.2)):
            # One user fails ten times, a second apart.
            seconds += 1
        seconds += rng.binomial(40, 0.002, 10)
        long = long.add_block((int(seconds.sum()), 400))
        for failed in seconds:
            short = short.add_block((int(failed), 40), seconds=1.0)
    assert short.phi == long.phi > 4


def test_means_of_short_blocks_are_averaged_by_weight() -> None:
    rng, short, long = np.random.default_rng(5), MeanStarts(), MeanStarts()
    for _ in range(30):
        parts = [
            (float(d), int(n)) for d, n in zip(rng.normal(0, 1, 10), rng.integers(1, 9, 10), strict=True)
        ]
        weights = [n * 40 / (n + 40) for _, n in parts]
        for difference, n in parts:
            short = short.add_block(difference, n, 40, 1.0)
        whole = sum(w * d for w, (d, _) in zip(weights, parts, strict=True)) / sum(weights)
        long = MeanStarts(whole=long.whole.add_weighted(whole, sum(weights)))
    assert short.starts == short.whole.blocks == 30
    assert short.whole.total == pytest.approx(long.whole.total)
    assert short.whole.squares == pytest.approx(long.whole.squares)


def test_an_outage_of_the_control_is_left_out_in_short_blocks_too() -> None:
    incidents = ControlIncidents()
    for _ in range(60):
        incidents = incidents.add_share(0, 40, 1.0)
    present = []
    for _ in range(20):
        incidents = incidents.add_share(40, 40, 1.0)
        present.append(incidents.present)
    assert present == [True] * 20
    assert not incidents.add_share(0, 40, 1.0).present
    retries = ControlIncidents().add_share(0, 2, 1.0)
    for second in range(40):
        retries = retries.add_share(2 * (second % 2), 2, 1.0)
        assert not retries.present


def test_references_fade_by_time_and_not_by_blocks() -> None:
    guardrail = Guardrail.of("duration-p50")
    row = [0] * len(Counts().duration_ms)
    row[9] = 10
    old = MetricState.initial(guardrail)
    for _ in range(30):
        old = old.add_block(guardrail, (Counts(), Counts(duration_ms=tuple(row))), FREE, 10.0)
    row[9], row[12] = 0, 1
    short = long = old
    for _ in range(5):
        for _ in range(10):
            short = short.add_block(guardrail, (Counts(), Counts(duration_ms=tuple(row))), FREE, 1.0)
        ten = tuple(10 * n for n in row)
        long = long.add_block(guardrail, (Counts(), Counts(duration_ms=ten)), FREE, 10.0)
    assert short.reference_buckets == pytest.approx(long.reference_buckets, rel=0.05)
    frozen = FrozenRate().add_control(50, 100)
    for _ in range(10):
        frozen = frozen.add_control(0, 1, 1.0)
    assert frozen.failed == pytest.approx(0.98 * 50)
