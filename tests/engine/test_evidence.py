"""Evidence in a running engine: verdicts move rollouts, survive restarts, and alarms take back at once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.engine.house import CANARY, V1, V2, House, living
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
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with living(tmp_path / "state.sqlite") as alive:
        yield alive


async def on_its_way(house: House, more: str) -> FakeProxy:
    proxy = FakeProxy(house.hub)
    await house.apply(route(V1, V2, CANARY, more=more))
    await house.until(lambda: house.engine.view("chat").weights["v2"] == 5)
    await house.until(lambda: house.engine.view("chat").convergence.acked == 1)
    return proxy


def began(house: House) -> float:
    """Return since when the block that is counted now is counted; without one, it is all the same."""
    docket = house.engine._court._dockets.get("chat")
    return house.now if docket is None else docket.block_started


async def counted(house: House, failed: int, *, blocks: int = 6, group: str = "chat") -> None:
    for _ in range(blocks):
        candidate, control = Counts(requests=100, failed=failed), Counts(requests=900, failed=5)
        house.engine.count(group, {CANDIDATE: candidate, CONTROL: control})
        house.now += 1.1
        house.engine._wake.set()
        await house.until(lambda: began(house) == house.now)


async def test_proven_failures_take_the_candidate_back_and_say_why(house: House) -> None:
    await on_its_way(house, JUDGED)
    await counted(house, 9)
    await house.phase("RolledBack")
    view = house.engine.view("chat")
    assert view.outcome == "RolledBack"
    assert "failed: success-rate:" in view.message
    assert view.weights["v2"] == 0
    assert view.analysis is not None
    assert view.analysis.metrics[0].finding == "Fail"


async def test_what_other_groups_count_of_a_route_is_not_heard(house: House) -> None:
    await on_its_way(house, JUDGED)
    await counted(house, 50, group="elsewhere")
    assert house.engine.view("chat").weights["v2"] == 5
    assert house.engine.view("chat").costs == ()


async def test_a_dry_run_judges_and_does_nothing(house: House) -> None:
    await on_its_way(house, JUDGED.replace("interval", "dryRun: true, interval"))
    await counted(house, 50)
    view = house.engine.view("chat")
    assert view.weights["v2"] == 5
    assert view.analysis is not None
    assert (view.analysis.finding, view.analysis.dry_run) == ("Fail", True)


async def test_costs_are_told_by_variant(house: House) -> None:
    await on_its_way(house, JUDGED)
    told = Counts(
        requests=4, metered=2, prompt_tokens=10, completion_tokens=20, metered_bytes=100, unmetered=2
    )
    house.engine.count("chat", {CANDIDATE: told, Leg(route="chat", variant="ghost"): told})
    (cost,) = house.engine.view("chat").costs
    assert (cost.variant, cost.requests, cost.completion_tokens, cost.cost) == ("v2", 4, 20, None)


async def test_evidence_survives_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    async with living(path) as house:
        await on_its_way(house, JUDGED)
        await counted(house, 1, blocks=3)
        before = house.engine.view("chat").analysis
        assert before is not None
        assert before.metrics[0].candidate["n"] == 300
    async with living(path) as house:
        found = house.engine.view("chat").analysis
        assert found is not None
        assert found.metrics[0].candidate == before.metrics[0].candidate


def firing(status: str = "firing", **labels: str) -> dict[str, object]:
    alert = {"status": status, "labels": {"alertname": "Bad", **labels}, "fingerprint": "f", "startsAt": "t"}
    return {"alerts": [alert]}


async def test_an_alarm_takes_back_at_once_and_once(house: House) -> None:
    await on_its_way(house, ALARMED)
    assert await house.engine.alarm(alertmanager(firing(route="other"))) == {}
    alerts = alertmanager({"alerts": [{**firing(route="chat")["alerts"][0], "fingerprint": "g"}]})  # type: ignore[index]
    assert await house.engine.alarm(alerts) == {"chat": "RollingBack"}
    await house.phase("RolledBack")
    assert "alarm: Bad" in house.engine.view("chat").message
    assert await house.engine.alarm(alerts) == {}


async def tallied(house: House, requests: int) -> None:
    """Let time pass until the store holds so many requests of the day."""
    async with asyncio.timeout(10):
        while sum(cost["requests"] for cost in await house.engine.costs("chat")) < requests:
            house.now += 31
            house.engine._wake.set()
            await asyncio.sleep(0.005)


async def test_costs_of_a_day_survive_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    told = Counts(requests=10, metered=10, prompt_tokens=100, completion_tokens=200, metered_bytes=9)
    for turn in (1, 2):
        async with living(path) as house:
            await on_its_way(house, JUDGED)
            house.engine.count("chat", {CANDIDATE: told})
            await tallied(house, 10 * turn)
    async with living(path) as house:
        (found,) = await house.engine.costs("chat")
    assert (found["day"], found["variant"], found["requests"]) == ("1970-01-01", "v2", 20)


async def test_what_copies_may_cost_and_have_left_is_told(tmp_path: Path) -> None:
    summary = {"pairs": 3, "shadow_tokens_per_second": 40.0}
    async with living(tmp_path / "state.sqlite", summary=lambda *_: summary) as house:
        FakeProxy(house.hub)
        await house.apply(route(V1, V2, "{shadow: {percentage: 20, maxTokensPerSecond: 100}}"))
        await house.until(lambda: house.engine.view("chat").mirror_percent > 0)
        found = house.engine.view("chat").shadow_budget
    assert found == {"limit": 100.0, "spent": 40.0, "left": 60.0}
