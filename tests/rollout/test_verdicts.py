"""What verdicts, alarms, health, evidence of a shadow and its budget do to a rollout."""

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

TIMEOUT = 300.0
FINDINGS = [None, *Finding]
LAST = SetWeight(weight=9_000)


def judged(*steps: Step, **more: Any) -> Program:
    """Return a program whose timed steps need a verdict, and wait for one for 300 s."""
    return program(*steps, **{"requires_verdict": True, "verdict_timeout": TIMEOUT} | more)


def due(asked: Program, **more: Any) -> State:
    """Return a state in the first step of a program, which is over at `NOW`."""
    phase = Phase.BAKING if isinstance(asked.steps[0], Bake) else Phase.PROGRESSING
    usual: dict[str, Any] = {
        "program": asked,
        "weight": 500,
        "converged": True,
        "step_began_at": NOW - 60,
        "ends_at": NOW,
    }
    return state(phase, **usual | more)


def words(finding: Finding | None) -> str:
    return f"step duration elapsed; verdict: {'missing' if finding is None else finding.value}"


# Steps that end only with a good verdict


@pytest.mark.parametrize("current", [Pause(duration=60.0), Bake(duration=60.0)], ids=["pause", "bake"])
@pytest.mark.parametrize("finding", FINDINGS)
@pytest.mark.parametrize("undecided", OnInconclusive)
def test_a_judged_step_without_a_pass_is_extended_and_then_does_as_the_spec_asks(
    current: Step, finding: Finding | None, undecided: OnInconclusive
) -> None:
    before = due(judged(current, LAST, on_inconclusive=undecided), finding=finding)
    if finding is Finding.PASS:
        after, _ = step(before, Tick(synced=True), NOW)
        assert (after.step, after.weight) == (1, 9_000)
        return
    extended = replace(before, message=words(finding))
    for passed in (0.0, TIMEOUT - 0.001):
        after, effects = step(before, Tick(synced=True), NOW + passed)
        assert (after, records(effects)) == (extended, [("extended", words(finding))])
        assert step(extended, Tick(synced=True), NOW + passed) == (extended, ())
    after, effects = step(extended, Tick(synced=True), NOW + TIMEOUT)
    match undecided:
        case OnInconclusive.PROMOTE:
            assert (after.step, after.weight, after.phase) == (1, 9_000, Phase.PROGRESSING)
            assert records(effects)[0] == ("went_on", f"{words(finding)}; onInconclusive is Promote")
            assert effects[-1] == Publish()
        case OnInconclusive.ROLLBACK:
            assert (after.phase, after.outcome) == (Phase.ROLLING_BACK, Outcome.ROLLED_BACK)
            assert (after.weight, after.ends_at) == (0, None)
            assert records(effects) == [("undecided", f"{words(finding)}; onInconclusive is Rollback")]
        case OnInconclusive.HOLD:
            message = f"{words(finding)}; promote or abort"
            assert (after, records(effects)) == (replace(before, message=message), [("held", message)])
            assert step(after, Tick(synced=True), NOW + 1e6) == (after, ())


def test_without_a_timeout_the_decision_is_due_at_once() -> None:
    before = due(
        judged(Pause(duration=60.0), LAST, verdict_timeout=0.0, on_inconclusive=OnInconclusive.ROLLBACK)
    )
    assert step(before, Tick(synced=True), NOW)[0].phase is Phase.ROLLING_BACK


@pytest.mark.parametrize(
    ("asked", "weight"),
    [
        (judged(Pause(duration=60.0), LAST), 0),
        (program(Pause(duration=60.0), LAST), 500),
        (judged(Experiment(weights=(("v2", 500),), duration=60.0, back=False)), 500),
        (judged(Shadow(percentage=2_000, duration=60.0), LAST), 500),
    ],
    ids=["no-user-on-the-candidate", "nothing-is-judged", "experiment", "shadow"],
)
@pytest.mark.parametrize("finding", FINDINGS)
def test_a_step_that_is_not_judged_ends_by_time(asked: Program, weight: int, finding: Finding | None) -> None:
    before = due(asked, weight=weight, finding=finding)
    after, _ = step(before, Tick(synced=True), NOW)
    assert (after.step, after.phase) != (before.step, before.phase) or after.outcome is Outcome.COMPLETED


def test_one_user_in_ten_thousand_is_enough_to_need_a_verdict() -> None:
    before = due(judged(Pause(duration=60.0), LAST), weight=1)
    assert records(step(before, Tick(synced=True), NOW)[1]) == [("extended", words(None))]


# Verdicts


PLACES = {
    Phase.PENDING: (),
    Phase.PROGRESSING: (),
    Phase.PAUSED: (),
    Phase.BAKING: (),
    Phase.DEGRADED: (),
    Phase.HEALTHY: (),
    Phase.SHADOWING: (Shadow(percentage=2_000, duration=None),),
}


@pytest.mark.parametrize("phase", PLACES, ids=lambda phase: phase.name)
@pytest.mark.parametrize(("weight", "mirror"), [(0, 0), (1, 0), (0, 1), (500, 0)])
def test_a_failed_verdict_rolls_back_exposed_users(phase: Phase, weight: int, mirror: int) -> None:
    before = state(
        phase, *PLACES[phase], weight=weight, mirror=mirror, ends_at=NOW + 9, left=3.0, warm_until=1e9
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
    clocks = (after.step_began_at, after.ends_at, after.resumes, after.left, after.warm_until)
    assert clocks == (None,) * 5
    assert after.message == "failed: " + "x" * 500
    assert (records(effects), effects[-1]) == ([("failed", "x" * 500)], Publish())


@pytest.mark.parametrize("finding", [finding for finding in Finding if finding is not Finding.FAIL])
def test_another_verdict_is_recorded_once_and_moves_no_step_that_does_not_wait_for_it(
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


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("paused", [False, True])
@pytest.mark.parametrize("finding", [finding for finding in Finding if finding is not Finding.FAIL])
def test_only_a_pass_ends_an_analysis_that_is_held_and_not_paused(
    held: bool, paused: bool, finding: Finding
) -> None:
    before = state(
        Phase.PAUSED if paused else Phase.PROGRESSING,
        *ANALYSIS,
        weight=500,
        step=1,
        converged=held,
        resumes=Phase.PROGRESSING if paused else None,
    )
    after, effects = step(before, Verdict(finding=finding, detail="d"), NOW + 5)
    verdict = ("verdict", f"{finding.value}: d")
    if finding is Finding.PASS and held and not paused:
        assert (after.step, after.weight, after.finding) == (2, 9_000, finding)
        assert records(effects) == [verdict, ("step_began", "weight 90 % for v2")]
    else:
        message = "" if paused else f"{finding.value}: d"
        assert (after, records(effects)) == (replace(before, finding=finding, message=message), [verdict])


@pytest.mark.parametrize("rollback", [False, True])
@pytest.mark.parametrize(("weight", "mirror"), [(0, 0), (1, 0), (0, 1)])
@pytest.mark.parametrize("phase", PLACES, ids=lambda phase: phase.name)
def test_an_alarm_rolls_back_exposed_users_if_the_spec_requires_it(
    phase: Phase, weight: int, mirror: int, rollback: bool
) -> None:
    before = state(phase, *PLACES[phase], weight=weight, mirror=mirror)
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
    "phase", [*PLACES, Phase.ROLLING_BACK, Phase.ROLLED_BACK], ids=lambda phase: phase.name
)
@pytest.mark.parametrize("weight", [0, 1])
@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("detail", ["", "refused"])
def test_the_death_of_a_backend_takes_back_its_users_and_is_published(
    phase: Phase, weight: int, held: bool, detail: str
) -> None:
    asked = program(*(PLACES.get(phase) or CANARY), checked=("v2", "v3"))
    before = state(phase, program=asked, weight=weight, converged=held, healthy=("v2", "v3"))
    after, effects = step(before, Health(backend="v2", healthy=0, total=2, detail=detail), NOW + 5)
    message = "v2 lost its last healthy endpoint: 0 of 2 endpoints are healthy" + (
        " (refused)" if detail else ""
    )
    assert (after.healthy, after.dead) == (("v3",), ("v2",))
    assert (after.revision, after.published_at, effects[-1]) == (8, NOW + 5, Publish())
    if weight and phase not in {Phase.ROLLING_BACK, Phase.ROLLED_BACK}:
        assert (after.phase, after.outcome) == (Phase.ROLLING_BACK, Outcome.ROLLED_BACK)
        assert (after.weight, after.converged) == (0, False)
        assert records(effects) == [("candidate_died", message)]
    elif not weight:
        assert (after.phase, after.weight, after.converged) == (phase, 0, held)
        assert records(effects) == [("dead", message)]
    again = Health(backend="v2", healthy=0, total=2, detail="other words")
    assert step(after, again, NOW + 6) == (after, ())


def test_life_is_published_only_where_death_was() -> None:
    asked = program(checked=("v2", "v3"))
    unseen = state(Phase.PENDING, program=asked)
    alive = Health(backend="v2", healthy=1, total=2)
    after, effects = step(unseen, alive, NOW + 5)
    assert (after, effects) == (replace(unseen, healthy=("v2",)), ())
    assert step(after, replace(alive, healthy=2), NOW + 6) == (after, ())
    for held in (False, True):
        dead = replace(unseen, dead=("v2", "v3"), converged=held)
        after, effects = step(dead, alive, NOW + 5)
        expected = replace(
            dead, healthy=("v2",), dead=("v3",), revision=8, published_at=NOW + 5, converged=held
        )
        assert (after, records(effects)) == (expected, [("alive", "v2: 1 of 2 endpoints are healthy")])
        assert effects[-1] == Publish()


@pytest.mark.parametrize(
    "current", [LAST, Experiment(weights=(("v3", 100), ("v2", 9_000)), duration=None, back=True)]
)
@pytest.mark.parametrize("dead", [(), ("v2",)])
def test_users_go_only_to_backends_that_are_known_to_live(current: Step, dead: tuple[str, ...]) -> None:
    asked = program(SetWeight(weight=0), Pause(duration=1.0), current, checked=("v2", "v3"))
    before = state(
        Phase.PROGRESSING, program=asked, step=1, converged=True, ends_at=NOW, healthy=("v3",), dead=dead
    )
    known = "has no healthy endpoint" if dead else "was not seen healthy yet"
    message = f"v2 {known}; it gets no users until an endpoint passes its health check"
    after, effects = step(before, Tick(synced=True), NOW)
    assert (after, records(effects)) == (replace(before, message=message), [("not_alive", message)])
    assert step(after, Tick(synced=True), NOW + 1) == (after, ())
    alive = replace(after, healthy=("v2", "v3"), dead=())
    assert step(alive, Tick(synced=True), NOW + 2)[0].weight >= 9_000


# Evidence of a shadow


def shadow(min_pairs: int | None = 50, required: str = "NotDifferent", **more: Any) -> State:
    current = Shadow(percentage=2_000, duration=None, min_pairs=min_pairs, required=required)  # type: ignore[arg-type]
    return state(Phase.SHADOWING, current, LAST, mirror=2_000, converged=True, **more)


def test_pairs_count_from_where_they_were_when_the_shadow_began() -> None:
    before = shadow()
    began, effects = step(before, Evidence(pairs=900), NOW)
    assert (began, effects) == (replace(before, pairs_before=900), ())
    assert step(began, Evidence(pairs=949), NOW) == (began, ())
    after, effects = step(began, Evidence(pairs=950), NOW)
    assert (after, records(effects)) == (
        replace(began, proven=True),
        [("evidence", "50 pairs compared, 50 required")],
    )
    assert step(after, Evidence(pairs=2_000), NOW) == (after, ()), "it is proven already"
    # A collector that lost its count begins anew.
    assert step(began, Evidence(pairs=899), NOW) == (replace(began, pairs_before=899), ())
    assert step(began, Evidence(pairs=900), NOW) == (began, ())


@pytest.mark.parametrize("required", ["NotDifferent", "Equivalent"])
@pytest.mark.parametrize("found", ["", "Inconclusive", "Equivalent", "Different"])
def test_the_verdict_on_a_shadow_must_be_what_the_spec_requires(required: str, found: str) -> None:
    before = shadow(required=required, pairs_before=0)
    after, effects = step(before, Evidence(pairs=60, equivalence=found, detail="d"), NOW)
    good = found == "Equivalent" if required == "Equivalent" else found != "Different"
    assert (after.proven, after.equivalence) == (good, found)
    expected = [("likeness", f"{found}: d")] if found else []
    if good:
        why = f"; verdict: {found}" if found else ""
        expected.append(("evidence", f"60 pairs compared, 50 required{why}"))
    assert records(effects) == expected


def test_a_proven_difference_is_final() -> None:
    before = shadow(pairs_before=0, equivalence="Different")
    for found in ("", "Equivalent", "Inconclusive", "Different"):
        assert step(before, Evidence(pairs=99, equivalence=found), NOW) == (before, ())


def test_without_a_number_of_pairs_nothing_is_proven() -> None:
    before = shadow(min_pairs=None)
    assert step(before, Evidence(pairs=10_000), NOW) == (before, ())
    after, _ = step(before, Evidence(pairs=10_000, equivalence="Equivalent"), NOW)
    assert after == replace(before, equivalence="Equivalent")


@pytest.mark.parametrize("duration", [None, 60.0])
@pytest.mark.parametrize("min_pairs", [None, 50])
@pytest.mark.parametrize("proven", [False, True])
@pytest.mark.parametrize("over", [False, True])
def test_a_shadow_ends_when_its_time_and_its_pairs_are_there(
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


# The budget of a shadow


def copying(mirror: int, **more: Any) -> State:
    current = Shadow(percentage=5_000, duration=None, tokens_per_second=100)
    return state(Phase.SHADOWING, current, weight=0, mirror=mirror, converged=True, **more)


@pytest.mark.parametrize(
    ("mirror", "rate", "share"),
    [
        (5_000, 100.0, None),  # exactly the budget
        (5_000, 100.1, 4_495),
        (5_000, 400.0, 1_125),
        (1, 1e9, None),  # never less than one request in ten thousand
        (2, 1e9, 1),
        (1_000, 70.0, None),  # not plenty of room yet
        (1_000, 69.9, 1_287),
        (1_000, 60.0, 1_500),
        (1_000, 1.0, 1_500),
        (1_000, 0.0, 1_500),
        (1, 0.0, 2),  # a small share grows, too
        (4_000, 0.0, 5_000),  # and never beyond what the spec asks for
        (5_000, 0.0, None),
        (0, 0.0, None),
        (0, 400.0, None),
    ],
)
def test_the_share_of_copies_follows_their_cost(mirror: int, rate: float, share: int | None) -> None:
    before = copying(mirror)
    after, effects = step(before, ShadowTokenRate(tokens_per_second=rate), NOW + 5)
    if share is None:
        assert (after, effects) == (before, ())
        return
    assert after == replace(before, mirror=share, budgeted_at=NOW + 5, revision=8, published_at=NOW + 5)
    message = f"copies cost {rate:.0f} tokens/s, the budget is 100: mirroring {share / 100:g} % of requests"
    assert (records(effects), effects[-1]) == ([("budget", message)], Publish())


def test_a_change_of_the_share_settles_before_the_next() -> None:
    before = copying(2_000, budgeted_at=NOW)
    assert step(before, ShadowTokenRate(tokens_per_second=400.0), NOW + 29.9) == (before, ())
    assert step(before, ShadowTokenRate(tokens_per_second=400.0), NOW + 30.0)[0].mirror == 450


def test_a_change_of_the_share_does_not_stop_the_clock() -> None:
    for held in (False, True):
        before = replace(copying(2_000), converged=held)
        assert step(before, ShadowTokenRate(tokens_per_second=400.0), NOW + 5)[0].converged is held


def test_without_a_budget_the_share_stays() -> None:
    before = shadow()
    assert step(before, ShadowTokenRate(tokens_per_second=1e9), NOW) == (before, ())
    before = state(Phase.PROGRESSING, weight=500)
    assert step(before, ShadowTokenRate(tokens_per_second=1e9), NOW) == (before, ())
    assert step(before, Evidence(pairs=100, equivalence="Different"), NOW) == (before, ())
