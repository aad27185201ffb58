"""Evidence in a running engine: verdicts move rollouts and survive restarts; alarms roll back at once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.engine.harness import CANARY, V1, V2, EngineHarness, running_engine
from tests.support.plane import route
from tests.support.proxy import FakeProxy
from xds_server.alarms import alertmanager
from xds_server.analysis.counts import Counts, Leg

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

JUDGED = "analysis: {interval: 1s, metrics: [{name: success-rate}]}"
ALARMED = "analysis: {alarms: [{match: {alertname: Bad, route: chat}}]}"
CANDIDATE, CONTROL = Leg(route="chat", variant="v2"), Leg(route="chat", variant="v1")


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[EngineHarness]:
    async with running_engine(tmp_path / "state.sqlite") as alive:
        yield alive


async def canary_at_five_percent(harness: EngineHarness, more: str) -> FakeProxy:
    proxy = FakeProxy(harness.hub)
    await harness.apply(route(V1, V2, CANARY, more=more))
    await harness.until(lambda: harness.engine.queries.view("chat").weights["v2"] == 5)
    await harness.until(lambda: harness.engine.queries.view("chat").convergence.acked == 1)
    return proxy


def block_began(harness: EngineHarness) -> float:
    """Return the start of the current block of counts; the present time if there is none."""
    analysis = harness.engine.analysis._analyses.get("chat")
    return harness.now if analysis is None else analysis.block_started


async def count_blocks(harness: EngineHarness, failed: int, *, blocks: int = 6, group: str = "chat") -> None:
    for _ in range(blocks):
        candidate, control = Counts(requests=100, failed=failed), Counts(requests=900, failed=5)
        harness.engine.analysis.count_from_proxy(group, {CANDIDATE: candidate, CONTROL: control})
        harness.now += 1.1
        harness.engine.inbox.wake()
        await harness.until(lambda: block_began(harness) == harness.now)


async def test_proven_failures_roll_back_with_their_reason(harness: EngineHarness) -> None:
    await canary_at_five_percent(harness, JUDGED)
    await count_blocks(harness, 9)
    await harness.phase("RolledBack")
    view = harness.engine.queries.view("chat")
    assert view.outcome == "RolledBack"
    assert "failed: success-rate:" in view.message
    assert view.weights["v2"] == 0
    assert view.analysis is not None
    assert view.analysis.metrics[0].finding == "Fail"


async def test_counts_of_other_groups_are_ignored(harness: EngineHarness) -> None:
    await canary_at_five_percent(harness, JUDGED)
    await count_blocks(harness, 50, group="elsewhere")
    await harness.ticks()
    assert harness.engine.queries.view("chat").weights["v2"] == 5
    assert harness.engine.queries.view("chat").costs == ()


async def test_a_dry_run_evaluates_and_changes_nothing(harness: EngineHarness) -> None:
    await canary_at_five_percent(harness, JUDGED.replace("interval", "dryRun: true, interval"))
    await count_blocks(harness, 50)
    await harness.ticks()
    view = harness.engine.queries.view("chat")
    assert view.weights["v2"] == 5
    assert view.analysis is not None
    assert (view.analysis.finding, view.analysis.dry_run) == ("Fail", True)


async def test_costs_are_shown_by_variant(harness: EngineHarness) -> None:
    await canary_at_five_percent(harness, JUDGED)
    costs = Counts(requests=4, metered=2, prompt_tokens=10, completion_tokens=20, unmetered=2)
    harness.engine.analysis.count_from_proxy(
        "chat", {CANDIDATE: costs, Leg(route="chat", variant="ghost"): costs}
    )
    (cost,) = harness.engine.queries.view("chat").costs
    assert (cost.variant, cost.requests, cost.completion_tokens, cost.cost) == ("v2", 4, 20, None)


async def test_evidence_survives_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    async with running_engine(path) as harness:
        await canary_at_five_percent(harness, JUDGED)
        await count_blocks(harness, 1, blocks=3)
        before = harness.engine.queries.view("chat").analysis
        assert before is not None
        assert before.metrics[0].candidate["n"] == 300
    async with running_engine(path) as harness:
        found = harness.engine.queries.view("chat").analysis
        assert found is not None
        assert found.metrics[0].candidate == before.metrics[0].candidate


def firing(status: str = "firing", **labels: str) -> dict[str, object]:
    alert = {"status": status, "labels": {"alertname": "Bad", **labels}, "fingerprint": "f", "startsAt": "t"}
    return {"alerts": [alert]}


async def test_an_alarm_rolls_back_once(harness: EngineHarness) -> None:
    await canary_at_five_percent(harness, ALARMED)
    assert await harness.engine.routes.alarm(alertmanager(firing(route="other"))) == {}
    alerts = alertmanager({"alerts": [{**firing(route="chat")["alerts"][0], "fingerprint": "g"}]})  # type: ignore[index]
    assert await harness.engine.routes.alarm(alerts) == {"chat": "RollingBack"}
    await harness.phase("RolledBack")
    assert "alarm: Bad" in harness.engine.queries.view("chat").message
    assert await harness.engine.routes.alarm(alerts) == {}
    await harness.ticks()
    assert harness.engine.queries.view("chat").phase == "RolledBack"


async def wait_for_daily_requests(harness: EngineHarness, requests: int) -> None:
    """Let time pass until the store holds this number of requests for the day."""
    async with asyncio.timeout(10):
        while sum(cost["requests"] for cost in await harness.engine.queries.costs("chat")) < requests:
            harness.now += 31
            harness.engine.inbox.wake()
            await asyncio.sleep(0.005)


async def test_costs_of_a_day_survive_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    costs = Counts(requests=10, metered=10, prompt_tokens=100, completion_tokens=200)
    for turn in (1, 2):
        async with running_engine(path) as harness:
            await canary_at_five_percent(harness, JUDGED)
            harness.engine.analysis.count_from_proxy("chat", {CANDIDATE: costs})
            await wait_for_daily_requests(harness, 10 * turn)
    async with running_engine(path) as harness:
        (found,) = await harness.engine.queries.costs("chat")
    assert (found["day"], found["variant"], found["requests"]) == ("1970-01-01", "v2", 20)


async def test_the_shadow_budget_is_shown(tmp_path: Path) -> None:
    summary = {"pairs": 3, "shadow_tokens_per_second": 40.0}
    async with running_engine(tmp_path / "state.sqlite", summary=summary) as harness:
        FakeProxy(harness.hub)
        await harness.apply(route(V1, V2, "{shadow: {percentage: 20, maxTokensPerSecond: 100}}"))
        await harness.until(lambda: harness.engine.queries.view("chat").mirror_percent > 0)
        found = harness.engine.queries.view("chat").shadow_budget
    assert found == {"limit": 100.0, "spent": 40.0, "left": 60.0}
