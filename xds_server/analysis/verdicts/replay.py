"""Recorded blocks run through a policy: what it would have decided, and when (pure).

The blocks go through the same code as those of a live route. The policy that was active at the time
therefore leads to the same verdicts as then.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from xds_server.analysis.verdicts.route_analysis import RouteAnalysis
from xds_server.rollout import Finding

if TYPE_CHECKING:
    from collections.abc import Iterable

    from xds_server.analysis.verdicts.analyzed_block import AnalyzedBlock
    from xds_server.analysis.verdicts.policy import Policy
    from xds_server.analysis.verdicts.result import AnalysisResult
    from xds_server.analysis.verdicts.route_analysis import Arms

__all__ = ["Decision", "ReplayedRun", "replay"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A change of the finding; `after` is in seconds since the candidate's first request."""

    after: float
    at: float
    finding: Finding
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayedRun:
    """One run under a policy: its decisions in order, and the last result.

    The run ends with its first Fail: what was recorded later would not have happened. `missing` names what
    the analysis uses and was not recorded.
    """

    run: int
    blocks: int
    started: float | None
    decisions: tuple[Decision, ...]
    last: AnalysisResult | None
    missing: tuple[str, ...] = ()

    @property
    def outcome(self) -> Finding:
        """The last finding."""
        return Finding.NO_DATA if self.last is None else self.last.finding


def replay(
    policy: Policy, blocks: Iterable[AnalyzedBlock], arms: Arms, *, run: int | None = None
) -> list[ReplayedRun]:
    """Return each run of the blocks, or only `run`, as the policy would have decided it.

    Blocks are given oldest first. Those before a run belong to its evidence, as they did when it was live.
    Runs without a candidate are left out.
    """
    analysis, runs = RouteAnalysis(block_started=0.0), dict[int, _Run]()
    for analyzed in blocks:
        replayed = runs.setdefault(analyzed.run, _Run())
        if run not in {None, analyzed.run} or replayed.failed:
            analysis.keep(analyzed.block)
            continue
        analysis.add(analyzed, policy, arms)
        replayed.add(analyzed, analysis)
    return [
        ReplayedRun(
            run=number,
            blocks=replayed.blocks,
            started=replayed.started,
            decisions=tuple(replayed.decisions),
            last=replayed.last,
            missing=replayed.missing(policy),
        )
        for number, replayed in runs.items()
        if replayed.analyzed
    ]


@dataclass(slots=True)
class _Run:
    """The findings in one run while its blocks are replayed."""

    blocks: int = 0
    started: float | None = None
    decisions: list[Decision] = field(default_factory=list)
    last: AnalysisResult | None = None
    analyzed: bool = False
    begins_late: bool = False
    queries: set[str] = field(default_factory=set)

    @property
    def failed(self) -> bool:
        return self.last is not None and self.last.finding is Finding.FAIL

    def add(self, analyzed: AnalyzedBlock, analysis: RouteAnalysis) -> None:
        """Record what the analysis found at the end of a block of this run."""
        block, context = analyzed.block, analyzed.context
        self.blocks += 1
        if context is not None:
            self.queries.update(context.query_results)
        if analysis.evidence and not self.analyzed:
            self.analyzed = True
            self.begins_late = context is not None and not context.began
        first_requests = [
            known.first_request for known in analysis.evidence.values() if known.first_request is not None
        ]
        if self.started is None:
            self.started = min(first_requests, default=None)
        found, end = analysis.result, block.start + block.seconds
        if found is None or self.started is None:
            return
        if self.last is None or found.finding is not self.last.finding:
            decision = Decision(
                after=end - self.started, at=end, finding=found.finding, message=found.message
            )
            self.decisions.append(decision)
        self.last = found

    def missing(self, policy: Policy) -> tuple[str, ...]:
        """Return what the analysis used and the blocks do not contain."""
        queries = [t.name for t in policy.thresholds if t.query and t.query not in self.queries]
        return (
            *(("the first blocks of the run",) if self.begins_late else ()),
            *(f"results of the query of metric {name}" for name in queries),
        )
