"""Guards for backends that have users by targets, rules or the preview only (pure).

These users are not drawn at random, so that metrics would compare different users. Guards are for gross
faults, which no choice of users explains. The evidence is not restored after a restart: it begins anew.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from xds_server.analysis.counts import Leg, Role
from xds_server.analysis.verdicts.candidate import (
    CandidateEvidence,
    add_block,
    analyze,
    start_evidence,
)
from xds_server.analysis.verdicts.faults import proves_fault
from xds_server.rollout import Finding

if TYPE_CHECKING:
    from xds_server.analysis.counts import Block
    from xds_server.analysis.verdicts.policy import Policy
    from xds_server.analysis.verdicts.result import AnalysisResult
    from xds_server.rollout import State

__all__ = ["RuleGuards"]


@dataclass(slots=True)
class RuleGuards:
    """The evidence on each backend with users by rules only, since the last change of spec or run.

    `results` has the results of the newest block, `reasons` the last results of withdrawn backends.
    """

    results: dict[str, AnalysisResult] = field(default_factory=dict)
    reasons: dict[str, AnalysisResult] = field(default_factory=dict)
    _evidence: dict[str, CandidateEvidence] = field(default_factory=dict)
    _since: tuple[int, int, Policy] | None = None

    def add_block(self, block: Block, state: State, policy: Policy) -> None:
        """Add a block; backends with users by the strategy are left out, because it analyzes them itself.

        That includes a candidate that was promoted so long ago that it is no longer analyzed.
        """
        since = state.run, state.generation, policy
        if self._since != since:
            self._since, self._evidence, self.results, self.reasons = since, {}, {}, {}
        self.reasons |= {name: found for name, found in self.results.items() if name in state.withdrawn}
        self.results = {}
        if state.kill is not None or not policy.guards:
            return
        guards, stable = replace(policy, guardrails=(), thresholds=()), state.program.stable
        control = Leg(route=state.route, variant=stable)
        ignored = {stable, *state.weights, *state.withdrawn}
        for leg in block.legs:
            if leg.role is not Role.PRIMARY or leg.variant in ignored:
                continue
            evidence = self._evidence.get(leg.variant) or start_evidence(guards, leg, control)
            self._evidence[leg.variant] = evidence = add_block(evidence, guards, block)
            self.results[leg.variant] = analyze(evidence, guards, block.start + block.seconds)

    def proves_fault(self, block: Block, state: State, policy: Policy) -> bool:
        """Return whether a guard would fail if the current block ended now."""
        if not self.results or self._since != (state.run, state.generation, policy):
            return False
        guards = replace(policy, guardrails=(), thresholds=())
        return any(
            proves_fault(self._evidence[name], guards, block)
            for name, result in self.results.items()
            if name in self._evidence and result.finding is not Finding.FAIL
        )

    @property
    def failed(self) -> dict[str, AnalysisResult]:
        """The results of the backends that failed in the newest block."""
        return {name: result for name, result in self.results.items() if result.finding is Finding.FAIL}
