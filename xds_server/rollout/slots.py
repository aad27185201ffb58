"""Sticky slots: assign the 10,000 slots of a split to variants, with as few changes as possible (pure).

The slot of a request is a hash of its user, so a user keeps the variant as long as the slot keeps its owner.
A variant that grows takes slots only from those that shrink, starting after its own last slot; a variant that
shrinks releases its last slots, the newest ones, first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["FULL", "Segment", "Split", "count_moved", "reallocate", "segments_of", "slots_by_variant"]

FULL: Final = 10_000
"""The number of slots of a split: weights and percentages are basis points."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A run of adjacent slots with one owner."""

    variant: str
    slots: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """A named assignment of all slots."""

    name: str
    segments: tuple[Segment, ...]


def reallocate(
    segments: tuple[Segment, ...], base: str, weights: Mapping[str, int], order: Iterable[str] = ()
) -> tuple[Segment, ...]:
    """Return the layout nearest to `segments` in which each variant has its weight and `base` the rest.

    An empty layout means that `base` owns all slots. Only as many slots change owner as the growing variants
    gain. `order` is the order in which variants take slots (default: by name).

    Raises:
        ValueError: A weight is negative, or the weights exceed the number of slots.
    """
    targets = {variant: weight for variant, weight in weights.items() if variant != base}
    rest = FULL - sum(targets.values())
    if rest < 0 or any(weight < 0 for weight in targets.values()):
        listed = ", ".join(f"{variant} {weight}" for variant, weight in weights.items())
        raise ValueError(f"the weights do not fit into {FULL} slots: {listed}")
    owners = _owners(segments or (Segment(variant=base, slots=FULL),))
    owned: dict[str, list[int]] = {}
    for slot, variant in enumerate(owners):
        owned.setdefault(variant, []).append(slot)
    base_slots = owned.pop(base, [])
    free = {slot for variant, slots in owned.items() for slot in slots[targets.get(variant, 0) :]}
    missing = {v: target - len(owned.get(v, ())) for v, target in targets.items()}
    # The base gives up only what the released slots do not cover, so none of its users moves needlessly.
    from_base = max(0, sum(count for count in missing.values() if count > 0) - len(free))
    for variant in dict.fromkeys((*order, *sorted(targets))):
        if missing.get(variant, 0) > 0:
            after = owned[variant][-1] + 1 if variant in owned else 0
            for slot in _nearest(free, base_slots, from_base, after, missing[variant]):
                owners[slot] = variant
                if slot in free:
                    free.remove(slot)
                else:
                    from_base -= 1
            base_slots = [slot for slot in base_slots if owners[slot] == base]
    for slot in free:
        owners[slot] = base
    return _segments(owners)


def _nearest(free: set[int], base_slots: list[int], from_base: int, after: int, count: int) -> list[int]:
    """Return `count` slots from `after` on, wrapping around; at most `from_base` of them are the base's."""
    found: list[int] = []
    for slot in sorted((*free, *base_slots), key=lambda slot: (slot < after, slot)):
        if len(found) == count:
            break
        if slot not in free:
            if from_base == 0:
                continue
            from_base -= 1
        found.append(slot)
    return found


def segments_of(splits: Iterable[Split], name: str) -> tuple[Segment, ...]:
    """Return the layout of the split with this name; empty if there is no such split."""
    return next((split.segments for split in splits if split.name == name), ())


def slots_by_variant(segments: Iterable[Segment]) -> dict[str, int]:
    """Return the number of slots of each variant."""
    found: dict[str, int] = {}
    for segment in segments:
        found[segment.variant] = found.get(segment.variant, 0) + segment.slots
    return found


def count_moved(before: Iterable[Segment], after: Iterable[Segment]) -> int:
    """Return the number of slots whose owner differs."""
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
