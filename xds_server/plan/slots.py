"""Sticky slots: which of the 10,000 slots of a route belongs to whom.

A request's slot is a hash of its user, so a user stays where they are as long as the slot's owner does not
change. Each candidate reserves a range and grows inside it from the start: raising its weight takes slots
only from the stable backend, and lowering it gives the newest ones back first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from xds_server.ir import FULL

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Segment", "Share", "segments"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A candidate's weight now, and the range it may grow into; both in slots."""

    variant: str
    weight: int
    reserved: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A run of neighbouring slots with one owner."""

    variant: str
    slots: int


def segments(stable: str, shares: Sequence[Share]) -> tuple[Segment, ...]:
    """Lay out all slots: every candidate at the start of its reserved range, the stable backend elsewhere.

    Raises:
        ValueError: A weight exceeds its reservation, or the reservations exceed the total.
    """
    laid: list[Segment] = []
    for share in shares:
        if not 0 <= share.weight <= share.reserved:
            raise ValueError(
                f"{share.variant}: weight {share.weight} does not fit into {share.reserved} slots"
            )
        laid.append(Segment(variant=share.variant, slots=share.weight))
        laid.append(Segment(variant=stable, slots=share.reserved - share.weight))
    rest = FULL - sum(share.reserved for share in shares)
    if rest < 0:
        raise ValueError(f"the reserved ranges exceed {FULL} slots by {-rest}")
    if rest:
        laid.append(Segment(variant=stable, slots=rest))
    return tuple(laid)
