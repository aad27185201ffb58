"""Recorded blocks run through a policy: what it would have decided, and when (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from xds_server.analysis.counts import Leg, Role
from xds_server.analysis.verdicts.candidate import AnalysisResult, add_block, analyze, start_evidence
from xds_server.rollout import Finding

if TYPE_CHECKING:
    from collections.abc import Iterable

    from xds_server.analysis.counts import Block
    from xds_server.analysis.verdicts.policy import Policy

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

    The run ends with its first Fail: what was recorded later would not have happened.
    """

    run: int
    blocks: int
    started: float | None
    decisions: tuple[Decision, ...]
    last: AnalysisResult | None

    @property
    def outcome(self) -> Finding:
        """The last finding."""
        return Finding.NO_DATA if self.last is None else self.last.finding


def replay(
    policy: Policy, blocks: Iterable[tuple[int, Block]], *, route: str, candidate: str, control: str
) -> list[ReplayedRun]:
    """Return each run of the (run, block) pairs, oldest first, as the policy would have decided it."""
    runs: dict[int, list[Block]] = {}
    for run, block in blocks:
        runs.setdefault(run, []).append(block)
    stable = Leg(route=route, variant=control)
    return [_replay_run(policy, run, recorded, route, candidate, stable) for run, recorded in runs.items()]


def _replay_run(
    policy: Policy, run: int, blocks: list[Block], route: str, candidate: str, control: Leg
) -> ReplayedRun:
    leg = Leg(route=route, variant=candidate)
    if not any(leg in block.legs for block in blocks):
        leg = Leg(route=route, variant=candidate, role=Role.SHADOW)
    evidence, decisions, last = start_evidence(policy, leg, control), list[Decision](), None
    for block in blocks:
        evidence = add_block(evidence, policy, block)
        if evidence.first_request is None:
            continue
        ends = block.start + block.seconds
        found = analyze(evidence, policy, ends)
        if last is None or found.finding is not last.finding:
            decisions.append(
                Decision(
                    after=ends - evidence.first_request, at=ends, finding=found.finding, message=found.message
                )
            )
        last = found
        if found.finding is Finding.FAIL:
            break
    return ReplayedRun(
        run=run, blocks=len(blocks), started=evidence.first_request, decisions=tuple(decisions), last=last
    )
