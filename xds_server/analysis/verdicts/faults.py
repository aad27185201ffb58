"""When a comparison fails a candidate, and whether it would if the current block ended now (pure)."""

from __future__ import annotations

from math import log
from typing import TYPE_CHECKING, Final

from xds_server.analysis.counts import Counts, Role
from xds_server.analysis.verdicts.metrics import Price
from xds_server.analysis.verdicts.policy import RegressionAction

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xds_server.analysis.counts import Block, Leg
    from xds_server.analysis.verdicts.candidate import CandidateEvidence
    from xds_server.analysis.verdicts.metric_state import MetricState
    from xds_server.analysis.verdicts.policy import Guardrail, Policy

__all__ = ["fail_threshold", "guards_of", "is_worse", "proves_fault"]

_NO_COUNTS: Final = Counts()

Arms = tuple[Counts, Counts]


def guards_of(policy: Policy, candidate: Leg) -> tuple[Guardrail, ...]:
    """Return the guards of a candidate; none for mirrored requests, which have limits of their own."""
    return policy.guards if candidate.role is Role.PRIMARY else ()


def fail_threshold(guardrail: Guardrail, policy: Policy, alpha: float | None = None) -> float:
    """Return the log evidence that a Fail requires; `alpha` replaces the part of the guardrail."""
    # Any of several guardrails can cause a rollback, so they share alpha. A promotion requires all of them,
    # so each may use the whole of it.
    if guardrail.action is RegressionAction.NOTIFY:
        return -log(policy.alpha)
    return -log(policy.alpha_per_guardrail if alpha is None else alpha)


def is_worse(state: MetricState, guardrail: Guardrail, against: float, needed: float) -> bool:
    """Return whether the candidate is proven worse, or fails grossly without a control.

    `against` is the log evidence against the candidate, and `needed` that which a Fail requires.
    """
    if state.log_evidence_of_gross_failure >= needed:
        return True
    return state.candidate.n >= guardrail.least_to_fail and against >= needed


def proves_fault(evidence: CandidateEvidence, policy: Policy, block: Block) -> bool:
    """Return whether a Fail of a comparison would follow if the current block ended now.

    Only metrics and guards that roll back are considered, and of those only the ones that the candidate looks
    worse at in this block.
    """
    candidate = block.legs.get(evidence.candidate, _NO_COUNTS)
    first = block.start if evidence.first_request is None else evidence.first_request
    if not candidate.seen or block.start < first + policy.initial_delay:
        return False
    arms = (candidate, block.legs.get(evidence.control, _NO_COUNTS))
    return any(_failures(evidence, policy, arms, block.seconds))


def _failures(evidence: CandidateEvidence, policy: Policy, arms: Arms, seconds: float) -> Iterator[bool]:
    """Yield for each comparison whether it fails after a block with these counts of (candidate, control)."""
    free = Price()
    for state, guardrail in zip(evidence.metric_states, policy.guardrails, strict=True):
        if guardrail.action is RegressionAction.ROLLBACK and state.looks_worse(guardrail, arms):
            after = state.add_block(guardrail, arms, (free, free), seconds)
            needed = fail_threshold(guardrail, policy)
            yield is_worse(after, guardrail, after.log_evidence_against(guardrail, needed), needed)
    guards = guards_of(policy, evidence.candidate)
    for guarded, guard in zip(evidence.guard_states, guards, strict=True):
        if guard.action is RegressionAction.ROLLBACK and guarded.state.looks_worse(guard, arms):
            then = guarded.add_block(guard, arms, seconds)
            needed = fail_threshold(guard, policy, policy.alpha_per_guard)
            against = then.state.log_evidence_against(guard, needed)
            yield is_worse(then.state, guard, against, needed) and then.is_gross(guard)
