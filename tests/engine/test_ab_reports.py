"""The report of an A/B test in a running engine: by user, at the planned size, with a direction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.engine.harness import V1, V2, EngineHarness, running_engine
from tests.support.plane import route
from tests.support.proxy import FakeProxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

TEST = """{abTest: {randomizationUnit: user.id, variants: [{backend: v2, weight: 50}],
    primaryMetric: {name: purchase, COLUMN baseline: 0.10, minimumDetectableEffect: {absolute: 0.05}},
    secondaryMetrics: [{name: refund, column: Bad}]}}"""


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[EngineHarness]:
    async with running_engine(tmp_path / "state.sqlite") as alive:
        yield alive


async def report(
    harness: EngineHarness, column: str, users: int, purchases: tuple[int, int]
) -> dict[str, Any]:
    FakeProxy(harness.hub)
    spec = route(V1, V2, TEST.replace("COLUMN", column)).replace("candidate: v2", "")
    await harness.apply(spec)
    await harness.until(lambda: harness.engine.queries.view("chat").weights.get("v2") == 50)
    found = {
        "users": {"v1": users, "v2": users},
        "outcomes": {"purchase": {"v1": purchases[0], "v2": purchases[1]}},
        "crossovers": 1,
    }
    harness.evidence.exposed["chat", "chat"] = found
    view = harness.engine.queries.view("chat").experiment
    assert view is not None
    return view


async def test_no_winner_before_the_planned_size(harness: EngineHarness) -> None:
    view = await report(harness, "column: Good,", 400, (40, 90))
    assert view["variants"]["v2"]["primary"]["finding"] == "NotYet"
    assert "400 of 686" in view["variants"]["v2"]["primary"]["words"]
    assert view["crossovers"] == 1


async def test_the_direction_decides_at_the_planned_size(harness: EngineHarness) -> None:
    view = await report(harness, "column: Good,", 700, (70, 120))
    primary = view["variants"]["v2"]["primary"]
    assert primary["finding"] == "Better"
    assert primary["interval"][0] > 0
    assert primary["chi_square"]["p"] < primary["chi_square_yates"]["p"] < 0.05
    assert view["variants"]["v2"]["secondary"]["refund"]["p_adjusted"] == 1.0


async def test_no_winner_without_a_direction(harness: EngineHarness) -> None:
    view = await report(harness, "", 700, (70, 120))
    assert view["variants"]["v2"]["primary"]["finding"] == "Unnamed"
