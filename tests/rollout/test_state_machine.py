"""Properties of the state machine: every event in every state, in any order."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from xds_server.rollout import (
    ACTIVE_PHASES,
    TABLE,
    Action,
    Alarm,
    Analysis,
    Bake,
    Command,
    CommandNotAllowedError,
    Converged,
    Event,
    Evidence,
    Experiment,
    Finding,
    FixedSplit,
    Health,
    NotConverged,
    OnInconclusive,
    Pause,
    Phase,
    Program,
    Publish,
    SetWeight,
    Shadow,
    ShadowTokenRate,
    SpecAccepted,
    State,
    Tick,
    Verdict,
    event_from_json,
    event_to_json,
    state_from_json,
    state_to_json,
    step,
)

KINDS = {"tick", "converged", "notConverged", "health", "evidence", "spent", "verdict", "alarm", *Action}
LENGTH = st.floats(1, 1_000)
CANARY_STEP = st.one_of(
    st.builds(SetWeight, weight=st.integers(0, 10_000)),
    st.builds(Pause, duration=st.none() | LENGTH),
    st.just(Analysis(name="a")),
)
SHADOW = st.builds(
    Shadow,
    percentage=st.integers(1, 10_000),
    duration=st.none() | LENGTH,
    min_pairs=st.none() | st.just(5),
    tokens_per_second=st.none() | st.just(100),
)
EXPERIMENT = st.builds(
    Experiment,
    weights=st.just((("v4", 1_000), ("v5", 2_000))),
    duration=st.none() | LENGTH,
    back=st.booleans(),
)
STEPS = st.one_of(
    st.lists(CANARY_STEP, max_size=6).flatmap(
        lambda steps: st.sampled_from([tuple(steps), (*steps, Bake(duration=5.0))])
    ),
    st.builds(lambda s: (s,), SHADOW),
    st.builds(lambda s, weight: (s, SetWeight(weight=weight)), SHADOW, st.integers(0, 10_000)),
    st.builds(lambda s: (s,), EXPERIMENT),
)
PROGRAM = st.builds(
    Program,
    stable=st.sampled_from(["v1", "v2"]),
    candidate=st.just("v3"),
    steps=STEPS,
    convergence_timeout=st.just(10.0),
    progress_deadline=st.just(50.0),
    spreads=st.sampled_from([(), (FixedSplit(name="rule/a", base="v1", weights=(("v3", 100),)),)]),
    killed=st.sampled_from([None, None, None, "bad"]),
    checked=st.sampled_from([(), ("v3",), ("v3", "v4", "v5")]),
    requires_verdict=st.booleans(),
    verdict_timeout=st.sampled_from([0.0, 30.0]),
    on_inconclusive=st.sampled_from(OnInconclusive),
)
_PROGRAM = Program(
    stable="v1",
    candidate="v2",
    steps=(SetWeight(weight=500),),
    convergence_timeout=10.0,
    progress_deadline=50.0,
    requires_verdict=True,
    verdict_timeout=30.0,
)
MOMENT = st.tuples(
    st.floats(0, 100),
    st.one_of(
        st.builds(
            SpecAccepted, route=st.just("r"), program=PROGRAM, digest=st.uuids().map(str), actor=st.just("a")
        ),
        st.builds(Tick, synced=st.booleans()),
        st.builds(Converged, revision=st.integers(-1, 0), acked=st.just(1), connected=st.just(1)),
        st.builds(
            NotConverged,
            revision=st.integers(-1, 0),
            refused=st.booleans(),
            detail=st.sampled_from(["a", "b"]),
        ),
        st.builds(Command, command=st.sampled_from(Action), actor=st.just("a"), reason=st.text(max_size=5)),
        st.builds(
            Health,
            backend=st.sampled_from(["v3", "v4", "v9"]),
            healthy=st.integers(0, 1),
            total=st.just(1),
        ),
        st.builds(Evidence, pairs=st.integers(0, 10)),
        st.builds(ShadowTokenRate, tokens_per_second=st.floats(0, 1_000)),
        st.builds(Verdict, finding=st.sampled_from(Finding), detail=st.just("d")),
        st.builds(Alarm, name=st.just("n"), detail=st.just("d"), rollback=st.booleans()),
    ),
)


def run(program: Program, moments: list[tuple[float, Event]]) -> list[tuple[State, Event, float]]:
    """Return every state with its event and time; rejected commands leave the state unchanged."""
    now = 0.0
    first = SpecAccepted(route="r", program=program, digest="first", actor="a")
    state, _ = step(None, first, now)
    history: list[tuple[State, Event, float]] = [(state, first, now)]
    for passed, moment in moments:
        now += passed
        event = _of_revision(moment, state)
        try:
            state, effects = step(state, event, now)
        except CommandNotAllowedError:
            continue
        assert effects == () or state != history[-1][0] or isinstance(event, Alarm)
        if Publish() in effects:
            assert state.revision == history[-1][0].revision + 1
        else:
            before = history[-1][0]
            assert _published(state) == _published(before), (
                "the published configuration changes only with a Publish effect"
            )
        history.append((state, event, now))
    return history


def _published(state: State) -> object:
    """Return the part of the state that the published configuration depends on."""
    return state.splits, state.mirror, state.program, state.kill is None, state.dead


def _of_revision(event: Event, state: State) -> Event:
    """Return the event with its revision, drawn relative to the newest one, made absolute."""
    if isinstance(event, Converged):
        return Converged(
            revision=state.revision + event.revision, acked=event.acked, connected=event.connected
        )
    if isinstance(event, NotConverged):
        return NotConverged(
            revision=state.revision + event.revision, refused=event.refused, detail=event.detail
        )
    return event


def test_every_command_is_in_the_table_of_every_phase() -> None:
    for phase in Phase:
        assert set(Action) <= set(TABLE[phase]), phase
        assert set(TABLE[phase]) <= KINDS, phase


@settings(max_examples=200, deadline=None)
@given(PROGRAM, st.lists(MOMENT, max_size=30))
def test_invariants_hold_after_any_order_of_events(
    program: Program, moments: list[tuple[float, Event]]
) -> None:
    for state, _, _ in run(program, moments):
        assert 0 <= state.weight <= 10_000
        assert 0 <= state.mirror <= 10_000
        assert (state.phase is Phase.KILLED) == (state.kill is not None)
        phase = state.phase if state.kill is None else state.kill.phase
        if state.mirror:
            held = phase in {Phase.PAUSED, Phase.DEGRADED} and isinstance(state.current, Shadow)
            assert phase is Phase.SHADOWING or held
        if phase in {Phase.ROLLED_BACK, Phase.ROLLING_BACK}:
            assert (state.weight, state.mirror) == (0, 0)
        if state.phase in ACTIVE_PHASES:
            back, effects = step(state, Command(command=Action.ABORT, actor="a", reason=""), 1e9)
            assert (back.weight, back.mirror, back.phase) == (0, 0, Phase.ROLLING_BACK)
            assert effects[-1] == Publish()
        if state.kill is None:
            killed, effects = step(state, Command(command=Action.KILL, actor="a", reason="b"), 1e9)
            assert (killed.phase, effects[-1]) == (Phase.KILLED, Publish())


@settings(max_examples=200, deadline=None)
@given(PROGRAM, st.lists(MOMENT, max_size=30))
def test_phases_change_only_as_the_table_allows(program: Program, moments: list[tuple[float, Event]]) -> None:
    history = run(program, moments)
    for (before, _, _), (after, event, _) in pairwise(history):
        if isinstance(event, SpecAccepted) or before.phase is after.phase:
            continue
        kind = event.command if isinstance(event, Command) else event.kind
        phases = {before.phase}
        if isinstance(event, Converged) and before.phase is Phase.DEGRADED and before.resumes is not None:
            phases = {before.resumes}  # Late convergence first restores the phase before the deadline.
        allowed = {to for phase in phases for to in TABLE[phase][kind].to} | (phases - {before.phase})
        assert after.phase in allowed, (before.phase, kind, after.phase)


@settings(max_examples=200, deadline=None)
@given(PROGRAM, st.lists(MOMENT, max_size=30))
def test_a_checked_candidate_gains_users_only_while_healthy(
    program: Program, moments: list[tuple[float, Event]]
) -> None:
    for (before, _, _), (after, event, _) in pairwise(run(program, moments)):
        if isinstance(event, SpecAccepted):
            continue
        for variant, share in after.weights.items():
            if share > before.weights.get(variant, 0) and variant in after.program.checked:
                assert variant in after.healthy


@settings(max_examples=200, deadline=None)
@given(PROGRAM, st.lists(MOMENT, max_size=30))
def test_replaying_the_stored_events_gives_the_same_state(
    program: Program, moments: list[tuple[float, Event]]
) -> None:
    history = run(program, moments)
    state: State | None = None
    for _, event, now in history:
        state, _ = step(state, event_from_json(event_to_json(event)), now)
    assert state == history[-1][0]
    assert state_from_json(state_to_json(history[-1][0])) == history[-1][0]


@settings(max_examples=200, deadline=None)
@given(PROGRAM, st.lists(MOMENT, max_size=20))
def test_every_active_rollout_can_become_healthy(
    program: Program, moments: list[tuple[float, Event]]
) -> None:
    state, _, now = run(program, moments)[-1]
    if state.phase not in ACTIVE_PHASES:
        return
    for round_ in range(60):
        now += 10_000
        for backend in state.program.checked:
            state, _ = step(state, Health(backend=backend, healthy=1, total=1), now)
        state, _ = step(state, Evidence(pairs=100 * round_), now)
        state, _ = step(state, Verdict(finding=Finding.PASS, detail="d"), now)
        state, _ = step(state, Converged(revision=state.revision, acked=1, connected=1), now)
        state, _ = step(state, Tick(synced=True), now)
        if state.phase is Phase.HEALTHY:
            return
        if state.phase is Phase.PAUSED or state.ends_at is None:
            try:
                command = Action.RESUME if state.resumes else Action.PROMOTE
                state, _ = step(state, Command(command=command, actor="a", reason=""), now)
            except CommandNotAllowedError:
                continue
    assert state.phase is Phase.HEALTHY, state


def test_stored_states_and_events_keep_their_json_keys() -> None:
    state, _ = step(None, SpecAccepted(route="r", program=_PROGRAM, digest="d", actor="a"), 0.0)
    stored = json.loads(state_to_json(replace(state, equivalence="Different")))
    assert stored["likeness"] == "Different"
    assert (stored["program"]["judged"], stored["program"]["patience"]) == (True, 30.0)
    assert state_from_json(json.dumps(stored)).program == _PROGRAM
    event = Evidence(pairs=5, equivalence="Equivalent")
    assert json.loads(event_to_json(event))["likeness"] == "Equivalent"
    assert event_from_json(event_to_json(event)) == event


@settings(max_examples=300, deadline=None)
@given(PROGRAM, st.lists(MOMENT, max_size=30))
def test_a_timed_step_that_requires_a_verdict_does_not_end_by_time_alone(
    program: Program, moments: list[tuple[float, Event]]
) -> None:
    for (before, _, _), (after, event, now) in pairwise(run(program, moments)):
        timed = isinstance(before.current, Pause | Bake) and before.ends_at is not None
        went_on = isinstance(event, Tick) and (
            after.step > before.step or after.outcome is not before.outcome
        )
        if not (went_on and timed and before.program.requires_verdict and before.weight):
            continue
        late = now >= (before.ends_at or 0) + before.program.verdict_timeout
        match before.program.on_inconclusive:
            case OnInconclusive.HOLD:
                assert before.finding is Finding.PASS
            case OnInconclusive.PROMOTE:
                assert before.finding is Finding.PASS or late
            case OnInconclusive.ROLLBACK:
                assert before.finding is Finding.PASS or (late and after.phase is Phase.ROLLING_BACK)
