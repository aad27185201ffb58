"""Guards: gross faults roll a candidate back, whatever the spec analyzes, even nothing (pure).

A guard compares the arms like a guardrail, but affects the verdict only by a Fail: neither little evidence
nor missing data keeps a step from ending. Evidence alone is not enough for a Fail: the share in the last
minutes must be gross, too. Small regressions, such as from 0.5 to 0.6 %, are left to the metrics of the spec,
and one client that repeats a bad request causes only a small share of a busy candidate's requests.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from xds_server.analysis.verdicts.metric_state import MetricState
from xds_server.analysis.verdicts.metrics import Price

if TYPE_CHECKING:
    from xds_server.analysis.counts import Counts
    from xds_server.analysis.verdicts.policy import Guardrail

__all__ = ["GuardState"]

_FADING: Final = 0.9
"""The weight of requests relative to those ten seconds later in the recent share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardState:
    """The evidence of one guard, and the candidate's recent share as `x` of `n`, with older blocks fading."""

    state: MetricState
    x: float = 0.0
    n: float = 0.0

    @classmethod
    def initial(cls, guard: Guardrail) -> GuardState:
        """Return the state before the first block."""
        return cls(state=MetricState.initial(guard))

    def add_block(self, guard: Guardrail, arms: tuple[Counts, Counts], seconds: float) -> GuardState:
        """Return the state after a block of `seconds` with counts of (candidate, control)."""
        share, free = guard.definition.share, Price()
        x, n = (0, 0) if share is None else share(arms[0])
        fading = _FADING ** (seconds / 10.0)
        return replace(
            self,
            state=self.state.add_block(guard, arms, (free, free), seconds),
            x=fading * self.x + x,
            n=fading * self.n + n,
        )

    def is_gross(self, guard: Guardrail) -> bool:
        """Return whether the recent share is high enough for a Fail.

        Before the control has had a request, only the share of an `absolute` guard can be high enough.
        """
        metric, control = guard.definition, self.state.control.n or self.state.frozen_rate.total
        if not control and not metric.absolute:
            return False
        return self.n > 0 and self.x >= guard.definition.least * self.n
