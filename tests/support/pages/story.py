"""Analysis results of three simulated candidates over time: the numbers of verdict-explained.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from xds_server.analysis.counts import Block, Counts, Leg
from xds_server.analysis.verdicts import Guardrail, Policy, add_block, analyze, start_evidence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xds_server.analysis.verdicts import AnalysisResult

__all__ = ["TimedResult", "alike", "incident", "timeline", "worse"]

_NEW, _OLD = Leg(route="chat", variant="v2"), Leg(route="chat", variant="v1")
_POLICY: Final = Policy(guardrails=(Guardrail.of("success-rate"),))
_SECONDS: Final = 10
_REQUESTS: Final = (25, 475)
"""Fifty requests a second, 5 % of them to the candidate, in ten seconds."""

TimedResult = tuple[int, "AnalysisResult"]
_Failures = tuple[int, int]


def timeline(failures: Sequence[_Failures]) -> list[TimedResult]:
    """Return the result after each block of ten seconds, given the failures of candidate and control."""
    state, results = start_evidence(_POLICY, _NEW, _OLD), []
    for number, (candidate, control) in enumerate(failures):
        legs = {
            _NEW: Counts(requests=_REQUESTS[0], failed=candidate),
            _OLD: Counts(requests=_REQUESTS[1], failed=control),
        }
        block = Block(start=float(number * _SECONDS), seconds=float(_SECONDS), legs=legs)
        state = add_block(state, _POLICY, block)
        seconds = (number + 1) * _SECONDS
        results.append((seconds, analyze(state, _POLICY, float(seconds))))
    return results


def worse() -> str:
    """Return the table of a candidate that fails 2 % where control fails 0.5 %."""
    return _table(timeline([(number % 2, 2 + number % 2) for number in range(60)]), (10, 30, 60, 120))


def alike() -> str:
    """Return the table of a candidate that fails as rarely as control."""
    return _table(
        timeline([(int(number % 8 == 3), 2 + number % 2) for number in range(180)]), (60, 300, 600, 1200)
    )


def incident() -> str:
    """Return the table of a candidate without a regression during a ten-minute incident of both backends."""
    calm, storm = [(int(n % 8 == 3), 2 + n % 2) for n in range(30)], [(5, 95)] * 60
    return _table(timeline(calm + storm), (300, 360, 600, 900))


def _table(results: list[TimedResult], at: tuple[int, ...]) -> str:
    """Return the results at these seconds, and the first Fail."""
    first = next((seconds for seconds, result in results if result.finding.value == "Fail"), None)
    lines = ["| after | verdict | explanation |", "|---|---|---|"]
    for seconds, result in results:
        if seconds == first or (seconds in at and (first is None or seconds < first)):
            lines.append(f"| {_after(seconds)} | {result.finding.value} | {result.message} |")
    return "\n".join(lines)


def _after(seconds: int) -> str:
    return (
        f"{seconds} s"
        if seconds < 60
        else f"{seconds // 60} min" + (f" {seconds % 60} s" if seconds % 60 else "")
    )
