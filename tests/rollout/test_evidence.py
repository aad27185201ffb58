"""What evidence, token budgets, verdicts and experiments do to a rollout."""

from __future__ import annotations

import pytest

from tests.rollout.driver import CANARY, RolloutDriver, program, started
from xds_server.rollout import (
    Action,
    Analysis,
    Evidence,
    Experiment,
    Finding,
    FixedSplit,
    Outcome,
    Pause,
    Phase,
    Program,
    Publish,
    Record,
    SetWeight,
    Shadow,
    ShadowTokenRate,
    Verdict,
    slots_by_variant,
)


def test_a_shadow_advances_to_the_canary_once_it_has_enough_pairs() -> None:
    driver = started(Shadow(percentage=2_000, duration=60.0, min_pairs=50), SetWeight(weight=500))
    driver.converge()
    driver.converge()
    driver.wait(60)
    driver.assert_state(Phase.SHADOWING, 0, 2_000)
    driver.send(Evidence(pairs=900))
    assert driver.send(Evidence(pairs=949)) == (), "pairs compared before the shadow do not count"
    driver.send(Evidence(pairs=950))
    assert Publish() in driver.wait(0)
    driver.assert_state(Phase.PROGRESSING, 500, 0)


def test_the_mirrored_share_follows_the_token_budget() -> None:
    driver = started(Shadow(percentage=5_000, duration=None, tokens_per_second=100))
    driver.converge()
    driver.converge()
    assert driver.send(ShadowTokenRate(tokens_per_second=90.0)) == ()
    assert Publish() in driver.send(ShadowTokenRate(tokens_per_second=400.0))
    driver.assert_state(Phase.SHADOWING, 0, 1_125)
    driver.now += 10
    assert driver.send(ShadowTokenRate(tokens_per_second=390.0)) == (), (
        "the measured rate predates the last change"
    )
    driver.now += 30
    driver.send(ShadowTokenRate(tokens_per_second=10.0))
    driver.assert_state(Phase.SHADOWING, 0, 1_687)
    for _ in range(10):
        driver.now += 30
        driver.send(ShadowTokenRate(tokens_per_second=0.0))
    driver.assert_state(Phase.SHADOWING, 0, 5_000)


@pytest.mark.parametrize("finding", Finding)
def test_only_a_pass_advances_an_analysis_step(finding: Finding) -> None:
    driver = started(SetWeight(weight=500), Analysis(name="success-rate"), SetWeight(weight=10_000))
    driver.converge()
    driver.converge()
    driver.send(Verdict(finding=finding, detail="0.99 against 0.98"))
    if finding is Finding.PASS:
        driver.assert_state(Phase.PROGRESSING, 10_000)
    elif finding is Finding.FAIL:
        driver.assert_state(Phase.ROLLING_BACK, 0)
        assert driver.state.outcome is Outcome.ROLLED_BACK
    else:
        driver.assert_state(Phase.PROGRESSING, 500)
        assert driver.state.message == f"{finding.value}: 0.99 against 0.98"
        driver.command(Action.PROMOTE)
        driver.assert_state(Phase.PROGRESSING, 10_000)


def test_a_failed_verdict_rolls_back_during_a_pause_step() -> None:
    driver = started(SetWeight(weight=500), Pause(duration=None))
    driver.converge()
    driver.converge()
    driver.send(Verdict(finding=Finding.FAIL, detail="5xx"))
    driver.assert_state(Phase.ROLLING_BACK, 0)


@pytest.mark.parametrize("back", [True, False])
def test_an_experiment_splits_users_for_its_duration(back: bool) -> None:
    test = Experiment(weights=(("v2", 3_000), ("v3", 2_000)), duration=60.0, back=back)
    driver = RolloutDriver()
    driver.spec(program(test, candidate=None))
    driver.converge()
    assert driver.state.weights == {"v2": 3_000, "v3": 2_000}
    driver.converge()
    driver.wait(60)
    assert driver.state.phase is Phase.HEALTHY
    assert driver.state.outcome is Outcome.COMPLETED
    assert driver.state.weight == (0 if back else 5_000)


def test_changing_the_shares_of_a_rule_keeps_the_rollout_running() -> None:
    def with_rule(share: int) -> Program:
        return program(*CANARY, spreads=(FixedSplit(name="rule/eu", base="v1", weights=(("v2", share),)),))

    driver = RolloutDriver()
    driver.spec(with_rule(2_000))
    driver.converge()
    before = driver.state
    driver.spec(with_rule(3_000), digest="d2")
    assert (driver.state.phase, driver.state.step) == (before.phase, before.step)
    assert slots_by_variant(driver.state.segments("rule/eu")) == {"v2": 3_000, "v1": 7_000}


def shadowed(required: str) -> RolloutDriver:
    step = Shadow(percentage=2000, duration=None, min_pairs=50, required=required)  # type: ignore[arg-type]
    driver = started(step, SetWeight(weight=500))
    driver.converge()
    driver.converge()
    driver.send(Evidence(pairs=0))
    return driver


def test_a_shadow_that_requires_equivalence_advances_only_when_equivalent() -> None:
    driver = shadowed("Equivalent")
    driver.send(Evidence(pairs=80, equivalence="Inconclusive", detail="not enough"))
    assert (driver.state.proven, driver.state.equivalence) == (False, "Inconclusive")
    driver.send(Evidence(pairs=90, equivalence="Equivalent", detail="alike"))
    assert driver.state.proven


def test_enough_pairs_suffice_when_not_different_is_required() -> None:
    driver = shadowed("NotDifferent")
    driver.send(Evidence(pairs=80, equivalence="Inconclusive"))
    assert driver.state.proven


def test_too_many_unread_answers_hold_the_promotion() -> None:
    driver = shadowed("NotDifferent")
    driver.send(Evidence(pairs=80, equivalence="Inconclusive", detail="not read", blind=True))
    assert (driver.state.proven, driver.state.equivalence) == (False, "Inconclusive")
    driver.send(Evidence(pairs=80, equivalence="Inconclusive"))
    assert driver.state.proven


@pytest.mark.parametrize("required", ["NotDifferent", "Equivalent"])
def test_different_is_final_for_a_shadow(required: str) -> None:
    driver = shadowed(required)
    (record,) = driver.send(Evidence(pairs=40, equivalence="Different", detail="its texts differ"))
    assert isinstance(record, Record)
    assert (record.what, record.message) == ("likeness", "Different: its texts differ")
    assert driver.send(Evidence(pairs=80, equivalence="Equivalent")) == ()
    assert (driver.state.proven, driver.state.equivalence) == (False, "Different")
