"""Evidence: what the pairs of ten seconds say of two variants, in counts that add up.

Pairs of one user or session may be alike in ways prompts are not; where requests say whose they are, only the
first of each counts here. A block is never closed for good: the same block, counted further, replaces itself.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from mirror_collector.compare.outcomes import SignTable, has_floor, signs_of
from mirror_collector.compare.traits import TRAITS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mirror_collector.compare.comparison import Comparison

__all__ = ["BLOCK", "Block", "block_of"]

BLOCK: Final = 10
"""Seconds a block lasts."""

_ALONE: Final = frozenset({*TRAITS, "length"})


@dataclass(slots=True, kw_only=True)
class Block:
    """Counts of one block. Tokens are those of all legs of all pairs, as far as they were counted."""

    pairs: int = 0
    client_left: int = 0
    limited: int = 0
    counted: int = 0
    """Pairs whose signs are in `signs`."""

    trios: int = 0
    """Those of them with a second answer of the primary's variant."""

    repeated: int = 0
    """Pairs left out of `signs` because their user or session is in it already."""

    signs: SignTable = field(default_factory=SignTable)
    tokens: Counter[str] = field(default_factory=Counter)
    """By role."""

    def add(self, found: Comparison, *, fresh: bool, fresh_floor: bool) -> None:
        """Count one pair.

        Args:
            found: what was measured.
            fresh: whether nothing of its user or session was counted before.
            fresh_floor: whether no pair with a second answer was.
        """
        self.pairs += 1
        for role, measures in (
            ("primary", found.primary),
            ("shadow", found.shadow),
            ("noise", found.noise),
        ):
            if measures is not None and measures.spent:
                self.tokens[role] += measures.spent
        if found.client_left or found.limited:
            self.client_left += found.client_left
            self.limited += found.limited and not found.client_left
            return
        with_floor = has_floor(found) and fresh_floor
        signs = signs_of(found)
        self.signs.add(
            {name: sign for name, sign in signs.items() if (fresh if name in _ALONE else fresh_floor)}
        )
        self.counted += fresh
        self.trios += with_floor
        self.repeated += not fresh

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `from_json` reads."""
        numbers = {name: getattr(self, name) for name in _NUMBERS}
        return {**numbers, "signs": self.signs.to_json(), "tokens": dict(self.tokens)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Block:
        """The block `to_json` wrote."""
        numbers = {name: value[name] for name in _NUMBERS}
        signs = SignTable.from_json(value["signs"])
        return cls(**numbers, signs=signs, tokens=Counter(value["tokens"]))


_NUMBERS: Final = ("pairs", "client_left", "limited", "counted", "trios", "repeated")


def block_of(now: float) -> int:
    """Return the beginning of the block a moment is in, in seconds since the epoch."""
    return int(now // BLOCK) * BLOCK
