"""What one pair says for or against the candidate being like the primary's variant: signs, no sizes.

If both variants are the same model, the shadow's answer and a second answer of the primary's variant could
change places; so whichever is nearer to the answer the user got is a toss of a coin, for any prompt and any
way of measuring nearness. The same holds for the shadow's answer and the user's own as to whether either is
empty, refused or longer. Counts of such signs are all the evidence that leaves the collector: they add up
over blocks of time and over collectors.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from mirror_collector.compare.comparison import AGREEMENT, Comparison, Likeness
from mirror_collector.compare.traits import TRAITS

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["MEASURES", "SignTable", "Signs", "has_floor", "signs_of"]

_NOTHING_SAID: Final = Likeness()
_NEAR: Final = 1e-9

MEASURES: Final = (*AGREEMENT, *TRAITS, "length")
"""Every measure there can be signs of."""


@dataclass(slots=True)
class Signs:
    """How often the candidate was less like the answer users got than that is like itself, more, or neither.

    For traits: how often only the candidate had it (`less` good), only the primary (`more`), or both or
    neither; for the length: shorter, longer, as long.
    """

    less: int = 0
    more: int = 0
    same: int = 0

    def add(self, sign: int) -> None:
        """Count one."""
        if sign < 0:
            self.less += 1
        elif sign > 0:
            self.more += 1
        else:
            self.same += 1

    def merge(self, other: Signs) -> None:
        """Add all of `other`."""
        self.less += other.less
        self.more += other.more
        self.same += other.same

    def to_json(self) -> list[int]:
        """A JSON value that `from_json` reads."""
        return [self.less, self.more, self.same]

    @classmethod
    def from_json(cls, value: list[int]) -> Signs:
        """The signs `to_json` wrote."""
        return cls(*value)


@dataclass(slots=True)
class SignTable:
    """Signs by measure."""

    by_measure: dict[str, Signs] = field(default_factory=dict)

    def add(self, found: Mapping[str, int]) -> None:
        """Count the signs of one pair."""
        for name, sign in found.items():
            signs = self.by_measure.get(name)
            if signs is None:
                signs = self.by_measure[name] = Signs()
            signs.add(sign)

    def merge(self, other: SignTable) -> None:
        """Add all of `other`."""
        for name, signs in other.by_measure.items():
            self.by_measure.setdefault(name, Signs()).merge(signs)

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `from_json` reads."""
        return {name: signs.to_json() for name, signs in sorted(self.by_measure.items())}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> SignTable:
        """The table `to_json` wrote."""
        return cls({name: Signs.from_json(signs) for name, signs in value.items()})


def signs_of(found: Comparison) -> dict[str, int]:
    """Return the sign of every measure a pair says something about; -1 is against the candidate."""
    if found.client_left or found.limited:
        return {}
    signs = _traits(found)
    if found.floor is not None and has_floor(found):
        signs.update(_agreement(found.like, found.floor))
    return signs


def has_floor(found: Comparison) -> bool:
    """Whether the pair says how much answers differ by themselves."""
    return found.floor is not None and _NOTHING_SAID not in (found.like, found.floor)


def _agreement(like: Likeness, floor: Likeness) -> dict[str, int]:
    signs = {}
    for name in AGREEMENT:
        one, other = getattr(like, name), getattr(floor, name)
        if name == "meaning" and one is None and other is None:
            continue
        # What does not apply to an answer, as tool calls nobody made, does not differ.
        difference = (1.0 if one is None else one) - (1.0 if other is None else other)
        signs[name] = 0 if abs(difference) < _NEAR else (1 if difference > 0 else -1)
    return signs


def _traits(found: Comparison) -> dict[str, int]:
    mine, theirs = found.shadow.traits, found.primary.traits
    signs = {name: bool(getattr(theirs, name)) - bool(getattr(mine, name)) for name in TRAITS}
    if mine.failed or theirs.failed:
        # Who said nothing was neither brief nor polite.
        return {**dict.fromkeys(TRAITS, 0), "failed": signs["failed"], "length": 0}
    length = found.shadow.characters - found.primary.characters
    return {**signs, "length": (length > 0) - (length < 0)}
