"""Which slots a variant takes and gives back, slot by slot, held against a plain reading of the rules."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xds_server.rollout import FULL, Segment, count_moved, reallocate, slots_by_variant


def laid(*segments: tuple[str, int]) -> tuple[Segment, ...]:
    return tuple(Segment(variant=variant, slots=slots) for variant, slots in segments)


@pytest.mark.parametrize(
    ("before", "weights", "order", "after"),
    [
        # From nothing, variants take slots in the order given, and else by name.
        ((), {"b": 10, "a": 20}, (), [("a", 20), ("b", 10), ("v1", 9_970)]),
        ((), {"b": 10, "a": 20}, ("b", "a"), [("b", 10), ("a", 20), ("v1", 9_970)]),
        ((), {"b": 10, "a": 20}, ("b",), [("b", 10), ("a", 20), ("v1", 9_970)]),
        ((), {"v1": 500, "a": 20}, (), [("a", 20), ("v1", 9_980)]),
        ((), {}, (), [("v1", FULL)]),
        ((), {"a": FULL}, (), [("a", FULL)]),
        # A variant grows behind its own last slot.
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
        # At the end of all slots it goes on at their beginning.
        ([("v1", 9_990), ("a", 10)], {"a": 30}, (), [("a", 20), ("v1", 9_970), ("a", 10)]),
        # A variant that shrinks gives its last slots back.
        ([("a", 30), ("v1", 9_970)], {"a": 10}, (), [("a", 10), ("v1", 9_990)]),
        (
            [("a", 10), ("v1", 9_960), ("a", 30)],
            {"a": 20},
            (),
            [("a", 10), ("v1", 9_960), ("a", 10), ("v1", 20)],
        ),
        ([("a", 30), ("v1", 9_970)], {}, (), [("v1", FULL)]),
        # What one gives another takes, and the base is left alone.
        (
            [("a", 30), ("b", 10), ("v1", 9_960)],
            {"a": 20, "b": 20},
            (),
            [("a", 20), ("b", 20), ("v1", 9_960)],
        ),
        # If that is not enough, the base gives the rest, the nearest first.
        (
            [("a", 30), ("b", 10), ("v1", 9_960)],
            {"a": 20, "b": 25},
            (),
            [("a", 20), ("b", 25), ("v1", 9_955)],
        ),
        # What the base gives is counted once, however many variants grow.
        (
            [("c", 20), ("a", 10), ("b", 10), ("v1", 9_960)],
            {"a": 25, "b": 25},
            (),
            [("a", 5), ("b", 15), ("a", 10), ("b", 10), ("a", 10), ("v1", 9_950)],
        ),
        # Two that grow share what a third gives; the first in the order takes first.
        (
            [("a", 10), ("b", 10), ("c", 20), ("v1", 9_960)],
            {"a": 20, "b": 20},
            ("b", "a"),
            [("a", 10), ("b", 20), ("a", 10), ("v1", 9_960)],
        ),
    ],
)
def test_layouts(
    before: list[tuple[str, int]],
    weights: dict[str, int],
    order: tuple[str, ...],
    after: list[tuple[str, int]],
) -> None:
    assert reallocate(laid(*before), "v1", weights, order) == laid(*after)


VARIANTS = ("a", "b", "c")
WEIGHTS = st.tuples(*(st.integers(0, 3_300) for _ in VARIANTS)).map(
    lambda found: {variant: share for variant, share in zip(VARIANTS, found, strict=True) if share}
)


@settings(max_examples=25, deadline=None)
@given(st.lists(WEIGHTS, min_size=1, max_size=3), st.permutations(VARIANTS))
def test_no_slot_changes_its_owner_that_need_not(changes: list[dict[str, int]], order: list[str]) -> None:
    segments = reallocate((), "v1", {})
    for wanted in changes:
        after = reallocate(segments, "v1", wanted, order)
        before, now = slots_by_variant(segments), slots_by_variant(after)
        assert now == {"v1": FULL - sum(wanted.values()), **wanted}
        gained = sum(max(0, now.get(v, 0) - before.get(v, 0)) for v in {*before, *now})
        assert count_moved(segments, after) == gained
        assert all(one.variant != other.variant for one, other in pairwise(after))
        segments = after
