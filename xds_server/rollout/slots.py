"""Sticky slots: which of the 10,000 slots of a split belongs to whom, and how few change hands (pure).

A request's slot is a hash of its user, so a user stays where they are as long as the slot's owner does not
change. A variant that grows takes slots only from those that shrink, behind its own last slot as long as
there are any; one that shrinks gives its newest, the last ones, back first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["FULL", "Segment", "Split", "moved", "relaid", "shares"]

FULL: Final = 10_000
"""All slots of a split: weights and percentages are basis points."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A run of neighbouring slots with one owner."""

    variant: str
    slots: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """A named layout of all slots."""

    name: str
    segments: tuple[Segment, ...]


def relaid(
    segments: tuple[Segment, ...], base: str, weights: Mapping[str, int], order: Iterable[str] = ()
) -> tuple[Segment, ...]:
    """Return the layout nearest to `segments` in which each variant has its weight and `base` the rest.

    An empty layout counts as all base's. No slot changes its owner that need not: what moves is exactly what
    the growing variants gain. `order` is the order in which variants take slots (default: by name).

    Raises:
        ValueError: The weights are negative, or exceed all slots.
    """
    wanted = {variant: weight for variant, weight in weights.items() if variant != base}
    rest = FULL - sum(wanted.values())
    if rest < 0 or any(weight < 0 for weight in wanted.values()):
        raise ValueError(f"weights {dict(weights)} do not fit into {FULL} slots")
    owners = _owners(segments or (Segment(variant=base, slots=FULL),))
    held: dict[str, list[int]] = {}
    for slot, variant in enumerate(owners):
        held.setdefault(variant, []).append(slot)
    own = held.pop(base, [])
    free = {slot for variant, slots in held.items() for slot in slots[wanted.get(variant, 0) :]}
    lacks = {v: want - len(held.get(v, ())) for v, want in wanted.items()}
    # Whatever the base keeps, none of its users has to move.
    from_base = max(0, sum(lack for lack in lacks.values() if lack > 0) - len(free))
    for variant in dict.fromkeys((*order, *sorted(wanted))):
        if lacks.get(variant, 0) > 0:
            after = held[variant][-1] + 1 if variant in held else 0
            for slot in _nearest(free, own, from_base, after, lacks[variant]):
                owners[slot] = variant
                if slot in free:
                    free.remove(slot)
                else:
                    from_base -= 1
            own = [slot for slot in own if owners[slot] == base]
    for slot in free:
        owners[slot] = base
    return _segments(owners)


def _nearest(free: set[int], own: list[int], from_base: int, after: int, count: int) -> list[int]:
    """Return `count` slots from `after` on, wrapping around; at most `from_base` of them are the base's."""
    found: list[int] = []
    for slot in sorted((*free, *own), key=lambda slot: (slot < after, slot)):
        if len(found) == count:
            break
        if slot not in free:
            if from_base == 0:
                continue
            from_base -= 1
        found.append(slot)
    return found


def shares(segments: Iterable[Segment]) -> dict[str, int]:
    """Return how many slots each variant has."""
    found: dict[str, int] = {}
    for segment in segments:
        found[segment.variant] = found.get(segment.variant, 0) + segment.slots
    return found


def moved(before: Iterable[Segment], after: Iterable[Segment]) -> int:
    """Return how many slots have another owner."""
    return sum(one != other for one, other in zip(_owners(before), _owners(after), strict=True))


def _owners(segments: Iterable[Segment]) -> list[str]:
    return [segment.variant for segment in segments for _ in range(segment.slots)]


def _segments(owners: list[str]) -> tuple[Segment, ...]:
    laid: list[Segment] = []
    start = 0
    for slot in range(1, len(owners) + 1):
        if slot == len(owners) or owners[slot] != owners[start]:
            laid.append(Segment(variant=owners[start], slots=slot - start))
            start = slot
    return tuple(laid)
