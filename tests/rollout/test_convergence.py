"""A rollout moves users only while the proxies are synced, and reports in time which proxies are not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.rollout.states import CANARY, NOW, converged, not_converged, records, state
from xds_server.rollout import (
    Analysis,
    Bake,
    Experiment,
    Kill,
    NotConverged,
    Outcome,
    Pause,
    Phase,
    Publish,
    SetWeight,
    Shadow,
    State,
    Step,
    Tick,
    step,
)

TIMED: dict[str, tuple[Phase, Step]] = {
    "pause": (Phase.PROGRESSING, Pause(duration=60.0)),
    "bake": (Phase.BAKING, Bake(duration=60.0)),
    "shadow": (Phase.SHADOWING, Shadow(percentage=2_000, duration=60.0)),
    "experiment": (
        Phase.PROGRESSING,
        Experiment(weights=(("v2", 1_000), ("v3", 2_000)), duration=60.0, back=False),
    ),
}
timed = pytest.mark.parametrize(("phase", "current"), TIMED.values(), ids=TIMED.keys())
not_synced = pytest.mark.parametrize(
    ("has_converged", "synced"), [(False, False), (False, True), (True, False)]
)


def in_step(phase: Phase, current: Step, **overrides: Any) -> State:
    """Return a state in the first of two steps, whose timer runs from `NOW` to `NOW` + 60."""
    defaults: dict[str, Any] = {"step_began_at": NOW, "ends_at": NOW + 60, "converged": True}
    return state(phase, current, SetWeight(weight=9_000), **defaults | overrides)


# The first step


@not_synced
@pytest.mark.parametrize("elapsed", [0.0, 9.0, 1e6])
def test_no_tick_starts_a_rollout_while_the_proxies_are_not_synced(
    has_converged: bool, synced: bool, elapsed: float
) -> None:
    pending = state(Phase.PENDING, converged=has_converged)
    assert step(pending, Tick(synced=synced), NOW + elapsed) == (pending, ())


def test_a_tick_starts_a_rollout_once_the_proxies_are_synced() -> None:
    pending = state(Phase.PENDING, converged=True)
    after, effects = step(pending, Tick(synced=True), NOW + 5)
    assert (after.phase, after.step, after.weight) == (Phase.PROGRESSING, 0, 500)
    assert (after.revision, after.published_at, after.converged) == (8, NOW + 5, False)
    assert (records(effects), effects[-1]) == ([("step_began", "weight 5 % for v2")], Publish())


def test_convergence_starts_the_first_step_and_no_later_one() -> None:
    pending = state(Phase.PENDING)
    after, _ = step(pending, converged(pending), NOW + 5)
    assert (after.phase, after.step, after.weight, after.converged) == (Phase.PROGRESSING, 0, 500, False)


def test_convergence_of_another_revision_changes_nothing() -> None:
    for phase in (Phase.PENDING, Phase.PROGRESSING, Phase.ROLLING_BACK, Phase.HEALTHY):
        before = state(phase, weight=500)
        for revision in (6, 8):
            event = replace(converged(before), revision=revision)
            assert step(before, event, NOW + 1) == (before, ())
            missing = NotConverged(revision=revision, refused=True, detail="no")
            assert step(before, missing, NOW + 1e6) == (before, ())


# The end of a step


@timed
@not_synced
def test_no_step_ends_by_time_while_the_proxies_are_not_synced(
    phase: Phase, current: Step, has_converged: bool, synced: bool
) -> None:
    before = in_step(phase, current, converged=has_converged)
    assert step(before, Tick(synced=synced), NOW + 1e6) == (before, ())


@timed
def test_a_step_ends_when_its_time_is_over_and_not_earlier(phase: Phase, current: Step) -> None:
    before = in_step(phase, current)
    assert step(before, Tick(synced=True), NOW + 59.999) == (before, ())
    after, effects = step(before, Tick(synced=True), NOW + 60)
    assert (after.step, after.weight, after.mirror) == (1, 9_000, 0)
    assert effects[-1] == Publish()


@timed
def test_a_step_whose_timer_does_not_run_does_not_end(phase: Phase, current: Step) -> None:
    before = in_step(phase, current, step_began_at=None, ends_at=None)
    assert step(before, Tick(synced=True), NOW + 1e6) == (before, ())


@pytest.mark.parametrize(
    "current", [Analysis(name="a"), Shadow(percentage=2_000, duration=None)], ids=["analysis", "shadow"]
)
def test_a_step_without_a_duration_does_not_end_by_time(current: Step) -> None:
    before = in_step(Phase.PROGRESSING, current, ends_at=None)
    assert step(before, Tick(synced=True), NOW + 1e6) == (before, ())


@not_synced
def test_a_converged_weight_whose_next_step_was_blocked_advances_only_while_synced(
    has_converged: bool, synced: bool
) -> None:
    before = state(Phase.PROGRESSING, weight=500, converged=has_converged)
    assert step(before, Tick(synced=synced), NOW + 1) == (before, ())
    after, _ = step(replace(before, converged=True), Tick(synced=True), NOW + 1)
    assert (after.step, after.ends_at) == (1, NOW + 61)


def test_a_converged_weight_does_not_advance_on_a_second_convergence() -> None:
    before = state(Phase.PROGRESSING, weight=500, converged=True)
    assert step(before, converged(before), NOW + 1) == (before, ())


def test_no_tick_ends_a_paused_step() -> None:
    paused = in_step(Phase.PAUSED, Pause(duration=None))
    assert step(paused, Tick(synced=True), NOW + 1e6) == (paused, ())


# Effects of convergence on a step


def test_convergence_on_a_weight_enters_the_next_step_once() -> None:
    before = state(Phase.PROGRESSING, weight=500)
    after, effects = step(before, converged(before, acked=3, connected=4), NOW + 2)
    expected = replace(before, step=1, converged=True, step_began_at=NOW + 2, ends_at=NOW + 62)
    assert after == expected
    assert records(effects) == [
        ("step_held", "weight 5 %: 3 of 4 proxies synced"),
        ("step_began", "pause 1 min"),
    ]
    assert step(after, converged(after), NOW + 3) == (after, ())


@pytest.mark.parametrize("name", ["shadow", "experiment"])
def test_the_timer_of_a_step_that_publishes_starts_on_convergence(name: str) -> None:
    phase, current = TIMED[name]
    before = in_step(phase, current, converged=False, step_began_at=None, ends_at=None, message="not synced")
    after, effects = step(before, converged(before), NOW + 5)
    assert after == replace(before, converged=True, message="", step_began_at=NOW + 5, ends_at=NOW + 65)
    assert effects == ()
    # Another revision, for example with another mirrored share, does not restart the timer.
    again = replace(after, converged=False)
    assert step(again, converged(again), NOW + 30) == (after, ())


@pytest.mark.parametrize("name", ["pause", "bake"])
def test_a_step_that_publishes_nothing_keeps_its_timer(name: str) -> None:
    phase, current = TIMED[name]
    before = in_step(phase, current, converged=False, message="not synced")
    assert step(before, converged(before), NOW + 5) == (replace(before, converged=True, message=""), ())


def test_a_shadow_without_a_duration_has_no_deadline() -> None:
    before = in_step(
        Phase.SHADOWING,
        Shadow(percentage=1, duration=None),
        converged=False,
        step_began_at=None,
        ends_at=None,
    )
    after, _ = step(before, converged(before), NOW + 5)
    assert (after.converged, after.step_began_at, after.ends_at) == (True, NOW + 5, None)


def test_convergence_while_paused_keeps_the_full_duration_of_the_step() -> None:
    phase, current = TIMED["shadow"]
    before = in_step(
        Phase.PAUSED, current, converged=False, step_began_at=None, ends_at=None, resumes=phase, mirror=2_000
    )
    after, effects = step(before, converged(before), NOW + 5)
    assert after == replace(before, converged=True, step_began_at=NOW + 5, ends_at=None, left=60.0)
    assert effects == ()
    assert step(after, converged(after), NOW + 9) == (after, ())


def test_a_paused_step_that_has_converged_keeps_its_message() -> None:
    before = state(Phase.PAUSED, weight=500, resumes=Phase.PROGRESSING, converged=True, message="a verdict")
    assert step(before, converged(before), NOW + 5) == (before, ())


def test_convergence_while_a_weight_is_paused_moves_no_users() -> None:
    before = state(Phase.PAUSED, weight=500, resumes=Phase.PROGRESSING, message="not synced")
    assert step(before, converged(before), NOW + 5) == (replace(before, converged=True, message=""), ())


# Reports while the proxies are not synced


PHASES = [phase for phase in Phase if phase not in {Phase.KILLED, Phase.ROLLED_BACK}]


@pytest.mark.parametrize("phase", PHASES, ids=lambda phase: phase.name)
@pytest.mark.parametrize("refused", [False, True])
@pytest.mark.parametrize("has_converged", [False, True])
@pytest.mark.parametrize("waited", [0.0, 9.999, 10.0, 99.999, 100.0, 5_000.0])
def test_proxies_that_are_not_synced_are_reported_after_the_timeout_and_degrade_at_the_deadline(
    phase: Phase, refused: bool, has_converged: bool, waited: float
) -> None:
    before = state(phase, weight=500, converged=has_converged)
    after, effects = step(before, not_converged(before, refused=refused), NOW + waited)
    message = (
        "a proxy rejected the configuration: waiting for b"
        if refused
        else "too few proxies are synced: waiting for b"
    )
    if not refused and (has_converged or waited < 10):
        assert (after, effects) == (before, ())
    elif waited >= 100 and not has_converged and phase in {Phase.PENDING, Phase.SHADOWING, Phase.PROGRESSING}:
        assert after == replace(before, phase=Phase.DEGRADED, resumes=phase, message=message)
        assert records(effects) == [("degraded", f"progressDeadline has passed; {message}")]
    else:
        assert after == replace(before, message=message)
        assert records(effects) == [("not_held", message)]
        assert step(after, not_converged(after, refused=refused), NOW + waited) == (after, ())


def test_a_long_rejection_is_truncated() -> None:
    before = state(Phase.PROGRESSING)
    after, _ = step(before, not_converged(before, refused=True, detail="x" * 10_000), NOW)
    assert after.message == "a proxy rejected the configuration: " + "x" * 500


@pytest.mark.parametrize("phase", [Phase.PENDING, Phase.SHADOWING, Phase.PROGRESSING])
def test_a_degraded_rollout_continues_where_it_was_once_the_proxies_are_synced(phase: Phase) -> None:
    steps = TIMED["shadow"][1:] if phase is Phase.SHADOWING else CANARY
    interrupted = state(phase, *steps, weight=0 if phase is not Phase.PROGRESSING else 500)
    degraded = replace(
        interrupted, phase=Phase.DEGRADED, resumes=phase, message="too few proxies are synced: b"
    )
    assert step(degraded, Tick(synced=True), NOW + 1e6) == (degraded, ())
    assert step(degraded, converged(degraded), NOW + 200) == step(
        interrupted, converged(interrupted), NOW + 200
    )


# Rollbacks and kills


@pytest.mark.parametrize(
    ("took", "duration"), [(0.25, "250 ms"), (0.9994, "999 ms"), (1.0, "1.0 s"), (12.34, "12.3 s")]
)
def test_a_rollback_ends_on_convergence_and_reports_its_duration(took: float, duration: str) -> None:
    before = state(Phase.ROLLING_BACK, outcome=Outcome.ABORTED, message="aborted: why")
    after, effects = step(before, converged(before, acked=3, connected=4), NOW + took)
    summary = f"3 of 4 proxies synced after {duration}"
    assert after == replace(
        before, phase=Phase.ROLLED_BACK, converged=True, message=f"rolled back: {summary}"
    )
    assert records(effects) == [("rolled_back", summary)]


def test_a_rollback_by_evidence_keeps_its_reason() -> None:
    before = state(Phase.ROLLING_BACK, outcome=Outcome.ROLLED_BACK, message="failed: success-rate")
    after, _ = step(before, converged(before), NOW + 2)
    assert after.message == "rolled back: 2 of 2 proxies synced after 2.0 s; failed: success-rate"


def test_convergence_of_a_kill_is_reported_once() -> None:
    kill = Kill(
        serve="v1", actor="ada", reason="bad", at=NOW, by_spec=False, phase=Phase.PROGRESSING, left=None
    )
    before = state(Phase.KILLED, weight=500, kill=kill)
    after, effects = step(before, converged(before), NOW + 0.04)
    assert after == replace(before, converged=True, message="killed: 2 of 2 proxies synced after 40 ms")
    assert records(effects) == [("kill_held", "2 of 2 proxies synced after 40 ms")]
    assert step(after, converged(after), NOW + 9) == (after, ())


@pytest.mark.parametrize("phase", [Phase.HEALTHY, Phase.ROLLED_BACK])
def test_convergence_of_an_ended_rollout_clears_its_message_about_proxies(phase: Phase) -> None:
    before = state(phase, message="too few proxies are synced: b")
    after, effects = step(before, converged(before), NOW + 5)
    assert (after, effects) == (replace(before, converged=True, message=""), ())
    kept = replace(after, message="rolled back: 2 of 2 proxies")
    assert step(kept, converged(kept), NOW + 6) == (kept, ())
