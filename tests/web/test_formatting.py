"""Values in the tables of pages."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from xds_server.web.pages.formatting import FILTERS


@pytest.mark.parametrize(
    ("kind", "bounds", "text"),
    [
        ("share", (1.1, 9), "odds of failing x 2.7 (1.1 to 9)"),
        ("exceedance", (1.1, None), "odds of a slow request x 2.7 (above 1.1)"),
        ("mean", (None, 9), "mean x 2.7 (below 9)"),
        ("share", (None, None), "odds of failing x 2.7"),
    ],
)
def test_an_effect_names_what_it_compares(
    kind: str, bounds: tuple[float | None, float | None], text: str
) -> None:
    metric = SimpleNamespace(kind=kind, effect=2.7, low=bounds[0], high=bounds[1])
    assert FILTERS["effect"](metric) == text.replace(" x ", " \N{MULTIPLICATION SIGN} ")
