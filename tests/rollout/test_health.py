"""What the health of backends does to a rollout."""

from __future__ import annotations

from typing import Any

import pytest

from tests.rollout.driver import CANARY, RolloutDriver, program, started
from xds_server.rollout import (
    Action,
    CommandNotAllowedError,
    Effect,
    Health,
    Outcome,
    Pause,
    Phase,
    Publish,
    SetWeight,
    Step,
)


def checked(*steps: Step, **more: Any) -> RolloutDriver:
    driver = RolloutDriver()
    driver.spec(program(*(steps or CANARY), checked=("v2",), **more))
    return driver


def health(driver: RolloutDriver, healthy: int, total: int = 2) -> tuple[Effect, ...]:
    return driver.send(Health(backend="v2", healthy=healthy, total=total, detail="refused"))


def test_a_candidate_gets_no_users_before_its_first_health_check() -> None:
    driver = checked()
    driver.converge()
    driver.assert_state(Phase.PENDING, 0)
    assert "has not passed a health check" in driver.state.message
    driver.wait(10)
    driver.assert_state(Phase.PENDING, 0)
    with pytest.raises(CommandNotAllowedError, match="has not passed a health check"):
        driver.command(Action.PROMOTE)
    assert health(driver, 1) == ()
    driver.wait(1)
    driver.assert_state(Phase.PROGRESSING, 500)


@pytest.mark.parametrize("done", [1, 3, 6])
def test_an_unhealthy_candidate_is_rolled_back_at_any_weight(done: int) -> None:
    driver = checked()
    health(driver, 2)
    for _ in range(done):
        driver.converge()
        driver.wait(60)
        if driver.state.phase is Phase.PAUSED:
            driver.command(Action.PROMOTE)
    assert driver.state.weight > 0
    assert health(driver, 1) == (), "one healthy endpoint of two is enough"
    assert health(driver, 0)[-1] == Publish()
    driver.assert_state(Phase.ROLLING_BACK, 0)
    driver.converge()
    driver.assert_state(Phase.ROLLED_BACK, 0)
    assert driver.state.outcome is Outcome.ROLLED_BACK
    assert "v2 has no healthy endpoint" in driver.state.message
    health(driver, 2)
    driver.assert_state(Phase.ROLLED_BACK, 0)
    driver.command(Action.RETRY)
    driver.converge()
    driver.assert_state(Phase.PROGRESSING, 500)


def test_a_step_waits_for_an_unhealthy_candidate() -> None:
    driver = checked(SetWeight(weight=0), Pause(duration=5.0), SetWeight(weight=100))
    driver.converge()
    driver.converge()
    health(driver, 0)
    driver.wait(5)
    assert (driver.state.step, driver.state.message[:2]) == (1, "v2")
    health(driver, 1)
    driver.wait(0)
    driver.assert_state(Phase.PROGRESSING, 100)


def test_health_of_an_unchecked_backend_is_ignored() -> None:
    driver = started()
    before = driver.state
    assert health(driver, 0) == ()
    assert driver.state == before
