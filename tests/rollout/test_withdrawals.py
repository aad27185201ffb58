"""Backends that fail: what is rolled back, what is withdrawn alone, and how long that lasts."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.rollout.states import NOW, command, converged, not_converged, program, records, state
from xds_server.rollout import (
    STRATEGY_SPLIT,
    Action,
    Bake,
    CommandNotAllowedError,
    Event,
    Experiment,
    Finding,
    Health,
    Outcome,
    Pause,
    Phase,
    Publish,
    SetWeight,
    Shadow,
    SpecAccepted,
    Split,
    State,
    Tick,
    Verdict,
    reallocate,
    step,
)
from xds_server.rollout.codec import event_from_json, event_to_json, state_from_json, state_to_json

TEST = Experiment(weights=(("v2", 3_000), ("v3", 3_000)), duration=60.0, back=False)
PREVIEW = (Pause(duration=60.0), SetWeight(weight=10_000), Bake(duration=30.0))


def failed(*names: str) -> Verdict:
    return Verdict(finding=Finding.FAIL, detail="d", failed=names)


def weighted(phase: Phase, *steps: Any, weights: dict[str, int], **more: Any) -> State:
    split = Split(name=STRATEGY_SPLIT, segments=reallocate((), "v1", weights, tuple(weights)))
    return replace(state(phase, *steps, converged=True, **more), splits=(split,))


def experiment(phase: Phase = Phase.PROGRESSING, **more: Any) -> State:
    return weighted(phase, TEST, weights={"v2": 3_000, "v3": 3_000}, **more)


@pytest.mark.parametrize("phase", [Phase.PROGRESSING, Phase.PAUSED, Phase.DEGRADED, Phase.HEALTHY])
def test_one_of_two_variants_is_withdrawn_alone(phase: Phase) -> None:
    resumes = {Phase.PAUSED: Phase.PROGRESSING, Phase.DEGRADED: Phase.PROGRESSING}.get(phase)
    before = experiment(phase, step=1 if phase is Phase.HEALTHY else 0, ends_at=NOW + 60, resumes=resumes)
    after, effects = step(before, failed("v3"), NOW + 5)
    assert (after.phase, after.weights, after.withdrawn) == (phase, {"v2": 3_000}, ("v3",))
    assert (after.outcome, after.finding, after.ends_at) == (before.outcome, None, NOW + 60)
    assert (after.revision, after.converged, records(effects)) == (8, True, [("withdrawn", "d")])
    assert effects[-1] == Publish()
    assert step(after, failed("v3"), NOW + 6) == (after, ()), "once"


@pytest.mark.parametrize("earlier", [(), ("v3",)])
def test_the_last_variant_that_fails_ends_the_experiment(earlier: tuple[str, ...]) -> None:
    weights = {name: 3_000 for name in ("v2", "v3") if name not in earlier}
    before = weighted(Phase.PROGRESSING, TEST, weights=weights, withdrawn=earlier)
    after, effects = step(before, failed(*weights), NOW + 5)
    assert (after.phase, after.outcome, after.weights) == (Phase.ROLLING_BACK, Outcome.ROLLED_BACK, {})
    assert (after.withdrawn, records(effects)) == (("v2", "v3"), [("failed", "d")])


def test_users_of_a_killed_route_are_not_moved_by_a_withdrawal() -> None:
    killed, _ = step(experiment(ends_at=NOW + 60), command(Action.KILL, "why"), NOW)
    after, _ = step(killed, failed("v3"), NOW + 5)
    assert (after.phase, after.kill is not None, after.withdrawn) == (Phase.KILLED, True, ("v3",))
    resumed, _ = step(after, command(Action.UNKILL), NOW + 9)
    assert (resumed.phase, resumed.weights, resumed.withdrawn) == (
        Phase.PROGRESSING,
        {"v2": 3_000},
        ("v3",),
    )


def test_a_failed_candidate_takes_its_rules_with_it() -> None:
    before = state(Phase.PROGRESSING, weight=500, converged=True)
    after, _ = step(before, failed("v2"), NOW + 5)
    assert (after.phase, after.withdrawn) == (Phase.ROLLING_BACK, ("v2",))


@pytest.mark.parametrize("phase", [Phase.PENDING, Phase.PROGRESSING, Phase.HEALTHY, Phase.ROLLED_BACK])
def test_a_backend_that_only_rules_serve_is_withdrawn_without_a_rollback(phase: Phase) -> None:
    before = state(phase, *PREVIEW, outcome=Outcome.ABORTED, converged=True)
    after, effects = step(before, failed("v2"), NOW + 5)
    assert (after.phase, after.outcome, after.withdrawn) == (phase, Outcome.ABORTED, ("v2",))
    assert (records(effects), effects[-1]) == ([("withdrawn", "d")], Publish())


@pytest.mark.parametrize("verdict", [failed(), Verdict(finding=Finding.PASS, detail="d")])
@pytest.mark.parametrize("phase", [Phase.ROLLING_BACK, Phase.ROLLED_BACK])
def test_a_verdict_of_no_backend_changes_nothing_after_a_rollback(phase: Phase, verdict: Verdict) -> None:
    before = state(phase, converged=True)
    assert step(before, verdict, NOW + 5) == (before, ())
    killed, _ = step(before, command(Action.KILL, "why"), NOW)
    assert step(killed, verdict, NOW + 5) == (killed, ())


SHADOW = Shadow(percentage=2_000, duration=60.0)


ON_TIME: dict[str, Any] = {"converged": True, "step_began_at": NOW, "ends_at": NOW + 60}
PAUSED: dict[str, Any] = {"converged": True, "step_began_at": NOW, "resumes": Phase.PROGRESSING, "left": 30.0}
IN_PHASE = {
    Phase.PENDING: state(Phase.PENDING),
    Phase.SHADOWING: state(Phase.SHADOWING, SHADOW, mirror=2_000, **ON_TIME),
    Phase.PROGRESSING: state(Phase.PROGRESSING, weight=500, step=1, **ON_TIME),
    Phase.PAUSED: state(Phase.PAUSED, weight=500, step=1, **PAUSED),
    Phase.BAKING: state(Phase.BAKING, weight=10_000, step=3, **ON_TIME),
    Phase.HEALTHY: state(Phase.HEALTHY, weight=10_000, step=3, outcome=Outcome.PROMOTED, converged=True),
    Phase.ROLLING_BACK: state(Phase.ROLLING_BACK, step=1, outcome=Outcome.ABORTED, message="aborted"),
    Phase.ROLLED_BACK: state(Phase.ROLLED_BACK, step=1, outcome=Outcome.ABORTED, converged=True),
    Phase.DEGRADED: state(Phase.DEGRADED, weight=500, resumes=Phase.PROGRESSING, message="not synced"),
}
"""A rollout from v1 to v2 in the middle of each phase."""
IN_PHASE[Phase.KILLED] = step(IN_PHASE[Phase.PROGRESSING], command(Action.KILL, "why"), NOW)[0]
UNMOVED = (
    "phase",
    "weights",
    "mirror",
    "step",
    "ends_at",
    "left",
    "resumes",
    "outcome",
    "finding",
    "message",
)


@pytest.mark.parametrize("phase", Phase)
def test_a_backend_that_only_rules_serve_is_withdrawn_in_every_phase(phase: Phase) -> None:
    before = IN_PHASE[phase]
    after, effects = step(before, failed("v9"), NOW + 5)
    assert (after.withdrawn, records(effects), effects[-1]) == (("v9",), [("withdrawn", "d")], Publish())
    assert [getattr(after, name) for name in UNMOVED] == [getattr(before, name) for name in UNMOVED]
    assert after.revision == before.revision + 1
    assert step(after, failed("v9"), NOW + 6) == (after, ()), "once"


@pytest.mark.parametrize("phase", Phase)
def test_a_candidate_that_fails_is_out_of_rules_and_the_strategy_in_every_phase(phase: Phase) -> None:
    before = IN_PHASE[phase]
    after, effects = step(before, failed("v2"), NOW + 5)
    assert (after.withdrawn, effects[-1]) == (("v2",), Publish())
    assert (after.weights, after.mirror) == ({}, 0)
    suspended = after.phase if after.kill is None else after.kill.phase
    serves = bool(before.weights or before.mirror)
    expected = {True: (Phase.ROLLING_BACK, Outcome.ROLLED_BACK), False: (phase, before.outcome)}[serves]
    assert (suspended, after.outcome) == expected
    assert (after.phase is Phase.KILLED) == (phase is Phase.KILLED)
    assert records(effects) == [("failed" if serves else "withdrawn", "d")]
    assert step(after, failed("v2"), NOW + 6) == (after, ()), "once"


@pytest.mark.parametrize("outcome", [Outcome.ABORTED, Outcome.UNDONE, Outcome.ROLLED_BACK])
def test_a_rollback_in_which_the_candidate_fails_ends_as_it_would_have(outcome: Outcome) -> None:
    before = replace(IN_PHASE[Phase.ROLLING_BACK], outcome=outcome)
    after, _ = step(before, failed("v2"), NOW + 5)
    assert step(after, converged(before), NOW + 6) == (after, ()), (
        "the proxies must apply the withdrawal, too"
    )
    ended, effects = step(after, converged(after), NOW + 7)
    assert (ended.phase, ended.outcome, ended.withdrawn) == (Phase.ROLLED_BACK, outcome, ("v2",))
    assert [kind for kind, _ in records(effects)] == ["rolled_back"]


@pytest.mark.parametrize("phase", Phase)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_only_a_spec_or_a_retry_serves_a_withdrawn_candidate_again(phase: Phase, data: st.DataObject) -> None:
    current, _ = step(IN_PHASE[phase], failed("v2"), NOW + 5)
    for now in range(20):
        events: list[Event] = [
            Tick(synced=True),
            converged(current),
            not_converged(current),
            failed("v2"),
            Verdict(finding=Finding.PASS, detail="d"),
            Health(backend="v2", healthy=1, total=1),
            *(command(action, "why") for action in Action),
        ]
        with suppress(CommandNotAllowedError):
            current, _ = step(current, data.draw(st.sampled_from(events)), NOW + 100.0 * now)
        if current.run > 1:
            return
        assert (current.withdrawn, current.weights, current.mirror) == (("v2",), {}, 0)


def test_a_rule_backend_fails_while_a_sound_candidate_has_users() -> None:
    before = state(Phase.PROGRESSING, weight=500, converged=True)
    after, _ = step(before, failed("v9"), NOW + 5)
    assert (after.phase, after.weight, after.withdrawn) == (Phase.PROGRESSING, 500, ("v9",))


def test_the_stable_backend_is_never_withdrawn() -> None:
    before = state(Phase.HEALTHY, converged=True)
    assert step(before, failed("v1"), NOW + 5) == (before, ())


def test_a_withdrawn_candidate_gains_no_users() -> None:
    before = state(
        Phase.PROGRESSING, *PREVIEW, converged=True, step_began_at=NOW, ends_at=NOW, withdrawn=("v2",)
    )
    after, effects = step(before, Tick(synced=True), NOW + 1)
    assert (after.weight, after.step) == (0, 0)
    ((kind, message),) = records(effects)
    assert kind == "not_alive"
    assert message.startswith("v2 was withdrawn because it failed; ")
    with pytest.raises(CommandNotAllowedError, match="v2 was withdrawn"):
        step(before, command(Action.PROMOTE), NOW + 1)


@pytest.mark.parametrize("withdrawn", [("v3",), ("v2", "v3")])
def test_an_experiment_begins_without_the_withdrawn_variants(withdrawn: tuple[str, ...]) -> None:
    before = state(Phase.PENDING, TEST, converged=True, withdrawn=withdrawn)
    after, _ = step(before, Tick(synced=True), NOW + 1)
    assert after.weights == ({"v2": 3_000} if withdrawn == ("v3",) else {})
    assert after.phase is (Phase.PROGRESSING if after.weights else Phase.PENDING)


@pytest.mark.parametrize("phase", [Phase.ROLLED_BACK, Phase.HEALTHY])
def test_a_retry_serves_a_withdrawn_backend_again(phase: Phase) -> None:
    before = state(phase, TEST, outcome=Outcome.ROLLED_BACK, converged=True, withdrawn=("v2", "v3"))
    after, _ = step(before, command(Action.RETRY), NOW + 5)
    assert (after.withdrawn, after.run, after.finding) == ((), 2, None)
    entered, _ = step(replace(after, converged=True), Tick(synced=True), NOW + 6)
    assert entered.weights == {"v2": 3_000, "v3": 3_000}


@pytest.mark.parametrize("steps", [(TEST,), PREVIEW], ids=["the same steps", "other steps"])
def test_a_new_spec_serves_a_withdrawn_backend_again_and_moves_no_user_to_it(steps: tuple[Any, ...]) -> None:
    before, _ = step(experiment(), failed("v3"), NOW + 5)
    accepted = SpecAccepted(route="chat", program=program(*steps), digest="d2", actor="ada")
    after, _ = step(before, accepted, NOW + 6)
    assert after.withdrawn == ()
    assert "v3" not in after.weights


def test_the_same_spec_keeps_a_withdrawal() -> None:
    before, _ = step(experiment(), failed("v3"), NOW + 5)
    accepted = SpecAccepted(route="chat", program=before.program, digest=before.digest, actor="ada")
    assert step(before, accepted, NOW + 6) == (before, ())


def test_withdrawals_are_stored_and_older_states_have_none() -> None:
    after, _ = step(experiment(), failed("v3"), NOW + 5)
    text = state_to_json(after)
    assert state_from_json(text) == after
    none = state_to_json(experiment())
    assert "withdrawn" not in none, "earlier versions read the state as well"
    assert state_from_json(none).withdrawn == ()
    for event in (failed("v3"), failed()):
        assert event_from_json(event_to_json(event)) == event
