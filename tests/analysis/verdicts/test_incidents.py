"""An outage of the control alone is no evidence, and does not hide a fault of the candidate afterwards."""

from __future__ import annotations

import numpy as np
import pytest

from bench.verdict_traffic import SCENARIOS, first_failures
from xds_server.analysis.counts import TOKENS, Counts
from xds_server.analysis.verdicts import Guardrail, Price
from xds_server.analysis.verdicts.dispersion import Dispersion
from xds_server.analysis.verdicts.incidents import ControlIncidents
from xds_server.analysis.verdicts.metric_state import MetricState

CALM, DOWN = (2, 475), (475, 475)
FREE = (Price(), Price())


def left_out(*blocks: tuple[int, int], seconds: float = 10.0) -> list[bool]:
    """Return for each block of (failed, total) of the control whether it is left out."""
    incidents, found = ControlIncidents(), []
    for failed, total in blocks:
        incidents = incidents.add_share(failed, total, seconds)
        found.append(incidents.present)
    return found


def test_only_the_outage_is_left_out() -> None:
    assert left_out(CALM, DOWN, DOWN, CALM) == [False, True, True, False]


@pytest.mark.parametrize(("block", "out"), [((59, 100), False), ((60, 100), True), ((140, 475), False)])
def test_an_incident_needs_sixty_failures_and_a_jump_of_thirty_points(
    block: tuple[int, int], *, out: bool
) -> None:
    assert left_out(CALM, block)[-1] is out


def test_a_lasting_outage_is_left_out_for_a_minute_and_then_compared() -> None:
    assert left_out(*[CALM] * 5, *[DOWN] * 20) == [False] * 5 + [True] * 7 + [False] * 13


def test_a_control_that_is_down_again_and_again_is_compared_as_it_is() -> None:
    blocks = ([CALM] * 3 + [DOWN] * 3) * 20
    found = left_out(*blocks)
    assert found[:12] == ([False] * 3 + [True] * 3) * 2
    assert sum(found[-24:]) <= 2


def test_the_limits_are_in_seconds_and_not_in_blocks() -> None:
    calm, down = (0, 40), (40, 40)
    assert sum(left_out(*[calm] * 5, *[down] * 100, seconds=1.0)) == 70


def test_the_block_in_which_an_outage_ends_is_left_out() -> None:
    assert left_out(CALM, DOWN, (30, 475), CALM) == [False, True, True, False]
    assert left_out(CALM, (30, 475)) == [False, False]


def test_a_block_without_requests_of_the_control_is_no_incident() -> None:
    assert left_out(CALM, DOWN, (0, 0)) == [False, True, False]


def test_a_block_that_is_left_out_changes_nothing_but_the_incidents() -> None:
    guardrail = Guardrail.of("success-rate")

    def block(failed: int, requests: int) -> Counts:
        return Counts(requests=requests, failed=failed)

    state = MetricState.initial(guardrail).add_block(guardrail, (block(0, 25), block(*CALM)), FREE)
    after = state.add_block(guardrail, (block(0, 25), block(*DOWN)), FREE)
    assert after.incidents.present
    assert (after.odds, after.dispersion, after.blocks) == (state.odds, state.dispersion, 1)
    assert after.log_evidence_against(guardrail) == state.log_evidence_against(guardrail)


@pytest.mark.parametrize("place", [2, 22])
def test_unusual_means_of_the_control_are_left_out_in_both_directions(place: int) -> None:
    guardrail = Guardrail.of("tokens-per-request")

    def tokens(at: int, n: int) -> Counts:
        row = [0] * (len(TOKENS) + 1)
        row[at] = n
        return Counts(requests=n, metered=n, tokens=tuple(row))

    state = MetricState.initial(guardrail).add_block(guardrail, (tokens(12, 25), tokens(12, 475)), FREE)
    after = state.add_block(guardrail, (tokens(12, 25), tokens(place, 475)), FREE)
    assert (after.means, after.reference_mean) == (state.means, state.reference_mean)
    few = state.add_block(guardrail, (tokens(12, 25), tokens(place, 59)), FREE)
    assert few.means != state.means


def test_a_short_outage_raises_the_dispersion_no_further_than_bursts_would() -> None:
    dispersion = Dispersion()
    for failed, total in [CALM, (3, 475)] * 15 + [(200, 475)] + [CALM, (3, 475)] * 2:
        dispersion = dispersion.add_block((failed, total))
    assert 2 < dispersion.phi < 60


@pytest.mark.parametrize("name", ["control_down_5_s", "control_down_30_s", "control_down_60_s"])
def test_a_candidate_that_fails_after_an_outage_is_found_within_30_seconds(name: str) -> None:
    fault_at = SCENARIOS[name].fault_at
    assert fault_at is not None
    at = first_failures(name, runs=10, seed=7)
    assert min(at) >= fault_at
    assert max(at) <= fault_at + 2


@pytest.mark.parametrize("name", ["control_down_again", "bursts_and_outages", "bursts_of_10", "diurnal"])
def test_few_equal_candidates_are_rolled_back(name: str) -> None:
    assert int(np.isfinite(first_failures(name, runs=20, seed=7)).sum()) <= 1
