"""What is said of an A/B test in a running engine: by users, at its time, with the direction named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.engine.house import V1, V2, House, living
from tests.support.plane import route
from tests.support.proxy import FakeProxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

TEST = """{abTest: {randomizationUnit: user.id, variants: [{backend: v2, weight: 50}],
    primaryMetric: {name: purchase, COLUMN baseline: 0.10, minimumDetectableEffect: {absolute: 0.05}},
    secondaryMetrics: [{name: refund, column: Bad}]}}"""


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with living(tmp_path / "state.sqlite") as alive:
        yield alive


async def said(house: House, column: str, users: int, purchases: tuple[int, int]) -> dict[str, Any]:
    FakeProxy(house.hub)
    spec = route(V1, V2, TEST.replace("COLUMN", column)).replace("candidate: v2", "")
    await house.apply(spec)
    await house.until(lambda: house.engine.view("chat").weights.get("v2") == 50)
    found = {
        "users": {"v1": users, "v2": users},
        "outcomes": {"purchase": {"v1": purchases[0], "v2": purchases[1]}},
        "crossovers": 1,
    }
    house.engine.on_exposures(
        lambda route, experiment: found if (route, experiment) == ("chat", "chat") else None
    )
    view = house.engine.view("chat").experiment
    assert view is not None
    return view


async def test_before_its_time_nobody_wins(house: House) -> None:
    view = await said(house, "column: Good,", 400, (40, 90))
    assert view["variants"]["v2"]["primary"]["finding"] == "NotYet"
    assert "400 of 686" in view["variants"]["v2"]["primary"]["words"]
    assert view["crossovers"] == 1


async def test_at_its_time_the_direction_decides(house: House) -> None:
    view = await said(house, "column: Good,", 700, (70, 120))
    primary = view["variants"]["v2"]["primary"]
    assert primary["finding"] == "Better"
    assert primary["interval"][0] > 0
    assert primary["chi_square"]["p"] < primary["chi_square_yates"]["p"] < 0.05
    assert view["variants"]["v2"]["secondary"]["refund"]["p_adjusted"] == 1.0


async def test_without_a_direction_nobody_wins(house: House) -> None:
    view = await said(house, "", 700, (70, 120))
    assert view["variants"]["v2"]["primary"]["finding"] == "Unnamed"
