"""Handlers for a Fail of the analysis: roll back, or withdraw a single backend (pure)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from xds_server.rollout.events import Publish, Record
from xds_server.rollout.state import Experiment, Finding, Outcome, State
from xds_server.rollout.step_entry import Result, bump_revision, roll_back, set_weights

if TYPE_CHECKING:
    from xds_server.rollout.events import Verdict

__all__ = ["MAX_MESSAGE", "apply_fail", "withdraw_on_fail"]

MAX_MESSAGE: Final = 500
"""Maximum length, in characters, of a message or of the detail in it; the rest is cut off."""


def withdraw_on_fail(state: State, event: Verdict, now: float) -> Result:
    """Withdraw a backend that fails during or after a rollback; a rollback that is running goes on."""
    if event.finding is not Finding.FAIL or not event.failed:
        return state, ()
    return apply_fail(state, event, now)


def apply_fail(state: State, event: Verdict, now: float) -> Result:
    """Roll the rollout back, or withdraw only the backends that failed.

    They are withdrawn without a rollback in two cases:

    * The strategy gives them no users and no copies; only targets, rules or the preview assign users to them.
    * The program has an experiment, and other variants still have users. Those variants keep their users,
      also after the experiment.

    Nothing changes if neither users nor copies reach a backend other than the stable one.
    """
    withdrawn = tuple(sorted({*state.withdrawn, *event.failed} - {state.program.stable}))
    others = {name: share for name, share in state.weights.items() if name not in withdrawn}
    # If the candidate fails while it receives copies, the shadow ends with a rollback. Any other backend that
    # fails then serves only targets or rules, and the shadow continues.
    shadow_failed = state.mirror > 0 and state.program.candidate in event.failed
    by_rules_alone = bool(event.failed) and not shadow_failed and others == state.weights
    is_experiment = any(isinstance(step, Experiment) for step in state.program.steps)
    alone_in_experiment = is_experiment and bool(others)
    if by_rules_alone or alone_in_experiment:
        if withdrawn == state.withdrawn:
            return state, ()
        after = set_weights(replace(state, withdrawn=withdrawn), others)
        record = Record(what="withdrawn", message=event.detail[:MAX_MESSAGE])
        return bump_revision(after, now, converged=state.converged), (record, Publish())
    if not state.weight and not state.mirror:
        return state, ()
    return roll_back(
        replace(state, finding=event.finding, lapsed=False, withdrawn=withdrawn),
        Outcome.ROLLED_BACK,
        Record(what="failed", message=event.detail[:MAX_MESSAGE]),
        now,
    )
