"""Coverage: which share of each arm's answers was read, and whether the candidate's is lower (pure).

A fault inside an answer is only found if the answer is read. If fewer answers of the candidate are read than
of the control, for example because they are compressed, equal shares of failures do not show that the
candidate is not worse. Such a candidate does not pass. It does not fail for this reason either: an answer
that was not read is no evidence.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from xds_server.analysis.counts import UNREAD_REASONS

if TYPE_CHECKING:
    from xds_server.analysis.counts import Counts

__all__ = ["ArmCoverage", "Coverage"]

_HALF_LIFE: Final = 120.0
"""Seconds after which an answer has half its weight."""
_KEPT: Final = 100.0
"""An arm keeps at least this weighted number of answers when older ones fade, even with few requests."""
_MIN_ANSWERS: Final = 50.0
_TOLERATED: Final = 0.2
"""The tolerated difference of the shares: 20 points."""
_NAMED: Final = 0.01
"""The smallest share of an arm's answers for which a reason is named."""

REASONS: Final = tuple(reason for reason in UNREAD_REASONS if reason != "other")
"""Reasons that count. Answers of other formats, such as audio, are not read from any backend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmCoverage:
    """Recent answers of one arm: `read`, and `unread` in the order of `REASONS`; older ones count less."""

    read: float = 0.0
    unread: tuple[float, ...] = (0.0,) * len(REASONS)

    @property
    def total(self) -> float:
        """The weighted number of answers."""
        return self.read + sum(self.unread)

    @property
    def share(self) -> float:
        """The share of answers that were read, in [0, 1]; 1 without answers."""
        return self.read / self.total if self.total else 1.0

    @property
    def reasons(self) -> str:
        """The reasons why answers were not read, most frequent first, without those of less than 1 %."""
        found = sorted(zip(self.unread, REASONS, strict=True), key=lambda item: -item[0])
        return ", ".join(reason for n, reason in found if n >= _NAMED * self.total and n > 0)

    def add(self, counts: Counts, seconds: float) -> ArmCoverage:
        """Return the coverage after a block of `seconds`."""
        total, weight = self.total, 1.0
        if total > _KEPT:
            weight = max(0.5 ** (seconds / _HALF_LIFE), _KEPT / total)
        return ArmCoverage(
            read=weight * self.read + counts.answers + sum(counts.failures.values()),
            unread=tuple(
                weight * before + counts.unread.get(reason, 0)
                for before, reason in zip(self.unread, REASONS, strict=True)
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """The coverage of both arms."""

    candidate: ArmCoverage = field(default_factory=ArmCoverage)
    control: ArmCoverage = field(default_factory=ArmCoverage)

    def add_block(self, arms: tuple[Counts, Counts], seconds: float) -> Coverage:
        """Return the coverage after a block of `seconds` with counts of (candidate, control)."""
        return replace(
            self, candidate=self.candidate.add(arms[0], seconds), control=self.control.add(arms[1], seconds)
        )

    @property
    def gap(self) -> str:
        """Why the candidate cannot pass, as text; empty if enough of its answers are read."""
        return _gap((self.candidate, "the candidate"), (self.control, "the stable backend"))

    @property
    def control_gap(self) -> str:
        """Why failures of the control may be missed, as text; empty if enough of its answers are read."""
        return _gap((self.control, "the stable backend"), (self.candidate, "the candidate"))


def _gap(one: tuple[ArmCoverage, str], other: tuple[ArmCoverage, str]) -> str:
    """Return the unread shares of both arms if clearly fewer answers of the first are read, or ""."""
    (arm, name), (reference, reference_name) = one, other
    if min(arm.total, reference.total) < _MIN_ANSWERS or reference.share - arm.share <= _TOLERATED:
        return ""
    return (
        f"{100 * (1 - arm.share):.0f} % of {name}'s answers were not read "
        f"({arm.reasons}), {100 * (1 - reference.share):.0f} % of {reference_name}'s"
    )
