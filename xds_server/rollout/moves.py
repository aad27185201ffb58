"""The moves a rollout makes by itself: what facts about proxies, backends, time and evidence do to it.

Which move belongs to which phase and event is the business of the table in `transitions`.
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
    Spent,
    Tick,
    Verdict,
)
from xds_server.rollout.state import (
    Analysis,
    Bake,
    Experiment,
    Finding,
    Outcome,
    Pause,
    Phase,
    SetWeight,
    Shadow,
    State,
    Undecided,
)
from xds_server.rollout.steps import Result, clocked, enter, lacking, percent, published, taken_back

__all__ = [
    "alarmed",
    "begin",
    "begin_late",
    "degrade_or_wait",
    "finish_rollback",
    "go_on",
    "judged",
    "keep",
    "kill_held",
    "lives",
    "note_converged",
    "proved",
    "settled",
    "spent",
    "time_passed",
]

_EQUIVALENT: Final = "Equivalent"
_DIFFERENT: Final = "Different"
_SAID: Final = 500
# A budget is met with some room to spare, and a share is raised again only when there is plenty.
_ROOM: Final = 0.9
_PLENTY: Final = 0.7
_RAISE: Final = 1.5
_SETTLES: Final = 30.0


def keep(state: State, _event: object, _now: float) -> Result:
    """Change nothing."""
    return state, ()


def begin(state: State, _event: Converged, now: float) -> Result:
    """The proxies know the backends: enter the first step."""
    return _on(replace(state, converged=True, resumes=None), 0, now)


def begin_late(state: State, event: Tick, now: float) -> Result:
    """The proxies know the backends since a while; perhaps the candidate lives by now."""
    return _on(state, 0, now) if state.converged and event.synced else (state, ())


def go_on(state: State, event: Converged, now: float) -> Result:
    """The proxies hold the current step: enter the next one, or start the clock of this one."""
    if state.converged:
        return state, ()
    match state.current:
        case SetWeight(weight=weight):
            held = f"weight {percent(weight)}: {event.acked} of {event.connected} proxies hold it"
            after, effects = _on(replace(state, converged=True), state.step + 1, now)
            return after, (Record(what="step_held", message=held), *effects)
        case Shadow() | Experiment() | Pause() | Bake() | Analysis() | None:
            return _start_clock(state, now), ()
        case other:
            assert_never(other)


def note_converged(state: State, _event: Converged, now: float) -> Result:
    """Paused by an operator: remember that the proxies hold the step, but do not go on."""
    if state.converged:
        return state, ()
    after = _start_clock(state, now)
    if after.ends_at is None:
        return after, ()
    return replace(after, ends_at=None, left=after.ends_at - now), ()


def settled(state: State, _event: Converged, _now: float) -> Result:
    """A finished rollout is held by the proxies."""
    return replace(state, converged=True, message=state.message if state.converged else ""), ()


def finish_rollback(state: State, event: Converged, now: float) -> Result:
    """Everyone is back, and it is said how fast."""
    words = _how_fast(state, event, now)
    why = "" if state.outcome is not Outcome.ROLLED_BACK else f"; {state.message}"
    after = replace(state, phase=Phase.ROLLED_BACK, converged=True, message=f"rolled back: {words}{why}")
    return after, (Record(what="rolled_back", message=words),)


def kill_held(state: State, event: Converged, now: float) -> Result:
    """The kill is held by the proxies, and it is said how fast."""
    if state.converged:
        return state, ()
    words = _how_fast(state, event, now)
    return replace(state, converged=True, message=f"killed: {words}"), (
        Record(what="kill_held", message=words),
    )


def degrade_or_wait(state: State, event: NotConverged, now: float) -> Result:
    """Say who is missing once the timeout is over; give up waiting quietly at the progress deadline."""
    waited = now - state.published_at
    if state.converged and not event.refused:
        return state, ()
    if not event.refused and waited < state.program.convergence_timeout:
        return state, ()
    words = ("a proxy refused it: " if event.refused else "not held by all proxies: ") + event.detail[:_SAID]
    overdue = waited >= state.program.progress_deadline and not state.converged
    may_degrade = state.phase in {Phase.PENDING, Phase.SHADOWING, Phase.PROGRESSING}
    if overdue and may_degrade:
        after = replace(state, phase=Phase.DEGRADED, resumes=state.phase, message=words)
        return after, (Record(what="degraded", message=f"progress deadline passed; {words}"),)
    if words == state.message:
        return state, ()
    return replace(state, message=words), (Record(what="not_held", message=words),)


def time_passed(state: State, event: Tick, now: float) -> Result:
    """End a step whose time is over, if the proxies hold what it says right now."""
    if not event.synced or not state.converged:
        return state, ()
    over = state.ends_at is not None and now >= state.ends_at
    match state.current:
        case SetWeight():
            return _on(state, state.step + 1, now)  # Held already; what came next was not alive.
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
    return _unproven(state, now) if _owes_a_verdict(state) else _on(state, state.step + 1, now)


def _owes_a_verdict(state: State) -> bool:
    """Return whether the step may end only with a good verdict: somebody was given users, and is judged."""
    timed = isinstance(state.current, Pause | Bake)
    return timed and state.program.judged and state.weight > 0 and state.finding is not Finding.PASS


def _unproven(state: State, now: float) -> Result:
    """A step is over and nothing is proven: extend it for a while, then do as the spec says."""
    words = f"the step is over, the verdict is {'missing' if state.finding is None else state.finding.value}"
    if state.ends_at is not None and now < state.ends_at + state.program.patience:
        if state.message.startswith(words):
            return state, ()
        return replace(state, message=words), (Record(what="extended", message=words),)
    match state.program.undecided:
        case Undecided.PROMOTE:
            after, effects = _on(state, state.step + 1, now)
            return after, (Record(what="went_on", message=f"{words}; onInconclusive is Promote"), *effects)
        case Undecided.ROLLBACK:
            record = Record(what="undecided", message=f"{words}; onInconclusive is Rollback")
            return taken_back(state, Outcome.ROLLED_BACK, record, now)
        case Undecided.HOLD:
            words += "; promote or abort"
            if words == state.message:
                return state, ()
            return replace(state, message=words), (Record(what="held", message=words),)
        case other:
            assert_never(other)


def lives(state: State, event: Health, now: float) -> Result:
    """Note which backends live; a candidate that died is taken back, and rules that serve it with it."""
    backend, alive = event.backend, event.healthy > 0
    if backend not in state.program.checked or backend in (state.healthy if alive else state.dead):
        return state, ()
    after = replace(
        state,
        healthy=_with(state.healthy, backend, here=alive),
        dead=_with(state.dead, backend, here=not alive),
    )
    count = f"{event.healthy} of {event.total} endpoints answer"
    if alive:
        if backend not in state.dead:
            return after, ()
        back = Record(what="alive", message=f"{backend}: {count}")
        return published(after, now, converged=state.converged), (back, Publish())
    words = f"{backend} lost its last living endpoint: {count}" + (
        f" ({event.detail})" if event.detail else ""
    )
    if state.weights.get(backend, 0) and state.phase is not Phase.ROLLING_BACK:
        return taken_back(
            after, Outcome.ROLLED_BACK, Record(what="candidate_died", message=words[:_SAID]), now
        )
    after = published(after, now, converged=state.converged)
    return after, (Record(what="dead", message=words[:_SAID]), Publish())


def proved(state: State, event: Evidence, _now: float) -> Result:
    """Count the shadow's pairs from where they were when it began; say when they prove what is asked for."""
    step = state.current
    if not isinstance(step, Shadow):
        return state, ()
    state, said = _likened(state, event)
    if step.min_pairs is None or state.proven:
        return state, said
    if state.pairs_before is None or event.pairs < state.pairs_before:
        return replace(state, pairs_before=event.pairs), said
    found = event.pairs - state.pairs_before
    if found < step.min_pairs or not _satisfied(step, state.likeness):
        return state, said
    verdict = f"; the verdict is {state.likeness}" if state.likeness else ""
    words = f"{found} pairs were compared, {step.min_pairs} were asked for{verdict}"
    return replace(state, proven=True), (*said, Record(what="evidence", message=words))


def _likened(state: State, event: Evidence) -> Result:
    """Take over a new verdict; what was once proven to differ stays so until another shadow begins."""
    if not event.likeness or state.likeness in {event.likeness, _DIFFERENT}:
        return state, ()
    words = f"{event.likeness}: {event.detail}"[:_SAID]
    return replace(state, likeness=event.likeness), (Record(what="likeness", message=words),)


def _satisfied(step: Shadow, likeness: str) -> bool:
    return likeness == step.required if step.required == _EQUIVALENT else likeness != _DIFFERENT


def spent(state: State, event: Spent, now: float) -> Result:
    """Copy fewer requests while they cost more than they may, and more again when there is room."""
    step = state.current
    if not isinstance(step, Shadow) or step.tokens_per_second is None or not state.mirror:
        return state, ()
    if state.budgeted_at is not None and now < state.budgeted_at + _SETTLES:
        return state, ()  # What is measured is not yet what was changed last.
    rate, budget = event.tokens_per_second, step.tokens_per_second
    if rate > budget:
        share = max(1, int(state.mirror * _ROOM * budget / rate))
    elif rate < _PLENTY * budget and state.mirror < step.percentage:
        room = _RAISE if rate <= 0 else min(_RAISE, _ROOM * budget / rate)
        share = min(step.percentage, max(state.mirror + 1, int(state.mirror * room)))
    else:
        return state, ()
    if share == state.mirror:
        return state, ()
    words = f"copies cost {rate:.0f} tokens/s of {budget}: {percent(share)} of requests are copied"
    after = replace(published(state, now, converged=state.converged), mirror=share, budgeted_at=now)
    return after, (Record(what="budget", message=words), Publish())


def judged(state: State, event: Verdict, now: float) -> Result:
    """A bad verdict takes the rollout back; a good one ends the step that waits for it."""
    if event.finding is Finding.FAIL:
        if not state.weight and not state.mirror:
            return state, ()
        return taken_back(
            replace(state, finding=event.finding),
            Outcome.ROLLED_BACK,
            Record(what="failed", message=event.detail[:_SAID]),
            now,
        )
    said: tuple[Record, ...] = ()
    if state.finding is not event.finding:
        state = replace(state, finding=event.finding)
        said = (Record(what="verdict", message=f"{event.finding.value}: {event.detail}"[:_SAID]),)
    if not isinstance(state.current, Analysis) or state.resumes is not None:
        return state, said
    if event.finding is Finding.PASS and state.converged:
        after, effects = _on(state, state.step + 1, now)
        return after, (*said, *effects)
    return replace(state, message=f"{event.finding.value}: {event.detail}"[:_SAID]), said


def alarmed(state: State, event: Alarm, now: float) -> Result:
    """An alarm takes back whoever has users, or says that it fired."""
    record = Record(what="alarm", message=f"{event.name}: {event.detail}"[:_SAID])
    if not event.rollback:
        return state, (record,)
    if not state.weight and not state.mirror:
        return state, ()
    return taken_back(state, Outcome.ROLLED_BACK, record, now)


def _how_fast(state: State, event: Converged, now: float) -> str:
    took = now - state.published_at
    return f"{event.acked} of {event.connected} proxies, " + (
        f"{took:.1f} s" if took >= 1 else f"{1000 * took:.0f} ms"
    )


def _on(state: State, index: int, now: float) -> Result:
    """Enter a step as soon as whom it gives users to is alive."""
    if words := lacking(state, index):
        if words == state.message:
            return state, ()
        return replace(state, message=words), (Record(what="not_alive", message=words),)
    return enter(state, index, now)


def _start_clock(state: State, now: float) -> State:
    """The proxies hold the newest world: a step whose clock did not run yet starts it."""
    after = replace(state, converged=True, message="")
    if isinstance(state.current, Shadow | Experiment) and state.step_began_at is None:
        return clocked(after, state.current.duration, now)
    return after


def _with(names: tuple[str, ...], name: str, *, here: bool) -> tuple[str, ...]:
    others = {other for other in names if other != name}
    return tuple(sorted({*others, name} if here else others))
