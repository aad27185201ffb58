"""Recorded blocks lead to the verdicts of the time: in a replay, and after a restart in the middle."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.rollout.states import program, state
from xds_server.analysis.counts import Block, Counts, Leg, Role, block_from_json
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
from xds_server.rollout import Bake, Finding, Pause, Phase, SetWeight, Shadow, State

if TYPE_CHECKING:
    from xds_server.analysis.verdicts import AnalysisResult

STABLE, COPY = Leg(route="chat", variant="v1"), Leg(route="chat", variant="v2", role=Role.SHADOW)
USERS = Leg(route="chat", variant="v2")
ARMS: Final = Arms(route="chat", control="v1", candidates=("v2",))
PLAN: Final = program(
    Shadow(percentage=1_000, duration=60.0), SetWeight(weight=500), Pause(duration=60.0), Bake(duration=60.0)
)
QUERY: Final = Threshold(
    name="gpu", metric=None, query="avg(gpu)", comparison=ComparisonOperator.GREATER, limit=2.0, lasting=40.0
)
LIMIT: Final = Threshold(
    name="success-rate", metric="success-rate", comparison=ComparisonOperator.LESS, limit=0.3, lasting=100.0
)
POLICY: Final = Policy(
    guardrails=(
        Guardrail.of("success-rate"),
        Guardrail.of("duration-p50"),
        Guardrail.of("tokens-per-request"),
    ),
    thresholds=(QUERY, LIMIT),
)


@dataclass
class Live:
    """A route analysis that runs; what it stores and what it finds at the end of each block are kept."""

    policy: Policy = POLICY
    analysis: RouteAnalysis = field(default_factory=lambda: RouteAnalysis(block_started=0.0))
    stored: list[str] = field(default_factory=list)
    found: list[tuple[int, float, AnalysisResult | None]] = field(default_factory=list)
    now: float = 0.0

    def block(self, at: State, legs: dict[Leg, Counts], query: float | None = 1.0) -> None:
        """Let a block of 10 s end; `query` is the result of the query, -1 for none yet."""
        block = Block(start=self.now, seconds=10.0, legs={leg: c for leg, c in legs.items() if c.requests})
        self.now += 10.0
        results = {} if query == -1 else {"gpu": query}
        for one in self.analysis.add_block(block, at, self.policy, results):
            self.stored.append(json.dumps(analyzed_block_to_json(one)))
        self.found.append((at.run, self.now, self.analysis.result))

    def restart(self, at: State) -> None:
        """Continue with a new analysis that has the stored blocks only."""
        self.analysis = RouteAnalysis(block_started=self.now)
        self.analysis.restore(self.recorded(), at, self.policy)

    def recorded(self) -> list[AnalyzedBlock]:
        return [analyzed_block_from_json(json.loads(line)) for line in self.stored]

    def changes(self, run: int) -> list[tuple[float, Finding, str]]:
        """Return when the finding of a run changed, until its first Fail."""
        changes: list[tuple[float, Finding, str]] = []
        for of, at, result in self.found:
            if of != run or result is None or self.started(run) is None or at <= (self.started(run) or 0.0):
                continue
            if changes and changes[-1][1] is Finding.FAIL:
                break
            if not changes or changes[-1][1] is not result.finding:
                changes.append((at, result.finding, result.message))
        return changes

    def started(self, run: int) -> float | None:
        """Return the start of the first block of a run that has requests of the analyzed candidate."""
        for one in self.recorded():
            if (
                one.run == run
                and one.context is not None
                and any(leg in one.block.legs for leg in one.context.legs)
            ):
                return one.block.start
        return None


def counts(rng: np.random.Generator, n: int, rate: float, slow: float = 1.0) -> Counts:
    row, lengths = [0] * len(Counts().duration_ms), [0] * len(Counts().tokens)
    for place in rng.binomial(20, min(0.9, 0.4 * slow), n):
        row[place] += 1
    for place in rng.binomial(12, 0.5, n):
        lengths[place] += 1
    failed = int(rng.binomial(n, rate))
    return Counts(requests=n, failed=failed, duration_ms=tuple(row), tokens=tuple(lengths), metered=n)


STAGES: Final[dict[str, dict[str, Any]]] = {
    "no candidate": {"phase": Phase.HEALTHY, "program": replace(PLAN, steps=(), candidate=None)},
    "pending": {"phase": Phase.PENDING},
    "shadow": {"phase": Phase.SHADOWING, "mirror": 1_000},
    "canary": {"phase": Phase.PROGRESSING, "weight": 500, "step": 2},
    "half": {"phase": Phase.PROGRESSING, "weight": 5_000, "step": 2},
    "all": {"phase": Phase.BAKING, "weight": 10_000, "step": 3},
    "promoted": {"phase": Phase.HEALTHY, "weight": 10_000, "step": 4},
    "rolled back": {"phase": Phase.ROLLED_BACK, "step": 2},
}


def at_stage(stage: str, run: int) -> State:
    given_ = {"program": PLAN} | STAGES[stage]
    return replace(state(given_.pop("phase"), **given_), run=run)


def traffic(rng: np.random.Generator, stage: str, rate: float, busy: int) -> dict[Leg, Counts]:
    """Return the counts of a block; rules give the candidate some users in every stage."""
    legs = {STABLE: counts(rng, 0 if stage in {"all", "promoted"} else busy, 0.01)}
    if stage != "no candidate":
        share = {"canary": 0.05, "half": 0.5, "all": 1.0, "promoted": 1.0}.get(stage, 0.0)
        legs[USERS] = counts(rng, int(share * busy) + 2 * (busy > 0), rate, 1 + rate)
    if stage == "shadow":
        legs[COPY] = counts(rng, busy // 10, rate / 4)
    return legs


STORY: Final = (
    (1, "no candidate", 70),
    (2, "pending", 2),
    (2, "shadow", 20),
    (2, "canary", 12),
    (2, "half", 8),
    (2, "rolled back", 5),
    (3, "pending", 1),
    (3, "shadow", 4),
    (3, "canary", 30),
    (3, "all", 9),
    (3, "promoted", 12),
    (4, "canary", 9),
)


def run_story(seed: int, rate: float, restarts: frozenset[int] = frozenset()) -> Live:
    """Run several rollouts with varying traffic; restart before the blocks with these numbers."""
    live, number = Live(), 0
    for run, stage, blocks in STORY:
        for _ in range(blocks):
            rng = np.random.default_rng([seed, number])
            at = at_stage(stage, run)
            if number in restarts:
                live.restart(at)
            busy = int(rng.choice([0, 3, 60, 200, 400], p=[0.15, 0.1, 0.25, 0.25, 0.25]))
            query = rng.choice([1.0, 3.0, np.nan, -1.0], p=[0.5, 0.3, 0.1, 0.1])
            live.block(at, traffic(rng, stage, rate, busy), None if np.isnan(query) else float(query))
            number += 1
    return live


@pytest.mark.parametrize("rate", [0.01, 0.06, 0.4])
@pytest.mark.parametrize("seed", range(2))
def test_a_replay_finds_the_same_at_the_same_block(seed: int, rate: float) -> None:
    live = run_story(seed, rate)
    runs = replay(live.policy, live.recorded(), ARMS)
    assert [one.run for one in runs] == [2, 3, 4]
    for one in runs:
        assert [(d.at, d.finding, d.message) for d in one.decisions] == live.changes(one.run)
        assert one.missing == ()
    (alone,) = replay(live.policy, live.recorded(), ARMS, run=3)
    assert alone == runs[1]


@settings(max_examples=4, deadline=None)
@given(st.integers(0, 9), st.frozensets(st.integers(72, 180), min_size=1, max_size=3))
def test_a_restart_changes_no_verdict(seed: int, restarts: frozenset[int]) -> None:
    whole, broken = run_story(seed, 0.06), run_story(seed, 0.06, restarts)
    of_rollouts = [(one, other) for one, other in zip(whole.found, broken.found, strict=True) if one[0] > 1]
    assert [one for one, _ in of_rollouts] == [other for _, other in of_rollouts]
    assert "not read" not in str(broken.found)


def test_the_blocks_before_a_run_are_stored_when_it_begins() -> None:
    live, rng = Live(), np.random.default_rng(80)
    for number in range(80):
        rng = np.random.default_rng(number)
        live.block(at_stage("no candidate", 1), traffic(rng, "no candidate", 0.0, 50))
    assert live.stored == []
    live.block(at_stage("canary", 2), traffic(rng, "canary", 0.0, 50))
    recorded = live.recorded()
    assert [one.run for one in recorded] == [1] * 60 + [2]
    assert live.analysis.evidence["v2"].metric_states[1].reference_edge is not None


def test_a_verdict_after_a_restart_names_the_blocks_that_were_not_read() -> None:
    live = Live()
    for number in range(20):
        live.block(at_stage("canary", 2), traffic(np.random.default_rng(number), "canary", 0.0, 200))
    analysis = RouteAnalysis(block_started=live.now)
    analysis.restore(live.recorded()[10:], at_stage("canary", 2), POLICY)
    assert analysis.result is not None
    assert analysis.result.message.endswith(
        "counts before 1970-01-01 00:01:40 UTC are missing since a restart of the control plane"
    )
    (one,) = replay(POLICY, live.recorded()[10:], ARMS)
    assert one.missing == ("the first blocks of the run",)
    live.restart(at_stage("canary", 2))
    assert live.analysis.result is not None
    assert "not read" not in live.analysis.result.message


def test_an_edit_of_the_policy_begins_the_evidence_anew_after_a_restart_too() -> None:
    live = Live()
    for number in range(30):
        if number == 20:
            live.policy = replace(POLICY, guardrails=POLICY.guardrails[:1])
        live.block(at_stage("canary", 2), traffic(np.random.default_rng(number), "canary", 0.0, 200))
    before = live.analysis.result
    assert before is not None
    assert before.metrics[0].candidate.n == 10 * 12
    live.restart(at_stage("canary", 2))
    assert live.analysis.result == before


def test_query_results_decide_in_a_replay_too() -> None:
    live = Live()
    for number in range(6):
        legs = traffic(np.random.default_rng(number), "canary", 0.0, 200)
        live.block(at_stage("canary", 2), legs, 3.0 if number else 1.0)
    (one,) = replay(POLICY, live.recorded(), ARMS)
    assert (one.outcome, one.decisions[-1].message) == (
        Finding.FAIL,
        "gpu: was > 2 for 40 s; newest value: 3",
    )
    assert live.changes(2)[-1][:2] == (60.0, Finding.FAIL)


def test_the_legs_of_the_time_are_analyzed() -> None:
    live = Live()
    for stage, leg in (("shadow", COPY), ("canary", USERS)):
        live.block(at_stage(stage, 2), traffic(np.random.default_rng(1), stage, 0.0, 200))
        assert live.analysis.evidence["v2"].candidate == leg
    live.block(at_stage("rolled back", 2), traffic(np.random.default_rng(1), "canary", 0.0, 200))
    assert [one.context.legs for one in live.recorded() if one.context is not None] == [(COPY,), (USERS,), ()]


def test_all_users_at_once_are_compared_with_the_blocks_before() -> None:
    live = Live()
    for _ in range(30):
        live.block(at_stage("no candidate", 1), {STABLE: Counts(requests=400, failed=2)})
    live.block(at_stage("all", 2), {USERS: Counts(requests=400, failed=4)})
    live.block(at_stage("all", 2), {USERS: Counts(requests=400, failed=40)})
    findings = [result.finding for _, _, result in live.found[-2:] if result is not None]
    assert findings == [Finding.NO_DATA, Finding.FAIL]
    (one,) = replay(POLICY, live.recorded(), ARMS)
    assert one.outcome is Finding.FAIL


@pytest.mark.parametrize(
    ("more", "found"),
    [
        ({"published_at": 200.0}, Finding.FAIL),
        ({"published_at": -500.0}, Finding.NO_DATA),
        ({"published_at": -500.0, "warm_until": 300.0}, Finding.FAIL),
        ({"published_at": 200.0, "dead": ("v1",)}, Finding.NO_DATA),
    ],
)
def test_a_promoted_candidate_is_analyzed_while_its_users_can_return(
    more: dict[str, Any], found: Finding
) -> None:
    live = Live()
    for _ in range(20):
        live.block(at_stage("half", 2), {USERS: Counts(requests=90), STABLE: Counts(requests=90)})
    for _ in range(9):
        promoted = replace(at_stage("promoted", 2), **more)
        live.block(promoted, {USERS: Counts(requests=90, failed=90)})
    assert live.analysis.result is not None
    assert live.analysis.result.finding is found


def test_query_results_that_were_not_recorded_are_named() -> None:
    live = Live()
    for number in range(10):
        live.block(at_stage("canary", 2), traffic(np.random.default_rng(number), "canary", 0.0, 200))
    other = replace(POLICY, thresholds=(replace(QUERY, query="max(gpu)"), LIMIT))
    (one,) = replay(other, live.recorded(), ARMS)
    assert one.missing == ("results of the query of metric gpu",)
    assert one.last is not None
    assert [m.finding for m in one.last.metrics if m.metric == "gpu"] == [Finding.NO_DATA]


# Blocks of earlier versions


def old(run: int, number: int, **legs: Counts) -> AnalyzedBlock:
    known = {"users": USERS, "copies": COPY, "stable": STABLE}
    return AnalyzedBlock(
        run=run,
        block=Block(start=10.0 * number, seconds=10.0, legs={known[name]: c for name, c in legs.items()}),
    )


def test_the_legs_of_old_blocks_are_inferred() -> None:
    good, bad = Counts(requests=100), Counts(requests=100, failed=60)
    mirrored = [old(1, k, stable=good, copies=good, users=bad) for k in range(6)]
    (one,) = replay(POLICY, mirrored, ARMS)
    assert one.outcome is not Finding.FAIL, "users of rules are not those of a mirrored candidate"
    canary = [old(1, k, stable=good, users=bad) for k in range(6, 12)]
    (one,) = replay(POLICY, [*mirrored, *canary], ARMS)
    assert one.outcome is Finding.FAIL


def test_a_block_is_read_as_it_was_written() -> None:
    live = run_story(1, 0.06)
    assert [json.dumps(analyzed_block_to_json(one)) for one in live.recorded()] == live.stored
    for one in live.recorded():
        assert block_from_json(analyzed_block_to_json(one)) == one.block, "earlier versions read it too"
    plain = json.dumps(analyzed_block_to_json(old(3, 1, stable=Counts(requests=1))))
    assert "analysis" not in plain
    assert analyzed_block_from_json(json.loads(plain)) == old(3, 1, stable=Counts(requests=1))
    document = json.loads(plain)
    for broken, message in (
        ({}, 'field "run" is missing'),
        ({"run": 1}, 'field "start" is missing'),
        ({**document, "analysis": {}}, 'field "control" is missing'),
        ({**document, "analysis": 3}, "expected a JSON object, found 3"),
    ):
        with pytest.raises(ValueError, match=message):
            analyzed_block_from_json(broken)
