"""One route's evidence as it comes in: counts are gathered into blocks, and each run is judged anew (pure).

Counts of both arms arrive in the same messages, so a block may be cut wherever it suits: what is compared was
counted over the same time.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from xds_server.analysis.counts import Block, Counts, Leg, Role, added
from xds_server.analysis.verdicts.candidate import (
    AnalysisResult,
    CandidateEvidence,
    fresh,
    heard,
    ruling,
    together,
)
from xds_server.rollout import Phase

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from xds_server.analysis.verdicts.policy import Policy
    from xds_server.rollout import State

__all__ = ["RouteAnalysis"]

_BEFORE: Final = 60
"""Blocks of control that are remembered to know what is usual when a run begins."""


@dataclass(slots=True, kw_only=True)
class RouteAnalysis:
    """What is known of one route. `totals` are sums since the control plane started."""

    began: float
    pending: dict[Leg, Counts] = field(default_factory=dict)
    totals: dict[Leg, Counts] = field(default_factory=dict)
    before: deque[Block] = field(default_factory=lambda: deque(maxlen=_BEFORE))
    cases: dict[str, CandidateEvidence] = field(default_factory=dict)
    rulings: dict[str, AnalysisResult] = field(default_factory=dict)
    _run: tuple[int, Policy] | None = None

    def count(self, legs: Mapping[Leg, Counts]) -> None:
        """Take in what a proxy counted."""
        for leg, counts in legs.items():
            for sums in (self.pending, self.totals):
                known = sums.get(leg)
                sums[leg] = counts if known is None else added(known, counts)

    def cut(self, now: float, interval: float) -> Block | None:
        """Return the block that is over by `now`, None while it is not."""
        if now - self.began < interval:
            return None
        block = Block(start=self.began, seconds=now - self.began, legs=self.pending)
        self.began, self.pending = now, {}
        return block

    def hear(
        self,
        block: Block,
        state: State,
        policy: Policy,
        answers: Mapping[str, float | None] | None = None,
    ) -> None:
        """Learn from a block what it says of the candidates of this run."""
        run = state.run, policy
        if self._run != run:
            self._run, self.cases = run, {}
        control = Leg(route=state.route, variant=state.program.stable)
        for leg in _exposed(state):
            case = self.cases.get(leg.variant)
            if case is None or case.candidate != leg:
                case = fresh(policy, leg, control)
                for former in self.before:
                    case = heard(case, policy, _only(former, control))
            self.cases[leg.variant] = heard(case, policy, block, answers)
        self.before.append(block)
        now = block.start + block.seconds
        self.rulings = {name: ruling(case, policy, now) for name, case in self.cases.items()}

    def resume(self, blocks: Iterable[tuple[int, Block]], state: State, policy: Policy) -> None:
        """Learn anew, after a restart, what earlier blocks said: (run, block), oldest first."""
        for run, block in blocks:
            if run == state.run:
                self.hear(block, state, policy)
            else:
                self.before.append(block)

    @property
    def ruling(self) -> AnalysisResult | None:
        """The verdict on all candidates of this run together; None before the first block of one."""
        return together(self.rulings) if self.rulings else None


def _exposed(state: State) -> list[Leg]:
    """Return the legs that are to be judged: whoever has users, or is given copies of their requests."""
    if state.kill is not None or state.phase in {Phase.ROLLING_BACK, Phase.ROLLED_BACK}:
        return []
    found = [Leg(route=state.route, variant=name) for name, share in state.weights.items() if share]
    candidate = state.program.candidate
    if not found and state.mirror and candidate is not None:
        found = [Leg(route=state.route, variant=candidate, role=Role.SHADOW)]
    return found


def _only(block: Block, leg: Leg) -> Block:
    """Return a block with nothing but one leg."""
    return replace(block, legs={known: counts for known, counts in block.legs.items() if known == leg})
