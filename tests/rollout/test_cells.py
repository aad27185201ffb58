"""Cells: every variant has users in each, and a user keeps the cell."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xds_server.rollout import CELLS, FULL, Segment, cell_of, divide, reallocate


def owners(segments: tuple[Segment, ...]) -> list[str]:
    return [segment.variant for segment in segments for _ in range(segment.slots)]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, FULL), st.integers(0, FULL))
def test_divided_segments_have_the_same_owners_and_lie_in_one_cell_each(one: int, other: int) -> None:
    low, high = sorted((one, other))
    layout = reallocate((), "v1", {"v2": low, "v3": FULL - high})
    divided = divide(layout)
    assert owners(tuple(segment for segment, _ in divided)) == owners(layout)
    slot = 0
    for segment, cell in divided:
        assert segment.slots > 0
        assert {cell_of(inside) for inside in range(slot, slot + segment.slots)} == {cell}
        slot += segment.slots


@pytest.mark.parametrize("weight", [100, 500, 1000, 2500, 5000, 7500, 9000])
def test_at_usual_weights_all_cells_have_the_same_share_of_both_variants(weight: int) -> None:
    slots: Counter[tuple[str, int]] = Counter()
    for segment, cell in divide(reallocate((), "v1", {"v2": weight})):
        slots[segment.variant, cell] += segment.slots
    for variant, share in (("v2", weight), ("v1", FULL - weight)):
        each = [slots[variant, cell] for cell in range(CELLS)]
        assert max(each) - min(each) <= 8
        assert sum(each) == share


@pytest.mark.parametrize("weight", range(100, 9_001, 137))
def test_at_any_weight_every_cell_has_users_of_both_variants(weight: int) -> None:
    divided = divide(reallocate((), "v1", {"v2": weight}))
    for variant in ("v1", "v2"):
        assert {cell for segment, cell in divided if segment.variant == variant} == set(range(CELLS))


def test_a_route_stays_small() -> None:
    assert len(divide(reallocate((), "v1", {"v2": 137, "v3": 2_222, "v4": 4_321}))) <= 8 * CELLS + 3
