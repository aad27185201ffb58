"""Whether the answer of a leg was read, and the coverage: how many pairs were read, by API and leg.

An answer that could not be read is no evidence of equality. If the body itself is at fault (corrupt data,
HTML, JSON of another shape, nothing at all), the answer has the trait `unreadable`, which only counts if the
other answer of the pair was read. If the collector lacks what a client has (an encoding, the rest of a long
body, a parser), the pair is no evidence in either direction. Unread answers are counted by leg and reason in
both cases.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from mirror_collector.exchange import ReplyKind, Role, UnreadReason

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mirror_collector.compare.comparison import Comparison
    from mirror_collector.exchange import Leg, Reply

__all__ = ["Coverage", "is_fault_beside_answer", "unread_reason"]

_FAULTS_BESIDE_ANSWER: Final = frozenset({UnreadReason.BINARY, UnreadReason.UNKNOWN_API})


def unread_reason(leg: Leg, reply: Reply) -> UnreadReason | None:
    """Return why the answer of a leg could not be read; None if it was read, or if the leg failed."""
    if not leg.succeeded:
        return None
    if leg.response.truncated:
        return UnreadReason.TRUNCATED
    # The API decides whether a body is required. If the API is unknown, an empty body counts as missing too,
    # because it contains no answer.
    return UnreadReason.MISSING if reply.kind is ReplyKind.EMPTY else reply.unread


def is_fault_beside_answer(reason: UnreadReason) -> bool:
    """Whether an unread body is at fault, given that the other answer to the same request was read.

    Audio or a body of an unknown API beside an answer that was read is at fault as well: it is the answer of
    another API. An unsupported encoding or a body above a limit is not.
    """
    return reason.is_defect or reason in _FAULTS_BESIDE_ANSWER


@dataclass(slots=True, kw_only=True)
class Coverage:
    """How many pairs of one API were read; excludes pairs whose client disconnected and limited pairs.

    A pair is read if both its answers were read and neither leg failed. `unread` is the number of pairs of
    which the primary's or the shadow's answer could not be read. All other pairs failed in a leg.
    """

    pairs: int = 0
    read: int = 0
    unread: int = 0
    unread_legs: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Number of unread answers by role of the leg and reason, including noise legs."""

    def add(self, comparison: Comparison) -> None:
        """Count one pair."""
        self.pairs += 1
        self.read += comparison.read
        self.unread += any(role is not Role.NOISE for role, _ in comparison.unread)
        for role, reason in comparison.unread:
            self.unread_legs[role.value, reason.value] += 1

    def merge(self, other: Coverage) -> None:
        """Add the counts of `other`."""
        self.pairs += other.pairs
        self.read += other.read
        self.unread += other.unread
        self.unread_legs.update(other.unread_legs)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object that `from_json` reads."""
        return {
            "pairs": self.pairs,
            "read": self.read,
            "unread": self.unread,
            "unread_legs": [[*key, n] for key, n in sorted(self.unread_legs.items())],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Coverage:
        """Return the counts that `to_json` wrote."""
        legs = Counter({(role, reason): n for role, reason, n in value["unread_legs"]})
        return cls(pairs=value["pairs"], read=value["read"], unread=value["unread"], unread_legs=legs)
