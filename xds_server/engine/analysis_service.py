"""Connects the counts of proxies with rollouts: counts in, verdicts and results out.

A verdict is an event for the rollout's state machine; the state machine decides whether weights change.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import structlog

from xds_server.analysis.counts import add_counts, group_by_route
from xds_server.analysis.verdicts import (
    LONGEST_BLOCK,
    AnalysisResult,
    Policy,
    RouteAnalysis,
    policy_from_spec,
)
from xds_server.rollout import Finding, Phase, Verdict
from xds_server.sources import MetricQuery
from xds_server.store import StoredBlock

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from xds_server.analysis.counts import Block, Counts, Leg
    from xds_server.analysis.verdicts import MetricVerdict
    from xds_server.clock import Clock
    from xds_server.engine.ports import MetricsSource
    from xds_server.engine.routes import LiveRoute, RouteTable
    from xds_server.rollout import State

__all__ = ["BLOCKS_RESUMED", "DAYS_STORED", "SECONDS_STORED", "AnalysisService"]

BLOCKS_RESUMED: Final = 2_000
"""Number of a route's newest blocks that are evaluated again after a restart; older ones are ignored."""
SECONDS_STORED: Final = 7 * 86_400.0
DAYS_STORED: Final = 400

log = structlog.get_logger()


class AnalysisService:
    """The analysis of every live route."""

    def __init__(self, table: RouteTable, metrics: MetricsSource, clock: Clock) -> None:
        """`metrics` holds the newest results of the policies' queries."""
        self._table = table
        self._metrics = metrics
        self._clock = clock
        self._proxies_count = True
        self._analyses: dict[str, RouteAnalysis] = {}
        self._policies: dict[str, tuple[object, Policy]] = {}
        self._logged: dict[str, Finding] = {}
        self._blocks: list[StoredBlock] = []
        self._days: dict[tuple[str, Leg], Counts] = {}

    @property
    def proxies_count(self) -> bool:
        """Whether counts come from the proxies' own reports, and not from Prometheus."""
        return self._proxies_count

    def count_from_proxy(self, group: str, legs: Mapping[Leg, Counts]) -> None:
        """Add what a proxy of a group counted; counts of routes that another group serves are ignored."""
        if self._proxies_count:
            self._count(legs, group)

    def count_from_prometheus(self, legs: Mapping[Leg, Counts]) -> None:
        """Add what Prometheus reports of all proxies; from then on, the proxies' own reports are ignored."""
        self._proxies_count = False
        self._count(legs, None)

    def _count(self, legs: Mapping[Leg, Counts], group: str | None) -> None:
        now = self._clock.now()
        for name, counts in group_by_route(legs).items():
            live = self._table.find(name)
            if live is None or group not in {None, live.group}:
                continue
            backends = {backend.name for backend in live.route.spec.backends}
            known = {leg: count for leg, count in counts.items() if leg.variant in backends}
            if known:
                self._analysis(name, now).add_counts(known)

    def resume(self, live: LiveRoute, blocks: Iterable[StoredBlock], now: float) -> None:
        """Evaluate the stored blocks of a route again, oldest first, after a restart.

        The evidence of a route that is in memory already is kept: its blocks must not count twice.
        """
        if live.name in self._analyses:
            return
        stored = tuple(blocks)
        self._analysis(live.name, now).restore(
            (one.analyzed for one in stored),
            live.state,
            self.policy(live),
            cut_off=len(stored) >= BLOCKS_RESUMED,
        )

    def forget(self, name: str) -> None:
        """Drop everything known of a route."""
        for known in (self._analyses, self._policies, self._logged):
            known.pop(name, None)

    def evaluate(self, live: LiveRoute, now: float) -> Verdict | None:
        """Close the block of counts if it is over; return a verdict if it is new, else None.

        A verdict is new if it differs from the one that the rollout stored. The two are compared on each call
        and not only after a block: a Pass that the rollout stored before a restart, a kill or an edit of the
        policy must not end a step.
        A backend whose only users are those of targets, rules or the preview can fail, too. This Fail is
        returned on each call until the next block; the rollout ignores it once the backend is withdrawn.
        In a dry run, no verdict is returned.
        """
        interval = min(LONGEST_BLOCK, live.route.spec.analysis.interval.total_seconds())
        analysis, policy, state = self._analysis(live.name, now), self.policy(live), live.state
        block = analysis.close_block(now, interval, state, policy)
        if block is not None:
            self._add_to_day(block, now)
            results = self._metrics.results(live.name)
            self._blocks.extend(
                StoredBlock(route=live.name, run=one.run, block=one.block, context=one.context)
                for one in analysis.add_block(block, state, policy, results)
            )
        result = analysis.result_at(now, state, policy, interval)
        if not (policy.guardrails or policy.thresholds or policy.guards):
            return None
        if policy.dry_run:
            if result is not None:
                self._log_dry_run(live.name, result)
            return None
        if by_rules := analysis.by_rules.failed:
            detail = "; ".join(
                f"{name} failed for users of targets, rules or the preview: {found.message}"
                for name, found in by_rules.items()
            )
            return Verdict(finding=Finding.FAIL, detail=detail, failed=tuple(by_rules))
        if not (state.weight or state.mirror):
            return None
        required = bool(policy.guardrails or policy.thresholds)
        if not required and (result is None or result.finding is not Finding.FAIL):
            return None
        verdict = _new_verdict(state, result)
        if verdict is None or verdict.finding is not Finding.FAIL:
            return verdict
        return replace(verdict, failed=analysis.failed(state))

    def _add_to_day(self, block: Block, now: float) -> None:
        day = datetime.fromtimestamp(now, tz=UTC).date().isoformat()
        for leg, counts in block.legs.items():
            total = self._days.get((day, leg))
            self._days[day, leg] = counts if total is None else add_counts(total, counts)

    def policy(self, live: LiveRoute) -> Policy:
        """Return the analysis policy of a route's spec."""
        known = self._policies.get(live.name)
        if known is None or known[0] is not live.document:
            known = self._policies[live.name] = live.document, policy_from_spec(live.route.spec)
        return known[1]

    def queries(self) -> list[MetricQuery]:
        """Return the PromQL queries of all routes."""
        return [
            MetricQuery(
                route=live.name,
                name=threshold.name,
                query=threshold.query,
                interval=live.route.spec.analysis.interval.total_seconds(),
            )
            for live in self._table
            for threshold in self.policy(live).thresholds
            if threshold.query is not None
        ]

    def result(self, name: str) -> AnalysisResult | None:
        """Return the newest result for a route's candidates; None before the first block."""
        analysis = self._analyses.get(name)
        return None if analysis is None else analysis.result

    def guards(self, name: str) -> Mapping[str, tuple[MetricVerdict, ...]]:
        """Return the newest verdicts of a route's guards, by backend."""
        analysis = self._analyses.get(name)
        return {} if analysis is None else analysis.guards

    def totals(self, name: str) -> Mapping[Leg, Counts]:
        """Return what was counted of a route since this process started."""
        analysis = self._analyses.get(name)
        return {} if analysis is None else analysis.totals

    def take_blocks(self) -> list[StoredBlock]:
        """Remove and return the closed blocks; the caller stores them."""
        blocks, self._blocks = self._blocks, []
        return blocks

    def take_days(self) -> dict[tuple[str, Leg], Counts]:
        """Remove and return the counts by day (such as 2026-01-31, UTC); the caller stores them."""
        days, self._days = self._days, {}
        return days

    def _analysis(self, name: str, now: float) -> RouteAnalysis:
        found = self._analyses.get(name)
        if found is None:
            found = self._analyses[name] = RouteAnalysis(block_started=now)
        return found

    def _log_dry_run(self, name: str, result: AnalysisResult) -> None:
        """Log what a dry run would have decided, once per change of the finding."""
        if self._logged.get(name) is not result.finding:
            self._logged[name] = result.finding
            log.info("dry_run_verdict", route=name, finding=result.finding.value, detail=result.message)


def _new_verdict(state: State, result: AnalysisResult | None) -> Verdict | None:
    """Return the verdict of a result; None if the rollout has it already or does not need it."""
    if result is None:
        # Nothing was analyzed in this run and under this policy yet.
        if state.finding is not Finding.PASS and not state.lapsed:
            return None
        return Verdict(
            finding=Finding.NO_DATA,
            detail="no counts of this rollout have been analyzed under its current analysis policy yet",
        )
    if (result.finding, result.lapsed) == (state.finding, state.lapsed):
        return None
    if state.phase is Phase.HEALTHY and result.finding is not Finding.FAIL:
        return None
    return Verdict(finding=result.finding, detail=result.message, lapsed=result.lapsed)
