"""Results of the analysis for three candidates over time: the numbers of verdict-explained.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from xds_server.analysis import Guardrail, Policy, fresh, heard, ruling
from xds_server.telemetry import Block, Counts, Leg

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xds_server.analysis import Ruling

__all__ = ["Told", "alike", "incident", "told", "worse"]

_NEW, _OLD = Leg(route="chat", variant="v2"), Leg(route="chat", variant="v1")
_ASKED: Final = Policy(guardrails=(Guardrail.of("success-rate"),))
_SECONDS: Final = 10
_REQUESTS: Final = (25, 475)
"""Fifty requests a second, 5 % of them to the candidate, in ten seconds."""

Told = tuple[int, "Ruling"]
_Failures = tuple[int, int]


def told(failures: Sequence[_Failures]) -> list[Told]:
    """Return the result after each ten-second block, given the failures of candidate and control."""
    case, said = fresh(_ASKED, _NEW, _OLD), []
    for number, (mine, others) in enumerate(failures):
        legs = {
            _NEW: Counts(requests=_REQUESTS[0], failed=mine),
            _OLD: Counts(requests=_REQUESTS[1], failed=others),
        }
        block = Block(start=float(number * _SECONDS), seconds=float(_SECONDS), legs=legs)
        case = heard(case, _ASKED, block)
        seconds = (number + 1) * _SECONDS
        said.append((seconds, ruling(case, _ASKED, float(seconds))))
    return said


def worse() -> str:
    """Return the table of a candidate that fails 2 % where control fails 0.5 %."""
    return _table(told([(number % 2, 2 + number % 2) for number in range(60)]), (10, 30, 60, 120))


def alike() -> str:
    """Return the table of a candidate that fails as seldom as control."""
    return _table(
        told([(int(number % 8 == 3), 2 + number % 2) for number in range(180)]), (60, 300, 600, 1200)
    )


def incident() -> str:
    """Return the table of an innocent candidate during ten minutes of an incident that hits both."""
    calm, storm = [(int(n % 8 == 3), 2 + n % 2) for n in range(30)], [(5, 95)] * 60
    return _table(told(calm + storm), (300, 360, 600, 900))


def _table(said: list[Told], at: tuple[int, ...]) -> str:
    """Return the results at these seconds, and the time of the first Fail."""
    first = next((seconds for seconds, ruled in said if ruled.finding.value == "Fail"), None)
    lines = ["| after | verdict | what it says |", "|---|---|---|"]
    for seconds, ruled in said:
        if seconds == first or (seconds in at and (first is None or seconds < first)):
            lines.append(f"| {_after(seconds)} | {ruled.finding.value} | {ruled.words} |")
    return "\n".join(lines)


def _after(seconds: int) -> str:
    return (
        f"{seconds} s"
        if seconds < 60
        else f"{seconds // 60} min" + (f" {seconds % 60} s" if seconds % 60 else "")
    )
