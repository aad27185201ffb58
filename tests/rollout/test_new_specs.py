"""How a new spec changes a rollout, and how steps start and programs end."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.rollout.states import CANARY, NOW, converged, program, records, state
from xds_server.rollout import (
    ACTIVE_PHASES,
    STRATEGY_SPLIT,
    Analysis,
    Bake,
    Experiment,
    Finding,
    FixedSplit,
    Kill,
    Outcome,
    Pause,
    Phase,
    Publish,
    Segment,
    SetWeight,
    Shadow,
    SpecAccepted,
    Split,
    State,
    Step,
    Tick,
    count_moved,
    reallocate,
    slots_by_variant,
    step,
)

if TYPE_CHECKING:
    from xds_server.rollout import Program


def spec(accepted: Program, digest: str = "d2") -> SpecAccepted:
    return SpecAccepted(route="chat", program=accepted, digest=digest, actor="ada")


def rule_split(**weights: int) -> FixedSplit:
    return FixedSplit(name="rule/eu", base="v1", weights=tuple(weights.items()))


def split(name: str = STRATEGY_SPLIT, base: str = "v1", **weights: int) -> Split:
    return Split(name=name, segments=reallocate((), base, weights, tuple(weights)))


# The first spec


def test_a_first_spec_is_published_and_moves_no_users() -> None:
    new = program(spreads=(rule_split(v3=10, v2=20),), checked=("v2",))
    after, effects = step(None, spec(new, "d1"), NOW)
    assert after == State(
        route="chat",
        revision=1,
        generation=1,
        digest="d1",
        program=new,
        phase=Phase.PENDING,
        splits=(
            split(),
            Split(name="rule/eu", segments=reallocate((), "v1", {"v3": 10, "v2": 20}, ("v3", "v2"))),
        ),
        published_at=NOW,
    )
    assert [(s.variant, s.slots) for s in after.segments("rule/eu")] == [
        ("v3", 10),
        ("v2", 20),
        ("v1", 9_970),
    ]
    assert (records(effects), effects[-1]) == ([("accepted", "v1 → v2 in 4 steps")], Publish())


@pytest.mark.parametrize(
    ("new", "message"),
    [
        (program(Pause(duration=None)), "v1 → v2 in 1 step"),
        (program(candidate=None, steps=()), "v1 serves all users"),
        (program(steps=()), "v1 serves all users"),
        (
            program(Experiment(weights=(("v3", 5), ("v2", 5)), duration=None, back=True), candidate=None),
            "v1 → v2, v3 in 1 step",
        ),
    ],
)
def test_an_accepted_spec_is_summarized(new: Program, message: str) -> None:
    assert records(step(None, spec(new), NOW)[1]) == [("accepted", message)]


# A spec with the same rollout key


@pytest.mark.parametrize("phase", [*ACTIVE_PHASES, Phase.HEALTHY, Phase.ROLLING_BACK, Phase.ROLLED_BACK])
@pytest.mark.parametrize("has_converged", [False, True])
def test_a_spec_with_the_same_rollout_key_continues_the_run(phase: Phase, has_converged: bool) -> None:
    before = state(
        phase,
        program=program(spreads=(rule_split(v2=2_000),), checked=("v2", "v3", "v4")),
        splits=(split(v2=500), split("rule/eu", v2=2_000), split("rule/gone", v2=1)),
        step=1,
        converged=has_converged,
        ends_at=NOW + 60,
        healthy=("v2", "v3"),
        dead=("v4",),
        finding=Finding.PASS,
        run=4,
    )
    new = program(spreads=(rule_split(v2=3_000),), checked=("v2",))
    after, effects = step(before, spec(new), NOW + 5)
    assert after == replace(
        before,
        digest="d2",
        program=new,
        splits=(split(v2=500), split("rule/eu", v2=3_000)),
        generation=4,
        revision=8,
        published_at=NOW + 5,
        healthy=("v2",),
        dead=(),
    )
    assert (records(effects), effects[-1]) == (
        [("updated", "the spec changed; no new rollout starts")],
        Publish(),
    )


def test_a_spec_with_the_same_digest_changes_nothing() -> None:
    before = state(Phase.PROGRESSING, weight=500)
    assert step(before, spec(program(Pause(duration=1.0)), before.digest), NOW + 5) == (before, ())


# A spec with another rollout key


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.KILLED])
def test_another_rollout_key_starts_a_new_run_and_keeps_the_users_of_its_variants(phase: Phase) -> None:
    before = state(
        phase,
        program=program(spreads=(rule_split(v2=2_000),), checked=("v2", "v3")),
        splits=(split(v2=500, v3=300), split("rule/eu", v2=2_000)),
        outcome=Outcome.ROLLED_BACK,
        step=3,
        mirror=1_000,
        converged=True,
        step_began_at=NOW,
        ends_at=NOW + 1,
        resumes=Phase.PROGRESSING,
        left=2.0,
        message="m",
        healthy=("v2",),
        dead=("v3", "v4"),
        pairs_before=4,
        proven=True,
        equivalence="Different",
        budgeted_at=NOW,
        warm_until=NOW,
        run=4,
        finding=Finding.PASS,
    )
    new = program(SetWeight(weight=100), spreads=(rule_split(v2=2_500),), checked=("v2", "v4"))
    after, effects = step(before, spec(new), NOW + 5)
    assert after == State(
        route="chat",
        revision=8,
        generation=4,
        digest="d2",
        program=new,
        phase=Phase.PENDING,
        splits=(after.splits[0], split("rule/eu", v2=2_500)),
        published_at=NOW + 5,
        run=5,
        healthy=("v2",),
        dead=("v4",),
    )
    assert after.weights == {"v2": 500}, "v3 is no longer a variant: its users return to the stable backend"
    assert count_moved(before.segments(STRATEGY_SPLIT), after.segments(STRATEGY_SPLIT)) == 300
    ended = phase in {Phase.HEALTHY, Phase.ROLLED_BACK}
    shares = "5 % of users on v2, 3 % of users on v3"
    message = f"another spec replaced the rollout, which was in phase {phase.value} with {shares}"
    superseded = [("superseded", message)]
    assert records(effects) == [*([] if ended else superseded), ("accepted", "v1 → v2 in 1 step")]
    assert effects[-1] == Publish()


def test_the_record_of_a_superseded_rollout_without_users_has_no_weights() -> None:
    _, effects = step(state(Phase.PENDING), spec(program(Pause(duration=None))), NOW)
    assert records(effects)[0] == (
        "superseded",
        "another spec replaced the rollout, which was in phase Pending with no users on a candidate",
    )


def test_another_stable_backend_starts_with_all_users() -> None:
    before = state(Phase.PROGRESSING, weight=500)
    after, _ = step(before, spec(program(stable="v2", candidate="v1")), NOW)
    assert slots_by_variant(after.segments(STRATEGY_SPLIT)) == {"v2": 10_000}


def test_users_keep_their_slots_when_a_new_run_starts() -> None:
    slots = (("v1", 100), ("v2", 500), ("v1", 9_400))
    segments = tuple(Segment(variant=variant, slots=count) for variant, count in slots)
    before = state(Phase.PROGRESSING, splits=(Split(name=STRATEGY_SPLIT, segments=segments),))
    after, _ = step(before, spec(program(Pause(duration=None), SetWeight(weight=900))), NOW)
    assert after.segments(STRATEGY_SPLIT) == segments


def test_a_new_stable_backend_takes_the_users_of_the_candidate_too() -> None:
    before = state(Phase.PROGRESSING, weight=500)
    after, _ = step(before, spec(program(stable="v3", candidate="v2")), NOW)
    assert slots_by_variant(after.segments(STRATEGY_SPLIT)) == {"v3": 10_000}


def test_the_variants_of_an_experiment_keep_their_users() -> None:
    test = Experiment(weights=(("v3", 100), ("v4", 100)), duration=None, back=True)
    before = state(Phase.PROGRESSING, test, splits=(split(v3=3_000, v4=2_000, v5=1_000),))
    after, _ = step(before, spec(program(test, SetWeight(weight=1))), NOW)
    assert after.weights == {"v3": 3_000, "v4": 2_000}


# Kills by the spec


def kill(*, by_spec: bool, phase: Phase = Phase.PROGRESSING, left: float | None = 40.0) -> Kill:
    return Kill(serve="v1", actor="bob", reason="leaks", at=NOW - 9, by_spec=by_spec, phase=phase, left=left)


def running(**overrides: Any) -> State:
    defaults = {"weight": 500, "step": 1, "converged": True, "step_began_at": NOW - 20, "ends_at": NOW + 40}
    return state(Phase.PROGRESSING, **defaults | overrides)


@pytest.mark.parametrize(("serve", "served"), [("v3", "v3"), ("", "v1")])
def test_a_kill_by_the_spec_suspends_the_rollout(serve: str, served: str) -> None:
    before = running()
    new = program(killed="bad", serve=serve)
    after, effects = step(before, spec(new), NOW + 10)
    assert after == replace(
        before,
        digest="d2",
        program=new,
        generation=4,
        revision=8,
        published_at=NOW + 10,
        phase=Phase.KILLED,
        ends_at=None,
        kill=Kill(
            serve=served,
            actor="ada",
            reason="bad",
            at=NOW + 10,
            by_spec=True,
            phase=Phase.PROGRESSING,
            left=30.0,
        ),
    )
    assert records(effects)[0] == ("killed", f"{served} serves all users: bad")
    assert effects[-1] == Publish()


def test_a_first_spec_can_kill() -> None:
    after, effects = step(None, spec(program(killed="bad")), NOW)
    assert after.kill == Kill(
        serve="v1", actor="ada", reason="bad", at=NOW, by_spec=True, phase=Phase.PENDING, left=None
    )
    assert (after.phase, [what for what, _ in records(effects)]) == (Phase.KILLED, ["killed", "accepted"])


def test_a_kill_by_the_spec_lasts_while_the_spec_enables_it() -> None:
    before = replace(running(), phase=Phase.KILLED, ends_at=None, kill=kill(by_spec=True))
    after, effects = step(before, spec(program(killed="worse", serve="v3")), NOW + 100)
    assert after.kill == Kill(
        serve="v3",
        actor="ada",
        reason="worse",
        at=NOW - 9,
        by_spec=True,
        phase=Phase.PROGRESSING,
        left=40.0,
    )
    assert (after.phase, after.ends_at) == (Phase.KILLED, None)
    assert [what for what, _ in records(effects)] == ["updated"]
    back, effects = step(before, spec(program()), NOW + 100)
    assert (back.kill, back.phase, back.ends_at, back.step_began_at) == (
        None,
        Phase.PROGRESSING,
        NOW + 140,
        NOW + 80,
    )
    assert records(effects)[0] == ("unkilled", "the spec no longer sets killSwitch.enabled: true")


@pytest.mark.parametrize("reason", [None, "bad"])
@pytest.mark.parametrize("steps", [CANARY, (SetWeight(weight=100),)], ids=["same-steps", "other-steps"])
def test_a_kill_by_an_operator_outlives_every_spec(steps: tuple[Step, ...], reason: str | None) -> None:
    before = replace(running(), phase=Phase.KILLED, ends_at=None, kill=kill(by_spec=False))
    after, effects = step(before, spec(program(*steps, killed=reason, serve="v3")), NOW + 100)
    same = steps == CANARY
    assert (after.phase, after.ends_at, after.weight) == (Phase.KILLED, None, 500)
    assert after.kill == replace(
        kill(by_spec=False),
        serve="v3",
        phase=Phase.PROGRESSING if same else Phase.PENDING,
        left=40.0 if same else None,
    )
    assert "killed" not in dict(records(effects))
    assert "unkilled" not in dict(records(effects))


# How steps start and end


@pytest.mark.parametrize(
    ("current", "expected", "message"),
    [
        (SetWeight(weight=900), {"phase": Phase.PROGRESSING}, "weight 9 % for v2"),
        (
            Pause(duration=90.0),
            {"phase": Phase.PROGRESSING, "step_began_at": NOW, "ends_at": NOW + 90},
            "pause 1 min 30 s",
        ),
        (
            Pause(duration=None),
            {"phase": Phase.PAUSED, "step_began_at": NOW},
            "pause until resumed or promoted",
        ),
        (
            Bake(duration=0.5),
            {"phase": Phase.BAKING, "step_began_at": NOW, "ends_at": NOW + 0.5},
            "bake 500 ms",
        ),
        (
            Analysis(name="a"),
            {"phase": Phase.PROGRESSING, "step_began_at": NOW},
            "waiting for the verdict of analysis a",
        ),
        (
            Shadow(percentage=1_250, duration=60.0),
            {"phase": Phase.SHADOWING, "mirror": 1_250},
            "mirroring 12.5 % of requests to v2",
        ),
        (
            Experiment(weights=(("v3", 3_000), ("v2", 1_000)), duration=60.0, back=True),
            {"phase": Phase.PROGRESSING},
            "experiment: 30 % for v3, 10 % for v2",
        ),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, dict | str) else "",
)
def test_entering_a_step(current: Step, expected: dict[str, Any], message: str) -> None:
    before = state(
        Phase.PROGRESSING,
        SetWeight(weight=500),
        current,
        weight=500,
        step=0,
        mirror=77,
        converged=True,
        step_began_at=1.0,
        ends_at=2.0,
        message="m",
        proven=True,
        equivalence="Equivalent",
        pairs_before=9,
    )
    after, effects = step(before, Tick(synced=True), NOW)
    publishes = isinstance(current, SetWeight | Shadow | Experiment)
    changes: dict[str, Any] = {"step": 1, "step_began_at": None, "ends_at": None, "message": "", **expected}
    if publishes:
        changes |= {"revision": 8, "published_at": NOW, "converged": False, "splits": after.splits}
        changes.setdefault("mirror", 0)
    if isinstance(current, Shadow):
        changes |= {"proven": False, "equivalence": "", "pairs_before": None}
    assert after == replace(before, **changes)
    weights = {SetWeight: {"v2": 900}, Experiment: {"v3": 3_000, "v2": 1_000}}.get(type(current), {"v2": 500})
    assert after.weights == weights
    assert records(effects) == [("step_began", message)]
    assert (effects[-1] == Publish()) is publishes


def test_the_variants_of_an_experiment_take_slots_in_the_order_of_the_spec() -> None:
    test = Experiment(weights=(("v3", 3_000), ("v2", 1_000)), duration=60.0, back=True)
    before = state(Phase.PENDING, test, splits=(split(), split("rule/eu", v2=7)))
    after, _ = step(before, converged(before), NOW)
    assert [(s.variant, s.slots) for s in after.segments(STRATEGY_SPLIT)] == [
        ("v3", 3_000),
        ("v2", 1_000),
        ("v1", 6_000),
    ]
    assert after.splits[1:] == before.splits[1:], "the splits of targeting rules stay"


@pytest.mark.parametrize(
    ("last", "phase", "outcome", "weight", "message"),
    [
        (
            Shadow(percentage=5, duration=60.0),
            Phase.SHADOWING,
            Outcome.COMPLETED,
            500,
            "the shadow has ended",
        ),
        (
            Experiment(weights=(("v2", 500),), duration=60.0, back=True),
            Phase.PROGRESSING,
            Outcome.COMPLETED,
            0,
            "the experiment has ended; v1 serves all users",
        ),
        (
            Experiment(weights=(("v2", 500),), duration=60.0, back=False),
            Phase.PROGRESSING,
            Outcome.COMPLETED,
            500,
            "the experiment has ended; users keep their variants",
        ),
        (Bake(duration=60.0), Phase.BAKING, Outcome.PROMOTED, 500, "v2 serves 5 % of users"),
    ],
    ids=["shadow", "experiment-back", "experiment-stays", "bake"],
)
@pytest.mark.parametrize("keep_warm", [0.0, 3_600.0])
def test_the_end_of_a_program(
    last: Step, phase: Phase, outcome: Outcome, weight: int, message: str, keep_warm: float
) -> None:
    before = state(
        phase,
        program=program(last, keep_warm=keep_warm),
        weight=500,
        mirror=5 if isinstance(last, Shadow) else 0,
        converged=True,
        step_began_at=NOW - 60,
        ends_at=NOW,
        message="m",
    )
    after, effects = step(before, Tick(synced=True), NOW)
    publishes = isinstance(last, Shadow) or (isinstance(last, Experiment) and last.back)
    changes: dict[str, Any] = {
        "phase": Phase.HEALTHY,
        "outcome": outcome,
        "step_began_at": None,
        "ends_at": None,
    }
    changes |= {"message": "", "mirror": 0, "splits": after.splits}
    if publishes:
        changes |= {"revision": 8, "published_at": NOW, "converged": False}
    if outcome is Outcome.PROMOTED and keep_warm:
        changes |= {"warm_until": NOW + keep_warm}
    assert after == replace(before, **changes)
    assert after.weight == weight
    assert (records(effects), effects[-1] == Publish()) == ([("healthy", message)], publishes)


def test_without_steps_the_stable_backend_serves_all_users() -> None:
    before = state(Phase.PENDING, program=program(candidate=None, steps=()))
    after, effects = step(before, converged(before), NOW)
    assert after == replace(before, phase=Phase.HEALTHY, converged=True)
    assert records(effects) == [("healthy", "v1 serves all users")]
