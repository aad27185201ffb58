"""A candidate whose answers are read less often than the control's does not pass, and never fails for it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.analysis.verdicts.test_replay import ARMS, STABLE, USERS, Live, at_stage
from xds_server.analysis.counts import Block, Counts
from xds_server.analysis.verdicts import (
    AnalysisResult,
    Guardrail,
    Policy,
    add_block,
    analyze,
    replay,
    start_evidence,
)
from xds_server.analysis.verdicts.coverage import REASONS, Coverage
from xds_server.rollout import Finding

POLICY = Policy(guardrails=(Guardrail.of("success-rate"),))
FINE = Counts(requests=400, answers=400)
COMPRESSED = Counts(requests=400, answers=248, unread_encoded=152)
GAP = "38 % of the candidate's answers were not read (encoded), 0 % of the stable backend's"


def run(*blocks: tuple[Counts, Counts], policy: Policy = POLICY, later: float = 0.0) -> AnalysisResult:
    """Return the result after blocks of ten seconds with counts of (candidate, control)."""
    evidence = start_evidence(policy, USERS, STABLE)
    for number, (one, other) in enumerate(blocks):
        block = Block(start=10.0 * number, seconds=10.0, legs={USERS: one, STABLE: other})
        evidence = add_block(evidence, policy, block)
    return analyze(evidence, policy, 10.0 * len(blocks) + later)


def test_a_pass_is_held_while_fewer_of_the_candidates_answers_are_read() -> None:
    assert run(*[(FINE, FINE)] * 20).finding is Finding.PASS
    held = run(*[(COMPRESSED, FINE)] * 20)
    assert held.finding is Finding.INCONCLUSIVE
    assert held.message.startswith(f"{GAP}: faults inside unread answers would not be found; success-rate: ")


@pytest.mark.parametrize(
    "arms",
    [
        (COMPRESSED, COMPRESSED),
        (FINE, COMPRESSED),
        (Counts(requests=400, answers=330, unread_encoded=70), FINE),
        (Counts(requests=400, answers=40, unread_other=360), FINE),
        # Blocks of earlier versions do not say what was read.
        (Counts(requests=400), Counts(requests=400)),
        (Counts(requests=400), FINE),
    ],
    ids=["alike", "more read", "18 points", "audio", "old", "old candidate"],
)
def test_other_differences_hold_nothing(arms: tuple[Counts, Counts]) -> None:
    assert run(*[arms] * 20).finding is Finding.PASS


def test_answers_that_are_faulty_were_read() -> None:
    coverage = Coverage().add_block((Counts(requests=100, failed=100, in_band=60, unended=40), FINE), 10.0)
    assert coverage.candidate.share == 1.0
    assert coverage.gap == ""


def test_a_pass_returns_minutes_after_answers_are_read_again() -> None:
    before = [(COMPRESSED, FINE)] * 200
    assert run(*before, *[(FINE, FINE)] * 6).finding is Finding.INCONCLUSIVE
    assert run(*before, *[(FINE, FINE)] * 18).finding is Finding.PASS


def test_few_answers_hold_nothing_and_slow_traffic_does() -> None:
    few = Coverage().add_block((Counts(unread_shape=49), FINE), 10.0)
    assert few.gap == ""
    slow = Coverage()
    for _ in range(60):
        slow = slow.add_block((Counts(unread_shape=1), FINE), 60.0)
    assert slow.gap == ("100 % of the candidate's answers were not read (shape), 0 % of the stable backend's")


def test_a_regression_is_a_fail_whatever_was_read() -> None:
    broken = Counts(requests=400, failed=200, unread_encoded=200)
    assert run(*[(broken, FINE)] * 6).finding is Finding.FAIL


def test_a_fail_names_answers_of_the_stable_backend_that_were_not_read() -> None:
    broken = Counts(requests=400, failed=200, in_band=200, answers=200)
    found = run(*[(broken, COMPRESSED)] * 6)
    assert found.finding is Finding.FAIL
    assert found.message.endswith(
        "; 38 % of the stable backend's answers were not read (encoded), 0 % of the candidate's: "
        "faults inside unread answers were not counted"
    )
    assert "not read" not in run(*[(broken, FINE)] * 6).message


def test_a_lapsed_pass_is_held_too() -> None:
    passed, alone = [(FINE, FINE)] * 20, [(FINE, Counts())] * 7
    assert run(*passed, *alone).lapsed
    held = run(*passed, *[(COMPRESSED, Counts())] * 30)
    assert (held.finding, held.lapsed) == (Finding.INCONCLUSIVE, False)
    assert held.message.endswith("all metrics passed at their last comparison")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(*[st.integers(0, 500)] * 4), min_size=1, max_size=12),
    st.lists(st.integers(0, 500), min_size=12, max_size=12),
)
def test_coverage_only_ever_turns_a_pass_into_inconclusive(
    candidate: list[tuple[int, int, int, int]], control: list[int]
) -> None:
    arms = []
    for (read, encoded, shape, failed), other in zip(candidate, control, strict=False):
        one = Counts(
            requests=read + encoded + shape + failed,
            failed=failed,
            in_band=failed,
            answers=read,
            unread_encoded=encoded,
            unread_shape=shape,
        )
        arms.append((one, Counts(requests=other, answers=other)))
    found = run(*arms)
    unread = [(Counts(requests=one.requests, failed=one.failed), other) for one, other in arms]
    expected = run(*unread)
    allowed = {(expected.finding, expected.lapsed)}
    if expected.finding is Finding.PASS or expected.lapsed:
        allowed.add((Finding.INCONCLUSIVE, False))
    assert (found.finding, found.lapsed) in allowed


def test_a_replay_and_a_restart_find_the_same() -> None:
    live, restarted = Live(policy=POLICY), Live(policy=POLICY)
    for number in range(60):
        one = COMPRESSED if number < 30 else FINE
        for analysis in (live, restarted):
            if analysis is restarted and number in {12, 33}:
                analysis.restart(at_stage("half", 2))
            analysis.block(at_stage("half", 2), {USERS: one, STABLE: FINE})
    assert live.found == restarted.found
    findings = [finding for _, finding, _ in live.changes(2)]
    assert findings[-1] is Finding.PASS
    assert any(result is not None and GAP in result.message for _, _, result in live.found)
    (replayed,) = replay(POLICY, live.recorded(), ARMS)
    assert [(d.at, d.finding, d.message) for d in replayed.decisions] == live.changes(2)


def test_every_reason_but_other_formats_counts() -> None:
    assert REASONS == ("encoded", "unsized", "shape", "unsupported")
