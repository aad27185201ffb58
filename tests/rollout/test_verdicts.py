"""Effects of verdicts, alarms, health, shadow evidence and the token budget on a rollout."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.rollout.states import CANARY, NOW, program, records, state
from xds_server.rollout import (
    Alarm,
    Analysis,
    Bake,
    Evidence,
    Experiment,
    Finding,
    Health,
    OnInconclusive,
    Outcome,
    Pause,
    Phase,
    Program,
    Publish,
    SetWeight,
    Shadow,
    ShadowTokenRate,
    State,
    Step,
    Tick,
    Verdict,
    step,
)
from xds_server.rollout.codec import event_from_json, event_to_json, state_from_json, state_to_json

VERDICT_TIMEOUT = 300.0
FINDINGS = [None, *Finding]
LAST = SetWeight(weight=9_000)


def requiring_verdict(*steps: Step, **overrides: Any) -> Program:
    """Return a program whose timed steps require a verdict, and wait up to 300 s for one."""
    return program(*steps, **{"requires_verdict": True, "verdict_timeout": VERDICT_TIMEOUT} | overrides)


def due(rollout: Program, **overrides: Any) -> State:
    """Return a state in the first step of a program; the duration of the step elapses at `NOW`."""
    phase = Phase.BAKING if isinstance(rollout.steps[0], Bake) else Phase.PROGRESSING
    defaults: dict[str, Any] = {
        "program": rollout,
        "weight": 500,
        "converged": True,
        "step_began_at": NOW - 60,
        "ends_at": NOW,
    }
    return state(phase, **defaults | overrides)


def missing_verdict_message(finding: Finding | None) -> str:
    verdict = "there is no verdict yet" if finding is None else f"the verdict is {finding.value}, not Pass"
    return f"the step's duration has elapsed, but {verdict}"


# Steps that require a verdict


@pytest.mark.parametrize(("weight", "lapsed", "ends"), [(10_000, True, True), (10_000, False, False)])
def test_at_100_percent_a_lapsed_pass_ends_a_step(weight: int, *, lapsed: bool, ends: bool) -> None:
    rollout = requiring_verdict(Bake(duration=60.0))
    before, _ = step(
        due(rollout, weight=weight, finding=Finding.PASS),
        Verdict(finding=Finding.NO_DATA, detail="d", lapsed=lapsed),
        NOW,
    )
    after, _ = step(before, Tick(synced=True), NOW)
    assert (after.phase is Phase.HEALTHY) is ends


def test_below_100_percent_a_lapsed_pass_ends_no_step() -> None:
    before = due(requiring_verdict(Pause(duration=60.0), LAST), finding=Finding.NO_DATA, lapsed=True)
    after, _ = step(before, Tick(synced=True), NOW)
    assert after.step == before.step


@pytest.mark.parametrize("lapsed", [True, False])
def test_a_lapsed_pass_is_stored_only_if_there_is_one(*, lapsed: bool) -> None:
    before = due(requiring_verdict(Bake(duration=60.0)), lapsed=lapsed)
    text = state_to_json(before)
    assert state_from_json(text) == before
    assert ("lapsed" in text) is lapsed
    event = Verdict(finding=Finding.NO_DATA, detail="d", lapsed=lapsed)
    assert event_from_json(event_to_json(event)) == event
    assert ("lapsed" in event_to_json(event)) is lapsed


@pytest.mark.parametrize("current", [Pause(duration=60.0), Bake(duration=60.0)], ids=["pause", "bake"])
@pytest.mark.parametrize("finding", FINDINGS)
@pytest.mark.parametrize("on_inconclusive", OnInconclusive)
def test_a_step_that_requires_a_verdict_is_extended_and_then_follows_on_inconclusive(
    current: Step, finding: Finding | None, on_inconclusive: OnInconclusive
) -> None:
    before = due(requiring_verdict(current, LAST, on_inconclusive=on_inconclusive), finding=finding)
    if finding is Finding.PASS:
        after, _ = step(before, Tick(synced=True), NOW)
        assert (after.step, after.weight) == (1, 9_000)
        return
    extended = replace(before, message=missing_verdict_message(finding))
    for elapsed in (0.0, VERDICT_TIMEOUT - 0.001):
        after, effects = step(before, Tick(synced=True), NOW + elapsed)
        assert (after, records(effects)) == (extended, [("extended", missing_verdict_message(finding))])
        assert step(extended, Tick(synced=True), NOW + elapsed) == (extended, ())
    after, effects = step(extended, Tick(synced=True), NOW + VERDICT_TIMEOUT)
    match on_inconclusive:
        case OnInconclusive.PROMOTE:
            assert (after.step, after.weight, after.phase) == (1, 9_000, Phase.PROGRESSING)
            assert records(effects)[0] == (
                "went_on",
                f"{missing_verdict_message(finding)}; onInconclusive is Promote",
            )
            assert effects[-1] == Publish()
        case OnInconclusive.ROLLBACK:
            assert (after.phase, after.outcome) == (Phase.ROLLING_BACK, Outcome.ROLLED_BACK)
            assert (after.weight, after.ends_at) == (0, None)
            assert records(effects) == [
                ("undecided", f"{missing_verdict_message(finding)}; onInconclusive is Rollback")
            ]
        case OnInconclusive.HOLD:
            message = f"{missing_verdict_message(finding)}; onInconclusive is Hold: promote or abort"
            assert (after, records(effects)) == (replace(before, message=message), [("held", message)])
            assert step(after, Tick(synced=True), NOW + 1e6) == (after, ())


def test_without_a_verdict_timeout_on_inconclusive_applies_at_once() -> None:
    before = due(
        requiring_verdict(
            Pause(duration=60.0), LAST, verdict_timeout=0.0, on_inconclusive=OnInconclusive.ROLLBACK
        )
    )
    assert step(before, Tick(synced=True), NOW)[0].phase is Phase.ROLLING_BACK


@pytest.mark.parametrize(
    ("rollout", "weight"),
    [
        (requiring_verdict(Pause(duration=60.0), LAST), 0),
        (program(Pause(duration=60.0), LAST), 500),
        (requiring_verdict(Experiment(weights=(("v2", 500),), duration=60.0, back=False)), 500),
        (requiring_verdict(Shadow(percentage=2_000, duration=60.0), LAST), 500),
    ],
    ids=["no-users-on-the-candidate", "no-verdict-required", "experiment", "shadow"],
)
@pytest.mark.parametrize("finding", FINDINGS)
def test_a_step_that_requires_no_verdict_ends_by_time(
    rollout: Program, weight: int, finding: Finding | None
) -> None:
    before = due(rollout, weight=weight, finding=finding)
    after, _ = step(before, Tick(synced=True), NOW)
    assert (after.step, after.phase) != (before.step, before.phase) or after.outcome is Outcome.COMPLETED


def test_one_user_in_ten_thousand_is_enough_to_require_a_verdict() -> None:
    before = due(requiring_verdict(Pause(duration=60.0), LAST), weight=1)
    assert records(step(before, Tick(synced=True), NOW)[1]) == [("extended", missing_verdict_message(None))]


# Verdicts


STEPS_BY_PHASE = {
    Phase.PENDING: (),
    Phase.PROGRESSING: (),
    Phase.PAUSED: (),
    Phase.BAKING: (),
    Phase.DEGRADED: (),
    Phase.HEALTHY: (),
    Phase.SHADOWING: (Shadow(percentage=2_000, duration=None),),
}


@pytest.mark.parametrize("phase", STEPS_BY_PHASE, ids=lambda phase: phase.name)
@pytest.mark.parametrize(("weight", "mirror"), [(0, 0), (1, 0), (0, 1), (500, 0)])
def test_a_failed_verdict_rolls_back_if_users_or_copies_reach_the_candidate(
    phase: Phase, weight: int, mirror: int
) -> None:
    before = state(
        phase, *STEPS_BY_PHASE[phase], weight=weight, mirror=mirror, ends_at=NOW + 9, left=3.0, warm_until=1e9
    )
    after, effects = step(before, Verdict(finding=Finding.FAIL, detail="x" * 900), NOW + 5)
    if not weight and not mirror:
        assert (after, effects) == (before, ())
        return
    assert (after.phase, after.outcome, after.finding) == (
        Phase.ROLLING_BACK,
        Outcome.ROLLED_BACK,
        Finding.FAIL,
    )
    assert (after.weight, after.mirror) == (0, 0)
    assert (after.revision, after.published_at, after.converged) == (8, NOW + 5, False)
    timers = (after.step_began_at, after.ends_at, after.resumes, after.left, after.warm_until)
    assert timers == (None,) * 5
    assert after.message == "failed: " + "x" * 500
    assert (records(effects), effects[-1]) == ([("failed", "x" * 500)], Publish())


@pytest.mark.parametrize("finding", [finding for finding in Finding if finding is not Finding.FAIL])
def test_another_verdict_is_recorded_once_and_ends_no_step_that_does_not_wait_for_it(
    finding: Finding,
) -> None:
    before = state(Phase.PROGRESSING, weight=500, converged=True, step=1, ends_at=NOW + 60)
    after, effects = step(before, Verdict(finding=finding, detail="d"), NOW + 5)
    assert (after, records(effects)) == (
        replace(before, finding=finding),
        [("verdict", f"{finding.value}: d")],
    )
    assert step(after, Verdict(finding=finding, detail="e"), NOW + 6) == (after, ())


ANALYSIS = (SetWeight(weight=500), Analysis(name="a"), LAST)


@pytest.mark.parametrize("has_converged", [False, True])
@pytest.mark.parametrize("paused", [False, True])
@pytest.mark.parametrize("finding", [finding for finding in Finding if finding is not Finding.FAIL])
def test_only_a_pass_ends_an_analysis_that_has_converged_and_is_not_paused(
    has_converged: bool, paused: bool, finding: Finding
) -> None:
    before = state(
        Phase.PAUSED if paused else Phase.PROGRESSING,
        *ANALYSIS,
        weight=500,
        step=1,
        converged=has_converged,
        resumes=Phase.PROGRESSING if paused else None,
    )
    after, effects = step(before, Verdict(finding=finding, detail="d"), NOW + 5)
    verdict = ("verdict", f"{finding.value}: d")
    if finding is Finding.PASS and has_converged and not paused:
        assert (after.step, after.weight, after.finding) == (2, 9_000, finding)
        assert records(effects) == [verdict, ("step_began", "weight 90 % for v2")]
    else:
        message = "" if paused else f"{finding.value}: d"
        assert (after, records(effects)) == (replace(before, finding=finding, message=message), [verdict])


@pytest.mark.parametrize("rollback", [False, True])
@pytest.mark.parametrize(("weight", "mirror"), [(0, 0), (1, 0), (0, 1)])
@pytest.mark.parametrize("phase", STEPS_BY_PHASE, ids=lambda phase: phase.name)
def test_an_alarm_that_requests_it_rolls_back_if_users_or_copies_reach_the_candidate(
    phase: Phase, weight: int, mirror: int, rollback: bool
) -> None:
    before = state(phase, *STEPS_BY_PHASE[phase], weight=weight, mirror=mirror)
    after, effects = step(before, Alarm(name="Bad", detail="d", rollback=rollback), NOW + 5)
    if not rollback:
        assert (after, records(effects)) == (before, [("alarm", "Bad: d")])
    elif weight or mirror:
        assert (after.phase, after.outcome) == (Phase.ROLLING_BACK, Outcome.ROLLED_BACK)
        assert (after.weight, after.mirror, after.message) == (0, 0, "alarm: Bad: d")
        assert effects[-1] == Publish()
    else:
        assert (after, effects) == (before, ())


# Health


@pytest.mark.parametrize(
    "phase", [*STEPS_BY_PHASE, Phase.ROLLING_BACK, Phase.ROLLED_BACK], ids=lambda phase: phase.name
)
@pytest.mark.parametrize("weight", [0, 1])
@pytest.mark.parametrize("has_converged", [False, True])
@pytest.mark.parametrize("detail", ["", "refused"])
def test_an_unhealthy_backend_loses_its_users_and_is_published(
    phase: Phase, weight: int, has_converged: bool, detail: str
) -> None:
    rollout = program(*(STEPS_BY_PHASE.get(phase) or CANARY), checked=("v2", "v3"))
    before = state(phase, program=rollout, weight=weight, converged=has_converged, healthy=("v2", "v3"))
    after, effects = step(before, Health(backend="v2", healthy=0, total=2, detail=detail), NOW + 5)
    message = "v2 has no healthy endpoint: 0 of 2 endpoints are healthy" + (" (refused)" if detail else "")
    assert (after.healthy, after.dead) == (("v3",), ("v2",))
    assert (after.revision, after.published_at, effects[-1]) == (8, NOW + 5, Publish())
    if weight and phase not in {Phase.ROLLING_BACK, Phase.ROLLED_BACK}:
        assert (after.phase, after.outcome) == (Phase.ROLLING_BACK, Outcome.ROLLED_BACK)
        assert (after.weight, after.converged) == (0, False)
        assert records(effects) == [("candidate_died", message)]
    elif not weight:
        assert (after.phase, after.weight, after.converged) == (phase, 0, has_converged)
        assert records(effects) == [("dead", message)]
    again = Health(backend="v2", healthy=0, total=2, detail="another reason")
    assert step(after, again, NOW + 6) == (after, ())


def test_a_healthy_backend_is_published_only_if_it_was_unhealthy() -> None:
    rollout = program(checked=("v2", "v3"))
    unchecked = state(Phase.PENDING, program=rollout)
    healthy = Health(backend="v2", healthy=1, total=2)
    after, effects = step(unchecked, healthy, NOW + 5)
    assert (after, effects) == (replace(unchecked, healthy=("v2",)), ())
    assert step(after, replace(healthy, healthy=2), NOW + 6) == (after, ())
    for has_converged in (False, True):
        unhealthy = replace(unchecked, dead=("v2", "v3"), converged=has_converged)
        after, effects = step(unhealthy, healthy, NOW + 5)
        expected = replace(
            unhealthy,
            healthy=("v2",),
            dead=("v3",),
            revision=8,
            published_at=NOW + 5,
            converged=has_converged,
        )
        assert (after, records(effects)) == (expected, [("alive", "v2: 1 of 2 endpoints are healthy")])
        assert effects[-1] == Publish()


@pytest.mark.parametrize(
    "current", [LAST, Experiment(weights=(("v3", 100), ("v2", 9_000)), duration=None, back=True)]
)
@pytest.mark.parametrize("dead", [(), ("v2",)])
def test_users_move_only_to_backends_that_are_known_to_be_healthy(
    current: Step, dead: tuple[str, ...]
) -> None:
    rollout = program(SetWeight(weight=0), Pause(duration=1.0), current, checked=("v2", "v3"))
    before = state(
        Phase.PROGRESSING, program=rollout, step=1, converged=True, ends_at=NOW, healthy=("v3",), dead=dead
    )
    health = "has no healthy endpoint" if dead else "has not passed a health check yet"
    message = f"v2 {health}; it receives no users until one of its endpoints is healthy"
    after, effects = step(before, Tick(synced=True), NOW)
    assert (after, records(effects)) == (replace(before, message=message), [("not_alive", message)])
    assert step(after, Tick(synced=True), NOW + 1) == (after, ())
    recovered = replace(after, healthy=("v2", "v3"), dead=())
    assert step(recovered, Tick(synced=True), NOW + 2)[0].weight >= 9_000


# Shadow evidence


def shadow(min_pairs: int | None = 50, required: str = "NotDifferent", **overrides: Any) -> State:
    current = Shadow(percentage=2_000, duration=None, min_pairs=min_pairs, required=required)  # type: ignore[arg-type]
    return state(Phase.SHADOWING, current, LAST, mirror=2_000, converged=True, **overrides)


def test_only_pairs_compared_since_the_shadow_began_count() -> None:
    before = shadow()
    counting, effects = step(before, Evidence(pairs=900), NOW)
    assert (counting, effects) == (replace(before, pairs_before=900), ())
    assert step(counting, Evidence(pairs=949), NOW) == (counting, ())
    after, effects = step(counting, Evidence(pairs=950), NOW)
    assert (after, records(effects)) == (
        replace(counting, proven=True),
        [("evidence", "50 pairs compared, 50 required")],
    )
    assert step(after, Evidence(pairs=2_000), NOW) == (after, ()), "the requirement is met already"
    # After a collector lost its count, pairs count from the new value.
    assert step(counting, Evidence(pairs=899), NOW) == (replace(counting, pairs_before=899), ())
    assert step(counting, Evidence(pairs=900), NOW) == (counting, ())


@pytest.mark.parametrize("required", ["NotDifferent", "Equivalent"])
@pytest.mark.parametrize("found", ["", "Inconclusive", "Equivalent", "Different"])
def test_the_verdict_on_a_shadow_must_meet_the_requirement_of_the_spec(required: str, found: str) -> None:
    before = shadow(required=required, pairs_before=0)
    after, effects = step(before, Evidence(pairs=60, equivalence=found, detail="d"), NOW)
    good = found == "Equivalent" if required == "Equivalent" else found != "Different"
    assert (after.proven, after.equivalence) == (good, found)
    expected = [("likeness", f"{found}: d")] if found else []
    if good:
        verdict = f"; verdict: {found}" if found else ""
        expected.append(("evidence", f"60 pairs compared, 50 required{verdict}"))
    assert records(effects) == expected


def test_a_verdict_of_different_is_final() -> None:
    before = shadow(pairs_before=0, equivalence="Different")
    for found in ("", "Equivalent", "Inconclusive", "Different"):
        assert step(before, Evidence(pairs=99, equivalence=found), NOW) == (before, ())


def test_without_min_pairs_a_shadow_never_meets_its_requirement() -> None:
    before = shadow(min_pairs=None)
    assert step(before, Evidence(pairs=10_000), NOW) == (before, ())
    after, _ = step(before, Evidence(pairs=10_000, equivalence="Equivalent"), NOW)
    assert after == replace(before, equivalence="Equivalent")


@pytest.mark.parametrize("duration", [None, 60.0])
@pytest.mark.parametrize("min_pairs", [None, 50])
@pytest.mark.parametrize("proven", [False, True])
@pytest.mark.parametrize("over", [False, True])
def test_a_shadow_ends_once_its_duration_and_its_required_pairs_are_reached(
    duration: float | None, min_pairs: int | None, proven: bool, over: bool
) -> None:
    current = Shadow(percentage=2_000, duration=duration, min_pairs=min_pairs)
    ends = None if duration is None else NOW + (0 if over else 1)
    before = state(Phase.SHADOWING, current, LAST, mirror=2_000, converged=True, proven=proven, ends_at=ends)
    after, _ = step(before, Tick(synced=True), NOW)
    timed = duration is not None and over
    ended = (timed and (min_pairs is None or proven)) or (
        duration is None and min_pairs is not None and proven
    )
    assert (after.step == 1) is ended
    if not ended:
        assert after == before


# The token budget of a shadow


def mirroring(mirror: int, **overrides: Any) -> State:
    current = Shadow(percentage=5_000, duration=None, tokens_per_second=100)
    return state(Phase.SHADOWING, current, weight=0, mirror=mirror, converged=True, **overrides)


@pytest.mark.parametrize(
    ("mirror", "rate", "share"),
    [
        (5_000, 100.0, None),  # exactly the budget
        (5_000, 100.1, 4_495),
        (5_000, 400.0, 1_125),
        (1, 1e9, None),  # never less than one request in ten thousand
        (2, 1e9, 1),
        (1_000, 70.0, None),  # not far enough below the budget to raise the share
        (1_000, 69.9, 1_287),
        (1_000, 60.0, 1_500),
        (1_000, 1.0, 1_500),
        (1_000, 0.0, 1_500),
        (1, 0.0, 2),  # a small share rises as well
        (4_000, 0.0, 5_000),  # never above the percentage of the step
        (5_000, 0.0, None),
        (0, 0.0, None),
        (0, 400.0, None),
    ],
)
def test_the_mirrored_share_follows_its_token_cost(mirror: int, rate: float, share: int | None) -> None:
    before = mirroring(mirror)
    after, effects = step(before, ShadowTokenRate(tokens_per_second=rate), NOW + 5)
    if share is None:
        assert (after, effects) == (before, ())
        return
    assert after == replace(before, mirror=share, budgeted_at=NOW + 5, revision=8, published_at=NOW + 5)
    message = f"copies cost {rate:.0f} tokens/s, the budget is 100: mirroring {share / 100:g} % of requests"
    assert (records(effects), effects[-1]) == ([("budget", message)], Publish())


def test_the_next_adjustment_waits_for_the_settle_time() -> None:
    before = mirroring(2_000, budgeted_at=NOW)
    assert step(before, ShadowTokenRate(tokens_per_second=400.0), NOW + 29.9) == (before, ())
    assert step(before, ShadowTokenRate(tokens_per_second=400.0), NOW + 30.0)[0].mirror == 450


def test_an_adjusted_share_does_not_stop_the_timer() -> None:
    for has_converged in (False, True):
        before = replace(mirroring(2_000), converged=has_converged)
        assert step(before, ShadowTokenRate(tokens_per_second=400.0), NOW + 5)[0].converged is has_converged


def test_without_a_budget_the_mirrored_share_stays() -> None:
    before = shadow()
    assert step(before, ShadowTokenRate(tokens_per_second=1e9), NOW) == (before, ())
    before = state(Phase.PROGRESSING, weight=500)
    assert step(before, ShadowTokenRate(tokens_per_second=1e9), NOW) == (before, ())
    assert step(before, Evidence(pairs=100, equivalence="Different"), NOW) == (before, ())
