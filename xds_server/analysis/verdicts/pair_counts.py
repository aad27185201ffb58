"""Counts of compared pairs of answers, by API and measure, which can be added up (pure)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["UNKNOWN_API", "ApiCounts", "ComparisonCounts", "PairCounts"]

UNKNOWN_API: Final = "unknown"
"""Name of the API of all pairs of a collector that does not report APIs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonCounts:
    """How often the candidate was less similar, more similar, or neither.

    For a trait such as `refused`, `less` counts the pairs in which only the candidate's answer has it; for
    `length`, those in which it is shorter.
    """

    less: int = 0
    more: int = 0
    same: int = 0

    @property
    def n(self) -> int:
        """The number of comparisons."""
        return self.less + self.more + self.same


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiCounts:
    """The counts of the pairs of one API.

    `pairs` has all pairs, as in `PairCounts`. Of the `counted` pairs, `read` are those whose answers were
    both read without a failure, and `unread` those of which the primary's or the shadow's answer could not be
    read; the others failed. `unread_legs` has the unread answers by leg (`primary`, `shadow`, `noise`) and
    reason.
    """

    pairs: int = 0
    counted: int = 0
    read: int = 0
    unread: int = 0
    trios: int = 0
    outcomes: Mapping[str, ComparisonCounts] = field(default_factory=dict)
    unread_legs: Mapping[tuple[str, str], int] = field(default_factory=dict)

    @classmethod
    def sum(cls, parts: Iterable[ApiCounts]) -> ApiCounts:
        """Return the sum of several counts."""
        parts = list(parts)
        legs: Counter[tuple[str, str]] = Counter()
        for part in parts:
            legs.update(part.unread_legs)
        return cls(
            **{name: sum(getattr(part, name) for part in parts) for name in _API_NUMBERS},
            outcomes=_sum_outcomes(part.outcomes for part in parts),
            unread_legs=dict(legs),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PairCounts:
    """The counts of compared pairs of two backends, over all collectors.

    `pairs` has all pairs: those whose client disconnected (`client_left`), those whose copy the shadow's
    limits cut off (`limited`), those of a user or session that was counted before (`repeated`), and all
    others (`counted`). `trios` are the pairs with a noise baseline, at most one per user or session. `apis`
    has the same counts by API; it is empty if the collectors do not report them.
    """

    pairs: int = 0
    client_left: int = 0
    limited: int = 0
    counted: int = 0
    trios: int = 0
    repeated: int = 0
    outcomes: Mapping[str, ComparisonCounts] = field(default_factory=dict)
    tokens: Mapping[str, int] = field(default_factory=dict)
    apis: Mapping[str, ApiCounts] = field(default_factory=dict)

    @classmethod
    def sum(cls, parts: Iterable[PairCounts]) -> PairCounts:
        """Return the sum of several counts."""
        parts = list(parts)
        tokens: Counter[str] = Counter()
        by_api: dict[str, list[ApiCounts]] = {}
        for part in parts:
            tokens.update(part.tokens)
            for api, counts in part.apis.items():
                by_api.setdefault(api, []).append(counts)
        return cls(
            **{name: sum(getattr(part, name) for part in parts) for name in _NUMBERS},
            outcomes=_sum_outcomes(part.outcomes for part in parts),
            tokens=dict(tokens),
            apis={api: ApiCounts.sum(counts) for api, counts in by_api.items()},
        )

    def by_api(self) -> Mapping[str, ApiCounts]:
        """Return the counts by API.

        If the collectors report no APIs, all pairs belong to `UNKNOWN_API`, and all counted ones were read.
        """
        if self.apis or not self.counted:
            return self.apis
        return {
            UNKNOWN_API: ApiCounts(
                pairs=self.pairs,
                counted=self.counted,
                read=self.counted,
                trios=self.trios,
                outcomes=self.outcomes,
            )
        }


_API_NUMBERS: Final = ("pairs", "counted", "read", "unread", "trios")
_NUMBERS: Final = ("pairs", "client_left", "limited", "counted", "trios", "repeated")


def _sum_outcomes(parts: Iterable[Mapping[str, ComparisonCounts]]) -> dict[str, ComparisonCounts]:
    outcomes: dict[str, list[int]] = {}
    for part in parts:
        for name, one in part.items():
            known = outcomes.setdefault(name, [0, 0, 0])
            known[0] += one.less
            known[1] += one.more
            known[2] += one.same
    return {name: ComparisonCounts(less=a, more=b, same=c) for name, (a, b, c) in outcomes.items()}
