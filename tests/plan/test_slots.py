from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xds_server.plan import Share, segments


def owners(stable: str, shares: list[Share]) -> list[str]:
    return [s.variant for s in segments(stable, shares) for _ in range(s.slots)]


@st.composite
def layouts(draw: st.DrawFn) -> tuple[list[Share], list[Share]]:
    """Two moments of the same candidates: reservations stay, weights move."""
    cuts = sorted(draw(st.lists(st.integers(0, 10_000), min_size=1, max_size=4)))
    reserved = [b - a for a, b in zip([0, *cuts], cuts, strict=False)]

    def shares() -> Iterator[Share]:
        for n, room in enumerate(reserved):
            yield Share(variant=f"c{n}", weight=draw(st.integers(0, room)), reserved=room)

    return list(shares()), list(shares())


@given(layouts())
def test_a_change_of_weights_moves_only_whom_it_must(both: tuple[list[Share], list[Share]]) -> None:
    before, after = both
    old, new = owners("stable", before), owners("stable", after)
    assert len(old) == len(new) == 10_000
    for share, then in zip(before, after, strict=True):
        assert old.count(share.variant) == share.weight
        stayed = sum(a == b == share.variant for a, b in zip(old, new, strict=True))
        assert stayed == min(share.weight, then.weight)


def test_a_rollback_returns_the_newest_first() -> None:
    wide = owners("v1", [Share(variant="v2", weight=2_500, reserved=10_000)])
    narrow = owners("v1", [Share(variant="v2", weight=500, reserved=10_000)])
    assert narrow[:500] == ["v2"] * 500
    assert wide[:500] == ["v2"] * 500


def test_without_candidates_everything_is_stable() -> None:
    assert owners("v1", []) == ["v1"] * 10_000


@pytest.mark.parametrize(
    "shares",
    [
        [Share(variant="a", weight=2, reserved=1)],
        [Share(variant="a", weight=-1, reserved=1)],
        [Share(variant="a", weight=0, reserved=6_000), Share(variant="b", weight=0, reserved=4_001)],
    ],
)
def test_what_does_not_fit_is_refused(shares: list[Share]) -> None:
    with pytest.raises(ValueError, match=r"slots"):
        segments("v1", shares)
