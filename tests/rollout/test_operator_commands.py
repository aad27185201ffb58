"""What each operator command does in each phase: the whole state after it, or the error."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.rollout.states import NOW, command, converged, not_converged, program, records, state
from xds_server.rollout import (
    ACTIVE_PHASES,
    Action,
    Alarm,
    Analysis,
    Bake,
    CommandNotAllowedError,
    Experiment,
    Finding,
    Health,
    Kill,
    Outcome,
    Pause,
    Phase,
    Publish,
    SetWeight,
    Shadow,
    State,
    Step,
    Tick,
    Verdict,
    next_deadline,
    step,
)

PROMOTE, FULL, PAUSE, RESUME = (
    Action.PROMOTE,
    Action.PROMOTE_FULL,
    Action.PAUSE,
    Action.RESUME,
)
ABORT, UNDO, RETRY, KILL, UNKILL = (
    Action.ABORT,
    Action.UNDO,
    Action.RETRY,
    Action.KILL,
    Action.UNKILL,
)


def paused(before: Phase = Phase.PROGRESSING, left: float | None = 40.0, **overrides: Any) -> State:
    """Return a state that an operator paused in its second step, a pause of 60 s."""
    defaults = {"weight": 500, "step": 1, "converged": True, "step_began_at": NOW - 20}
    return state(Phase.PAUSED, resumes=before, left=left, **defaults | overrides)


def running(**overrides: Any) -> State:
    """Return a state in its second step, a pause of 60 s, of which 40 s are left at `NOW`."""
    defaults = {"weight": 500, "step": 1, "converged": True, "step_began_at": NOW - 20, "ends_at": NOW + 40}
    return state(Phase.PROGRESSING, **defaults | overrides)


def killed(phase: Phase = Phase.PROGRESSING, left: float | None = 40.0, **overrides: Any) -> State:
    kill = Kill(serve="v1", actor="bob", reason="leaks", at=NOW, by_spec=False, phase=phase, left=left)
    defaults: dict[str, Any] = {"weight": 500, "step": 1, "kill": kill}
    return state(Phase.KILLED, **defaults | overrides)


def test_a_pause_that_is_not_allowed_has_a_reason() -> None:
    promoted = state(Phase.HEALTHY, outcome=Outcome.PROMOTED)
    with pytest.raises(CommandNotAllowedError, match="the rollout has ended; apply a changed spec to start"):
        step(promoted, command(PAUSE, "why"), NOW)
    without_steps = replace(promoted, outcome=None, program=replace(promoted.program, steps=()))
    with pytest.raises(CommandNotAllowedError, match=r"^nothing to pause: the spec describes no rollout$"):
        step(without_steps, command(PAUSE, "why"), NOW)
    kill = killed().kill
    assert kill is not None
    by_spec = killed(kill=replace(kill, by_spec=True))
    reason = "is killed by the spec: leaks; set killSwitch.enabled: false in the spec before you pause$"
    with pytest.raises(CommandNotAllowedError, match=reason):
        step(by_spec, command(PAUSE, "why"), NOW)


# Which phase allows which command


REJECTED: dict[tuple[Phase, Action], str] = {
    **{
        (
            phase,
            kind,
        ): "the rollout has not converged: fewer proxies are synced than convergence.quorum requires"
        for phase in ACTIVE_PHASES
        for kind in (PROMOTE, FULL)
    },
    **{(phase, RETRY): "has not ended" for phase in ACTIVE_PHASES - {Phase.DEGRADED}},
    (Phase.DEGRADED, PAUSE): "a Degraded rollout cannot be paused",
    (Phase.HEALTHY, PAUSE): "nothing to pause: the rollout has ended; retry it, or apply a changed spec",
    (Phase.ROLLING_BACK, RETRY): "has not ended",
    (Phase.ROLLED_BACK, UNDO): "nothing to undo",
    **{
        (phase, kind): f"nothing to {kind.value}: {problem}"
        for phase, problem in (
            (Phase.ROLLING_BACK, "the rollout is rolling back; retry it when its phase is RolledBack"),
            (Phase.ROLLED_BACK, "the rollout has ended; retry it, or apply a changed spec"),
        )
        for kind in (PROMOTE, FULL, PAUSE, RESUME)
    },
    **{(phase, UNKILL): "is not killed" for phase in Phase if phase is not Phase.KILLED},
    **{
        (Phase.KILLED, kind): f"killed by bob: leaks; unkill it before you {kind.value}"
        for kind in (PROMOTE, FULL, PAUSE, RESUME, RETRY)
    },
}
UNCHANGED: set[tuple[Phase, Action]] = {
    *((phase, RESUME) for phase in ACTIVE_PHASES - {Phase.PAUSED}),
    (Phase.PAUSED, PAUSE),
    (Phase.HEALTHY, PROMOTE),
    (Phase.HEALTHY, FULL),
    (Phase.HEALTHY, RESUME),
    (Phase.ROLLING_BACK, ABORT),
    (Phase.ROLLING_BACK, UNDO),
    (Phase.ROLLED_BACK, ABORT),
    (Phase.KILLED, KILL),
}


def in_phase(phase: Phase) -> State:
    """Return a state of a phase; the proxies are not synced with its newest revision."""
    if phase is Phase.KILLED:
        return killed()
    resumes = {Phase.PAUSED: Phase.PROGRESSING, Phase.DEGRADED: Phase.PROGRESSING}.get(phase)
    weight = 0 if phase in {Phase.PENDING, Phase.ROLLING_BACK, Phase.ROLLED_BACK} else 500
    outcome = {
        Phase.HEALTHY: Outcome.COMPLETED,
        Phase.ROLLING_BACK: Outcome.ABORTED,
        Phase.ROLLED_BACK: Outcome.ABORTED,
    }.get(phase)
    return state(phase, weight=weight, resumes=resumes, outcome=outcome)


@pytest.mark.parametrize("kind", Action, ids=lambda kind: kind.name)
@pytest.mark.parametrize("phase", Phase, ids=lambda phase: phase.name)
def test_each_command_is_rejected_or_ignored_where_the_table_says_so(phase: Phase, kind: Action) -> None:
    before = in_phase(phase)
    rejection = REJECTED.get((phase, kind))
    if rejection is not None:
        with pytest.raises(CommandNotAllowedError, match=rejection):
            step(before, command(kind, "why"), NOW + 5)
        return
    after, effects = step(before, command(kind, "why"), NOW + 5)
    if (phase, kind) in UNCHANGED:
        assert (after, effects) == (before, ())
    else:
        assert after != before
        ((_, message),) = records(effects)
        assert message.endswith(": why")


# Pause and resume


@pytest.mark.parametrize(("now", "left"), [(NOW, 40.0), (NOW + 39, 1.0), (NOW + 45, 0.0)])
def test_a_pause_keeps_the_time_left_on_the_timer(now: float, left: float) -> None:
    before = running()
    after, effects = step(before, command(PAUSE), now)
    assert after == replace(before, phase=Phase.PAUSED, resumes=Phase.PROGRESSING, left=left, ends_at=None)
    assert records(effects) == [("paused", "the step timer is stopped")]
    assert step(after, command(PAUSE), now + 1) == (after, ())


def test_a_pause_of_a_step_without_a_timer_keeps_no_time() -> None:
    before = running(ends_at=None, step=0)
    after, _ = step(before, command(PAUSE), NOW)
    assert (after.left, after.resumes) == (None, Phase.PROGRESSING)


def test_a_pause_changes_nothing_in_an_open_pause_and_is_rejected_while_degraded() -> None:
    open_ended = state(Phase.PAUSED, Pause(duration=None), SetWeight(weight=1), converged=True)
    assert step(open_ended, command(PAUSE), NOW) == (open_ended, ())
    with pytest.raises(CommandNotAllowedError, match="a Degraded rollout cannot be paused"):
        step(in_phase(Phase.DEGRADED), command(PAUSE), NOW)


def test_a_timed_pause_can_be_paused() -> None:
    assert step(running(), command(PAUSE), NOW)[0].phase is Phase.PAUSED


@pytest.mark.parametrize(
    "phase", [Phase.PENDING, Phase.PROGRESSING, Phase.SHADOWING, Phase.BAKING, Phase.DEGRADED]
)
def test_a_resume_returns_to_the_paused_phase_with_the_time_left(phase: Phase) -> None:
    before = paused(phase)
    after, effects = step(before, command(RESUME), NOW + 500)
    timer = {} if phase is Phase.PENDING else {"step_began_at": NOW + 480, "ends_at": NOW + 540}
    assert after == replace(before, phase=phase, resumes=None, left=None, **timer)  # type: ignore[arg-type]
    assert records(effects) == [("resumed", f"the {'step timer' if timer else 'rollout'} continues")]


def test_a_resume_of_a_step_without_a_timer_starts_none() -> None:
    before = paused(left=None, step=0)
    after, _ = step(before, command(RESUME), NOW + 500)
    assert after == replace(before, phase=Phase.PROGRESSING, resumes=None)


def test_a_resume_of_a_bake_and_a_weight_keeps_the_right_duration() -> None:
    after, _ = step(paused(Phase.BAKING, left=25.0, step=3), command(RESUME), NOW)
    assert (after.step_began_at, after.ends_at) == (NOW - 5, NOW + 25)
    after, _ = step(paused(left=25.0, step=0), command(RESUME), NOW)
    assert (after.step_began_at, after.ends_at) == (NOW, NOW + 25)


def test_a_resume_of_an_open_pause_enters_the_next_step_if_the_candidate_is_healthy() -> None:
    rollout = program(Pause(duration=None), SetWeight(weight=900), checked=("v2",))
    before = state(Phase.PAUSED, program=rollout, converged=True, healthy=("v2",))
    after, effects = step(before, command(RESUME, "looks good"), NOW + 5)
    assert (after.phase, after.step, after.weight) == (Phase.PROGRESSING, 1, 900)
    assert records(effects) == [
        ("resumed", "the pause step has ended: looks good"),
        ("step_began", "weight 9 % for v2"),
    ]
    assert effects[-1] == Publish()
    with pytest.raises(CommandNotAllowedError, match="has not passed a health check yet"):
        step(replace(before, healthy=()), command(RESUME), NOW + 5)


# Promote


def test_a_promotion_enters_the_next_step() -> None:
    before = running()
    after, effects = step(before, command(PROMOTE), NOW + 5)
    assert (after.step, after.weight, after.phase, after.converged) == (2, 10_000, Phase.PROGRESSING, False)
    assert records(effects) == [
        ("promoted", "advanced to the next step"),
        ("step_began", "weight 100 % for v2"),
    ]
    assert effects[-1] == Publish()


@pytest.mark.parametrize(
    ("following", "phase"),
    [
        (SetWeight(weight=900), Phase.PROGRESSING),
        (Pause(duration=60.0), Phase.PROGRESSING),
        (Pause(duration=None), Phase.PAUSED),
        (Bake(duration=60.0), Phase.BAKING),
        (Analysis(name="a"), Phase.PROGRESSING),
        (Shadow(percentage=100, duration=None), Phase.SHADOWING),
        (Experiment(weights=(("v2", 100),), duration=None, back=True), Phase.PROGRESSING),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, Phase) else value.name,
)
def test_a_promotion_of_an_open_pause_enters_the_phase_of_the_next_step(
    following: Step, phase: Phase
) -> None:
    before = state(Phase.PAUSED, Pause(duration=None), following, converged=True)
    assert step(before, command(PROMOTE), NOW)[0].phase is phase


@pytest.mark.parametrize("kind", [PROMOTE, FULL])
def test_a_promotion_of_a_paused_rollout_ends_the_pause(kind: Action) -> None:
    after, _ = step(paused(), command(kind), NOW + 5)
    assert (after.step, after.phase, after.resumes, after.left) == (2, Phase.PROGRESSING, None, None)


@pytest.mark.parametrize("kind", [PROMOTE, FULL])
@pytest.mark.parametrize("phase", [Phase.PENDING, Phase.PAUSED])
def test_a_promotion_before_the_first_step_starts_it(phase: Phase, kind: Action) -> None:
    resumes = Phase.PENDING if phase is Phase.PAUSED else None
    before = state(phase, converged=True, resumes=resumes)
    after, _ = step(before, command(kind), NOW + 5)
    expected = (0, 500) if kind is PROMOTE else (2, 10_000)
    assert (after.step, after.weight, after.resumes) == (*expected, None)


@pytest.mark.parametrize("kind", [PROMOTE, FULL])
def test_a_promotion_requires_synced_proxies_and_a_healthy_candidate(kind: Action) -> None:
    with pytest.raises(
        CommandNotAllowedError,
        match="the rollout has not converged: fewer proxies are synced than",
    ):
        step(running(converged=False), command(kind), NOW + 5)
    rollout = program(checked=("v2",))
    for dead, health in (((), "has not passed a health check yet"), (("v2",), "has no healthy endpoint")):
        before = running(program=rollout, dead=dead)
        with pytest.raises(
            CommandNotAllowedError,
            match=f"v2 {health}; it receives no users until one of its endpoints is healthy",
        ):
            step(before, command(kind), NOW + 5)


def test_promote_full_goes_to_the_last_weight_and_from_there_step_by_step() -> None:
    steps = (
        SetWeight(weight=100),
        Pause(duration=60.0),
        SetWeight(weight=200),
        Pause(duration=None),
        Pause(duration=60.0),
    )
    at = state(Phase.PROGRESSING, *steps, converged=True, weight=100, step=1)
    after, effects = step(at, command(FULL, "fine"), NOW)
    assert (after.step, after.weight) == (2, 200)
    assert records(effects)[0] == ("promoted", "advanced to the last weight: fine")
    for index in (2, 3):
        at = state(Phase.PROGRESSING, *steps, converged=True, weight=200, step=index)
        after, effects = step(at, command(FULL), NOW)
        assert (after.step, after.weight) == (index + 1, 200)
        assert records(effects)[0] == ("promoted", "advanced to the next step")


def test_promote_full_of_a_shadow_ends_it() -> None:
    shadow = state(Phase.SHADOWING, Shadow(percentage=1_000, duration=None), converged=True, mirror=1_000)
    after, _ = step(shadow, command(FULL), NOW)
    assert (after.phase, after.mirror, after.outcome) == (Phase.HEALTHY, 0, Outcome.COMPLETED)


def test_promote_full_of_an_experiment_starts_it() -> None:
    test = Experiment(weights=(("v2", 3_000),), duration=None, back=False)
    before = state(Phase.PENDING, Pause(duration=60.0), test, converged=True)
    after, _ = step(before, command(FULL), NOW)
    assert (after.step, after.weights) == (1, {"v2": 3_000})


# Abort and undo


@pytest.mark.parametrize("phase", [*sorted(ACTIVE_PHASES, key=lambda phase: phase.name), Phase.HEALTHY])
def test_an_abort_returns_all_users_and_stops_mirroring(phase: Phase) -> None:
    before = replace(in_phase(phase), mirror=10, ends_at=NOW + 9, left=1.0, warm_until=NOW + 1e6)
    after, effects = step(before, command(ABORT), NOW + 5)
    assert after == replace(
        before,
        phase=Phase.ROLLING_BACK,
        outcome=Outcome.ABORTED,
        splits=after.splits,
        mirror=0,
        revision=8,
        published_at=NOW + 5,
        ends_at=None,
        resumes=None,
        left=None,
        warm_until=None,
        message="aborted: all users return to the stable backend",
    )
    assert after.weight == 0
    assert (records(effects), effects[-1]) == (
        [("aborted", "all users return to the stable backend")],
        Publish(),
    )


def test_an_abort_where_nothing_was_rolled_out_changes_nothing() -> None:
    without_candidate = state(Phase.PENDING, program=program(candidate=None, steps=()))
    assert step(without_candidate, command(ABORT), NOW) == (without_candidate, ())
    completed = state(Phase.HEALTHY, outcome=Outcome.COMPLETED)
    assert step(completed, command(ABORT), NOW) == (completed, ())


@pytest.mark.parametrize(
    "phase", [phase for phase in Phase if phase in ACTIVE_PHASES or phase is Phase.HEALTHY]
)
@pytest.mark.parametrize(("weight", "mirror"), [(0, 0), (500, 0), (0, 2_000)])
def test_an_undo_requires_a_running_rollout_or_users_or_copies_on_the_candidate(
    phase: Phase, weight: int, mirror: int
) -> None:
    resumes = Phase.PROGRESSING if phase in {Phase.PAUSED, Phase.DEGRADED} else None
    before = state(phase, weight=weight, mirror=mirror, resumes=resumes, converged=True)
    if phase is Phase.HEALTHY and not weight and not mirror:
        with pytest.raises(CommandNotAllowedError, match="no users are on a candidate"):
            step(before, command(UNDO), NOW)
        return
    after, effects = step(before, command(UNDO), NOW)
    outcome = Outcome.ABORTED if phase in ACTIVE_PHASES else Outcome.UNDONE
    assert (after.phase, after.outcome, after.weight, after.mirror) == (Phase.ROLLING_BACK, outcome, 0, 0)
    assert records(effects) == [("undone", "all users return to the stable backend")]


# Retry


@pytest.mark.parametrize("phase", [Phase.ROLLED_BACK, Phase.HEALTHY])
def test_a_retry_starts_a_new_run_and_keeps_no_evidence(phase: Phase) -> None:
    before = state(
        phase,
        outcome=Outcome.ROLLED_BACK,
        step=3,
        converged=True,
        step_began_at=NOW,
        ends_at=NOW + 9,
        resumes=Phase.PROGRESSING,
        left=3.0,
        message="rolled back",
        proven=True,
        equivalence="Different",
        pairs_before=4,
        run=2,
        finding=Finding.FAIL,
        healthy=("v2",),
    )
    after, effects = step(before, command(RETRY), NOW + 5)
    fresh = state(
        Phase.PENDING, revision=8, published_at=NOW + 5, run=3, healthy=("v2",), splits=before.splits
    )
    assert after == fresh
    assert (records(effects), effects[-1]) == ([("retried", "restarted from the first step")], Publish())


def test_a_promoted_rollout_and_one_without_steps_cannot_be_retried() -> None:
    with pytest.raises(CommandNotAllowedError, match="the spec describes no rollout"):
        step(state(Phase.HEALTHY, program=program(candidate=None, steps=())), command(RETRY), NOW)
    promoted = state(Phase.HEALTHY, weight=10_000, outcome=Outcome.PROMOTED)
    with pytest.raises(CommandNotAllowedError, match="undo rolls it back"):
        step(promoted, command(RETRY), NOW)


@pytest.mark.parametrize("resumes", [Phase.PENDING, Phase.SHADOWING, Phase.PROGRESSING])
def test_a_retry_of_a_degraded_rollout_waits_for_the_proxies_again(resumes: Phase) -> None:
    before = replace(in_phase(Phase.DEGRADED), resumes=resumes, message="too few proxies are synced: b")
    after, effects = step(before, command(RETRY), NOW + 500)
    assert after == replace(
        before, phase=resumes, resumes=None, message="", revision=8, published_at=NOW + 500
    )
    assert records(effects) == [("retried", "waiting for the proxies again")]
    assert effects[-1] == Publish()


# Kill and unkill


def test_a_kill_stops_the_timer_and_an_unkill_continues_it_with_the_time_left() -> None:
    before = running()
    after, effects = step(before, command(KILL, "leaks"), NOW + 10)
    kill = Kill(
        serve="v1",
        actor="ada",
        reason="leaks",
        at=NOW + 10,
        by_spec=False,
        phase=Phase.PROGRESSING,
        left=30.0,
    )
    assert after == replace(
        before,
        phase=Phase.KILLED,
        kill=kill,
        ends_at=None,
        revision=8,
        published_at=NOW + 10,
        converged=False,
    )
    assert (records(effects), effects[-1]) == ([("killed", "v1 serves all users: leaks")], Publish())
    assert next_deadline(after) is None
    back, effects = step(after, command(UNKILL), NOW + 1_000)
    assert back == replace(
        before,
        revision=9,
        published_at=NOW + 1_000,
        converged=False,
        step_began_at=NOW + 970,
        ends_at=NOW + 1_030,
    )
    assert (records(effects), effects[-1]) == ([("unkilled", "back in phase Progressing")], Publish())


def test_a_kill_serves_the_backend_that_the_spec_names_or_else_the_stable_one() -> None:
    for serve, expected in (("v3", "v3"), ("", "v1")):
        after, _ = step(running(program=program(serve=serve)), command(KILL, "leaks"), NOW)
        assert after.kill is not None
        assert after.kill.serve == expected


def test_an_elapsed_timer_has_no_time_left_under_a_kill() -> None:
    after, _ = step(running(), command(KILL, "leaks"), NOW + 99)
    assert after.kill is not None
    assert after.kill.left == 0.0


@pytest.mark.parametrize("reason", ["", "  \n"])
def test_a_kill_requires_a_reason(reason: str) -> None:
    with pytest.raises(CommandNotAllowedError, match="requires a reason"):
        step(running(), command(KILL, reason), NOW)


def test_an_operator_cannot_end_a_kill_by_the_spec() -> None:
    before = killed()
    assert before.kill is not None
    with pytest.raises(CommandNotAllowedError, match=r"killSwitch\.enabled"):
        step(replace(before, kill=replace(before.kill, by_spec=True)), command(UNKILL), NOW)


@pytest.mark.parametrize("kind", [ABORT, UNDO])
def test_a_rollout_under_a_kill_can_be_rolled_back_and_the_kill_stays(kind: Action) -> None:
    before = killed()
    after, effects = step(before, command(kind), NOW + 5)
    assert (after.phase, after.weight, after.ends_at, effects[-1]) == (Phase.KILLED, 0, None, Publish())
    assert before.kill is not None
    assert after.kill == replace(before.kill, phase=Phase.ROLLING_BACK, left=None)


def test_observed_events_apply_under_a_kill_while_the_timer_is_stopped() -> None:
    before = killed()
    assert step(before, Tick(synced=True), NOW + 1e6) == (before, ())
    seen, effects = step(before, Verdict(finding=Finding.PASS, detail="d"), NOW + 5)
    assert seen == replace(before, finding=Finding.PASS, step_began_at=NOW - 15)
    assert records(effects) == [("verdict", "Pass: d")]
    for event in (
        Verdict(finding=Finding.FAIL, detail="d"),
        Alarm(name="Bad", detail="d", rollback=True),
        Health(backend="v2", healthy=0, total=1),
    ):
        with_health = replace(before, program=program(checked=("v2",)), healthy=("v2",))
        rolled_back, _ = step(with_health, event, NOW + 5)
        assert rolled_back.kill is not None
        assert (rolled_back.phase, rolled_back.weight, rolled_back.kill.phase) == (
            Phase.KILLED,
            0,
            Phase.ROLLING_BACK,
        )
    for without_effect in (
        not_converged(before),
        Health(backend="v9", healthy=0, total=1),
        Alarm(name="Bad", detail="d", rollback=True),
    ):
        unexposed = replace(before, splits=state(Phase.PENDING).splits)
        assert step(unexposed, without_effect, NOW + 5) == (unexposed, ())
    late, effects = step(before, not_converged(before), NOW + 20)
    assert late.message == "too few proxies are synced: waiting for b"
    assert late.kill == before.kill
    assert [what for what, _ in records(effects)] == ["not_held"]
    synced, _ = step(before, converged(before), NOW + 1)
    assert (synced.converged, synced.phase, synced.weight) == (True, Phase.KILLED, 500)


@pytest.mark.parametrize("left", [0.0, 0.5, 40.0, None])
def test_observed_events_under_a_kill_keep_the_time_left_on_the_timer(left: float | None) -> None:
    before = killed(left=left)
    after, _ = step(before, Verdict(finding=Finding.PASS, detail="d"), NOW + 500)
    assert (after.kill, after.ends_at) == (before.kill, None)


# Deadlines


@pytest.mark.parametrize("phase", Phase, ids=lambda phase: phase.name)
def test_a_step_has_a_deadline_while_its_timer_runs(phase: Phase) -> None:
    before = replace(in_phase(phase), ends_at=NOW + 9)
    ended = {Phase.HEALTHY, Phase.ROLLED_BACK, Phase.KILLED}
    assert next_deadline(before) == (None if phase in ended else NOW + 9)
