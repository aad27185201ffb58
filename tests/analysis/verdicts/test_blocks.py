"""When a block ends: after its time, when weights change, and at once when its counts prove a fault."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from tests.rollout.states import program, state
from xds_server.analysis.counts import Block, Counts, Leg
from xds_server.analysis.verdicts import (
    AnalyzedBlock,
    Arms,
    ComparisonOperator,
    Guardrail,
    Policy,
    RouteAnalysis,
    Threshold,
    analyzed_block_from_json,
    analyzed_block_to_json,
    replay,
)
from xds_server.analysis.verdicts.metrics import GUARDS
from xds_server.analysis.verdicts.threshold_state import Measurement, ThresholdState
from xds_server.rollout import Bake, Finding, Pause, Phase, SetWeight, State

STABLE, USERS = Leg(route="chat", variant="v1"), Leg(route="chat", variant="v2")
POLICY = Policy(
    guardrails=(Guardrail.of("success-rate"), Guardrail.of("ttft-p50")),
    guards=tuple(Guardrail.of(name, min_samples=0) for name in GUARDS if name != "failed"),
)
PLAN = program(SetWeight(weight=500), Pause(duration=60.0), Bake(duration=60.0))


def canary(weight: int = 500) -> State:
    phase = Phase.PROGRESSING if weight else Phase.PENDING
    return replace(state(phase, program=PLAN, weight=weight, step=1), run=1)


@dataclass
class Live:
    """A control plane that looks once a second."""

    policy: Policy = POLICY
    analysis: RouteAnalysis = field(default_factory=lambda: RouteAnalysis(block_started=0.0))
    stored: list[AnalyzedBlock] = field(default_factory=list)
    ended: list[tuple[float, float]] = field(default_factory=list)
    now: float = 0.0

    def second(self, at: State, candidate: Counts, control: Counts) -> Finding | None:
        """Let a second pass with these counts; return the finding."""
        self.analysis.add_counts({leg: c for leg, c in ((USERS, candidate), (STABLE, control)) if c.requests})
        self.now += 1.0
        block = self.analysis.close_block(self.now, 10.0, at, self.policy)
        if block is not None:
            self.ended.append((block.start, block.seconds))
            for one in self.analysis.add_block(block, at, self.policy):
                self.stored.append(analyzed_block_from_json(analyzed_block_to_json(one)))
        found = self.analysis.result
        return None if found is None else found.finding


def times(rng: np.random.Generator, n: int, place: int) -> Counts:
    row = [0] * len(Counts().first_token_ms)
    for at in rng.binomial(2 * place, 0.5, n):
        row[at] += 1
    return Counts(requests=n, first_token_ms=tuple(row))


def warmed_up(seed: int = 1) -> tuple[Live, np.random.Generator]:
    """Return an analysis after five minutes of the control alone."""
    live, rng = Live(), np.random.default_rng(seed)
    for _ in range(300):
        live.second(canary(0), Counts(), replace(times(rng, 47, 8), failed=int(rng.binomial(47, 0.005))))
    return live, rng


def test_a_block_ends_after_its_time_and_when_weights_change() -> None:
    live, _ = Live(), None
    for _ in range(13):
        live.second(canary(0), Counts(), Counts(requests=40))
    for _ in range(12):
        live.second(canary(500), Counts(requests=2), Counts(requests=40))
    live.second(canary(2_500), Counts(requests=2), Counts(requests=40))
    assert live.ended == [(0.0, 10.0), (10.0, 4.0), (14.0, 10.0), (24.0, 2.0)]


@pytest.mark.parametrize(("fails", "most"), [(True, 8), (False, 40)])
def test_a_fault_ends_the_block_at_once_and_a_replay_finds_it_at_the_same_block(
    fails: bool, most: int
) -> None:
    live, rng = warmed_up()
    for _ in range(65):
        control = replace(times(rng, 47, 8), failed=int(rng.binomial(47, 0.005)))
        assert live.second(canary(), times(rng, 2, 8), control) is not Finding.FAIL
    answers = 0
    for _ in range(20):
        control = replace(times(rng, 47, 8), failed=int(rng.binomial(47, 0.005)))
        candidate = Counts(requests=2, failed=2) if fails else times(rng, 2, 14)
        answers += 2
        if live.second(canary(), candidate, control) is Finding.FAIL:
            break
    assert answers <= most
    assert live.ended[-1][1] < 10.0
    assert live.stored[-1].block.start + live.stored[-1].block.seconds == live.now
    assert live.analysis.result is not None
    (run,) = replay(POLICY, live.stored, Arms(route="chat", control="v1", candidates=("v2",)))
    assert run.decisions[-1].at == live.now
    assert run.decisions[-1].finding is Finding.FAIL
    assert run.decisions[-1].message == live.analysis.result.message


def test_a_fault_that_is_known_cuts_no_more_blocks() -> None:
    live, _ = warmed_up()
    for _ in range(40):
        live.second(canary(), Counts(requests=2, failed=2), Counts(requests=47))
    assert live.analysis.result is not None
    assert live.analysis.result.finding is Finding.FAIL
    cut = [seconds for start, seconds in live.ended if start >= 301.0 and seconds < 10.0]
    assert len(cut) == 1


def test_a_candidate_that_looks_no_worse_never_cuts_a_block() -> None:
    live, rng = warmed_up()
    before = len(live.ended)
    for _ in range(100):
        control = replace(times(rng, 47, 8), failed=int(rng.binomial(47, 0.05)))
        live.second(canary(), times(rng, 2, 8), control)
    assert {seconds for _, seconds in live.ended[before + 1 :]} == {10.0}


def test_requests_during_the_initial_delay_cut_no_block() -> None:
    live, _ = warmed_up()
    live.policy = replace(POLICY, initial_delay=30.0)
    for _ in range(29):
        assert live.second(canary(), Counts(requests=2, failed=2), Counts(requests=47)) is not Finding.FAIL


def test_a_backend_with_users_by_targets_is_found_within_a_block() -> None:
    live, _ = warmed_up()
    for _ in range(20):
        live.second(canary(0), Counts(requests=3), Counts(requests=47))
    live.policy = replace(POLICY, guardrails=(), guards=(Guardrail.of("failed", min_samples=0),))
    for _ in range(30):
        live.second(canary(0), Counts(requests=3), Counts(requests=47))
    began = live.now
    while not live.analysis.by_rules.failed and live.now < began + 30:
        live.second(canary(0), Counts(requests=3, failed=3), Counts(requests=47))
    assert live.now - began <= 4
    assert set(live.analysis.by_rules.failed) == {"v2"}


def test_a_fixed_limit_is_measured_once_per_interval() -> None:
    limit = Threshold(
        name="success-rate",
        metric="success-rate",
        comparison=ComparisonOperator.LESS,
        limit=0.5,
        failure_limit=2,
        every=60.0,
    )
    found, bad = ThresholdState(), Measurement(counts=Counts(requests=10, failed=9))
    tripped = []
    for number in range(1, 20):
        found = found.add_block(limit, bad, 10.0 * number)
        tripped.append(found.tripped)
    assert found.measurements == 4
    assert tripped.index(True) == 12
    assert not replace(found, measured_at=200.0).add_block(limit, Measurement(failed=True), 210.0).errors


def test_the_earlier_blocks_are_those_of_ten_minutes() -> None:
    analysis = RouteAnalysis(block_started=0.0)
    for second in range(900):
        analysis.keep(Block(start=float(second), seconds=1.0, legs={STABLE: Counts(requests=1)}))
    assert len(analysis.earlier_blocks) == 600
    analysis.keep(Block(start=900.0, seconds=700.0, legs={STABLE: Counts(requests=1)}))
    assert len(analysis.earlier_blocks) == 1
