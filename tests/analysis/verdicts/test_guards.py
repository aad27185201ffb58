"""Guards: gross faults fail a candidate whatever is analyzed; nothing else does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from xds_server.analysis.counts import Block, Counts, Leg, Role
from xds_server.analysis.verdicts import (
    AnalysisResult,
    CandidateEvidence,
    Guardrail,
    Policy,
    RegressionAction,
    add_block,
    analyze,
    start_evidence,
)
from xds_server.analysis.verdicts.metrics import GUARDS
from xds_server.analysis.verdicts.result import combine_results
from xds_server.analysis.verdicts.rule_guards import RuleGuards
from xds_server.rollout import STRATEGY_SPLIT, Finding, Kill, Phase, Program, Split, State, reallocate

CANDIDATE, CONTROL = Leg(route="chat", variant="v2"), Leg(route="chat", variant="v1")
POLICY = Policy(guardrails=(), guards=tuple(Guardrail.of(name, min_samples=10) for name in GUARDS))
TOKENS = (0,) * (len(Counts().tokens) - 1)


def run(
    *blocks: tuple[Counts, Counts], policy: Policy = POLICY, candidate: Leg = CANDIDATE
) -> AnalysisResult:
    """Return the result after blocks of ten seconds with counts of (candidate, control)."""
    evidence: CandidateEvidence = start_evidence(policy, candidate, CONTROL)
    for number, (one, other) in enumerate(blocks):
        legs = {candidate: one, CONTROL: other}
        evidence = add_block(evidence, policy, Block(start=10.0 * number, seconds=10.0, legs=legs))
    return analyze(evidence, policy, 10.0 * len(blocks))


FINE = Counts(requests=475, answers=475, tokens=(0, *TOKENS[1:], 475))
BROKEN = {
    "failed": Counts(requests=25, failed=25),
    "rejected": Counts(requests=25, rejected=25),
    "client errors": Counts(requests=25, client_errors=25),
    "abandoned": Counts(left=25),
    "unanswered": Counts(left=25, left_unanswered=25),
    "waiting": Counts(waiting=25),
    "empty": Counts(requests=25, tokens=(25, *TOKENS)),
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_a_candidate_that_fails_entirely_fails_within_three_blocks(broken: Counts) -> None:
    assert run(*[(broken, FINE)] * 3).finding is Finding.FAIL


def test_without_a_fault_the_guards_decide_nothing() -> None:
    result = run(*[(Counts(requests=25, answers=25), FINE)] * 30)
    assert result.finding is Finding.PASS
    assert {guard.metric for guard in result.guards} == set(GUARDS)
    assert all(guard.finding is not Finding.FAIL for guard in result.guards)


def test_a_guard_without_data_holds_nothing() -> None:
    result = run((Counts(), FINE))
    assert result.finding is Finding.PASS
    assert {guard.finding for guard in result.guards} == {Finding.NO_DATA}
    assert result.guards[0].message == "failed: no requests of the candidate were compared yet"


@pytest.mark.parametrize("share", [0.02, 0.3])
def test_errors_that_both_backends_show_alike_are_no_evidence(share: float) -> None:
    failed = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        blocks = []
        for _ in range(60):
            one, other = int(rng.binomial(25, share)), int(rng.binomial(475, share))
            blocks.append((Counts(requests=25, client_errors=one), Counts(requests=475, client_errors=other)))
        failed += run(*blocks).finding is Finding.FAIL
    assert failed <= 3


def test_one_client_that_repeats_a_bad_request_does_not_decide() -> None:
    # Two bad requests per second for a minute, at a candidate with 25 requests per second.
    bad = (Counts(requests=270, client_errors=20), Counts(requests=4750))
    usual = (Counts(requests=250), Counts(requests=4750))
    assert run(*[usual] * 30, *[bad] * 6, *[usual] * 30).finding is Finding.PASS


def test_a_fault_after_hours_of_health_is_found_soon() -> None:
    usual, broken = (Counts(requests=25), FINE), (Counts(requests=25, rejected=25), FINE)
    assert run(*[usual] * 720, *[broken] * 6).finding is Finding.FAIL


def test_mirrored_requests_have_no_guards() -> None:
    shadow = Leg(route="chat", variant="v2", role=Role.SHADOW)
    result = run(*[(BROKEN["failed"], FINE)] * 5, candidate=shadow)
    assert (result.finding, result.guards) == (Finding.PASS, ())


def test_alpha_is_split_between_metrics_and_guards() -> None:
    both = Policy(
        guardrails=(Guardrail.of("success-rate"), Guardrail.of("ttft-p50")), guards=POLICY.guards, alpha=0.05
    )
    assert both.alpha_per_guardrail == pytest.approx(0.02)
    assert both.alpha_per_guard == pytest.approx(0.002)
    assert 2 * both.alpha_per_guardrail + 5 * both.alpha_per_guard == pytest.approx(0.05)
    assert POLICY.alpha_per_guard == pytest.approx(0.01)


def test_a_guard_can_only_report() -> None:
    policy = replace(POLICY, guards=tuple(replace(g, action=RegressionAction.NOTIFY) for g in POLICY.guards))
    result = run(*[(BROKEN["rejected"], FINE)] * 3, policy=policy)
    assert result.finding is Finding.PASS
    assert next(g for g in result.guards if g.metric == "rejected").finding is Finding.FAIL


def test_without_a_control_only_failures_and_silence_are_evidence() -> None:
    alone = {name: run(*[(broken, Counts())] * 6).finding for name, broken in BROKEN.items()}
    failing = {name for name, finding in alone.items() if finding is Finding.FAIL}
    assert failing == {"failed", "unanswered", "waiting"}


def test_a_failure_while_the_control_has_no_requests_is_described_with_its_own_numbers() -> None:
    before = (Counts(requests=25, answers=25), FINE)
    alone = (Counts(requests=25, rejected=25), Counts())
    result = run(*[before] * 5, *[alone] * 2)
    assert result.finding is Finding.FAIL
    assert result.message.startswith(
        "rejected: 50 of 50 requests at the candidate while the stable backend had no requests; more than "
    )


def test_the_message_of_a_failure_names_only_the_candidates_that_fail() -> None:
    sound, broken = run((FINE, FINE)), run(*[(BROKEN["rejected"], FINE)] * 3)
    found = combine_results({"v2": sound, "v3": broken, "v4": broken})
    assert found.message == f"v3: {broken.message}; v4: {broken.message}"
    assert combine_results({"v2": sound, "v3": sound}).message == f"v2: {sound.message}; v3: {sound.message}"


def rolling(weights: dict[str, int], **changes: Any) -> State:
    split = Split(name=STRATEGY_SPLIT, segments=reallocate((), "v1", weights, tuple(weights)))
    program = Program(stable="v1", candidate=None, steps=(), convergence_timeout=1.0, progress_deadline=1.0)
    state = State(route="chat", revision=1, generation=1, digest="d", program=program, phase=Phase.HEALTHY)
    return replace(state, splits=(split,), **changes)


def by_rules(*states: State, legs: dict[Leg, Counts], guards: RuleGuards | None = None) -> RuleGuards:
    found = RuleGuards() if guards is None else guards
    for number, one in enumerate(states):
        found.add_block(Block(start=10.0 * number, seconds=10.0, legs=legs), one, POLICY)
    return found


GONE = {CANDIDATE: BROKEN["rejected"], CONTROL: FINE}


def test_a_backend_that_rules_serve_fails_once_the_evidence_suffices() -> None:
    found = by_rules(*[rolling({})] * 3, legs=GONE)
    assert list(found.failed) == ["v2"]
    assert found.failed["v2"].message.startswith("rejected: 75 of 75 requests at the candidate")


@pytest.mark.parametrize(
    ("state", "legs"),
    [
        (rolling({"v2": 500}), GONE),
        (rolling({"v2": 10_000}, phase=Phase.HEALTHY), {CANDIDATE: BROKEN["failed"]}),
        (rolling({}, withdrawn=("v2",)), GONE),
        (
            rolling(
                {},
                kill=Kill(
                    serve="v1", actor="a", reason="r", at=0.0, by_spec=False, phase=Phase.HEALTHY, left=None
                ),
            ),
            GONE,
        ),
        (rolling({}), {CONTROL: BROKEN["rejected"]}),
        (rolling({}), {replace(CANDIDATE, role=Role.SHADOW): BROKEN["rejected"], CONTROL: FINE}),
        (rolling({}), {CANDIDATE: FINE, CONTROL: FINE}),
        (rolling({}), {CANDIDATE: BROKEN["rejected"], CONTROL: BROKEN["rejected"]}),
    ],
    ids=[
        "users by the strategy",
        "promoted long ago",
        "withdrawn",
        "killed",
        "stable",
        "copies",
        "sound",
        "alike",
    ],
)
def test_rules_have_no_guard_of(state: State, legs: dict[Leg, Counts]) -> None:
    assert by_rules(*[state] * 5, legs=legs).failed == {}


@pytest.mark.parametrize("change", [{"generation": 2}, {"run": 2}])
def test_evidence_on_rules_begins_anew_with_a_spec_and_with_a_run(change: dict[str, int]) -> None:
    found = by_rules(*[rolling({})] * 5, legs=GONE)
    by_rules(rolling({}, **change), legs={CANDIDATE: FINE, CONTROL: FINE}, guards=found)
    assert found.failed == {}


def test_a_failure_by_rules_ends_with_its_block() -> None:
    found = by_rules(*[rolling({})] * 5, legs=GONE)
    assert by_rules(rolling({}), legs={CONTROL: FINE}, guards=found).failed == {}
