"""The analysis of one route: counts are collected into blocks, and blocks added to the evidence (pure).

Counts of both arms arrive in the same messages, so a block may be closed at any time: both arms were counted
over the same period.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from xds_server.analysis.counts import Block, Counts, Leg, Role, add_counts
from xds_server.analysis.verdicts.candidate import (
    AnalysisResult,
    CandidateEvidence,
    add_block,
    analyze,
    combine_results,
    start_evidence,
)
from xds_server.rollout import Phase

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from xds_server.analysis.verdicts.policy import Policy
    from xds_server.rollout import State

__all__ = ["RouteAnalysis"]

_BEFORE: Final = 60
"""The number of earlier blocks that are kept: their control counts are the reference when a run starts."""


@dataclass(slots=True, kw_only=True)
class RouteAnalysis:
    """The analysis of one route; `totals` are the counts since the control plane started."""

    block_started: float
    pending_counts: dict[Leg, Counts] = field(default_factory=dict)
    totals: dict[Leg, Counts] = field(default_factory=dict)
    earlier_blocks: deque[Block] = field(default_factory=lambda: deque(maxlen=_BEFORE))
    evidence: dict[str, CandidateEvidence] = field(default_factory=dict)
    results: dict[str, AnalysisResult] = field(default_factory=dict)
    _run: tuple[int, Policy] | None = None

    def add_counts(self, legs: Mapping[Leg, Counts]) -> None:
        """Add counts that a proxy reported to the current block."""
        for leg, counts in legs.items():
            for sums in (self.pending_counts, self.totals):
                known = sums.get(leg)
                sums[leg] = counts if known is None else add_counts(known, counts)

    def close_block(self, now: float, interval: float) -> Block | None:
        """End the current block at `now` and return it; None before `interval` seconds have passed."""
        if now - self.block_started < interval:
            return None
        block = Block(start=self.block_started, seconds=now - self.block_started, legs=self.pending_counts)
        self.block_started, self.pending_counts = now, {}
        return block

    def add_block(
        self,
        block: Block,
        state: State,
        policy: Policy,
        query_results: Mapping[str, float | None] | None = None,
    ) -> None:
        """Add a block to the evidence on the candidates of this run, and analyze them again."""
        run = state.run, policy
        if self._run != run:
            self._run, self.evidence = run, {}
        control = Leg(route=state.route, variant=state.program.stable)
        for leg in _exposed_legs(state):
            evidence = self.evidence.get(leg.variant)
            if evidence is None or evidence.candidate != leg:
                evidence = start_evidence(policy, leg, control)
                for earlier in self.earlier_blocks:
                    evidence = add_block(evidence, policy, _only(earlier, control))
            self.evidence[leg.variant] = add_block(evidence, policy, block, query_results)
        self.earlier_blocks.append(block)
        now = block.start + block.seconds
        self.results = {name: analyze(known, policy, now) for name, known in self.evidence.items()}

    def restore(self, blocks: Iterable[tuple[int, Block]], state: State, policy: Policy) -> None:
        """Rebuild the evidence after a restart from stored (run, block) pairs, oldest first."""
        for run, block in blocks:
            if run == state.run:
                self.add_block(block, state, policy)
            else:
                self.earlier_blocks.append(block)

    @property
    def result(self) -> AnalysisResult | None:
        """The combined verdict on the candidates of this run; None before their first block."""
        return combine_results(self.results) if self.results else None


def _exposed_legs(state: State) -> list[Leg]:
    """Return the legs to analyze: the variants with users, or else the mirrored candidate."""
    if state.kill is not None or state.phase in {Phase.ROLLING_BACK, Phase.ROLLED_BACK}:
        return []
    found = [Leg(route=state.route, variant=name) for name, share in state.weights.items() if share]
    candidate = state.program.candidate
    if not found and state.mirror and candidate is not None:
        found = [Leg(route=state.route, variant=candidate, role=Role.SHADOW)]
    return found


def _only(block: Block, leg: Leg) -> Block:
    """Return a block reduced to one leg."""
    return replace(block, legs={known: counts for known, counts in block.legs.items() if known == leg})
