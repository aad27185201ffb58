"""What another policy would have said of recorded blocks, and when (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from xds_server.analysis.counts import Leg, Role
from xds_server.analysis.verdicts.candidate import AnalysisResult, fresh, heard, ruling
from xds_server.rollout import Finding

if TYPE_CHECKING:
    from collections.abc import Iterable

    from xds_server.analysis.counts import Block
    from xds_server.analysis.verdicts.policy import Policy

__all__ = ["Decision", "Played", "played"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A finding unlike the one before; `after` is in seconds since the candidate's first request."""

    after: float
    at: float
    finding: Finding
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """One run through a policy: its blocks, its decisions in order, and the last word.

    A run ends with its first failure: what was recorded after it would not have happened.
    """

    run: int
    blocks: int
    began: float | None
    decisions: tuple[Decision, ...]
    last: AnalysisResult | None

    @property
    def outcome(self) -> Finding:
        """What it came to."""
        return Finding.NO_DATA if self.last is None else self.last.finding


def played(
    policy: Policy, blocks: Iterable[tuple[int, Block]], *, route: str, candidate: str, control: str
) -> list[Played]:
    """Return each run of (run, block), oldest first, as the policy would have judged it."""
    runs: dict[int, list[Block]] = {}
    for run, block in blocks:
        runs.setdefault(run, []).append(block)
    stable = Leg(route=route, variant=control)
    return [_played(policy, run, recorded, route, candidate, stable) for run, recorded in runs.items()]


def _played(
    policy: Policy, run: int, blocks: list[Block], route: str, candidate: str, control: Leg
) -> Played:
    leg = Leg(route=route, variant=candidate)
    if not any(leg in block.legs for block in blocks):
        leg = Leg(route=route, variant=candidate, role=Role.SHADOW)
    case, decisions, last = fresh(policy, leg, control), list[Decision](), None
    for block in blocks:
        case = heard(case, policy, block)
        if case.since is None:
            continue
        ends = block.start + block.seconds
        found = ruling(case, policy, ends)
        if last is None or found.finding is not last.finding:
            decisions.append(
                Decision(after=ends - case.since, at=ends, finding=found.finding, words=found.words)
            )
        last = found
        if found.finding is Finding.FAIL:
            break
    return Played(run=run, blocks=len(blocks), began=case.since, decisions=tuple(decisions), last=last)
