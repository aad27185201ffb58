"""Kill, unkill, undo and retry."""

from __future__ import annotations

import pytest

from tests.rollout.driver import CANARY, RolloutDriver, in_phase, program, started
from xds_server.rollout import (
    Action,
    CommandNotAllowedError,
    Outcome,
    Pause,
    Phase,
    Publish,
    SetWeight,
)


def test_unkill_continues_what_the_kill_interrupted() -> None:
    driver = started()
    driver.converge()
    driver.converge()
    driver.wait(20)
    assert driver.command(Action.KILL, "v2 answers nonsense")[-1] == Publish()
    driver.assert_state(Phase.KILLED, 500)
    kill = driver.state.kill
    assert kill is not None
    assert (kill.serve, kill.actor, kill.reason) == ("v1", "test", "v2 answers nonsense")
    driver.now += 0.04
    driver.converge()
    assert driver.state.message == "killed: 2 of 2 proxies synced after 40 ms"
    driver.wait(100_000)
    driver.assert_state(Phase.KILLED, 500)
    assert driver.command(Action.KILL, "again") == ()
    for kind in (Action.PROMOTE, Action.PAUSE, Action.RESUME, Action.RETRY):
        with pytest.raises(CommandNotAllowedError, match="killed by test: v2 answers nonsense"):
            driver.command(kind)
    driver.command(Action.UNKILL)
    driver.assert_state(Phase.PROGRESSING, 500)
    assert driver.state.ends_at == driver.now + 40
    driver.converge()
    driver.wait(40)
    driver.assert_state(Phase.PROGRESSING, 2_500)


def test_kill_requires_a_reason_and_unkill_a_kill() -> None:
    driver = started()
    with pytest.raises(CommandNotAllowedError, match="requires a reason"):
        driver.command(Action.KILL, " ")
    with pytest.raises(CommandNotAllowedError, match="not killed"):
        driver.command(Action.UNKILL)


def test_a_kill_set_by_the_spec_ends_with_the_spec() -> None:
    driver = in_phase(Phase.PROGRESSING)
    driver.spec(program(*CANARY, killed="bad", serve="v1"), digest="d2")
    driver.assert_state(Phase.KILLED, 500)
    with pytest.raises(CommandNotAllowedError, match="killSwitch"):
        driver.command(Action.UNKILL)
    driver.spec(program(*CANARY), digest="d3")
    driver.assert_state(Phase.PROGRESSING, 500)


def test_a_kill_by_an_operator_survives_a_new_spec() -> None:
    driver = in_phase(Phase.PROGRESSING)
    driver.command(Action.KILL)
    driver.spec(program(SetWeight(weight=100)), digest="d2")
    driver.assert_state(Phase.KILLED, 500)
    driver.command(Action.UNKILL)
    driver.assert_state(Phase.PENDING, 500)


def test_a_killed_rollout_can_be_aborted() -> None:
    driver = in_phase(Phase.PROGRESSING)
    driver.command(Action.KILL)
    driver.command(Action.ABORT)
    driver.assert_state(Phase.KILLED, 0)
    driver.command(Action.UNKILL)
    driver.assert_state(Phase.ROLLING_BACK, 0)


def test_undo_rolls_a_promotion_back_and_retry_restarts_it() -> None:
    driver = in_phase(Phase.BAKING)
    driver.wait(30)
    with pytest.raises(CommandNotAllowedError, match="undo rolls it back"):
        driver.command(Action.RETRY)
    assert driver.command(Action.UNDO)[-1] == Publish()
    driver.assert_state(Phase.ROLLING_BACK, 0)
    assert driver.state.outcome is Outcome.UNDONE
    driver.converge()
    with pytest.raises(CommandNotAllowedError, match="nothing to undo"):
        driver.command(Action.UNDO)
    driver.command(Action.RETRY)
    driver.assert_state(Phase.PENDING, 0)
    driver.converge()
    driver.assert_state(Phase.PROGRESSING, 500)
    with pytest.raises(CommandNotAllowedError, match="has not ended"):
        driver.command(Action.RETRY)


def test_a_promotion_sets_until_when_the_former_backend_is_kept_warm() -> None:
    driver = RolloutDriver()
    driver.spec(program(Pause(duration=None), SetWeight(weight=10_000), keep_warm=72 * 3600.0))
    driver.converge()
    driver.command(Action.PROMOTE)
    driver.assert_state(Phase.PROGRESSING, 10_000)
    driver.converge()
    driver.assert_state(Phase.HEALTHY, 10_000)
    assert driver.state.warm_until == driver.now + 72 * 3600
    driver.command(Action.UNDO)
    driver.assert_state(Phase.ROLLING_BACK, 0)
