"""Where evidence meets rollouts: counts of proxies in, verdicts for the machine and numbers for people out.

It decides nothing about users: whether a verdict moves anybody is the machine's business.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import structlog

from xds_server.analysis.counts import add_counts
from xds_server.analysis.verdicts import AnalysisResult, Policy, RouteAnalysis, policy_from_spec
from xds_server.rollout import Finding, Verdict
from xds_server.store import StoredBlock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from xds_server.analysis.counts import Counts, Leg
    from xds_server.engine.live import LiveRoute

__all__ = ["BLOCKS_KEPT", "DAYS_KEPT", "KEPT_SECONDS", "AnalysisService"]

BLOCKS_KEPT: Final = 2_000
"""Blocks that are heard again after a restart; what lay before is forgotten, which errs on the safe side."""
KEPT_SECONDS: Final = 7 * 86_400.0
DAYS_KEPT: Final = 400

log = structlog.get_logger()


def _no_answers(_live: LiveRoute) -> dict[str, float | None]:
    return {}


@dataclass(slots=True)
class AnalysisService:
    """The dockets of all routes. `answers` tells what a policy's queries found last."""

    answers: Callable[[LiveRoute], Mapping[str, float | None]] = _no_answers
    kept: list[StoredBlock] = field(default_factory=list)
    days: dict[tuple[str, Leg], Counts] = field(default_factory=dict)
    _dockets: dict[str, RouteAnalysis] = field(default_factory=dict)
    _policies: dict[str, tuple[object, Policy]] = field(default_factory=dict)
    _said: dict[str, Finding] = field(default_factory=dict)

    def count(self, live: LiveRoute, legs: Mapping[Leg, Counts], now: float) -> None:
        """Take in what a proxy counted of a route; of backends the route does not have, nothing."""
        known = {backend.name for backend in live.route.spec.backends}
        own = {leg: counts for leg, counts in legs.items() if leg.variant in known}
        if own:
            self._docket(live.name, now).add_counts(own)

    def resume(self, live: LiveRoute, blocks: Iterable[StoredBlock], now: float) -> None:
        """Hear again what was kept of a route before a restart."""
        docket = self._docket(live.name, now)
        docket.restore(((stored.run, stored.block) for stored in blocks), live.state, self.policy(live))

    def forget(self, name: str) -> None:
        """Let go of a route."""
        for known in (self._dockets, self._policies, self._said):
            known.pop(name, None)

    def hear(self, live: LiveRoute, now: float) -> Verdict | None:
        """Cut a block if it is time, and return the verdict if the machine does not know it yet."""
        interval = live.route.spec.analysis.interval.total_seconds()
        docket = self._docket(live.name, now)
        block = docket.close_block(now, interval)
        if block is None:
            return None
        day = datetime.fromtimestamp(now, tz=UTC).date().isoformat()
        for leg, counts in block.legs.items():
            known = self.days.get((day, leg))
            self.days[day, leg] = counts if known is None else add_counts(known, counts)
        policy, state = self.policy(live), live.state
        docket.add_block(block, state, policy, self.answers(live))
        if block.legs and state.program.variants:
            self.kept.append(StoredBlock(route=live.name, run=state.run, block=block))
        ruling = docket.result
        if ruling is None or not (policy.guardrails or policy.thresholds):
            return None
        if policy.dry_run:
            self._say(live.name, ruling)
            return None
        exposed = state.weight or state.mirror
        if ruling.finding is state.finding or not exposed:
            return None
        return Verdict(finding=ruling.finding, detail=ruling.message)

    def policy(self, live: LiveRoute) -> Policy:
        """Return what a route asks of the evidence."""
        known = self._policies.get(live.name)
        if known is None or known[0] is not live.document:
            known = self._policies[live.name] = live.document, policy_from_spec(live.route.spec)
        return known[1]

    def ruling(self, name: str) -> AnalysisResult | None:
        """Return the newest verdict on a route's candidate."""
        docket = self._dockets.get(name)
        return None if docket is None else docket.result

    def totals(self, name: str) -> Mapping[Leg, Counts]:
        """Return what was counted of a route since this process started."""
        docket = self._dockets.get(name)
        return {} if docket is None else docket.totals

    def take_kept(self) -> list[StoredBlock]:
        """Return the blocks that wait to be kept, and let go of them."""
        kept, self.kept = self.kept, []
        return kept

    def take_days(self) -> dict[tuple[str, Leg], Counts]:
        """Return what was counted by day since the last call."""
        days, self.days = self.days, {}
        return days

    def _docket(self, name: str, now: float) -> RouteAnalysis:
        found = self._dockets.get(name)
        if found is None:
            found = self._dockets[name] = RouteAnalysis(block_started=now)
        return found

    def _say(self, name: str, ruling: AnalysisResult) -> None:
        """Log what a dry run would have done, once."""
        if self._said.get(name) is not ruling.finding:
            self._said[name] = ruling.finding
            log.info("dry_run_verdict", route=name, finding=ruling.finding.value, detail=ruling.message)
