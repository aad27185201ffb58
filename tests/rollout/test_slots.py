"""Layouts of a split: how few users change hands."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xds_server.rollout.slots import FULL, Segment, moved, relaid, shares

VARIANTS = ("v2", "v3", "v4")


@st.composite
def weights(draw: st.DrawFn) -> dict[str, int]:
    cuts = sorted(draw(st.lists(st.integers(0, FULL), min_size=3, max_size=3)))
    named = {v: b - a for v, a, b in zip(VARIANTS, [0, *cuts], cuts, strict=False)}
    return {v: w for v, w in named.items() if draw(st.booleans()) or w > FULL // 2}


@settings(max_examples=60, deadline=None)
@given(st.lists(weights(), min_size=2, max_size=6))
def test_a_change_of_weights_moves_only_whom_it_must(sequence: list[dict[str, int]]) -> None:
    segments: tuple[Segment, ...] = ()
    before = {"v1": FULL}
    for wanted in sequence:
        after = relaid(segments, "v1", wanted)
        now = {variant: share for variant, share in {**wanted, "v1": 0}.items() if variant != "v1"}
        now["v1"] = FULL - sum(now.values())
        assert shares(after) == {variant: share for variant, share in now.items() if share}
        gained = sum(max(0, share - before.get(variant, 0)) for variant, share in now.items())
        assert moved(segments or (Segment(variant="v1", slots=FULL),), after) == gained
        assert relaid(after, "v1", wanted) == after
        segments, before = after, now


@given(st.integers(0, FULL), st.integers(0, FULL))
def test_one_candidate_grows_in_place_and_gives_the_newest_back(one: int, other: int) -> None:
    first = relaid((), "v1", {"v2": one})
    then = relaid(first, "v1", {"v2": other})
    expected = [Segment(variant="v2", slots=other), Segment(variant="v1", slots=FULL - other)]
    assert then == tuple(segment for segment in expected if segment.slots)


def test_what_one_variant_gives_another_takes_and_the_base_is_left_alone() -> None:
    before = relaid((), "v1", {"v2": 3_000, "v3": 1_000})
    after = relaid(before, "v1", {"v2": 2_000, "v3": 2_000})
    assert moved(before, after) == 1_000


def test_a_new_base_keeps_what_it_had() -> None:
    before = relaid((), "v1", {"v2": FULL})
    assert moved(before, relaid(before, "v2", {"v3": 500})) == 500


@pytest.mark.parametrize("wanted", [{"a": -1}, {"a": 6_000, "b": 4_001}])
def test_what_does_not_fit_is_refused(wanted: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="slots"):
        relaid((), "v1", wanted)
