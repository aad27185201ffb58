"""The engine with a real store, a real hub and proxies inside the loop; the clock is the test's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.engine.harness import CANARY, SHADOW, V1, V2, EngineHarness, running_engine
from tests.support.plane import route
from tests.support.proxy import FakeProxy
from xds_server.engine import (
    Action,
    Caller,
    CommandRefusedError,
    SpecRefusedError,
    UnknownRouteError,
)
from xds_server.store import StoreError
from xds_server.xds.snapshot import CLUSTER

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[EngineHarness]:
    async with running_engine(tmp_path / "state.sqlite") as alive:
        yield alive


async def test_a_canary_moves_on_as_proxies_accept(harness: EngineHarness) -> None:
    assert await harness.apply(route(V1, V2, CANARY)) == "created"
    assert harness.engine.queries.view("chat").phase == "Pending"
    proxy = FakeProxy(harness.hub)
    await harness.until(lambda: harness.engine.queries.view("chat").weights["v2"] == 5)
    await harness.until(
        lambda: (step := harness.engine.queries.view("chat").step) is not None and step.kind == "pause"
    )
    assert set(proxy.held[CLUSTER]) == {"chat/v1", "chat/v2"}
    await harness.act(Action.PROMOTE)
    await harness.phase("Baking")
    harness.now += 61
    await harness.phase("Healthy")
    assert harness.engine.queries.view("chat").weights == {"v1": 0.0, "v2": 100.0}
    kinds = [event.kind for event in harness.engine.queries.view("chat").events]
    assert kinds[0] == "accepted"
    assert kinds[-1] == "healthy"


async def test_nothing_begins_without_a_proxy(harness: EngineHarness) -> None:
    await harness.apply(route(V1, V2, CANARY))
    await harness.ticks()
    assert harness.engine.queries.view("chat").phase == "Pending"
    assert harness.engine.queries.view("chat").weights["v2"] == 0
    harness.now += 100_000
    await harness.ticks()
    assert harness.engine.queries.view("chat").phase == "Degraded"
    assert "no proxy of the route's group is connected" in harness.engine.queries.view("chat").message
    assert harness.engine.queries.view("chat").weights["v2"] == 0
    assert [event.kind for event in harness.engine.queries.view("chat").events] == ["accepted", "degraded"]


async def test_a_proxy_that_refuses_holds_the_step(harness: EngineHarness) -> None:
    proxy = FakeProxy(harness.hub)
    await harness.apply(route(V1))
    await harness.phase("Healthy")
    proxy.refuse = {CLUSTER}
    await harness.apply(route(V1, V2, CANARY))
    await harness.until(lambda: harness.engine.queries.view("chat").convergence.nacked == 1)
    await harness.until(lambda: "refused by the test" in harness.engine.queries.view("chat").message)
    await harness.ticks()
    assert harness.engine.queries.view("chat").phase == "Pending"
    assert harness.engine.queries.view("chat").weights["v2"] == 0
    proxy.refuse = set()
    await harness.apply(route(("v1", "127.0.0.1:9003"), V2, CANARY).replace("/v1/", "/"))
    await harness.until(lambda: harness.engine.queries.view("chat").weights["v2"] == 5)


async def test_one_silent_proxy_of_two_holds_the_step(harness: EngineHarness) -> None:
    FakeProxy(harness.hub, "one")
    slow = FakeProxy(harness.hub, "two")
    await harness.apply(route(V1))
    await harness.phase("Healthy")
    slow.silent = True
    await harness.apply(route(V1, V2, CANARY))
    await harness.until(lambda: harness.engine.queries.view("chat").convergence.acked == 1)
    await harness.ticks()
    assert harness.engine.queries.view("chat").phase == "Pending"
    assert harness.engine.queries.view("chat").weights["v2"] == 0
    assert "two" in harness.engine.queries.view("chat").convergence.detail
    slow.silent = False
    slow.answer()
    await harness.until(lambda: harness.engine.queries.view("chat").weights["v2"] == 5)


async def test_a_silent_proxy_that_disconnects_blocks_no_step(harness: EngineHarness) -> None:
    FakeProxy(harness.hub, "one")
    slow = FakeProxy(harness.hub, "two")
    await harness.apply(route(V1))
    await harness.phase("Healthy")
    slow.silent = True
    await harness.apply(route(V1, V2, CANARY))
    await harness.until(lambda: harness.engine.queries.view("chat").convergence.acked == 1)
    slow.leave()
    await harness.until(lambda: harness.engine.queries.view("chat").weights["v2"] == 5)


async def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    async with running_engine(path) as first:
        FakeProxy(first.hub)
        await first.apply(route(V1, V2, CANARY))
        await first.until(
            lambda: (s := first.engine.queries.view("chat").step) is not None and s.kind == "pause"
        )
        before = first.engine.queries.view("chat")
        snapshot = first.engine.snapshots.newest(next(iter(first.hub._streams)).node_class)  # type: ignore[arg-type]
    async with running_engine(path) as second:
        after = second.engine.queries.view("chat")
        assert (after.step, after.weights, after.revision) == (before.step, before.weights, before.revision)
        assert [event.message for event in after.events] == [event.message for event in before.events]
        second.now = 1_000.0 + 3_601
        await second.ticks()
        assert second.engine.queries.view("chat").weights["v2"] == 5, "no step ends before a proxy is back"
        proxy = FakeProxy(second.hub)
        assert proxy.stream.session.snapshot is not None
        assert proxy.stream.session.snapshot.version == snapshot.version
        await second.until(lambda: second.engine.queries.view("chat").weights["v2"] == 100)


async def test_the_same_spec_again_changes_nothing(harness: EngineHarness) -> None:
    await harness.apply(route(V1, V2, CANARY))
    revision = harness.engine.queries.view("chat").revision
    assert await harness.apply("# a comment\n" + route(V1, V2, CANARY)) == "unchanged"
    assert harness.engine.queries.view("chat").revision == revision


async def test_a_dry_run_changes_nothing(harness: EngineHarness) -> None:
    applied = await harness.engine.routes.apply(route(V1), file="x", by=Caller(actor="test"), dry_run=True)
    assert applied.routes[0].action == "created"
    assert harness.engine.queries.views() == []


async def test_a_refused_spec_leaves_everything_as_it_was(harness: EngineHarness) -> None:
    await harness.apply(route(V1))
    before = harness.engine.queries.view("chat")
    with pytest.raises(SpecRefusedError) as caught:
        await harness.apply(route(V1, V2, CANARY).replace("setWeight: 5", "setWeight: 500"))
    assert len(caught.value.problems) == 1
    assert harness.engine.queries.view("chat") == before


async def test_a_file_is_accepted_whole_or_not_at_all(harness: EngineHarness) -> None:
    other = route(V1).replace("name: chat", "name: other").replace("/v1/", "/v2/")
    with pytest.raises(SpecRefusedError):
        await harness.engine.routes.apply(
            other + "---\n" + route(V1, V2, "{}"), file="x", by=Caller(actor="test")
        )
    assert harness.engine.queries.views() == []


async def test_two_routes_may_not_claim_the_same(harness: EngineHarness) -> None:
    await harness.apply(route(V1))
    with pytest.raises(SpecRefusedError) as caught:
        await harness.apply(route(V1).replace("name: chat", "name: other"))
    assert "two routes match" in str(caught.value.problems[0])


async def test_commands_that_make_no_sense_say_what_does(harness: EngineHarness) -> None:
    with pytest.raises(UnknownRouteError, match="there is no route 'chat'"):
        await harness.act(Action.ABORT)
    FakeProxy(harness.hub)
    await harness.apply(route(V1, V2, CANARY))
    await harness.until(lambda: harness.engine.queries.view("chat").weights["v2"] == 5)
    await harness.act(Action.ABORT)
    await harness.phase("RolledBack")
    with pytest.raises(CommandRefusedError, match="apply a changed spec"):
        await harness.act(Action.PROMOTE)


async def test_a_deleted_route_is_gone_from_proxies_too(harness: EngineHarness) -> None:
    proxy = FakeProxy(harness.hub)
    await harness.apply(route(V1))
    await harness.until(lambda: "chat/v1" in proxy.held.get(CLUSTER, {}))
    await harness.engine.routes.delete("chat", by=Caller(actor="test"))
    await harness.until(lambda: proxy.held[CLUSTER] == {})
    assert harness.engine.queries.views() == []


async def test_a_route_that_changes_its_group_leaves_the_old_one(harness: EngineHarness) -> None:
    old, new = FakeProxy(harness.hub, "old"), FakeProxy(harness.hub, "new", group="other")
    await harness.apply(route(V1))
    await harness.until(lambda: "chat/v1" in old.held.get(CLUSTER, {}))
    await harness.apply(route(V1).replace("{group: chat}", "{group: other}"))
    await harness.until(lambda: "chat/v1" in new.held.get(CLUSTER, {}) and old.held[CLUSTER] == {})


async def test_a_shadow_is_planned_and_ended(harness: EngineHarness) -> None:
    proxy = FakeProxy(harness.hub)
    await harness.apply(route(V1, V2, SHADOW))
    await harness.until(lambda: harness.engine.queries.view("chat").mirror_percent == 20)
    assert {"chat/hop", "chat/v2/shadow"} <= set(proxy.held[CLUSTER])
    await harness.until(lambda: harness.engine.queries.view("chat").convergence.acked == 1)
    await harness.until(
        lambda: (s := harness.engine.queries.view("chat").step) is not None and s.waiting_for == "operator"
    )
    await harness.act(Action.PROMOTE)
    await harness.phase("Healthy")
    assert harness.engine.queries.view("chat").mirror_percent == 0


async def test_a_store_that_fails_changes_nothing(harness: EngineHarness) -> None:
    await harness.apply(route(V1))
    harness.store.close()
    with pytest.raises(StoreError):
        await harness.apply(route(V1, V2, CANARY))
    assert harness.engine.queries.view("chat").candidate is None
