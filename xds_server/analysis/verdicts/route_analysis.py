"""The analysis of one route: counts are collected into blocks, and blocks added to the evidence (pure).

Counts of both arms arrive in the same messages, so a block may be closed at any time: both arms were counted
over the same period.

`add` is the only way in which a block becomes evidence: while a rollout runs, after a restart and in a
replay. It depends on nothing but the recorded blocks and the policy, so that all three reach the same
verdicts.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from xds_server.analysis.counts import Block, Counts, Leg, Role, add_counts
from xds_server.analysis.verdicts.analyzed_block import AnalyzedBlock, BlockContext
from xds_server.analysis.verdicts.candidate import (
    CandidateEvidence,
    add_block,
    analyze,
    start_evidence,
)
from xds_server.analysis.verdicts.faults import proves_fault
from xds_server.analysis.verdicts.freshness import format_time, is_stale
from xds_server.analysis.verdicts.result import AnalysisResult, combine_results
from xds_server.analysis.verdicts.rule_guards import RuleGuards
from xds_server.rollout import FULL, Finding, Phase

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from xds_server.analysis.verdicts.policy import Policy
    from xds_server.analysis.verdicts.result import MetricVerdict
    from xds_server.rollout import State

__all__ = ["LONGEST_BLOCK", "Arms", "RouteAnalysis"]

_BEFORE: Final = 600.0
"""Seconds of earlier blocks that are kept: their control counts are the reference when a run starts."""
LONGEST_BLOCK: Final = 10.0
"""Seconds after which a block ends: within a longer one, rates and weights change."""

_AFTER_PROMOTION: Final = 600.0
"""Seconds after the last change of weights for which a promoted candidate is analyzed without a control."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arms:
    """The backends of a route's spec, for blocks whose context was not recorded."""

    route: str
    control: str
    candidates: Collection[str]


@dataclass(slots=True, kw_only=True)
class RouteAnalysis:
    """The analysis of one route; `totals` are the counts since the control plane started.

    `earlier_blocks` are the newest blocks with counts. `missing` names the evidence that is missing since a
    restart, "" if none is.
    """

    block_started: float
    pending_counts: dict[Leg, Counts] = field(default_factory=dict)
    totals: dict[Leg, Counts] = field(default_factory=dict)
    earlier_blocks: deque[Block] = field(default_factory=deque)
    evidence: dict[str, CandidateEvidence] = field(default_factory=dict)
    results: dict[str, AnalysisResult] = field(default_factory=dict)
    missing: str = ""
    by_rules: RuleGuards = field(default_factory=RuleGuards)
    _run: int | None = None
    _policy: Policy | None = None
    _empty: bool = True
    _analyzed_at: float = 0.0
    _inferred: dict[str, Leg] = field(default_factory=dict)
    _unstored: deque[AnalyzedBlock] = field(default_factory=deque)
    _seen: tuple[int, bool, Mapping[str, int]] | None = None
    _counted: bool = False

    def add_counts(self, legs: Mapping[Leg, Counts]) -> None:
        """Add counts that a proxy reported to the current block."""
        for leg, counts in legs.items():
            for sums in (self.pending_counts, self.totals):
                known = sums.get(leg)
                sums[leg] = counts if known is None else add_counts(known, counts)
        self._counted = True

    def close_block(self, now: float, interval: float, state: State, policy: Policy) -> Block | None:
        """End the current block at `now` and return it; None while it goes on.

        A block ends after `interval` seconds; when weights change, since arms are compared at
        equal weights; and as soon as its counts prove a fault of a candidate.
        """
        seconds = now - self.block_started
        block = Block(start=self.block_started, seconds=seconds, legs=self.pending_counts)
        seen = state.run, bool(state.mirror), state.weights
        changed = self._seen is not None and self._seen != seen
        if seconds < interval and (not seconds or not changed):
            counted, self._counted = self._counted, False
            self._seen = self._seen or seen
            if not (seconds and counted and self._proves_fault(block, state, policy)):
                return None
        self._seen = seen
        self.block_started, self.pending_counts = now, {}
        return block

    def _proves_fault(self, block: Block, state: State, policy: Policy) -> bool:
        """Return whether a Fail would follow if the current block ended now, and there is none yet."""
        if self.by_rules.proves_fault(block, state, policy):
            return True
        if (self._run, self._policy) != (state.run, policy):
            return False
        failed = self.failed(state)
        return any(
            proves_fault(self.evidence[leg.variant], policy, block)
            for leg in _exposed_legs(state, block.start)
            if leg.variant not in failed
            and (leg.variant in self.evidence and self.evidence[leg.variant].candidate == leg)
        )

    def add_block(
        self,
        block: Block,
        state: State,
        policy: Policy,
        query_results: Mapping[str, float | None] | None = None,
    ) -> tuple[AnalyzedBlock, ...]:
        """Add a block to the evidence on the candidates of this run, and return the blocks to be stored.

        `query_results` are by metric name. Blocks before a run are stored when it begins: its evidence starts
        with the control's counts in them. Blocks without counts are stored while candidates are analyzed.
        """
        found = query_results or {}
        legs = _exposed_legs(state, block.start)
        context = BlockContext(
            control=state.program.stable,
            legs=legs,
            began=bool(legs) and (self._empty or (self._run, self._policy) != (state.run, policy)),
            query_results={t.query: found[t.name] for t in policy.thresholds if t.query and t.name in found},
        )
        analyzed = AnalyzedBlock(run=state.run, block=block, context=context)
        self.by_rules.add_block(block, state, policy)
        arms = Arms(route=state.route, control=state.program.stable, candidates=state.program.variants)
        self.add(analyzed, policy, arms)
        if (block.legs and state.program.variants) or context.legs:
            stored = (*self._unstored, analyzed)
            self._unstored.clear()
            return stored
        if block.legs:
            self._unstored.append(analyzed)
            while _seconds(known.block for known in self._unstored) > _BEFORE:
                self._unstored.popleft()
        return ()

    def add(self, analyzed: AnalyzedBlock, policy: Policy, arms: Arms) -> None:
        """Add a recorded block to the evidence, and analyze it again at the end of the block."""
        self._add(analyzed, policy, arms)
        self._analyze(_end(analyzed.block))

    def _add(self, analyzed: AnalyzedBlock, policy: Policy, arms: Arms) -> None:
        block, context = analyzed.block, analyzed.context
        if context is None:
            context = self._inferred_context(analyzed, arms)
        if context.began or (analyzed.run, policy) != (self._run, self._policy):
            self.evidence, self.missing, self._empty = {}, "", True
        self._run, self._policy = analyzed.run, policy
        results = {
            t.name: context.query_results[t.query]
            for t in policy.thresholds
            if t.query is not None and t.query in context.query_results
        }
        control = Leg(route=arms.route, variant=context.control)
        for leg in context.legs:
            evidence = self.evidence.get(leg.variant)
            if evidence is None or evidence.candidate != leg:
                evidence = start_evidence(policy, leg, control)
                for earlier in self.earlier_blocks:
                    evidence = add_block(evidence, policy, _only(earlier, control))
            self.evidence[leg.variant] = add_block(evidence, policy, block, results)
            self._empty = False
        self.keep(block)

    def keep(self, block: Block) -> None:
        """Keep a block as one before a run, without adding it to the evidence."""
        if block.legs:
            self.earlier_blocks.append(block)
            while len(self.earlier_blocks) > 1 and _seconds(self.earlier_blocks) > _BEFORE:
                self.earlier_blocks.popleft()

    def restore(
        self, blocks: Iterable[AnalyzedBlock], state: State, policy: Policy, *, cut_off: bool = False
    ) -> None:
        """Rebuild the evidence after a restart from stored blocks, oldest first.

        `cut_off` is whether there are older blocks that were not read.
        """
        arms = Arms(route=state.route, control=state.program.stable, candidates=state.program.variants)
        first, end = True, None
        for analyzed in blocks:
            if analyzed.run != state.run:
                self.keep(analyzed.block)
                continue
            self._add(analyzed, policy, arms)
            end = _end(analyzed.block)
            # The evidence may begin anew with a later block; nothing is missing then.
            if first and _begins_late(analyzed, cut_off=cut_off):
                start = format_time(analyzed.block.start)
                self.missing = f"counts before {start} are missing since a restart of the control plane"
            first = False
        if end is not None:
            self._analyze(end)

    def result_at(self, now: float, state: State, policy: Policy, interval: float) -> AnalysisResult | None:
        """Return the verdict on the run of a rollout under a policy at `now`; None before its first block.

        Between two blocks it is that of the last one, unless the last one is too old. Candidates without
        users, such as variants that were withdrawn, are left out.
        """
        if (self._run, self._policy) != (state.run, policy):
            return None
        if is_stale(self._analyzed_at, now, interval):
            self._analyze(now)
        return self._combined(self._exposed(state))

    def failed(self, state: State) -> tuple[str, ...]:
        """Return the candidates with users or copies whose verdict is Fail."""
        results = self._exposed(state)
        return tuple(name for name, result in results.items() if result.finding is Finding.FAIL)

    def _exposed(self, state: State) -> dict[str, AnalysisResult]:
        return {
            name: result for name, result in self.results.items() if state.mirror or state.weights.get(name)
        }

    @property
    def guards(self) -> dict[str, tuple[MetricVerdict, ...]]:
        """The newest verdicts of the guards, by backend; also of backends that were withdrawn."""
        # A backend with guards by rules has no users by the strategy now: its other results are older.
        found: dict[str, tuple[MetricVerdict, ...]] = {}
        for results in (self.results, self.by_rules.reasons, self.by_rules.results):
            found |= {name: result.guards for name, result in results.items() if result.guards}
        return found

    @property
    def result(self) -> AnalysisResult | None:
        """The combined verdict on the candidates of this run; None before their first block."""
        return self._combined(self.results)

    def _combined(self, results: Mapping[str, AnalysisResult]) -> AnalysisResult | None:
        if not results:
            return None
        result = combine_results(results)
        return replace(result, message=f"{result.message}; {self.missing}") if self.missing else result

    def _analyze(self, now: float) -> None:
        if self._policy is not None:
            policy, self._analyzed_at = self._policy, now
            self.results = {name: analyze(known, policy, now) for name, known in self.evidence.items()}

    def _inferred_context(self, analyzed: AnalyzedBlock, arms: Arms) -> BlockContext:
        """Return the context of a block of an earlier version, by the legs that were counted.

        A candidate whose copies are counted is mirrored, also if rules give it users. Once there are no more
        copies, it is a canary; the last ones may end after the canary has begun.
        """
        if analyzed.run != self._run:
            self._inferred = {}
        for name in arms.candidates:
            primary, shadow = (Leg(route=arms.route, variant=name, role=role) for role in Role)
            if primary in analyzed.block.legs and shadow not in analyzed.block.legs:
                self._inferred[name] = primary
            elif shadow in analyzed.block.legs:
                self._inferred.setdefault(name, shadow)
        return BlockContext(control=arms.control, legs=tuple(self._inferred.values()))


def _begins_late(first: AnalyzedBlock, *, cut_off: bool) -> bool:
    """Return whether blocks of a run are missing before its first one."""
    if first.context is None:
        return cut_off
    return bool(first.context.legs) and not first.context.began


def _exposed_legs(state: State, now: float) -> tuple[Leg, ...]:
    """Return the legs to analyze: the variants with users, or else the mirrored candidate."""
    if state.kill is not None or state.phase in {Phase.ROLLING_BACK, Phase.ROLLED_BACK}:
        return ()
    if state.phase is Phase.HEALTHY and state.weight == FULL and not _can_return(state, now):
        return ()
    found = tuple(Leg(route=state.route, variant=name) for name, share in state.weights.items() if share)
    candidate = state.program.candidate
    if not found and state.mirror and candidate is not None:
        return (Leg(route=state.route, variant=candidate, role=Role.SHADOW),)
    return found


def _can_return(state: State, now: float) -> bool:
    """Return whether the stable backend can take the users of a promoted candidate back.

    Later it may be gone, and its last failed share means less and less.
    """
    until = max(state.published_at + _AFTER_PROMOTION, state.warm_until or 0.0)
    return now < until and state.program.stable not in state.dead


def _end(block: Block) -> float:
    return block.start + block.seconds


def _seconds(blocks: Iterable[Block]) -> float:
    return sum(block.seconds for block in blocks)


def _only(block: Block, leg: Leg) -> Block:
    """Return a block reduced to one leg."""
    return replace(block, legs={known: counts for known, counts in block.legs.items() if known == leg})
