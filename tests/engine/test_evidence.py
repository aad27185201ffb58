"""Evidence in a running engine: verdicts move rollouts and survive restarts; alarms roll back at once."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from tests.engine.harness import CANARY, V1, V2, EngineHarness, running_engine
from tests.support.plane import route
from tests.support.proxy import FakeProxy
from xds_server.alarms import alertmanager
from xds_server.analysis.counts import Counts, Leg
from xds_server.analysis.verdicts import Arms, analyzed_block_from_json, replay

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


async def test_a_dead_candidate_is_rolled_back_long_before_its_block_is_over(harness: EngineHarness) -> None:
    await canary_at_five_percent(harness, "analysis: {interval: 5m, metrics: [{name: success-rate}]}")
    began = harness.now
    for candidate in (Counts(requests=2), Counts(requests=6, failed=6)):
        legs = {CANDIDATE: candidate, CONTROL: Counts(requests=120)}
        harness.engine.analysis.count_from_proxy("chat", legs)
        harness.now += 2.0
        harness.engine.inbox.wake()
    await harness.phase("RolledBack")
    assert harness.now - began < 10.0


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


GOOD = "analysis: {interval: 1s, metrics: [{name: success-rate}]}"
SHORT = "{canary: {steps: [{setWeight: 5}, {pause: {duration: 2m}}, {setWeight: 100}], finalBakeTime: 5m}}"


async def passing_canary(harness: EngineHarness, more: str = GOOD) -> FakeProxy:
    """Start a canary at 5 % whose verdict is Pass, 3 s before its pause is over."""
    proxy = FakeProxy(harness.hub)
    await harness.apply(route(V1, V2, SHORT, more=more))
    await harness.until(
        lambda: finding(harness) is None and harness.engine.table.get("chat").state.weight == 500
    )
    await harness.until(lambda: harness.engine.table.get("chat").state.ends_at is not None)
    ends_at = harness.engine.table.get("chat").state.ends_at
    assert ends_at is not None
    harness.now = ends_at - 20.0
    for _ in range(12):
        await count(harness, Counts(requests=500), Counts(requests=900, failed=5))
    await harness.until(lambda: finding(harness) == "Pass")
    return proxy


def finding(harness: EngineHarness) -> str | None:
    found = harness.engine.table.get("chat").state.finding
    return None if found is None else found.value


async def count(harness: EngineHarness, candidate: Counts, control: Counts) -> None:
    legs = {CANDIDATE: candidate, CONTROL: control}
    harness.engine.analysis.count_from_proxy("chat", {leg: c for leg, c in legs.items() if c.requests})
    harness.now += 1.1
    harness.engine.inbox.wake()
    await harness.until(lambda: block_began(harness) == harness.now)


async def test_a_pass_ends_a_step_on_time(harness: EngineHarness) -> None:
    await passing_canary(harness)
    harness.now += 10.0
    harness.engine.inbox.wake()
    await harness.until(lambda: harness.engine.queries.view("chat").weights["v2"] == 100)


async def test_a_pass_is_no_data_when_no_counts_arrive_at_all(harness: EngineHarness) -> None:
    await passing_canary(harness)
    harness.now += 61.0
    harness.engine.inbox.wake()
    await harness.until(lambda: finding(harness) == "NoData")
    await harness.until(lambda: harness.engine.queries.view("chat").events[-1].kind == "extended")
    assert harness.engine.queries.view("chat").weights["v2"] == 5


async def test_a_pass_of_before_a_restart_ends_no_step(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    async with running_engine(path) as harness:
        await passing_canary(harness)
        later = harness.now + 600.0
    async with running_engine(path, now=later) as harness:
        FakeProxy(harness.hub)
        await harness.until(lambda: harness.engine.queries.view("chat").events[-1].kind == "extended")
        assert finding(harness) == "NoData"
        assert harness.engine.queries.view("chat").weights["v2"] == 5


async def test_a_pass_under_another_policy_ends_no_step(harness: EngineHarness) -> None:
    await passing_canary(harness)
    await harness.apply(
        route(V1, V2, SHORT, more=GOOD.replace("success-rate}", "success-rate, maxRatio: 1.1}"))
    )
    await harness.until(lambda: finding(harness) == "NoData")


async def test_a_bake_at_100_percent_ends_while_the_candidate_is_counted(harness: EngineHarness) -> None:
    await passing_canary(harness)
    harness.now += 10.0
    await harness.phase("Baking")
    ends_at = harness.engine.table.get("chat").state.ends_at
    assert ends_at is not None
    for _ in range(70):
        await count(harness, Counts(requests=500), Counts())
    assert finding(harness) == "NoData"
    harness.now = ends_at - 2.0
    for _ in range(3):
        await count(harness, Counts(requests=500), Counts())
    await harness.phase("Healthy")


async def test_a_bake_at_100_percent_waits_while_nothing_is_counted(harness: EngineHarness) -> None:
    await passing_canary(harness)
    harness.now += 10.0
    await harness.phase("Baking")
    harness.now += 301.0
    harness.engine.inbox.wake()
    await harness.until(lambda: harness.engine.queries.view("chat").events[-1].kind == "extended")
    assert harness.engine.queries.view("chat").phase == "Baking"


async def test_a_candidate_with_all_users_that_fails_is_rolled_back(harness: EngineHarness) -> None:
    await passing_canary(harness)
    harness.now += 10.0
    await harness.phase("Baking")
    await count(harness, Counts(requests=10, failed=10), Counts())
    await harness.phase("RolledBack")
    assert (
        "10 of 10 requests failed at the candidate while the stable backend had no requests"
        in harness.engine.queries.view("chat").message
    )


async def test_a_replay_of_the_stored_blocks_agrees_with_the_rollout(harness: EngineHarness) -> None:
    await canary_at_five_percent(harness, JUDGED)
    await count_blocks(harness, 9)
    await harness.phase("RolledBack")
    lines = (await harness.engine.queries.blocks("chat", 1_000)).splitlines()
    arms = Arms(route="chat", control="v1", candidates=("v2",))
    live = harness.engine.table.get("chat")
    (run,) = replay(
        harness.engine.analysis.policy(live),
        (analyzed_block_from_json(json.loads(line)) for line in lines),
        arms,
    )
    assert run.outcome.value == "Fail"
    assert run.decisions[-1].message in harness.engine.queries.view("chat").message
