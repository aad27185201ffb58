"""The evidence over cells of users: few users cannot cause it, and many users do."""

from __future__ import annotations

from itertools import product
from math import exp, log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xds_server.analysis.counts import CELL_NUMBERS, Block, Counts, Leg, cell_counts
from xds_server.analysis.verdicts import Guardrail, Policy, add_block, analyze, start_evidence
from xds_server.analysis.verdicts.cell_evidence import CellEvidence, _by_cell, _signs
from xds_server.analysis.verdicts.metrics import METRICS
from xds_server.rollout import CELLS, Finding

CANDIDATE, CONTROL = Leg(route="chat", variant="v2"), Leg(route="chat", variant="v1")
POLICY = Policy(guardrails=(Guardrail.of("success-rate"),))


def share(counts: Counts) -> tuple[int, int]:
    return counts.failed, counts.requests


def counts(failed: dict[int, int], requests: int = 20) -> Counts:
    """Return counts with `requests` in each cell; `failed` has the failures of some cells."""
    rows = tuple((requests, failed.get(cell, 0), 0, 0, 0, 0, 0) for cell in range(CELLS))
    return Counts(requests=requests * CELLS, failed=sum(failed.values()), cells=rows)


def evidence(candidate: Counts, control: Counts, ratio: float = 1.0, blocks: int = 1) -> CellEvidence:
    found = CellEvidence()
    for _ in range(blocks):
        found = found.add_block(share, (candidate, control), 10.0, ratio)
    return found


def finding(candidate: Counts, control: Counts, blocks: int = 6) -> tuple[Finding, str]:
    known = start_evidence(POLICY, CANDIDATE, CONTROL)
    for number in range(blocks):
        legs = {CANDIDATE: candidate, CONTROL: control}
        known = add_block(known, POLICY, Block(start=10.0 * number, seconds=10.0, legs=legs))
    result = analyze(known, POLICY, 10.0 * blocks)
    return result.finding, result.message


@given(st.lists(st.floats(-1e6, 1e6), min_size=5, max_size=9))
@settings(max_examples=60, deadline=None)
def test_the_mean_over_all_signs_is_at_most_one(sizes: list[float]) -> None:
    """Under the null all signs are equally likely, so an e-value has a mean of at most 1."""
    found = [
        exp(_signs(np.array(sizes) * np.array(signs))) for signs in product((-1.0, 1.0), repeat=len(sizes))
    ]
    assert sum(found) / len(found) <= 1.0 + 1e-9


def test_one_user_who_fails_again_and_again_is_no_evidence() -> None:
    retries, sound = counts({3: 20}), counts({})
    assert evidence(retries, sound, blocks=30).log_evidence_worse <= log(2)
    verdict, message = finding(retries, sound, 30)
    assert verdict is Finding.INCONCLUSIVE
    assert "worse in 1 of 32 random groups of users" in message


def test_the_same_failures_without_cells_do_roll_back() -> None:
    def without(failed: int) -> Counts:
        return Counts(requests=20 * CELLS, failed=failed)

    assert finding(without(20), without(0), 30)[0] is Finding.FAIL


def test_two_failing_users_are_not_enough() -> None:
    assert evidence(counts({3: 20, 17: 20}), counts({}), blocks=30).log_evidence_worse < log(20)


def test_failures_of_many_users_roll_back() -> None:
    many = counts(dict.fromkeys(range(0, CELLS, 2), 2))
    assert finding(many, counts({}))[0] is Finding.FAIL


def test_a_candidate_that_fails_all_requests_is_found_with_few_requests() -> None:
    few = Counts(
        requests=9,
        failed=9,
        cells=tuple((1, 1, 0, 0, 0, 0, 0) if cell < 9 else (0,) * 7 for cell in range(32)),
    )
    assert evidence(few, counts({})).log_evidence_worse > log(1000)


def test_an_incident_of_both_arms_is_no_evidence() -> None:
    down = counts(dict.fromkeys(range(CELLS), 20))
    assert evidence(down, down, blocks=5).log_evidence_worse <= 0


def test_tolerated_failures_are_no_evidence() -> None:
    control = counts(dict.fromkeys(range(CELLS), 1), requests=100)
    twice = counts(dict.fromkeys(range(CELLS), 2), requests=100)
    assert evidence(twice, control, 1.0, 30).log_evidence_worse > log(100)
    assert evidence(twice, control, 2.5, 30).log_evidence_worse < 0


def test_a_fault_after_hours_of_health_is_found() -> None:
    found = evidence(counts({}), counts({}), blocks=1000)
    for _ in range(3):
        found = found.add_block(share, (counts(dict.fromkeys(range(CELLS), 4)), counts({})), 10.0, 1.0)
    assert found.log_evidence_worse > log(1000)


def test_a_better_candidate_is_no_evidence() -> None:
    assert evidence(counts({}), counts(dict.fromkeys(range(CELLS), 4)), blocks=20).log_evidence_worse < 0


@pytest.mark.parametrize(("inside", "applies"), [(1.0, True), (0.95, True), (0.8, False), (0.0, False)])
def test_cells_count_only_if_they_have_nearly_all_requests(inside: float, applies: bool) -> None:
    whole = counts({}, requests=100)
    rows = tuple(tuple(int(inside * n) for n in row) for row in whole.cells) if inside else ()
    partial = Counts(requests=whole.requests, cells=rows)
    assert evidence(partial, whole, blocks=3).applies is applies


def test_the_rows_have_the_numbers_that_metrics_by_cell_read() -> None:
    names = [name for name, metric in METRICS.items() if metric.by_cell]
    assert names == ["failed", "rejected", "abandoned", "unanswered", "success-rate"]
    full = cell_counts([{"requests": 50, "left": 20}.get(name, 7) for name in CELL_NUMBERS])
    for name in names:
        of = METRICS[name].share
        assert of is not None
        assert 0 < of(full)[0] < of(full)[1]


@given(st.lists(st.integers(0, 1000), min_size=7, max_size=7))
def test_numbers_of_cells_add_up_to_the_share_of_their_counts(row: list[int]) -> None:
    for metric in METRICS.values():
        if metric.by_cell and metric.share is not None:
            found = _by_cell(Counts(cells=(tuple(row),)), metric.share, 2)
            assert found.tolist() == [list(metric.share(cell_counts(row))), [0, 0]]


def test_a_guard_below_its_share_does_not_blame_few_users() -> None:
    """Most users have more rejected requests, but not enough of them for a guard."""
    policy = Policy(guardrails=(), guards=(Guardrail.of("rejected", min_samples=0),))
    known = start_evidence(policy, CANDIDATE, CONTROL)
    many = Counts(requests=100 * CELLS, rejected=5 * CELLS, cells=((100, 0, 5, 0, 0, 0, 0),) * CELLS)
    none = Counts(requests=100 * CELLS, cells=((100, 0, 0, 0, 0, 0, 0),) * CELLS)
    for number in range(6):
        legs = {CANDIDATE: many, CONTROL: none}
        known = add_block(known, policy, Block(start=10.0 * number, seconds=10.0, legs=legs))
    (guard,) = analyze(known, policy, 60.0).guards
    assert guard.finding is Finding.INCONCLUSIVE
    assert "few users" not in guard.message


@pytest.mark.parametrize("users", [1, 3, 5, 8, 12, 32])
def test_a_candidate_that_fails_all_requests_of_few_users_is_found_too(users: int) -> None:
    """A handful of users is in a handful of cells; that must not keep a dead candidate in service."""
    rows = tuple((6, 6, 0, 0, 0, 0, 0) if cell < users else (0,) * 7 for cell in range(CELLS))
    dead, sound = Counts(requests=6 * users, failed=6 * users, cells=rows), counts({}, requests=6)
    assert finding(dead, sound, 7)[0] is Finding.FAIL


def test_in_the_first_minute_few_cells_are_no_few_users() -> None:
    rows = ((30, 30, 0, 0, 0, 0, 0), *((0,) * 7,) * (CELLS - 1))
    assert finding(Counts(requests=30, failed=30, cells=rows), counts({}), 5)[0] is Finding.INCONCLUSIVE
