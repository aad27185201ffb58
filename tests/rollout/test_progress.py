"""Rollouts driven step by step: weights, pauses, shadows, commands and new specs."""

from __future__ import annotations

import pytest

from tests.rollout.driver import CANARY, RolloutDriver, in_phase, program, started
from xds_server.rollout import (
    ACTIVE_PHASES,
    Action,
    CommandNotAllowedError,
    Converged,
    NotConverged,
    Outcome,
    Pause,
    Phase,
    Publish,
    Record,
    SetWeight,
    Shadow,
    Tick,
    next_deadline,
    step,
)


def test_a_canary_runs_from_its_spec_to_healthy() -> None:
    driver = RolloutDriver()
    assert Publish() in driver.spec(program(*CANARY))
    driver.assert_state(Phase.PENDING, 0)
    assert Publish() in driver.converge()
    driver.assert_state(Phase.PROGRESSING, 500)
    driver.converge()
    assert (driver.state.step, driver.state.ends_at) == (1, 1_060.0)
    driver.wait(59)
    assert driver.state.step == 1
    assert Publish() in driver.wait(1)
    driver.assert_state(Phase.PROGRESSING, 2_500)
    driver.converge()
    driver.assert_state(Phase.PAUSED, 2_500)
    assert next_deadline(driver.state) is None
    driver.wait(1_000_000)
    driver.assert_state(Phase.PAUSED, 2_500)
    driver.command(Action.PROMOTE)
    driver.assert_state(Phase.PROGRESSING, 10_000)
    driver.converge()
    driver.assert_state(Phase.BAKING, 10_000)
    driver.wait(30)
    driver.assert_state(Phase.HEALTHY, 10_000)
    assert driver.state.outcome is Outcome.PROMOTED


def test_a_program_without_steps_is_healthy_once_converged() -> None:
    driver = RolloutDriver()
    driver.spec(program(candidate=None))
    driver.assert_state(Phase.PENDING, 0)
    driver.converge()
    driver.assert_state(Phase.HEALTHY, 0)
    assert driver.state.outcome is None


def test_convergence_on_an_older_revision_is_ignored() -> None:
    driver = started()
    driver.converge()
    before = driver.state
    assert driver.send(Converged(revision=before.revision - 1, acked=2, connected=2)) == ()
    assert driver.state == before


def test_a_late_tick_advances_one_step() -> None:
    driver = started(SetWeight(weight=1), Pause(duration=1.0), Pause(duration=1.0), SetWeight(weight=2))
    driver.converge()
    driver.converge()
    driver.wait(10_000)
    assert driver.state.step == 2
    assert driver.state.ends_at == driver.now + 1.0


def test_no_step_ends_while_proxies_are_not_synced() -> None:
    driver = started()
    driver.converge()
    driver.converge()
    driver.wait(10_000, synced=False)
    assert driver.state.step == 1
    driver.wait(0)
    driver.assert_state(Phase.PROGRESSING, 2_500)


def test_a_shadow_mirrors_for_its_duration() -> None:
    driver = started(Shadow(percentage=2_000, duration=60.0))
    driver.assert_state(Phase.PENDING, 0, 0)
    driver.converge()
    driver.assert_state(Phase.SHADOWING, 0, 2_000)
    assert driver.state.ends_at is None, "the timer starts once proxies mirror"
    driver.now += 5
    driver.converge()
    assert driver.state.ends_at == driver.now + 60
    assert Publish() in driver.wait(60)
    driver.assert_state(Phase.HEALTHY, 0, 0)
    assert driver.state.outcome is Outcome.COMPLETED


def test_a_shadow_without_a_duration_waits_for_promote() -> None:
    driver = in_phase(Phase.SHADOWING)
    with pytest.raises(CommandNotAllowedError, match="has not converged"):
        driver.command(Action.PROMOTE)
    driver.converge()
    driver.wait(1_000_000)
    driver.assert_state(Phase.SHADOWING, 0, 2_000)
    driver.command(Action.PROMOTE)
    driver.assert_state(Phase.HEALTHY, 0, 0)


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase in ACTIVE_PHASES], ids=lambda p: p.name)
def test_abort_rolls_back_from_every_active_phase(phase: Phase) -> None:
    driver = in_phase(phase)
    assert driver.state.phase is phase
    driver.now += 1
    assert driver.command(Action.ABORT)[-1] == Publish()
    driver.assert_state(Phase.ROLLING_BACK, 0, 0)
    assert driver.state.outcome is Outcome.ABORTED
    driver.now += 0.25
    driver.converge()
    driver.assert_state(Phase.ROLLED_BACK, 0, 0)
    assert driver.state.message == "rolled back: 2 of 2 proxies synced after 250 ms"


def test_a_promoted_rollout_can_be_aborted() -> None:
    driver = in_phase(Phase.BAKING)
    driver.wait(30)
    driver.assert_state(Phase.HEALTHY, 10_000)
    driver.command(Action.ABORT)
    driver.assert_state(Phase.ROLLING_BACK, 0)


def test_pause_keeps_the_time_left_on_the_step_timer() -> None:
    driver = started()
    driver.converge()
    driver.converge()
    driver.wait(20)
    driver.command(Action.PAUSE)
    driver.assert_state(Phase.PAUSED, 500)
    driver.wait(10_000)
    driver.assert_state(Phase.PAUSED, 500)
    driver.command(Action.RESUME)
    assert driver.state.phase is Phase.PROGRESSING
    assert driver.state.ends_at == driver.now + 40
    assert driver.state.step_began_at == driver.now - 20
    driver.wait(39.9)
    assert driver.state.step == 1
    driver.wait(0.1)
    assert driver.state.step == 2


def test_a_step_that_converged_while_paused_advances_after_resume() -> None:
    driver = started()
    driver.converge()
    driver.command(Action.PAUSE)
    driver.converge()
    driver.assert_state(Phase.PAUSED, 500)
    driver.command(Action.RESUME)
    driver.wait(0)
    assert driver.state.step == 1


def test_a_rollout_paused_before_its_first_step_starts_after_resume() -> None:
    driver = started(Shadow(percentage=100, duration=60.0))
    driver.command(Action.PAUSE)
    driver.converge()
    driver.assert_state(Phase.PAUSED, 0, 0)
    driver.command(Action.RESUME)
    driver.wait(0)
    driver.assert_state(Phase.SHADOWING, 0, 100)


def test_a_shadow_paused_before_convergence_runs_its_full_duration() -> None:
    driver = started(Shadow(percentage=100, duration=60.0))
    driver.converge()
    driver.command(Action.PAUSE)
    driver.converge()
    driver.wait(1_000)
    driver.command(Action.RESUME)
    assert driver.state.ends_at == driver.now + 60


def test_promote_requires_convergence() -> None:
    driver = started()
    for _ in range(2):
        with pytest.raises(CommandNotAllowedError, match="the rollout has not converged"):
            driver.command(Action.PROMOTE)
        driver.converge()
    driver.command(Action.PROMOTE)
    driver.assert_state(Phase.PROGRESSING, 2_500)


def test_promote_full_enters_the_last_weight() -> None:
    driver = started()
    driver.converge()
    driver.converge()
    driver.command(Action.PROMOTE_FULL)
    driver.assert_state(Phase.PROGRESSING, 10_000)
    driver.converge()
    driver.assert_state(Phase.BAKING, 10_000)
    driver.command(Action.PROMOTE_FULL)
    driver.assert_state(Phase.HEALTHY, 10_000)


@pytest.mark.parametrize(
    ("phase", "kind"),
    [
        (Phase.PAUSED, Action.PAUSE),
        (Phase.PROGRESSING, Action.RESUME),
        (Phase.SHADOWING, Action.RESUME),
        (Phase.BAKING, Action.RESUME),
    ],
)
def test_a_command_that_is_already_in_effect_changes_nothing(phase: Phase, kind: Action) -> None:
    driver = in_phase(phase)
    before = driver.state
    assert driver.command(kind) == ()
    assert driver.state == before


def test_commands_after_the_end_are_rejected() -> None:
    driver = in_phase(Phase.PROGRESSING)
    driver.command(Action.ABORT)
    rolling = driver.state
    assert driver.command(Action.ABORT) == ()
    assert driver.state == rolling
    driver.converge()
    assert driver.command(Action.ABORT) == ()
    for kind in (Action.PROMOTE, Action.PROMOTE_FULL, Action.PAUSE, Action.RESUME):
        with pytest.raises(CommandNotAllowedError, match="apply a changed spec"):
            driver.command(kind)


def test_missing_proxies_are_recorded_once_and_degrade_the_rollout_later() -> None:
    driver = started()
    driver.converge()
    missing = NotConverged(revision=driver.state.revision, refused=False, detail="waiting for b")
    driver.now += 5
    assert driver.send(missing) == ()
    driver.now += 6
    assert [type(e) for e in driver.send(missing)] == [Record]
    assert "waiting for b" in driver.state.message
    assert driver.send(missing) == ()
    driver.now += 100
    driver.send(missing)
    driver.assert_state(Phase.DEGRADED, 500)
    driver.converge()
    assert (driver.state.phase, driver.state.step) == (Phase.PROGRESSING, 1)


def test_a_nack_is_recorded_at_once_with_its_detail() -> None:
    driver = started()
    refused = NotConverged(revision=driver.state.revision, refused=True, detail="b refused Cluster: no")
    driver.send(refused)
    assert driver.state.message == "a proxy rejected the configuration: b refused Cluster: no"
    assert driver.send(refused) == ()
    driver.assert_state(Phase.PENDING, 0)


def test_a_reconnecting_proxy_changes_nothing() -> None:
    driver = started()
    driver.converge()
    driver.converge()
    before = driver.state
    driver.now += 50
    assert driver.send(NotConverged(revision=before.revision, refused=False, detail="waiting for b")) == ()
    assert driver.state == before


def test_the_same_spec_changes_nothing() -> None:
    driver = in_phase(Phase.PROGRESSING)
    before = driver.state
    assert driver.spec(program(*CANARY)) == ()
    assert driver.state == before


def test_changed_endpoints_do_not_restart_the_rollout() -> None:
    driver = started()
    driver.converge()
    driver.converge()
    before = driver.state
    assert Publish() in driver.spec(program(*CANARY), digest="d2")
    assert (driver.state.step, driver.state.ends_at) == (before.step, before.ends_at)
    assert driver.state.revision == before.revision + 1
    assert driver.state.generation == before.generation + 1
    driver.wait(60, synced=False)
    assert driver.state.step == 1
    driver.wait(0)
    assert driver.state.step == 2


def test_a_new_program_keeps_the_weight_until_its_first_step() -> None:
    driver = in_phase(Phase.BAKING)
    effects = driver.spec(program(SetWeight(weight=100), Pause(duration=None)), digest="d2")
    assert "superseded" in [effect.what for effect in effects if isinstance(effect, Record)]
    driver.assert_state(Phase.PENDING, 10_000)
    driver.converge()
    driver.assert_state(Phase.PROGRESSING, 100)


def test_making_the_candidate_stable_moves_no_users() -> None:
    driver = in_phase(Phase.BAKING)
    driver.wait(30)
    effects = driver.spec(program(stable="v2", candidate=None), digest="d2")
    assert "superseded" not in [effect.what for effect in effects if isinstance(effect, Record)]
    driver.assert_state(Phase.PENDING, 0)
    assert driver.state.program.stable == "v2"


def test_a_canary_can_supersede_a_shadow() -> None:
    driver = in_phase(Phase.SHADOWING)
    driver.converge()
    driver.spec(program(*CANARY), digest="d2")
    driver.assert_state(Phase.PENDING, 0, 0)


def test_a_new_candidate_starts_with_no_users() -> None:
    driver = in_phase(Phase.BAKING)
    driver.spec(program(*CANARY, candidate="v3"), digest="d2")
    driver.assert_state(Phase.PENDING, 0)


def test_the_first_event_must_be_a_spec() -> None:
    with pytest.raises(ValueError, match="must be SpecAccepted"):
        step(None, Tick(synced=True), 0.0)
