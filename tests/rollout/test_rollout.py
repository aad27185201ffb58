"""Rollouts played step by step; the clock is a number."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from xds_server.rollout import (
    LIVE,
    Action,
    Analysis,
    Bake,
    Command,
    Converged,
    Effect,
    Event,
    Evidence,
    Experiment,
    Finding,
    Health,
    NotConverged,
    Outcome,
    Pause,
    Phase,
    Program,
    Publish,
    Record,
    Refused,
    SetWeight,
    Shadow,
    SpecAccepted,
    Spent,
    Spread,
    State,
    Step,
    Tick,
    Verdict,
    next_deadline,
    shares,
    step,
)

CANARY: tuple[Step, ...] = (
    SetWeight(weight=500),
    Pause(duration=60.0),
    SetWeight(weight=2_500),
    Pause(duration=None),
    SetWeight(weight=10_000),
    Bake(duration=30.0),
)


def program(*steps: Step, stable: str = "v1", candidate: str | None = "v2", **more: Any) -> Program:
    return Program(
        stable=stable,
        candidate=candidate,
        steps=steps,
        convergence_timeout=10.0,
        progress_deadline=100.0,
        **more,
    )


@dataclass
class Player:
    now: float = 1_000.0
    current: State | None = None
    said: list[Effect] = field(default_factory=list)

    @property
    def state(self) -> State:
        assert self.current is not None
        return self.current

    def tell(self, event: Event) -> tuple[Effect, ...]:
        self.current, effects = step(self.current, event, self.now)
        self.said.extend(effects)
        return effects

    def spec(self, what: Program, digest: str = "d1") -> tuple[Effect, ...]:
        return self.tell(SpecAccepted(route="chat", program=what, digest=digest, actor="test"))

    def converge(self, acked: int = 2) -> tuple[Effect, ...]:
        return self.tell(Converged(revision=self.state.revision, acked=acked, connected=2))

    def command(self, kind: Action, reason: str = "why") -> tuple[Effect, ...]:
        return self.tell(Command(command=kind, actor="test", reason=reason))

    def wait(self, seconds: float, *, synced: bool = True) -> tuple[Effect, ...]:
        self.now += seconds
        return self.tell(Tick(synced=synced))

    def stands(self, phase: Phase, weight: int, mirror: int = 0) -> None:
        assert (self.state.phase, self.state.weight, self.state.mirror) == (phase, weight, mirror)


def playing(*steps: Step) -> Player:
    player = Player()
    player.spec(program(*(steps or CANARY)))
    return player


def at(phase: Phase) -> Player:
    """A rollout in the given live phase."""
    player = playing(Shadow(percentage=2_000, duration=None)) if phase is Phase.SHADOWING else playing()
    if phase is Phase.PENDING:
        return player
    player.converge()
    if phase in {Phase.SHADOWING, Phase.PROGRESSING}:
        return player
    if phase is Phase.DEGRADED:
        player.now += 200
        player.tell(NotConverged(revision=player.state.revision, refused=False, detail="waiting for b"))
        return player
    if phase is Phase.PAUSED:
        player.command(Action.PAUSE)
        return player
    player.converge()
    player.wait(61)
    player.converge()
    player.command(Action.PROMOTE)
    player.converge()
    return player


def test_a_canary_from_its_spec_to_healthy() -> None:
    player = Player()
    assert Publish() in player.spec(program(*CANARY))
    player.stands(Phase.PENDING, 0)
    assert Publish() in player.converge()
    player.stands(Phase.PROGRESSING, 500)
    player.converge()
    assert (player.state.step, player.state.ends_at) == (1, 1_060.0)
    player.wait(59)
    assert player.state.step == 1
    assert Publish() in player.wait(1)
    player.stands(Phase.PROGRESSING, 2_500)
    player.converge()
    player.stands(Phase.PAUSED, 2_500)
    assert next_deadline(player.state) is None
    player.wait(1_000_000)
    player.stands(Phase.PAUSED, 2_500)
    player.command(Action.PROMOTE)
    player.stands(Phase.PROGRESSING, 10_000)
    player.converge()
    player.stands(Phase.BAKING, 10_000)
    player.wait(30)
    player.stands(Phase.HEALTHY, 10_000)
    assert player.state.outcome is Outcome.PROMOTED


def test_without_steps_it_is_healthy_once_held() -> None:
    player = Player()
    player.spec(program(candidate=None))
    player.stands(Phase.PENDING, 0)
    player.converge()
    player.stands(Phase.HEALTHY, 0)
    assert player.state.outcome is None


def test_an_older_revision_counts_for_nothing() -> None:
    player = playing()
    player.converge()
    before = player.state
    assert player.tell(Converged(revision=before.revision - 1, acked=2, connected=2)) == ()
    assert player.state == before


def test_a_late_tick_moves_one_gate() -> None:
    player = playing(SetWeight(weight=1), Pause(duration=1.0), Pause(duration=1.0), SetWeight(weight=2))
    player.converge()
    player.converge()
    player.wait(10_000)
    assert player.state.step == 2
    assert player.state.ends_at == player.now + 1.0


def test_no_step_ends_while_proxies_are_away() -> None:
    player = playing()
    player.converge()
    player.converge()
    player.wait(10_000, synced=False)
    assert player.state.step == 1
    player.wait(0)
    player.stands(Phase.PROGRESSING, 2_500)


def test_a_shadow_copies_and_ends() -> None:
    player = playing(Shadow(percentage=2_000, duration=60.0))
    player.stands(Phase.PENDING, 0, 0)
    player.converge()
    player.stands(Phase.SHADOWING, 0, 2_000)
    assert player.state.ends_at is None, "the clock starts when proxies copy"
    player.now += 5
    player.converge()
    assert player.state.ends_at == player.now + 60
    assert Publish() in player.wait(60)
    player.stands(Phase.HEALTHY, 0, 0)
    assert player.state.outcome is Outcome.COMPLETED


def test_a_shadow_without_end_waits_for_promote() -> None:
    player = at(Phase.SHADOWING)
    with pytest.raises(Refused, match="do not hold"):
        player.command(Action.PROMOTE)
    player.converge()
    player.wait(1_000_000)
    player.stands(Phase.SHADOWING, 0, 2_000)
    player.command(Action.PROMOTE)
    player.stands(Phase.HEALTHY, 0, 0)


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase in LIVE], ids=lambda p: p.name)
def test_abort_takes_everything_back_from_every_live_phase(phase: Phase) -> None:
    player = at(phase)
    assert player.state.phase is phase
    player.now += 1
    assert player.command(Action.ABORT)[-1] == Publish()
    player.stands(Phase.ROLLING_BACK, 0, 0)
    assert player.state.outcome is Outcome.ABORTED
    player.now += 0.25
    player.converge()
    player.stands(Phase.ROLLED_BACK, 0, 0)
    assert player.state.message == "rolled back: 2 of 2 proxies, 250 ms"


def test_a_promoted_rollout_can_still_be_taken_back() -> None:
    player = at(Phase.BAKING)
    player.wait(30)
    player.stands(Phase.HEALTHY, 10_000)
    player.command(Action.ABORT)
    player.stands(Phase.ROLLING_BACK, 0)


def test_pause_keeps_what_the_clock_had_left() -> None:
    player = playing()
    player.converge()
    player.converge()
    player.wait(20)
    player.command(Action.PAUSE)
    player.stands(Phase.PAUSED, 500)
    player.wait(10_000)
    player.stands(Phase.PAUSED, 500)
    player.command(Action.RESUME)
    assert player.state.phase is Phase.PROGRESSING
    assert player.state.ends_at == player.now + 40
    assert player.state.step_began_at == player.now - 20
    player.wait(39.9)
    assert player.state.step == 1
    player.wait(0.1)
    assert player.state.step == 2


def test_a_step_held_while_paused_goes_on_at_resume() -> None:
    player = playing()
    player.converge()
    player.command(Action.PAUSE)
    player.converge()
    player.stands(Phase.PAUSED, 500)
    player.command(Action.RESUME)
    player.wait(0)
    assert player.state.step == 1


def test_paused_before_it_began() -> None:
    player = playing(Shadow(percentage=100, duration=60.0))
    player.command(Action.PAUSE)
    player.converge()
    player.stands(Phase.PAUSED, 0, 0)
    player.command(Action.RESUME)
    player.wait(0)
    player.stands(Phase.SHADOWING, 0, 100)


def test_a_shadow_paused_before_it_was_held_runs_its_whole_time() -> None:
    player = playing(Shadow(percentage=100, duration=60.0))
    player.converge()
    player.command(Action.PAUSE)
    player.converge()
    player.wait(1_000)
    player.command(Action.RESUME)
    assert player.state.ends_at == player.now + 60


def test_promote_never_skips_the_gate() -> None:
    player = playing()
    for _ in range(2):
        with pytest.raises(Refused, match="do not hold the current step yet"):
            player.command(Action.PROMOTE)
        player.converge()
    player.command(Action.PROMOTE)
    player.stands(Phase.PROGRESSING, 2_500)


def test_promote_full_goes_to_the_last_weight() -> None:
    player = playing()
    player.converge()
    player.converge()
    player.command(Action.PROMOTE_FULL)
    player.stands(Phase.PROGRESSING, 10_000)
    player.converge()
    player.stands(Phase.BAKING, 10_000)
    player.command(Action.PROMOTE_FULL)
    player.stands(Phase.HEALTHY, 10_000)


@pytest.mark.parametrize(
    ("phase", "kind"),
    [
        (Phase.PAUSED, Action.PAUSE),
        (Phase.PROGRESSING, Action.RESUME),
        (Phase.SHADOWING, Action.RESUME),
        (Phase.BAKING, Action.RESUME),
    ],
)
def test_what_is_true_already_changes_nothing(phase: Phase, kind: Action) -> None:
    player = at(phase)
    before = player.state
    assert player.command(kind) == ()
    assert player.state == before


def test_commands_after_the_end() -> None:
    player = at(Phase.PROGRESSING)
    player.command(Action.ABORT)
    rolling = player.state
    assert player.command(Action.ABORT) == ()
    assert player.state == rolling
    player.converge()
    assert player.command(Action.ABORT) == ()
    for kind in (Action.PROMOTE, Action.PROMOTE_FULL, Action.PAUSE, Action.RESUME):
        with pytest.raises(Refused, match="apply a spec"):
            player.command(kind)


def test_who_is_missing_is_said_once_and_then_it_is_degraded() -> None:
    player = playing()
    player.converge()
    missing = NotConverged(revision=player.state.revision, refused=False, detail="waiting for b")
    player.now += 5
    assert player.tell(missing) == ()
    player.now += 6
    assert [type(e) for e in player.tell(missing)] == [Record]
    assert "waiting for b" in player.state.message
    assert player.tell(missing) == ()
    player.now += 100
    player.tell(missing)
    player.stands(Phase.DEGRADED, 500)
    player.converge()
    assert (player.state.phase, player.state.step) == (Phase.PROGRESSING, 1)


def test_a_refusal_is_said_at_once_in_the_proxys_words() -> None:
    player = playing()
    refused = NotConverged(revision=player.state.revision, refused=True, detail="b refused Cluster: no")
    player.tell(refused)
    assert player.state.message == "a proxy refused it: b refused Cluster: no"
    assert player.tell(refused) == ()
    player.stands(Phase.PENDING, 0)


def test_a_proxy_that_reconnects_disturbs_nothing() -> None:
    player = playing()
    player.converge()
    player.converge()
    before = player.state
    player.now += 50
    assert player.tell(NotConverged(revision=before.revision, refused=False, detail="waiting for b")) == ()
    assert player.state == before


def test_the_same_spec_changes_nothing() -> None:
    player = at(Phase.PROGRESSING)
    before = player.state
    assert player.spec(program(*CANARY)) == ()
    assert player.state == before


def test_other_endpoints_do_not_begin_it_anew() -> None:
    player = playing()
    player.converge()
    player.converge()
    before = player.state
    assert Publish() in player.spec(program(*CANARY), digest="d2")
    assert (player.state.step, player.state.ends_at) == (before.step, before.ends_at)
    assert player.state.revision == before.revision + 1
    assert player.state.generation == before.generation + 1
    player.wait(60, synced=False)
    assert player.state.step == 1
    player.wait(0)
    assert player.state.step == 2


def test_another_program_keeps_the_weight_until_its_first_step() -> None:
    player = at(Phase.BAKING)
    effects = player.spec(program(SetWeight(weight=100), Pause(duration=None)), digest="d2")
    assert "superseded" in [effect.what for effect in effects if isinstance(effect, Record)]
    player.stands(Phase.PENDING, 10_000)
    player.converge()
    player.stands(Phase.PROGRESSING, 100)


def test_writing_a_promotion_down_moves_nobody() -> None:
    player = at(Phase.BAKING)
    player.wait(30)
    effects = player.spec(program(stable="v2", candidate=None), digest="d2")
    assert "superseded" not in [effect.what for effect in effects if isinstance(effect, Record)]
    player.stands(Phase.PENDING, 0)
    assert player.state.program.stable == "v2"


def test_from_shadow_to_canary() -> None:
    player = at(Phase.SHADOWING)
    player.converge()
    player.spec(program(*CANARY), digest="d2")
    player.stands(Phase.PENDING, 0, 0)


def test_another_candidate_begins_at_nothing() -> None:
    player = at(Phase.BAKING)
    player.spec(program(*CANARY, candidate="v3"), digest="d2")
    player.stands(Phase.PENDING, 0)


def test_nothing_comes_before_a_spec() -> None:
    with pytest.raises(ValueError, match="begins with a spec"):
        step(None, Tick(synced=True), 0.0)


# Kill


def test_a_kill_covers_whatever_runs_and_gives_it_back() -> None:
    player = playing()
    player.converge()
    player.converge()
    player.wait(20)
    assert player.command(Action.KILL, "v2 answers nonsense")[-1] == Publish()
    player.stands(Phase.KILLED, 500)
    kill = player.state.kill
    assert kill is not None
    assert (kill.serve, kill.actor, kill.reason) == ("v1", "test", "v2 answers nonsense")
    player.now += 0.04
    player.converge()
    assert player.state.message == "killed: 2 of 2 proxies, 40 ms"
    player.wait(100_000)
    player.stands(Phase.KILLED, 500)
    assert player.command(Action.KILL, "again") == ()
    for kind in (Action.PROMOTE, Action.PAUSE, Action.RESUME, Action.RETRY):
        with pytest.raises(Refused, match="killed by test: v2 answers nonsense"):
            player.command(kind)
    player.command(Action.UNKILL)
    player.stands(Phase.PROGRESSING, 500)
    assert player.state.ends_at == player.now + 40
    player.converge()
    player.wait(40)
    player.stands(Phase.PROGRESSING, 2_500)


def test_a_kill_needs_a_reason_and_an_unkill_a_kill() -> None:
    player = playing()
    with pytest.raises(Refused, match="needs a reason"):
        player.command(Action.KILL, " ")
    with pytest.raises(Refused, match="not killed"):
        player.command(Action.UNKILL)


def test_a_kill_by_the_spec_ends_with_the_spec() -> None:
    player = at(Phase.PROGRESSING)
    player.spec(program(*CANARY, killed="bad", serve="v1"), digest="d2")
    player.stands(Phase.KILLED, 500)
    with pytest.raises(Refused, match="killSwitch"):
        player.command(Action.UNKILL)
    player.spec(program(*CANARY), digest="d3")
    player.stands(Phase.PROGRESSING, 500)


def test_a_kill_by_an_operator_outlives_a_spec() -> None:
    player = at(Phase.PROGRESSING)
    player.command(Action.KILL)
    player.spec(program(SetWeight(weight=100)), digest="d2")
    player.stands(Phase.KILLED, 500)
    player.command(Action.UNKILL)
    player.stands(Phase.PENDING, 500)


def test_a_rollout_can_be_taken_back_behind_a_kill() -> None:
    player = at(Phase.PROGRESSING)
    player.command(Action.KILL)
    player.command(Action.ABORT)
    player.stands(Phase.KILLED, 0)
    player.command(Action.UNKILL)
    player.stands(Phase.ROLLING_BACK, 0)


# Undo and retry


def test_undo_takes_a_promotion_back_and_retry_begins_anew() -> None:
    player = at(Phase.BAKING)
    player.wait(30)
    with pytest.raises(Refused, match="undo takes it back"):
        player.command(Action.RETRY)
    assert player.command(Action.UNDO)[-1] == Publish()
    player.stands(Phase.ROLLING_BACK, 0)
    assert player.state.outcome is Outcome.UNDONE
    player.converge()
    with pytest.raises(Refused, match="nothing to undo"):
        player.command(Action.UNDO)
    player.command(Action.RETRY)
    player.stands(Phase.PENDING, 0)
    player.converge()
    player.stands(Phase.PROGRESSING, 500)
    with pytest.raises(Refused, match="has not ended"):
        player.command(Action.RETRY)


def test_what_is_kept_warm_is_kept_until() -> None:
    player = Player()
    player.spec(program(Pause(duration=None), SetWeight(weight=10_000), keep_warm=72 * 3600.0))
    player.converge()
    player.command(Action.PROMOTE)
    player.stands(Phase.PROGRESSING, 10_000)
    player.converge()
    player.stands(Phase.HEALTHY, 10_000)
    assert player.state.warm_until == player.now + 72 * 3600
    player.command(Action.UNDO)
    player.stands(Phase.ROLLING_BACK, 0)


# Health


def checked(*steps: Step, **more: Any) -> Player:
    player = Player()
    player.spec(program(*(steps or CANARY), checked=("v2",), **more))
    return player


def health(player: Player, healthy: int, total: int = 2) -> tuple[Effect, ...]:
    return player.tell(Health(backend="v2", healthy=healthy, total=total, detail="refused"))


def test_nobody_is_sent_to_a_candidate_before_it_was_seen_alive() -> None:
    player = checked()
    player.converge()
    player.stands(Phase.PENDING, 0)
    assert "not seen alive" in player.state.message
    player.wait(10)
    player.stands(Phase.PENDING, 0)
    with pytest.raises(Refused, match="not seen alive"):
        player.command(Action.PROMOTE)
    assert health(player, 1) == ()
    player.wait(1)
    player.stands(Phase.PROGRESSING, 500)


@pytest.mark.parametrize("done", [1, 3, 6])
def test_a_candidate_that_dies_is_taken_back_at_any_weight(done: int) -> None:
    player = checked()
    health(player, 2)
    for _ in range(done):
        player.converge()
        player.wait(60)
        if player.state.phase is Phase.PAUSED:
            player.command(Action.PROMOTE)
    assert player.state.weight > 0
    assert health(player, 1) == (), "one of two is enough"
    assert health(player, 0)[-1] == Publish()
    player.stands(Phase.ROLLING_BACK, 0)
    player.converge()
    player.stands(Phase.ROLLED_BACK, 0)
    assert player.state.outcome is Outcome.ROLLED_BACK
    assert "v2 lost its last living endpoint" in player.state.message
    health(player, 2)
    player.stands(Phase.ROLLED_BACK, 0)
    player.command(Action.RETRY)
    player.converge()
    player.stands(Phase.PROGRESSING, 500)


def test_a_step_waits_for_a_candidate_that_is_away() -> None:
    player = checked(SetWeight(weight=0), Pause(duration=5.0), SetWeight(weight=100))
    player.converge()
    player.converge()
    health(player, 0)
    player.wait(5)
    assert (player.state.step, player.state.message[:2]) == (1, "v2")
    health(player, 1)
    player.wait(0)
    player.stands(Phase.PROGRESSING, 100)


def test_what_is_not_asked_for_is_no_news() -> None:
    player = playing()
    before = player.state
    assert health(player, 0) == ()
    assert player.state == before


# Evidence, budget, verdicts, experiments


def test_a_shadow_leads_into_a_canary_when_it_has_its_pairs() -> None:
    player = playing(Shadow(percentage=2_000, duration=60.0, min_pairs=50), SetWeight(weight=500))
    player.converge()
    player.converge()
    player.wait(60)
    player.stands(Phase.SHADOWING, 0, 2_000)
    player.tell(Evidence(pairs=900))
    assert player.tell(Evidence(pairs=949)) == (), "what was there before does not count"
    player.tell(Evidence(pairs=950))
    assert Publish() in player.wait(0)
    player.stands(Phase.PROGRESSING, 500, 0)


def test_copies_stay_within_their_budget() -> None:
    player = playing(Shadow(percentage=5_000, duration=None, tokens_per_second=100))
    player.converge()
    player.converge()
    assert player.tell(Spent(tokens_per_second=90.0)) == ()
    assert Publish() in player.tell(Spent(tokens_per_second=400.0))
    player.stands(Phase.SHADOWING, 0, 1_125)
    player.now += 10
    assert player.tell(Spent(tokens_per_second=390.0)) == (), "what is measured is older than the change"
    player.now += 30
    player.tell(Spent(tokens_per_second=10.0))
    player.stands(Phase.SHADOWING, 0, 1_687)
    for _ in range(10):
        player.now += 30
        player.tell(Spent(tokens_per_second=0.0))
    player.stands(Phase.SHADOWING, 0, 5_000)


@pytest.mark.parametrize("finding", Finding)
def test_only_a_good_verdict_leads_on(finding: Finding) -> None:
    player = playing(SetWeight(weight=500), Analysis(name="success-rate"), SetWeight(weight=10_000))
    player.converge()
    player.converge()
    player.tell(Verdict(finding=finding, detail="0.99 against 0.98"))
    if finding is Finding.PASS:
        player.stands(Phase.PROGRESSING, 10_000)
    elif finding is Finding.FAIL:
        player.stands(Phase.ROLLING_BACK, 0)
        assert player.state.outcome is Outcome.ROLLED_BACK
    else:
        player.stands(Phase.PROGRESSING, 500)
        assert player.state.message == f"{finding.value}: 0.99 against 0.98"
        player.command(Action.PROMOTE)
        player.stands(Phase.PROGRESSING, 10_000)


def test_a_rollback_is_armed_while_it_waits_for_an_operator() -> None:
    player = playing(SetWeight(weight=500), Pause(duration=None))
    player.converge()
    player.converge()
    player.tell(Verdict(finding=Finding.FAIL, detail="5xx"))
    player.stands(Phase.ROLLING_BACK, 0)


@pytest.mark.parametrize("back", [True, False])
def test_an_experiment_splits_and_ends(back: bool) -> None:
    test = Experiment(weights=(("v2", 3_000), ("v3", 2_000)), duration=60.0, back=back)
    player = Player()
    player.spec(program(test, candidate=None))
    player.converge()
    assert player.state.weights == {"v2": 3_000, "v3": 2_000}
    player.converge()
    player.wait(60)
    assert player.state.phase is Phase.HEALTHY
    assert player.state.outcome is Outcome.COMPLETED
    assert player.state.weight == (0 if back else 5_000)


def test_the_shares_of_a_rule_change_without_touching_the_rollout() -> None:
    def with_rule(share: int) -> Program:
        return program(*CANARY, spreads=(Spread(name="rule/eu", base="v1", weights=(("v2", share),)),))

    player = Player()
    player.spec(with_rule(2_000))
    player.converge()
    before = player.state
    player.spec(with_rule(3_000), digest="d2")
    assert (player.state.phase, player.state.step) == (before.phase, before.step)
    assert shares(player.state.segments("rule/eu")) == {"v2": 3_000, "v1": 7_000}


def shadowed(required: str) -> Player:
    step = Shadow(percentage=2000, duration=None, min_pairs=50, required=required)  # type: ignore[arg-type]
    player = playing(step, SetWeight(weight=500))
    player.converge()
    player.converge()
    player.tell(Evidence(pairs=0))
    return player


def test_a_shadow_leads_on_only_when_its_answers_are_alike() -> None:
    player = shadowed("Equivalent")
    player.tell(Evidence(pairs=80, likeness="Inconclusive", detail="not enough"))
    assert (player.state.proven, player.state.likeness) == (False, "Inconclusive")
    player.tell(Evidence(pairs=90, likeness="Equivalent", detail="alike"))
    assert player.state.proven


def test_without_proof_to_the_contrary_pairs_are_enough_where_that_is_asked_for() -> None:
    player = shadowed("NotDifferent")
    player.tell(Evidence(pairs=80, likeness="Inconclusive"))
    assert player.state.proven


@pytest.mark.parametrize("required", ["NotDifferent", "Equivalent"])
def test_what_was_proven_to_differ_stays_so(required: str) -> None:
    player = shadowed(required)
    (said,) = player.tell(Evidence(pairs=40, likeness="Different", detail="its texts differ"))
    assert isinstance(said, Record)
    assert (said.what, said.message) == ("likeness", "Different: its texts differ")
    assert player.tell(Evidence(pairs=80, likeness="Equivalent")) == ()
    assert (player.state.proven, player.state.likeness) == (False, "Different")
