"""Which slots a variant takes and releases, compared with layouts written by hand."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xds_server.rollout import FULL, Segment, count_moved, reallocate, slots_by_variant


def layout(*segments: tuple[str, int]) -> tuple[Segment, ...]:
    return tuple(Segment(variant=variant, slots=slots) for variant, slots in segments)


@pytest.mark.parametrize(
    ("before", "weights", "order", "after"),
    [
        # In an empty layout, variants take slots in the given order, then by name.
        ((), {"b": 10, "a": 20}, (), [("a", 20), ("b", 10), ("v1", 9_970)]),
        ((), {"b": 10, "a": 20}, ("b", "a"), [("b", 10), ("a", 20), ("v1", 9_970)]),
        ((), {"b": 10, "a": 20}, ("b",), [("b", 10), ("a", 20), ("v1", 9_970)]),
        ((), {"v1": 500, "a": 20}, (), [("a", 20), ("v1", 9_980)]),
        ((), {}, (), [("v1", FULL)]),
        ((), {"a": FULL}, (), [("a", FULL)]),
        # A variant takes the slots after its own last slot.
        ([("a", 10), ("v1", 9_990)], {"a": 30}, (), [("a", 30), ("v1", 9_970)]),
        (
            [("a", 10), ("b", 10), ("v1", 9_980)],
            {"a": 30, "b": 10},
            (),
            [("a", 10), ("b", 10), ("a", 20), ("v1", 9_960)],
        ),
        (
            [("a", 10), ("v1", 100), ("a", 10), ("v1", 9_880)],
            {"a": 30},
            (),
            [("a", 10), ("v1", 100), ("a", 20), ("v1", 9_870)],
        ),
        ((), {"a": 1}, (), [("a", 1), ("v1", 9_999)]),
        ([("a", 1), ("v1", 9_999)], {"a": 1, "b": 1}, (), [("a", 1), ("b", 1), ("v1", 9_998)]),
        # After the last slot of the split it continues with the first.
        ([("v1", 9_990), ("a", 10)], {"a": 30}, (), [("a", 20), ("v1", 9_970), ("a", 10)]),
        # A variant that shrinks releases its last slots.
        ([("a", 30), ("v1", 9_970)], {"a": 10}, (), [("a", 10), ("v1", 9_990)]),
        (
            [("a", 10), ("v1", 9_960), ("a", 30)],
            {"a": 20},
            (),
            [("a", 10), ("v1", 9_960), ("a", 10), ("v1", 20)],
        ),
        ([("a", 30), ("v1", 9_970)], {}, (), [("v1", FULL)]),
        # A growing variant takes the slots that another one releases, and the base keeps its slots.
        (
            [("a", 30), ("b", 10), ("v1", 9_960)],
            {"a": 20, "b": 20},
            (),
            [("a", 20), ("b", 20), ("v1", 9_960)],
        ),
        # If those are too few, the base gives up the rest, the nearest slots first.
        (
            [("a", 30), ("b", 10), ("v1", 9_960)],
            {"a": 20, "b": 25},
            (),
            [("a", 20), ("b", 25), ("v1", 9_955)],
        ),
        # The slots that the base gives up are counted once, however many variants grow.
        (
            [("c", 20), ("a", 10), ("b", 10), ("v1", 9_960)],
            {"a": 25, "b": 25},
            (),
            [("a", 5), ("b", 15), ("a", 10), ("b", 10), ("a", 10), ("v1", 9_950)],
        ),
        # Two growing variants share the slots that a third releases; the first in the order takes first.
        (
            [("a", 10), ("b", 10), ("c", 20), ("v1", 9_960)],
            {"a": 20, "b": 20},
            ("b", "a"),
            [("a", 10), ("b", 20), ("a", 10), ("v1", 9_960)],
        ),
    ],
)
def test_each_variant_takes_and_releases_the_expected_slots(
    before: list[tuple[str, int]],
    weights: dict[str, int],
    order: tuple[str, ...],
    after: list[tuple[str, int]],
) -> None:
    assert reallocate(layout(*before), "v1", weights, order) == layout(*after)


VARIANTS = ("a", "b", "c")
WEIGHTS = st.tuples(*(st.integers(0, 3_300) for _ in VARIANTS)).map(
    lambda shares: {variant: share for variant, share in zip(VARIANTS, shares, strict=True) if share}
)


@settings(max_examples=25, deadline=None)
@given(st.lists(WEIGHTS, min_size=1, max_size=3), st.permutations(VARIANTS))
def test_only_as_many_slots_change_owner_as_the_growing_variants_gain(
    changes: list[dict[str, int]], order: list[str]
) -> None:
    segments = reallocate((), "v1", {})
    for weights in changes:
        after = reallocate(segments, "v1", weights, order)
        before, now = slots_by_variant(segments), slots_by_variant(after)
        assert now == {"v1": FULL - sum(weights.values()), **weights}
        gained = sum(max(0, now.get(v, 0) - before.get(v, 0)) for v in {*before, *now})
        assert count_moved(segments, after) == gained
        assert all(one.variant != other.variant for one, other in pairwise(after))
        segments = after
