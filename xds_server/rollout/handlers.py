"""Handlers for observed events: convergence, time, health, evidence, verdicts and alarms (pure).

`transitions.TABLE` decides which handler runs for which phase and event. Three handlers can roll a rollout
back: `update_backend_health` (the candidate has no healthy endpoint), `apply_verdict` (the analysis found a
regression) and `apply_alarm` (an external alarm requests it). `advance_on_tick` does so only if
`onInconclusive: Rollback` is set and a required verdict never arrived.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, assert_never

from xds_server.rollout.events import (
    Alarm,
    Converged,
    Evidence,
    Health,
    NotConverged,
    Publish,
    Record,
    ShadowTokenRate,
    Tick,
    Verdict,
)
from xds_server.rollout.failures import MAX_MESSAGE, apply_fail
from xds_server.rollout.slots import FULL
from xds_server.rollout.state import (
    Analysis,
    Bake,
    Experiment,
    Finding,
    OnInconclusive,
    Outcome,
    Pause,
    Phase,
    SetWeight,
    Shadow,
    State,
)
from xds_server.rollout.step_entry import (
    Result,
    blocking_reason,
    bump_revision,
    enter,
    format_percent,
    roll_back,
    start_timer,
)

__all__ = [
    "adjust_to_token_budget",
    "advance_on_convergence",
    "advance_on_tick",
    "apply_alarm",
    "apply_verdict",
    "confirm_kill",
    "degrade_or_wait",
    "enter_first_step",
    "finish_rollback",
    "ignore",
    "mark_converged",
    "record_convergence",
    "retry_first_step",
    "update_backend_health",
    "update_shadow_evidence",
]

_EQUIVALENT: Final = "Equivalent"
_DIFFERENT: Final = "Different"
# Adjustments aim below the token budget, and the mirrored share rises only while usage is well below it.
_BUDGET_TARGET: Final = 0.9
_RAISE_BELOW: Final = 0.7
_MAX_RAISE: Final = 1.5
"""Largest factor by which one adjustment raises the mirrored share."""
_SETTLE_SECONDS: Final = 30.0
"""Time between two adjustments, so that the measured rate reflects the previous one."""


def ignore(state: State, _event: object, _now: float) -> Result:
    """Keep the state: the event has no effect in this phase."""
    return state, ()


def enter_first_step(state: State, _event: Converged, now: float) -> Result:
    """Enter the first step once the proxies have the new clusters."""
    return _enter_if_healthy(replace(state, converged=True, resumes=None), 0, now)


def retry_first_step(state: State, event: Tick, now: float) -> Result:
    """Enter the first step on a tick if an unhealthy candidate blocked it when the proxies converged."""
    return _enter_if_healthy(state, 0, now) if state.converged and event.synced else (state, ())


def advance_on_convergence(state: State, event: Converged, now: float) -> Result:
    """Handle convergence on the current step: advance after a weight, start the timer of other steps."""
    if state.converged:
        return state, ()
    match state.current:
        case SetWeight(weight=weight):
            synced = f"weight {format_percent(weight)}: {event.acked} of {event.connected} proxies synced"
            after, effects = _enter_if_healthy(replace(state, converged=True), state.step + 1, now)
            return after, (Record(what="step_held", message=synced), *effects)
        case Shadow() | Experiment() | Pause() | Bake() | Analysis() | None:
            return _start_step_timer(state, now), ()
        case other:
            assert_never(other)


def record_convergence(state: State, _event: Converged, now: float) -> Result:
    """Record convergence while an operator has paused the rollout, without advancing it."""
    if state.converged:
        return state, ()
    after = _start_step_timer(state, now)
    if after.ends_at is None:
        return after, ()
    return replace(after, ends_at=None, left=after.ends_at - now), ()


def mark_converged(state: State, _event: Converged, _now: float) -> Result:
    """Record that the proxies are synced with a rollout that has ended."""
    return replace(state, converged=True, message=state.message if state.converged else ""), ()


def finish_rollback(state: State, event: Converged, now: float) -> Result:
    """Complete the rollback once the proxies are synced, and record how long it took."""
    summary = _convergence_summary(state, event, now)
    cause = "" if state.outcome is not Outcome.ROLLED_BACK else f"; {state.message}"
    after = replace(state, phase=Phase.ROLLED_BACK, converged=True, message=f"rolled back: {summary}{cause}")
    return after, (Record(what="rolled_back", message=summary),)


def confirm_kill(state: State, event: Converged, now: float) -> Result:
    """Record that the proxies apply the kill, and how long it took."""
    if state.converged:
        return state, ()
    summary = _convergence_summary(state, event, now)
    after = replace(state, converged=True, message=f"killed: {summary}")
    return after, (Record(what="kill_held", message=summary),)


def degrade_or_wait(state: State, event: NotConverged, now: float) -> Result:
    """Report which proxies are not synced; degrade the rollout once `progressDeadline` has passed.

    A rejected update is reported at once, proxies that are not synced only after `convergence.timeout`.
    """
    waited = now - state.published_at
    if state.converged and not event.refused:
        return state, ()
    if not event.refused and waited < state.program.convergence_timeout:
        return state, ()
    problem = "a proxy rejected the configuration" if event.refused else "too few proxies are synced"
    message = f"{problem}: {event.detail[:MAX_MESSAGE]}"
    overdue = waited >= state.program.progress_deadline and not state.converged
    may_degrade = state.phase in {Phase.PENDING, Phase.SHADOWING, Phase.PROGRESSING}
    if overdue and may_degrade:
        after = replace(state, phase=Phase.DEGRADED, resumes=state.phase, message=message)
        return after, (Record(what="degraded", message=f"progressDeadline has passed; {message}"),)
    if message == state.message:
        return state, ()
    return replace(state, message=message), (Record(what="not_held", message=message),)


def advance_on_tick(state: State, event: Tick, now: float) -> Result:
    """End the current step if its time and required pairs are complete and the proxies are synced now."""
    if not event.synced or not state.converged:
        return state, ()
    over = state.ends_at is not None and now >= state.ends_at
    match state.current:
        case SetWeight():
            # The weight converged during a pause, or while an unhealthy variant blocked the next step.
            return _enter_if_healthy(state, state.step + 1, now)
        case Shadow(duration=duration, min_pairs=least):
            done = over if duration is not None else least is not None
            done = done and (least is None or state.proven)
        case Pause() | Bake() | Experiment():
            done = over
        case Analysis() | None:
            done = False
        case other:
            assert_never(other)
    if not done:
        return state, ()
    if _needs_verdict(state):
        return _handle_missing_verdict(state, now)
    return _enter_if_healthy(state, state.step + 1, now)


def _needs_verdict(state: State) -> bool:
    """Return whether the step still requires a Pass: it is timed, and a candidate with users is analyzed.

    At 100 % the stable backend has no users to compare the candidate's with. There, the Pass of the former
    weight is enough as long as the candidate's requests are counted and no gross fault was found.
    """
    timed = isinstance(state.current, Pause | Bake)
    passed = state.finding is Finding.PASS or (state.lapsed and state.weight == FULL)
    return timed and state.program.requires_verdict and state.weight > 0 and not passed


def _handle_missing_verdict(state: State, now: float) -> Result:
    """Extend a finished step until a verdict arrives; after `waitForVerdict` apply `onInconclusive`."""
    verdict = (
        "there is no verdict yet"
        if state.finding is None
        else f"the verdict is {state.finding.value}, not Pass"
    )
    message = f"the step's duration has elapsed, but {verdict}"
    if state.ends_at is not None and now < state.ends_at + state.program.verdict_timeout:
        if state.message.startswith(message):
            return state, ()
        return replace(state, message=message), (Record(what="extended", message=message),)
    match state.program.on_inconclusive:
        case OnInconclusive.PROMOTE:
            after, effects = _enter_if_healthy(state, state.step + 1, now)
            return after, (Record(what="went_on", message=f"{message}; onInconclusive is Promote"), *effects)
        case OnInconclusive.ROLLBACK:
            record = Record(what="undecided", message=f"{message}; onInconclusive is Rollback")
            return roll_back(state, Outcome.ROLLED_BACK, record, now)
        case OnInconclusive.HOLD:
            message += "; onInconclusive is Hold: promote or abort"
            if message == state.message:
                return state, ()
            return replace(state, message=message), (Record(what="held", message=message),)
        case other:
            assert_never(other)


def update_backend_health(state: State, event: Health, now: float) -> Result:
    """Record which backends are healthy; roll back a candidate that has no healthy endpoint left.

    Targeting rules that serve an unhealthy backend are published anew, so that they serve the stable one
    instead.
    """
    backend, is_healthy = event.backend, event.healthy > 0
    if backend not in state.program.checked or backend in (state.healthy if is_healthy else state.dead):
        return state, ()
    after = replace(
        state,
        healthy=_set_membership(state.healthy, backend, member=is_healthy),
        dead=_set_membership(state.dead, backend, member=not is_healthy),
    )
    count = f"{event.healthy} of {event.total} endpoints are healthy"
    if is_healthy:
        if backend not in state.dead:
            return after, ()
        recovered = Record(what="alive", message=f"{backend}: {count}")
        return bump_revision(after, now, converged=state.converged), (recovered, Publish())
    detail = f" ({event.detail})" if event.detail else ""
    message = f"{backend} has no healthy endpoint: {count}{detail}"[:MAX_MESSAGE]
    if state.weights.get(backend, 0) and state.phase is not Phase.ROLLING_BACK:
        return roll_back(after, Outcome.ROLLED_BACK, Record(what="candidate_died", message=message), now)
    after = bump_revision(after, now, converged=state.converged)
    return after, (Record(what="dead", message=message), Publish())


def update_shadow_evidence(state: State, event: Evidence, _now: float) -> Result:
    """Count the pairs compared since the shadow began; record when they meet the step's requirement."""
    step = state.current
    if not isinstance(step, Shadow):
        return state, ()
    state, records = _update_equivalence(state, event)
    if step.min_pairs is None or state.proven:
        return state, records
    if state.pairs_before is None or event.pairs < state.pairs_before:
        return replace(state, pairs_before=event.pairs), records
    compared = event.pairs - state.pairs_before
    if event.blind or compared < step.min_pairs or not _meets_requirement(step, state.equivalence):
        return state, records
    verdict = f"; verdict: {state.equivalence}" if state.equivalence else ""
    message = f"{compared} pairs compared, {step.min_pairs} required{verdict}"
    return replace(state, proven=True), (*records, Record(what="evidence", message=message))


def _update_equivalence(state: State, event: Evidence) -> Result:
    """Store a new equivalence verdict; Different is final until another shadow begins."""
    if not event.equivalence or state.equivalence in {event.equivalence, _DIFFERENT}:
        return state, ()
    message = f"{event.equivalence}: {event.detail}"[:MAX_MESSAGE]
    return replace(state, equivalence=event.equivalence), (Record(what="likeness", message=message),)


def _meets_requirement(step: Shadow, equivalence: str) -> bool:
    return equivalence == step.required if step.required == _EQUIVALENT else equivalence != _DIFFERENT


def adjust_to_token_budget(state: State, event: ShadowTokenRate, now: float) -> Result:
    """Mirror fewer requests if copies cost more than `maxTokensPerSecond`, more if they cost far less."""
    step = state.current
    if not isinstance(step, Shadow) or step.tokens_per_second is None or not state.mirror:
        return state, ()
    if state.budgeted_at is not None and now < state.budgeted_at + _SETTLE_SECONDS:
        return state, ()  # The measured rate does not reflect the last change yet.
    rate, budget = event.tokens_per_second, step.tokens_per_second
    if rate > budget:
        share = max(1, int(state.mirror * _BUDGET_TARGET * budget / rate))
    elif rate < _RAISE_BELOW * budget and state.mirror < step.percentage:
        room = _MAX_RAISE if rate <= 0 else min(_MAX_RAISE, _BUDGET_TARGET * budget / rate)
        share = min(step.percentage, max(state.mirror + 1, int(state.mirror * room)))
    else:
        return state, ()
    if share == state.mirror:
        return state, ()
    message = (
        f"copies cost {rate:.0f} tokens/s, the budget is {budget}: "
        f"mirroring {format_percent(share)} of requests"
    )
    after = replace(bump_revision(state, now, converged=state.converged), mirror=share, budgeted_at=now)
    return after, (Record(what="budget", message=message), Publish())


def apply_verdict(state: State, event: Verdict, now: float) -> Result:
    """Roll back or withdraw on Fail; on Pass, end the analysis step that waits for it; record the rest."""
    if event.finding is Finding.FAIL:
        return apply_fail(state, event, now)
    records: tuple[Record, ...] = ()
    if state.lapsed is not event.lapsed:
        state = replace(state, lapsed=event.lapsed)
    if state.finding is not event.finding:
        state = replace(state, finding=event.finding)
        records = (Record(what="verdict", message=f"{event.finding.value}: {event.detail}"[:MAX_MESSAGE]),)
    if not isinstance(state.current, Analysis) or state.resumes is not None:
        return state, records
    if event.finding is Finding.PASS and state.converged:
        after, effects = _enter_if_healthy(state, state.step + 1, now)
        return after, (*records, *effects)
    return replace(state, message=f"{event.finding.value}: {event.detail}"[:MAX_MESSAGE]), records


def apply_alarm(state: State, event: Alarm, now: float) -> Result:
    """Roll back if the alarm requests it; otherwise record it.

    An alarm that requests a rollback is ignored if neither users nor copies reach the candidate.
    """
    record = Record(what="alarm", message=f"{event.name}: {event.detail}"[:MAX_MESSAGE])
    if not event.rollback:
        return state, (record,)
    if not state.weight and not state.mirror:
        return state, ()
    return roll_back(state, Outcome.ROLLED_BACK, record, now)


def _convergence_summary(state: State, event: Converged, now: float) -> str:
    took = now - state.published_at
    return f"{event.acked} of {event.connected} proxies synced after " + (
        f"{took:.1f} s" if took >= 1 else f"{1000 * took:.0f} ms"
    )


def _enter_if_healthy(state: State, index: int, now: float) -> Result:
    """Enter a step, or wait with a message if a variant that would gain users is not healthy."""
    if reason := blocking_reason(state, index):
        if reason == state.message:
            return state, ()
        return replace(state, message=reason), (Record(what="not_alive", message=reason),)
    return enter(state, index, now)


def _start_step_timer(state: State, now: float) -> State:
    """Mark the state as converged, and start the timer of a step whose timer is not running yet."""
    after = replace(state, converged=True, message="")
    if isinstance(state.current, Shadow | Experiment) and state.step_began_at is None:
        return start_timer(after, state.current.duration, now)
    return after


def _set_membership(names: tuple[str, ...], name: str, *, member: bool) -> tuple[str, ...]:
    others = {other for other in names if other != name}
    return tuple(sorted({*others, name} if member else others))
