"""What was learnt so far of one guardrail, block by block (pure).

Evidence only ever compares arms within a block. What is usual of control (its quantiles, its clustering) is
learnt from control alone, before and while the candidate has users.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import exp, inf, log
from typing import TYPE_CHECKING, Final

from xds_server.analysis.counts import Buckets, nearest_edge
from xds_server.analysis.verdicts.dispersion import Dispersion
from xds_server.analysis.verdicts.means import Means
from xds_server.analysis.verdicts.metrics import Kind, Price
from xds_server.analysis.verdicts.odds import Odds, Table, grid_with

if TYPE_CHECKING:
    from xds_server.analysis.counts import Counts
    from xds_server.analysis.verdicts.policy import Guardrail

__all__ = ["MetricState", "Totals", "quantile"]

_LEAST: Final = {0.5: 100, 0.99: 500}
"""How many requests of control it takes before its quantile is known."""
_FADING: Final = 0.98
_MOST: Final = 200
"""How much a block may weigh in what is usual, in requests: a flood of other requests a minute ago must not
be what today's users are held against."""
_SMOOTH: Final = 0.2
_FAR: Final = 3.0
"""How many times more than should may exceed the edge below a quantile for it to be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Sums of one arm over all blocks in which both were seen: `x` of `n`, or a weighted sum of means."""

    x: int = 0
    n: int = 0
    total: float = 0.0
    buckets: Buckets = ()

    def plus(self, x: int, n: int, total: float = 0.0, buckets: Buckets = ()) -> Totals:
        """Return the tally with one more block."""
        return Totals(
            x=self.x + x, n=self.n + n, total=self.total + total, buckets=_summed(self.buckets, buckets)
        )

    @property
    def share(self) -> float | None:
        """The share that failed; None without requests."""
        return self.x / self.n if self.n else None

    @property
    def mean(self) -> float | None:
        """The mean over all blocks; None without requests."""
        return self.total / self.n if self.n else None


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricState:
    """Evidence on one guardrail. `edge` is control's quantile so far, as the index of a bucket's edge.

    `usual` are control's buckets, older blocks fading and none heavy, and `level` its mean, smoothed.
    `blocks` counts the blocks in which both arms were seen.
    """

    odds: Odds
    means: Means = field(default_factory=Means)
    dispersion: Dispersion = field(default_factory=Dispersion)
    edge: int | None = None
    usual: tuple[float, ...] = ()
    level: float | None = None
    candidate: Totals = field(default_factory=Totals)
    control: Totals = field(default_factory=Totals)
    blocks: int = 0

    @classmethod
    def fresh(cls, guardrail: Guardrail) -> MetricState:
        """Return what is known before the first block."""
        return cls(odds=Odds.none(grid_with(*_ratios(guardrail))))

    def after(
        self, guardrail: Guardrail, arms: tuple[Counts, Counts], prices: tuple[Price, Price]
    ) -> MetricState:
        """Return what is known after a block of (candidate, control)."""
        match guardrail.definition.kind:
            case Kind.SHARE:
                return self._after_share(guardrail, arms)
            case Kind.EXCEEDANCE:
                return self._after_exceedance(guardrail, arms)
            case Kind.MEAN:
                return self._after_mean(guardrail, arms, prices)

    def _after_share(self, guardrail: Guardrail, arms: tuple[Counts, Counts]) -> MetricState:
        share = guardrail.definition.share
        if share is None:
            return self
        (x, n), (y, m) = share(arms[0]), share(arms[1])
        return _weighed(self, Table(candidate_x=x, candidate_n=n, control_x=y, control_n=m))

    def _after_exceedance(self, guardrail: Guardrail, arms: tuple[Counts, Counts]) -> MetricState:
        metric = guardrail.definition
        if metric.buckets is None:
            return self
        candidate, control = metric.buckets(arms[0]), metric.buckets(arms[1])
        # What a block is held against was known before it; that is all the test asks for.
        edge = self.edge
        fading = tuple(_FADING * old for old in self.usual) if self.usual else (0.0,) * len(control)
        weight = min(1.0, _MOST / max(1, sum(control)))
        usual = tuple(old + weight * new for old, new in zip(fading, control, strict=True))
        known = sum(usual) >= _LEAST[metric.quantile]
        after = replace(
            self,
            usual=usual,
            edge=min(_edge_of(usual, metric.quantile), len(metric.edges) - 1) if known else edge,
        )
        if edge is None:
            return after
        further = nearest_edge(metric.edges, metric.edges[edge] * guardrail.max_ratio)
        table = Table(
            candidate_x=sum(candidate[further + 1 :]),
            candidate_n=sum(candidate),
            control_x=sum(control[edge + 1 :]),
            control_n=sum(control),
        )
        return _weighed(after, table, (candidate, control))

    def _after_mean(
        self, guardrail: Guardrail, arms: tuple[Counts, Counts], prices: tuple[Price, Price]
    ) -> MetricState:
        read = guardrail.definition.mean
        if read is None:
            return self
        one, other = read(arms[0], prices[0]), read(arms[1], prices[1])
        if other is None:
            return self
        value, m = other
        level = value if self.level is None else self.level + _SMOOTH * (value - self.level)
        after = replace(self, level=level)
        if one is None:
            return after
        mine, n = one
        if guardrail.metric == "tokens-per-request":
            difference = mine - value
        elif level:
            difference = (mine - value) / level
        else:
            return after
        return replace(
            after,
            means=self.means.after(difference, n, m),
            candidate=self.candidate.plus(0, n, mine * n),
            control=self.control.plus(0, m, value * m),
            blocks=self.blocks + 1,
        )

    # Reading it

    def against(self, guardrail: Guardrail) -> float:
        """Return the logarithm of the evidence that the candidate is worse than tolerated."""
        if guardrail.definition.kind is Kind.MEAN:
            return self.means.above(_limit(guardrail, guardrail.max_ratio))
        return self.odds.worse_than(_tolerated(guardrail))

    def in_favour(self, guardrail: Guardrail) -> float:
        """Return the logarithm of the evidence that the candidate is not worse than the margin."""
        compared = self.odds.better_than(guardrail.margin)
        match guardrail.definition.kind:
            case Kind.MEAN:
                return self.means.below(_limit(guardrail, guardrail.margin))
            case Kind.EXCEEDANCE:
                return compared
            case Kind.SHARE:
                # The mean of two such numbers is one as well: either proof is enough.
                rare = self._rarer_than(guardrail.acceptable)
                top = max(compared, rare)
                return top + log((exp(compared - top) + exp(rare - top)) / 2)

    def _rarer_than(self, limit: float) -> float:
        """Return the logarithm of the evidence against the candidate failing at least that often."""
        if not 0 < limit < 1:
            return -inf
        x, n = self.candidate.x, self.candidate.n
        found = []
        for halvings in range(1, 9):
            share = limit / 2**halvings
            found.append(
                (x * log(share / limit) + (n - x) * log((1 - share) / (1 - limit))) / self.dispersion.phi
            )
        top = max(found)
        return top + log(sum(exp(value - top) for value in found) / len(found))


def _weighed(memory: MetricState, table: Table, buckets: tuple[Buckets, Buckets] = ((), ())) -> MetricState:
    dispersion = memory.dispersion.after(
        (table.control_x, table.control_n), (table.candidate_x, table.candidate_n)
    )
    after = replace(memory, dispersion=dispersion)
    if not table.candidate_n or not table.control_n:
        return after
    return replace(
        after,
        odds=memory.odds.after(table).with_phi(dispersion.phi),
        candidate=memory.candidate.plus(table.candidate_x, table.candidate_n, buckets=buckets[0]),
        control=memory.control.plus(table.control_x, table.control_n, buckets=buckets[1]),
        blocks=memory.blocks + 1,
    )


def quantile(buckets: Buckets, edges: tuple[float, ...], share: float) -> float | None:
    """Return a quantile, within its bucket by a straight line; None without values."""
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


def _summed(one: Buckets, other: Buckets) -> Buckets:
    if not one or not other:
        return one or other
    return tuple(a + b for a, b in zip(one, other, strict=True))


def _edge_of(buckets: tuple[float, ...], quantile: float) -> int:
    """Return the edge above the quantile, or the one below it where that is nearer and not far off.

    The one above may lie out in the tail, where almost nothing is ever counted; the one below may have nearly
    everything above it, where a slower candidate could not exceed it more often.
    """
    total = above = sum(buckets)
    wanted, before = 1 - quantile, 1.0
    for index, count in enumerate(buckets):
        above -= count
        share = max(0.0, above) / total
        if share <= wanted:
            near = before <= min(_FAR * wanted, (1 + wanted) / 2)
            nearer = abs(log(before / wanted)) < abs(log(max(share, 1 / total) / wanted))
            return index - 1 if index and near and nearer else index
        before = share
    return len(buckets) - 1


def _ratios(guardrail: Guardrail) -> tuple[float, ...]:
    return (_tolerated(guardrail), guardrail.margin) if guardrail.definition.kind is not Kind.MEAN else ()


def _tolerated(guardrail: Guardrail) -> float:
    """Return the tolerated odds ratio; for latency, what is tolerated is a longer time and no worse odds."""
    return guardrail.max_ratio if guardrail.definition.kind is Kind.SHARE else 1.0


def _limit(guardrail: Guardrail, ratio: float) -> float:
    return log(ratio) if guardrail.metric == "tokens-per-request" else ratio - 1.0
