"""A rollout moves users only when the proxies hold what it published, and reports what is missing in time."""

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
gates = pytest.mark.parametrize(("held", "synced"), [(False, False), (False, True), (True, False)])


def in_step(phase: Phase, current: Step, **more: Any) -> State:
    """Return a state in the first of two steps, whose clock ran from `NOW` to `NOW` + 60."""
    usual: dict[str, Any] = {"step_began_at": NOW, "ends_at": NOW + 60, "converged": True}
    return state(phase, current, SetWeight(weight=9_000), **usual | more)


# The first step


@gates
@pytest.mark.parametrize("passed", [0.0, 9.0, 1e6])
def test_no_tick_begins_a_rollout_that_the_proxies_do_not_hold(
    held: bool, synced: bool, passed: float
) -> None:
    pending = state(Phase.PENDING, converged=held)
    assert step(pending, Tick(synced=synced), NOW + passed) == (pending, ())


def test_a_tick_begins_a_rollout_that_the_proxies_hold() -> None:
    pending = state(Phase.PENDING, converged=True)
    after, effects = step(pending, Tick(synced=True), NOW + 5)
    assert (after.phase, after.step, after.weight) == (Phase.PROGRESSING, 0, 500)
    assert (after.revision, after.published_at, after.converged) == (8, NOW + 5, False)
    assert (records(effects), effects[-1]) == ([("step_began", "weight 5 % for v2")], Publish())


def test_convergence_begins_the_first_step_and_no_later_one() -> None:
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
@gates
def test_no_step_ends_by_time_while_the_proxies_do_not_hold_it(
    phase: Phase, current: Step, held: bool, synced: bool
) -> None:
    before = in_step(phase, current, converged=held)
    assert step(before, Tick(synced=synced), NOW + 1e6) == (before, ())


@timed
def test_a_step_ends_at_its_time_and_not_a_moment_before(phase: Phase, current: Step) -> None:
    before = in_step(phase, current)
    assert step(before, Tick(synced=True), NOW + 59.999) == (before, ())
    after, effects = step(before, Tick(synced=True), NOW + 60)
    assert (after.step, after.weight, after.mirror) == (1, 9_000, 0)
    assert effects[-1] == Publish()


@timed
def test_a_step_whose_clock_does_not_run_does_not_end(phase: Phase, current: Step) -> None:
    before = in_step(phase, current, step_began_at=None, ends_at=None)
    assert step(before, Tick(synced=True), NOW + 1e6) == (before, ())


@pytest.mark.parametrize(
    "current", [Analysis(name="a"), Shadow(percentage=2_000, duration=None)], ids=["analysis", "shadow"]
)
def test_a_step_that_waits_for_something_else_does_not_end_by_time(current: Step) -> None:
    before = in_step(Phase.PROGRESSING, current, ends_at=None)
    assert step(before, Tick(synced=True), NOW + 1e6) == (before, ())


@gates
def test_a_weight_that_waited_for_its_successor_goes_on_only_while_it_is_held(
    held: bool, synced: bool
) -> None:
    before = state(Phase.PROGRESSING, weight=500, converged=held)
    assert step(before, Tick(synced=synced), NOW + 1) == (before, ())
    after, _ = step(replace(before, converged=True), Tick(synced=True), NOW + 1)
    assert (after.step, after.ends_at) == (1, NOW + 61)


def test_a_weight_that_waited_for_its_successor_is_not_held_once_more() -> None:
    before = state(Phase.PROGRESSING, weight=500, converged=True)
    assert step(before, converged(before), NOW + 1) == (before, ())


def test_no_tick_ends_a_paused_step() -> None:
    paused = in_step(Phase.PAUSED, Pause(duration=None))
    assert step(paused, Tick(synced=True), NOW + 1e6) == (paused, ())


# What convergence does to a step


def test_a_held_weight_leads_to_the_next_step_once() -> None:
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
def test_the_clock_of_a_step_that_publishes_starts_when_the_proxies_hold_it(name: str) -> None:
    phase, current = TIMED[name]
    before = in_step(phase, current, converged=False, step_began_at=None, ends_at=None, message="missing")
    after, effects = step(before, converged(before), NOW + 5)
    assert after == replace(before, converged=True, message="", step_began_at=NOW + 5, ends_at=NOW + 65)
    assert effects == ()
    # Published again, say with another share of copies: the step timer continues.
    again = replace(after, converged=False)
    assert step(again, converged(again), NOW + 30) == (after, ())


@pytest.mark.parametrize("name", ["pause", "bake"])
def test_a_step_that_publishes_nothing_keeps_its_clock(name: str) -> None:
    phase, current = TIMED[name]
    before = in_step(phase, current, converged=False, message="missing")
    assert step(before, converged(before), NOW + 5) == (replace(before, converged=True, message=""), ())


def test_a_shadow_without_end_has_no_deadline() -> None:
    before = in_step(
        Phase.SHADOWING,
        Shadow(percentage=1, duration=None),
        converged=False,
        step_began_at=None,
        ends_at=None,
    )
    after, _ = step(before, converged(before), NOW + 5)
    assert (after.converged, after.step_began_at, after.ends_at) == (True, NOW + 5, None)


def test_convergence_while_paused_keeps_the_whole_time_of_the_step() -> None:
    phase, current = TIMED["shadow"]
    before = in_step(
        Phase.PAUSED, current, converged=False, step_began_at=None, ends_at=None, resumes=phase, mirror=2_000
    )
    after, effects = step(before, converged(before), NOW + 5)
    assert after == replace(before, converged=True, step_began_at=NOW + 5, ends_at=None, left=60.0)
    assert effects == ()
    assert step(after, converged(after), NOW + 9) == (after, ())


def test_a_paused_step_that_is_held_already_keeps_its_message() -> None:
    before = state(Phase.PAUSED, weight=500, resumes=Phase.PROGRESSING, converged=True, message="a verdict")
    assert step(before, converged(before), NOW + 5) == (before, ())


def test_convergence_while_a_weight_is_paused_moves_no_user() -> None:
    before = state(Phase.PAUSED, weight=500, resumes=Phase.PROGRESSING, message="missing")
    assert step(before, converged(before), NOW + 5) == (replace(before, converged=True, message=""), ())


# What is reported while it is not held


PHASES = [phase for phase in Phase if phase not in {Phase.KILLED, Phase.ROLLED_BACK}]


@pytest.mark.parametrize("phase", PHASES, ids=lambda phase: phase.name)
@pytest.mark.parametrize("refused", [False, True])
@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("waited", [0.0, 9.999, 10.0, 99.999, 100.0, 5_000.0])
def test_what_is_missing_is_reported_after_the_timeout_and_degrades_at_the_deadline(
    phase: Phase, refused: bool, held: bool, waited: float
) -> None:
    before = state(phase, weight=500, converged=held)
    after, effects = step(before, not_converged(before, refused=refused), NOW + waited)
    words = "rejected by a proxy: waiting for b" if refused else "not all proxies are synced: waiting for b"
    if not refused and (held or waited < 10):
        assert (after, effects) == (before, ())
    elif waited >= 100 and not held and phase in {Phase.PENDING, Phase.SHADOWING, Phase.PROGRESSING}:
        assert after == replace(before, phase=Phase.DEGRADED, resumes=phase, message=words)
        assert records(effects) == [("degraded", f"progressDeadline passed; {words}")]
    else:
        assert after == replace(before, message=words)
        assert records(effects) == [("not_held", words)]
        assert step(after, not_converged(after, refused=refused), NOW + waited) == (after, ())


def test_a_long_refusal_is_cut() -> None:
    before = state(Phase.PROGRESSING)
    after, _ = step(before, not_converged(before, refused=True, detail="x" * 10_000), NOW)
    assert after.message == "rejected by a proxy: " + "x" * 500


@pytest.mark.parametrize("phase", [Phase.PENDING, Phase.SHADOWING, Phase.PROGRESSING])
def test_a_degraded_rollout_goes_on_where_it_was_once_the_proxies_hold_it(phase: Phase) -> None:
    steps = TIMED["shadow"][1:] if phase is Phase.SHADOWING else CANARY
    was = state(phase, *steps, weight=0 if phase is not Phase.PROGRESSING else 500)
    degraded = replace(was, phase=Phase.DEGRADED, resumes=phase, message="not all proxies are synced: b")
    assert step(degraded, Tick(synced=True), NOW + 1e6) == (degraded, ())
    assert step(degraded, converged(degraded), NOW + 200) == step(was, converged(was), NOW + 200)


# Rollbacks and kills


@pytest.mark.parametrize(
    ("took", "words"), [(0.25, "250 ms"), (0.9994, "999 ms"), (1.0, "1.0 s"), (12.34, "12.3 s")]
)
def test_a_rollback_ends_when_it_is_held_and_its_duration_is_reported(took: float, words: str) -> None:
    before = state(Phase.ROLLING_BACK, outcome=Outcome.ABORTED, message="aborted: why")
    after, effects = step(before, converged(before, acked=3, connected=4), NOW + took)
    message = f"3 of 4 proxies, {words}"
    assert after == replace(
        before, phase=Phase.ROLLED_BACK, converged=True, message=f"rolled back: {message}"
    )
    assert records(effects) == [("rolled_back", message)]


def test_a_rollback_by_evidence_keeps_its_reason() -> None:
    before = state(Phase.ROLLING_BACK, outcome=Outcome.ROLLED_BACK, message="failed: success-rate")
    after, _ = step(before, converged(before), NOW + 2)
    assert after.message == "rolled back: 2 of 2 proxies, 2.0 s; failed: success-rate"


def test_a_held_kill_is_reported_once() -> None:
    kill = Kill(
        serve="v1", actor="ada", reason="bad", at=NOW, by_spec=False, phase=Phase.PROGRESSING, left=None
    )
    before = state(Phase.KILLED, weight=500, kill=kill)
    after, effects = step(before, converged(before), NOW + 0.04)
    assert after == replace(before, converged=True, message="killed: 2 of 2 proxies, 40 ms")
    assert records(effects) == [("kill_held", "2 of 2 proxies, 40 ms")]
    assert step(after, converged(after), NOW + 9) == (after, ())


@pytest.mark.parametrize("phase", [Phase.HEALTHY, Phase.ROLLED_BACK])
def test_a_finished_rollout_drops_what_was_missing_once_it_is_held(phase: Phase) -> None:
    before = state(phase, message="not all proxies are synced: b")
    after, effects = step(before, converged(before), NOW + 5)
    assert (after, effects) == (replace(before, converged=True, message=""), ())
    kept = replace(after, message="rolled back: 2 of 2 proxies")
    assert step(kept, converged(kept), NOW + 6) == (kept, ())
