"""Operators kill, undo and retry; the audit log, the history, and what proxies receive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.engine.harness import CANARY, V1, V2, EngineHarness, RecordingHealth, running_engine
from tests.support.plane import route
from tests.support.proxy import FakeProxy
from xds_server.access.audit import Outcome
from xds_server.analysis.verdicts import ApiCounts, ComparisonCounts, PairCounts
from xds_server.engine import Action, Caller, CommandRefusedError
from xds_server.engine.routes import allowed_actions
from xds_server.rollout import Health
from xds_server.xds.snapshot import CLUSTER, ROUTE, RUNTIME

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[EngineHarness]:
    async with running_engine(tmp_path / "state.sqlite") as alive:
        yield alive


def killed(proxy: FakeProxy) -> bool:
    """Return whether the runtime layer of the proxy has the kill key set."""
    return b"shiftplane.chat.kill" in proxy.held.get(RUNTIME, {}).get("shiftplane", b"")


async def test_a_kill_changes_the_runtime_layer_and_nothing_else(harness: EngineHarness) -> None:
    proxy = FakeProxy(harness.hub)
    await harness.apply(route(V1, V2, CANARY))
    await harness.until(lambda: harness.engine.queries.view("chat").weights["v2"] == 5)
    await harness.until(lambda: harness.engine.queries.view("chat").convergence.acked == 1)
    before = {kind: dict(held) for kind, held in proxy.held.items() if kind != RUNTIME}
    await harness.engine.routes.command("chat", Action.KILL, by=Caller(actor="ada", reason="v2 leaks"))
    await harness.until(lambda: killed(proxy))
    await harness.until(lambda: harness.engine.queries.view("chat").message.startswith("killed: 1 of 1"))
    assert {kind: held for kind, held in proxy.held.items() if kind != RUNTIME} == before
    await harness.engine.routes.command("chat", Action.UNKILL, by=Caller(actor="ada", reason="mended"))
    await harness.until(lambda: not killed(proxy))
    assert harness.engine.queries.view("chat").weights == {"v1": 95.0, "v2": 5.0}


async def test_a_kill_reaches_proxies_while_a_version_is_nacked(harness: EngineHarness) -> None:
    proxies = [FakeProxy(harness.hub, f"proxy-{n}") for n in range(8)]
    await harness.apply(route(V1, V2, CANARY))
    await harness.until(lambda: harness.engine.queries.view("chat").weights["v2"] == 5)
    await harness.until(lambda: harness.engine.queries.view("chat").convergence.acked == 8)
    for proxy in proxies:
        proxy.refuse = {CLUSTER}
    await harness.apply(route(V1, ("v2", "127.0.0.1:9009"), CANARY))
    await harness.apply(route(("v1", "127.0.0.1:9004"), V2, CANARY, more="timeouts: {connect: 3s}"))
    await harness.until(lambda: harness.engine.queries.view("chat").convergence.nacked > 0)
    await harness.engine.routes.command("chat", Action.KILL, by=Caller(actor="ada", reason="v2 leaks"))
    await harness.until(lambda: all(killed(proxy) for proxy in proxies))
    await harness.until(
        lambda: (
            "the newest runtime layer with its kill switches is synced on 8 of 8 streams"
            in harness.engine.queries.view("chat").convergence.detail
        )
    )
    late = FakeProxy(harness.hub, "late")
    await harness.until(lambda: killed(late) and ROUTE in late.held)


async def test_undo_to_an_earlier_spec_is_a_new_generation(harness: EngineHarness) -> None:
    FakeProxy(harness.hub)
    await harness.apply(route(V1))
    await harness.phase("Healthy")
    await harness.apply(route(V1, V2, CANARY))
    await harness.until(lambda: harness.engine.queries.view("chat").weights.get("v2") == 5)
    with pytest.raises(CommandRefusedError, match=r"no generation 7 .* generations: 1, 2"):
        await harness.engine.routes.undo_to("chat", 7, by=Caller(actor="ada"))
    with pytest.raises(CommandRefusedError, match="at generation 2 already"):
        await harness.engine.routes.undo_to("chat", 2, by=Caller(actor="ada"))
    tried = [(e.event.action, e.event.outcome) for e in await harness.engine.queries.audit(2)]
    assert tried == [("undo", Outcome.REFUSED)] * 2
    view = await harness.engine.routes.undo_to("chat", 1, by=Caller(actor="ada", reason="v2 is worse"))
    assert (view.generation, view.candidate, view.weights) == (3, None, {"v1": 100.0})
    await harness.phase("Healthy")
    (last,) = await harness.engine.queries.audit(1)
    assert (last.event.actor, last.event.action, last.event.reason) == (
        "ada",
        "undo",
        "undo to generation 1: v2 is worse",
    )


async def test_the_audit_log_keeps_actor_action_and_reason_of_deleted_routes(
    harness: EngineHarness,
) -> None:
    FakeProxy(harness.hub)
    await harness.apply(route(V1, V2, CANARY))
    await harness.until(lambda: harness.engine.queries.view("chat").weights["v2"] == 5)
    await harness.engine.routes.command("chat", Action.ABORT, by=Caller(actor="ada", reason="worse answers"))
    await harness.engine.routes.delete("chat", by=Caller(actor="bob"))
    found = [(e.event.actor, e.event.action, e.event.reason) for e in await harness.engine.queries.audit(10)]
    assert found == [("test", "apply", ""), ("ada", "abort", "worse answers"), ("bob", "delete", "")]
    assert await harness.engine.queries.audit(10, "other") == []


async def test_allowed_actions_are_computed_once_per_state(harness: EngineHarness) -> None:
    FakeProxy(harness.hub)
    await harness.apply(route(V1, V2, CANARY))
    await harness.until(lambda: "pause" in harness.engine.queries.view("chat").events[-1].message)
    before = harness.engine.queries.view("chat").actions
    assert {"promote", "pause", "abort", "kill"} <= set(before), before
    harness.now += 600  # The pause lasts an hour; no action becomes possible by time alone.
    assert allowed_actions(harness.engine.table.get("chat").state, harness.now) == before
    assert harness.engine.queries.view("chat").actions is before
    await harness.act(Action.PAUSE)
    assert "resume" in harness.engine.queries.view("chat").actions


async def test_history_holds_the_state_after_each_transition(harness: EngineHarness) -> None:
    FakeProxy(harness.hub)
    await harness.apply(route(V1, V2, CANARY))
    await harness.until(lambda: harness.engine.queries.view("chat").weights["v2"] == 5)
    events = await harness.engine.queries.events("chat", 10)
    began = next(event for event in events if event.kind == "step_began")
    assert (began.phase, began.generation, began.revision) == ("Progressing", 1, 2)
    assert began.weights == {"v2": 5.0}


async def test_an_edit_without_effect_is_not_recorded(harness: EngineHarness) -> None:
    FakeProxy(harness.hub)
    await harness.apply(route(V1, V2, CANARY))
    # The step has converged and its pause has begun: the route is quiet.
    await harness.until(lambda: "pause" in harness.engine.queries.view("chat").events[-1].message)
    before = await harness.engine.queries.events("chat", 100)
    assert await harness.apply("# a comment\n" + route(V1, V2, CANARY)) == "unchanged"
    await harness.ticks()
    assert await harness.engine.queries.events("chat", 100) == before


async def test_candidates_wait_for_health_and_are_rolled_back_when_unhealthy(tmp_path: Path) -> None:
    health = RecordingHealth()
    async with running_engine(tmp_path / "state.sqlite", health=health) as harness:
        FakeProxy(harness.hub)
        await harness.apply(route(V1, V2, CANARY))
        (watched,) = health.watched[-1]
        assert (watched.route, watched.backend, watched.target.endpoints) == (
            "chat",
            "v2",
            (("127.0.0.1", 9002),),
        )
        assert watched.control.endpoints == (("127.0.0.1", 9001),)
        await harness.until(
            lambda: "has not passed a health check" in harness.engine.queries.view("chat").message
        )
        await harness.ticks()
        assert harness.engine.queries.view("chat").weights["v2"] == 0
        harness.engine.inbox.health_reported("chat", Health(backend="v2", healthy=1, total=1))
        await harness.until(lambda: harness.engine.queries.view("chat").weights["v2"] == 5)
        harness.engine.inbox.health_reported(
            "chat", Health(backend="v2", healthy=0, total=1, detail="refused")
        )
        await harness.phase("RolledBack")
        view = harness.engine.queries.view("chat")
        assert (view.outcome, view.dead) == ("RolledBack", ("v2",))


async def test_pairs_that_could_not_be_read_start_no_canary(tmp_path: Path) -> None:
    found: dict[str, Any] = {"pairs": 10, "read": 0}
    both = (
        "{shadow: {percentage: 20, promotion: {minPairs: 5}}, canary: {steps: [{setWeight: 5}, {pause: {}}]}}"
    )

    def embeddings(read: int, unread: int) -> PairCounts:
        legs = {("shadow", "encoding"): unread} if unread else {}
        same = {"failed": ComparisonCounts(same=read)}
        n = read + unread
        api = ApiCounts(pairs=n, counted=n, read=read, unread=unread, outcomes=same, unread_legs=legs)
        return PairCounts(pairs=n, counted=n, apis={"embeddings": api})

    async with running_engine(tmp_path / "state.sqlite", summary=found) as harness:
        FakeProxy(harness.hub)
        await harness.apply(route(V1, V2, both))
        await harness.phase("Shadowing")
        await harness.until(lambda: harness.engine.queries.view("chat").convergence.acked == 1)
        await harness.ticks()
        found["pairs"] = 1_000
        await harness.ticks()
        assert harness.engine.queries.view("chat").phase == "Shadowing", "no pair was read"
        found["read"] = 5
        harness.evidence.counts = embeddings(read=5, unread=995)
        await harness.ticks()
        view = harness.engine.queries.view("chat")
        assert (view.phase, view.equivalence is not None) == ("Shadowing", True)
        assert view.equivalence is not None
        assert (view.equivalence["verdict"], view.equivalence["blind"]) == ("Inconclusive", True)
        (api,) = view.equivalence["apis"]
        assert (api["api"], api["read"], api["counted"]) == ("embeddings", 5, 1_000)
        assert api["unread_legs"] == {"shadow": {"encoding": 995}}
        assert (
            "995 of 1,000 pairs could not be read (unread answers by leg and reason: shadow encoding 995)"
            in view.equivalence["words"]
        )
        found["read"] = 8
        harness.evidence.counts = embeddings(read=3, unread=0)
        harness.now += 5
        await harness.phase("Paused")


async def test_a_shadow_is_followed_by_its_canary_after_enough_pairs(tmp_path: Path) -> None:
    found: dict[str, Any] = {"pairs": 10}
    both = (
        "{shadow: {percentage: 20, promotion: {minPairs: 5}}, "
        "canary: {steps: [{setWeight: 5}, {pause: {}}, {setWeight: 100}]}}"
    )
    async with running_engine(tmp_path / "state.sqlite", summary=found) as harness:
        FakeProxy(harness.hub)
        await harness.apply(route(V1, V2, both))
        await harness.phase("Shadowing")
        await harness.until(lambda: harness.engine.queries.view("chat").convergence.acked == 1)
        await harness.ticks()
        found["pairs"] = 14
        await harness.ticks()
        assert harness.engine.queries.view("chat").phase == "Shadowing"
        found["pairs"] = 15
        harness.now += 5
        await harness.phase("Paused")
        assert harness.engine.queries.view("chat").weights["v2"] == 5
