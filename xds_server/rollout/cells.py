"""Cells: the users of a sticky split in 32 groups, each with a share of every variant (pure).

A user who repeats a failing request is one user, however many requests fail. Verdicts therefore compare the
variants cell by cell. Which cell a user is in depends on the slot alone, so it stays the same while weights
rise. Variants grow from slot 0 on: the slots up to 1 %, from there to 5 %, and so on up to each usual weight
are divided among all cells, so that every variant has users in every cell.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from xds_server.rollout.slots import FULL, Segment

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["CELLS", "cell_of", "divide"]

CELLS: Final = 32
"""The number of cells of a split."""

_WEIGHTS: Final = (0, 100, 500, 1000, 2500, 5000, 7500, 9000, FULL)
"""The usual weights of a step, in slots; the slots between two of them are divided among all cells."""

_STARTS: Final = tuple(
    low + (high - low) * cell // CELLS for low, high in pairwise(_WEIGHTS) for cell in range(CELLS)
)
"""The first slot of each run of slots in the same cell; the next run is in the next cell."""


def cell_of(slot: int) -> int:
    """Return the cell of a slot, from 0 to `CELLS` - 1."""
    return (bisect_right(_STARTS, slot) - 1) % CELLS


def divide(segments: Iterable[Segment]) -> tuple[tuple[Segment, int], ...]:
    """Return the same layout in segments that lie in one cell each, with that cell."""
    found, begin = [], 0
    for segment in segments:
        end = begin + segment.slots
        inner = (
            _STARTS[bisect_right(_STARTS, begin) : bisect_right(_STARTS, end - 1)] if segment.slots else ()
        )
        edges = (begin, *inner, end)
        found += [
            (Segment(variant=segment.variant, slots=high - low), cell_of(low))
            for low, high in pairwise(edges)
        ]
        begin = end
    return tuple(found)
