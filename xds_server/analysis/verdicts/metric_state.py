"""The evidence on one guardrail, updated block by block (pure).

Evidence compares the arms only within a block. The reference values (quantiles, mean, clustering) are
estimated from the control, both before and while the candidate has users.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import inf, log, sqrt
from typing import TYPE_CHECKING, Final

from xds_server.analysis.counts import Buckets, nearest_edge
from xds_server.analysis.verdicts.cell_evidence import CellEvidence
from xds_server.analysis.verdicts.dispersion import Dispersion
from xds_server.analysis.verdicts.e_values import log_mean_exp
from xds_server.analysis.verdicts.frozen_rate import ALPHA_PART, FrozenRate
from xds_server.analysis.verdicts.incidents import ControlIncidents
from xds_server.analysis.verdicts.mean_difference import Means, MeanStarts
from xds_server.analysis.verdicts.metrics import Kind, Price
from xds_server.analysis.verdicts.odds_ratio import Comparison, Odds, Table

if TYPE_CHECKING:
    from xds_server.analysis.counts import Counts
    from xds_server.analysis.verdicts.policy import Guardrail

__all__ = ["MIN_REQUESTS", "MetricState", "Totals", "quantile"]

MIN_REQUESTS: Final = {0.5: 100, 0.99: 500}
"""The number of the control's requests required before a quantile of theirs is the reference, by quantile."""
_SECONDS: Final = 10.0
_FADING: Final = 0.98
"""The weight of requests in the reference relative to those ten seconds later."""
_MAX_WEIGHT: Final = 200
"""The largest weight of ten seconds in the reference, in requests.

A short burst of unusual requests must not determine the reference.
"""
_SMOOTHING: Final = 0.2
"""The weight of ten seconds in the reference mean."""
_TOKEN_NOISE: Final = log(1.25) / sqrt(12)
"""The standard deviation of the logarithm of a value that may lie anywhere in its bucket of tokens."""
_MAX_EXCESS: Final = 3.0
"""The edge below a quantile is used only if at most this many times the nominal share lies above it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Sums of one arm over the blocks with requests of both arms: `x` of `n`, or `total` for means."""

    x: int = 0
    n: int = 0
    total: float = 0.0
    buckets: Buckets = ()

    def add(self, x: int, n: int, total: float = 0.0, buckets: Buckets = ()) -> Totals:
        """Return the totals with one more block."""
        return Totals(
            x=self.x + x, n=self.n + n, total=self.total + total, buckets=_add_buckets(self.buckets, buckets)
        )

    @property
    def share(self) -> float | None:
        """The failed share; None without requests."""
        return self.x / self.n if self.n else None

    @property
    def mean(self) -> float | None:
        """The mean over all blocks; None without requests."""
        return self.total / self.n if self.n else None


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricState:
    """The evidence on one guardrail.

    `reference_edge` is the bucket edge at the control's quantile, as an index. It comes from
    `reference_buckets`, the control's buckets with older blocks fading and the weight of each block limited.
    `reference_mean` is the control's smoothed mean. `blocks` counts the blocks in which the arms were
    compared: both had requests, and the control had no incident of its own. `cells` compares them over cells
    of users, for metrics that are counted by cell.
    """

    comparison: Comparison
    mean_starts: MeanStarts = field(default_factory=MeanStarts)
    dispersion: Dispersion = field(default_factory=Dispersion)
    reference_edge: int | None = None
    reference_buckets: tuple[float, ...] = ()
    reference_mean: float | None = None
    incidents: ControlIncidents = field(default_factory=ControlIncidents)
    frozen_rate: FrozenRate = field(default_factory=FrozenRate)
    candidate: Totals = field(default_factory=Totals)
    control: Totals = field(default_factory=Totals)
    blocks: int = 0
    cells: CellEvidence = field(default_factory=CellEvidence)

    @classmethod
    def initial(cls, guardrail: Guardrail) -> MetricState:
        """Return the state before the first block."""
        means = Means(noise=_TOKEN_NOISE) if guardrail.metric == "tokens-per-request" else Means()
        comparison = Comparison.initial()
        if guardrail.definition.kind is not Kind.MEAN:
            comparison = Comparison.initial(_tolerated_odds(guardrail), guardrail.margin)
        return cls(comparison=comparison, mean_starts=MeanStarts(whole=means))

    @property
    def odds(self) -> Odds:
        """The likelihoods of odds ratios since the start of the run."""
        return self.comparison.odds

    @property
    def means(self) -> Means:
        """The sums of differences since the start of the run."""
        return self.mean_starts.whole

    def add_block(
        self,
        guardrail: Guardrail,
        arms: tuple[Counts, Counts],
        prices: tuple[Price, Price],
        seconds: float = 10.0,
    ) -> MetricState:
        """Return the state after a block of `seconds` with counts of (candidate, control)."""
        match guardrail.definition.kind:
            case Kind.SHARE:
                return self._add_share(guardrail, arms, seconds)
            case Kind.EXCEEDANCE:
                return self._add_exceedance(guardrail, arms, seconds)
            case Kind.MEAN:
                return self._add_mean(guardrail, arms, prices, seconds)

    def _add_share(self, guardrail: Guardrail, arms: tuple[Counts, Counts], seconds: float) -> MetricState:
        share = guardrail.definition.share
        if share is None:
            return self
        (x, n), (y, m) = share(arms[0]), share(arms[1])
        if n and not m:
            frozen = self.frozen_rate.add_candidate_alone(x, n, self.dispersion.phi)
            return replace(self, frozen_rate=frozen)
        incidents = self.incidents.add_share(y, m, seconds)
        if incidents.present:
            return replace(self, incidents=incidents)
        after = _add_table(self, Table(candidate_x=x, candidate_n=n, control_x=y, control_n=m), seconds)
        by_cell, ratio = guardrail.definition.by_cell, guardrail.max_ratio
        return replace(
            after,
            incidents=incidents,
            frozen_rate=self.frozen_rate.add_control(y, m, seconds),
            cells=self.cells.add_block(share, arms, seconds, ratio) if by_cell else self.cells,
        )

    def _add_exceedance(
        self, guardrail: Guardrail, arms: tuple[Counts, Counts], seconds: float
    ) -> MetricState:
        metric = guardrail.definition
        if metric.buckets is None:
            return self
        candidate, control = metric.buckets(arms[0]), metric.buckets(arms[1])
        edge = self.reference_edge
        tens = seconds / _SECONDS
        fading = tuple(_FADING**tens * old for old in self.reference_buckets) or (0.0,) * len(control)
        weight = min(1.0, _MAX_WEIGHT * tens / max(1, sum(control)))
        buckets = tuple(old + weight * new for old, new in zip(fading, control, strict=True))
        next_edge = edge
        if sum(buckets) >= MIN_REQUESTS[metric.quantile]:
            next_edge = min(_nearest_edge_to_quantile(buckets, metric.quantile), len(metric.edges) - 1)
        after = replace(self, reference_buckets=buckets, reference_edge=next_edge)
        # The test is valid only if the edge was fixed before the block it is applied to.
        table = self._exceedances(guardrail, arms)
        return after if table is None else _add_table(after, table, seconds, (candidate, control))

    def _exceedances(self, guardrail: Guardrail, arms: tuple[Counts, Counts]) -> Table | None:
        """Return how many requests of each arm took longer than the reference; None without one."""
        metric, edge = guardrail.definition, self.reference_edge
        if metric.buckets is None or edge is None:
            return None
        candidate, control = metric.buckets(arms[0]), metric.buckets(arms[1])
        tolerated = nearest_edge(metric.edges, metric.edges[edge] * guardrail.max_ratio)
        return Table(
            candidate_x=sum(candidate[tolerated + 1 :]),
            candidate_n=sum(candidate),
            control_x=sum(control[edge + 1 :]),
            control_n=sum(control),
        )

    def looks_worse(self, guardrail: Guardrail, arms: tuple[Counts, Counts]) -> bool:
        """Return whether the share of these counts is higher at the candidate; means are not looked at."""
        metric = guardrail.definition
        if metric.share is not None:
            (x, n), (y, m) = metric.share(arms[0]), metric.share(arms[1])
            return x > 0 and (not m or x * m > y * n)
        table = self._exceedances(guardrail, arms) if metric.kind is Kind.EXCEEDANCE else None
        if table is None:
            return False
        return table.candidate_x * table.control_n > table.control_x * table.candidate_n

    def _add_mean(
        self,
        guardrail: Guardrail,
        arms: tuple[Counts, Counts],
        prices: tuple[Price, Price],
        seconds: float,
    ) -> MetricState:
        read = guardrail.definition.mean
        if read is None:
            return self
        candidate, control = read(arms[0], prices[0]), read(arms[1], prices[1])
        if control is None:
            return self
        control_mean, m = control
        reference = control_mean if self.reference_mean is None else self.reference_mean
        in_logs = guardrail.metric == "tokens-per-request"
        incidents = self.incidents
        if guardrail.metric != "inter-token":
            incidents = incidents.add_mean(_log_ratio(control_mean, reference, in_logs=in_logs), m, seconds)
        if incidents.present:
            return replace(self, incidents=incidents)
        reference += (1 - (1 - _SMOOTHING) ** (seconds / _SECONDS)) * (control_mean - reference)
        after = replace(self, reference_mean=reference, incidents=incidents)
        if candidate is None:
            return after
        candidate_mean, n = candidate
        if in_logs:
            difference = candidate_mean - control_mean
        elif reference:
            difference = (candidate_mean - control_mean) / reference
        else:
            return after
        return replace(
            after,
            mean_starts=self.mean_starts.add_block(difference, n, m, seconds),
            candidate=self.candidate.add(0, n, candidate_mean * n),
            control=self.control.add(0, m, control_mean * m),
            blocks=self.blocks + 1,
        )

    def log_evidence_against(self, guardrail: Guardrail, needed: float = 0.0) -> float:
        """Return the log evidence against the candidate: over requests or over cells, whichever is less.

        If too few cells have requests to prove a fault with `needed`, the requests decide alone.
        """
        over_requests = self.log_evidence_over_requests(guardrail)
        if not self.cells.applies or not self.cells.can_prove(needed):
            return over_requests
        return min(over_requests, self.cells.log_evidence_worse)

    def log_evidence_over_requests(self, guardrail: Guardrail) -> float:
        """Return the log evidence that the candidate is worse than tolerated, since some start."""
        if guardrail.definition.kind is Kind.MEAN:
            return self.mean_starts.log_evidence_above(_mean_limit(guardrail, guardrail.max_ratio))
        return self.comparison.log_evidence_worse

    @property
    def log_evidence_of_gross_failure(self) -> float:
        """The log evidence that the candidate fails grossly while the control has no requests.

        This test has only the part `ALPHA_PART` of alpha. The logarithm of that part is added, so that a
        verdict can use the same threshold as for `log_evidence_against`.
        """
        return self.frozen_rate.log_evidence + log(ALPHA_PART)

    def doubt(self, guardrail: Guardrail) -> float:
        """Return the log evidence in the newest blocks that the candidate is worse, since any start."""
        if guardrail.definition.kind is Kind.MEAN:
            return self.mean_starts.doubt_above(_mean_limit(guardrail, guardrail.max_ratio))
        return self.comparison.worse.doubt

    def log_evidence_for(self, guardrail: Guardrail) -> float:
        """Return the log evidence that the candidate is not worse by more than the margin."""
        compared = self.odds.log_evidence_better(guardrail.margin)
        match guardrail.definition.kind:
            case Kind.MEAN:
                return self.means.log_evidence_below(_mean_limit(guardrail, guardrail.margin))
            case Kind.EXCEEDANCE:
                return compared
            case Kind.SHARE:
                # The mean of two e-values is an e-value: either proof suffices.
                return log_mean_exp((compared, self._log_evidence_rarer_than(guardrail.acceptable)))

    def _log_evidence_rarer_than(self, limit: float) -> float:
        """Return the log evidence that the candidate fails less often than `limit`."""
        if not 0 < limit < 1:
            return -inf
        x, n = self.candidate.x, self.candidate.n
        ratios = []
        for halvings in range(1, 9):
            share = limit / 2**halvings
            ratios.append(
                (x * log(share / limit) + (n - x) * log((1 - share) / (1 - limit))) / self.dispersion.phi
            )
        return log_mean_exp(ratios)


def _add_table(
    state: MetricState,
    table: Table,
    seconds: float,
    buckets: tuple[Buckets, Buckets] = ((), ()),
) -> MetricState:
    dispersion = state.dispersion.add_block(
        (table.control_x, table.control_n), (table.candidate_x, table.candidate_n), seconds
    )
    after = replace(state, dispersion=dispersion)
    if not table.candidate_n or not table.control_n:
        return after
    return replace(
        after,
        comparison=state.comparison.add_block(table, dispersion.phi, seconds),
        candidate=state.candidate.add(table.candidate_x, table.candidate_n, buckets=buckets[0]),
        control=state.control.add(table.control_x, table.control_n, buckets=buckets[1]),
        blocks=state.blocks + 1,
    )


def _log_ratio(mean: float, reference: float, *, in_logs: bool) -> float:
    """Return the logarithm of a mean over its reference; 0 if there is none. Means may be logarithms."""
    if in_logs:
        return mean - reference
    return log(mean / reference) if mean > 0 and reference > 0 else 0.0


def quantile(buckets: Buckets, edges: tuple[float, ...], share: float) -> float | None:
    """Return a quantile, interpolated linearly within its bucket; None without values."""
    total = sum(buckets)
    if not total:
        return None
    rank, below = share * total, 0
    for index, count in enumerate(buckets):
        if count and below + count >= rank:
            low = edges[index - 1] if index else 0.0
            high = edges[index] if index < len(edges) else edges[-1]
            return low + (high - low) * (rank - below) / count
        below += count
    return edges[-1]


def _add_buckets(one: Buckets, other: Buckets) -> Buckets:
    if not one or not other:
        return one or other
    return tuple(a + b for a, b in zip(one, other, strict=True))


def _nearest_edge_to_quantile(buckets: tuple[float, ...], quantile: float) -> int:
    """Return the index of the edge above the quantile, or of the one below if it is nearer and usable.

    The edge above may lie far out in the tail, where almost nothing is counted. The edge below may have
    nearly all requests above it, so that a slower candidate could not exceed it more often.
    """
    total = above = sum(buckets)
    nominal, before = 1 - quantile, 1.0
    for index, count in enumerate(buckets):
        above -= count
        share = max(0.0, above) / total
        if share <= nominal:
            usable = before <= min(_MAX_EXCESS * nominal, (1 + nominal) / 2)
            nearer = abs(log(before / nominal)) < abs(log(max(share, 1 / total) / nominal))
            return index - 1 if index and usable and nearer else index
        before = share
    return len(buckets) - 1


def _tolerated_odds(guardrail: Guardrail) -> float:
    """Return the tolerated odds ratio; 1 for latency, where the edge is tolerated instead."""
    return guardrail.max_ratio if guardrail.definition.kind is Kind.SHARE else 1.0


def _mean_limit(guardrail: Guardrail, ratio: float) -> float:
    return log(ratio) if guardrail.metric == "tokens-per-request" else ratio - 1.0
