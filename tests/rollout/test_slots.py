"""Slot layouts: correct shares, and as few slots as possible change owner."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xds_server.rollout.slots import FULL, Segment, count_moved, reallocate, slots_by_variant

VARIANTS = ("v2", "v3", "v4")


@st.composite
def weights(draw: st.DrawFn) -> dict[str, int]:
    cuts = sorted(draw(st.lists(st.integers(0, FULL), min_size=3, max_size=3)))
    named = {v: b - a for v, a, b in zip(VARIANTS, [0, *cuts], cuts, strict=False)}
    return {v: w for v, w in named.items() if draw(st.booleans()) or w > FULL // 2}


@settings(max_examples=60, deadline=None)
@given(st.lists(weights(), min_size=2, max_size=6))
def test_a_change_of_weights_moves_as_few_slots_as_possible(sequence: list[dict[str, int]]) -> None:
    segments: tuple[Segment, ...] = ()
    before = {"v1": FULL}
    for targets in sequence:
        after = reallocate(segments, "v1", targets)
        now = {variant: share for variant, share in {**targets, "v1": 0}.items() if variant != "v1"}
        now["v1"] = FULL - sum(now.values())
        assert slots_by_variant(after) == {variant: share for variant, share in now.items() if share}
        gained = sum(max(0, share - before.get(variant, 0)) for variant, share in now.items())
        assert count_moved(segments or (Segment(variant="v1", slots=FULL),), after) == gained
        assert reallocate(after, "v1", targets) == after
        segments, before = after, now


@settings(deadline=None)
@given(st.integers(0, FULL), st.integers(0, FULL))
def test_a_candidate_grows_in_place_and_releases_its_newest_slots_first(one: int, other: int) -> None:
    first = reallocate((), "v1", {"v2": one})
    then = reallocate(first, "v1", {"v2": other})
    expected = [Segment(variant="v2", slots=other), Segment(variant="v1", slots=FULL - other)]
    assert then == tuple(segment for segment in expected if segment.slots)


def test_slots_move_between_variants_without_touching_the_base() -> None:
    before = reallocate((), "v1", {"v2": 3_000, "v3": 1_000})
    after = reallocate(before, "v1", {"v2": 2_000, "v3": 2_000})
    assert count_moved(before, after) == 1_000


def test_a_variant_that_becomes_the_base_keeps_its_slots() -> None:
    before = reallocate((), "v1", {"v2": FULL})
    assert count_moved(before, reallocate(before, "v2", {"v3": 500})) == 500


@pytest.mark.parametrize("targets", [{"a": -1}, {"a": 6_000, "b": 4_001}])
def test_weights_that_do_not_fit_raise(targets: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="slots"):
        reallocate((), "v1", targets)
