"""The engine with a real store, a real hub and proxies inside the loop; the clock is the test's."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.engine.house import CANARY, SHADOW, V1, V2, House, living
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
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with living(tmp_path / "state.sqlite") as alive:
        yield alive


async def test_a_canary_moves_on_as_proxies_accept(house: House) -> None:
    assert await house.apply(route(V1, V2, CANARY)) == "created"
    assert house.engine.view("chat").phase == "Pending"
    proxy = FakeProxy(house.hub)
    await house.until(lambda: house.engine.view("chat").weights["v2"] == 5)
    await house.until(lambda: (step := house.engine.view("chat").step) is not None and step.kind == "pause")
    assert set(proxy.held[CLUSTER]) == {"chat/v1", "chat/v2"}
    await house.act(Action.PROMOTE)
    await house.phase("Baking")
    house.now += 61
    await house.phase("Healthy")
    assert house.engine.view("chat").weights == {"v1": 0.0, "v2": 100.0}
    kinds = [event.kind for event in house.engine.view("chat").events]
    assert kinds[0] == "accepted"
    assert kinds[-1] == "healthy"


async def test_nothing_begins_without_a_proxy(house: House) -> None:
    await house.apply(route(V1, V2, CANARY))
    house.now += 100_000
    await asyncio.sleep(0)
    assert house.engine.view("chat").phase in {"Pending", "Degraded"}
    assert house.engine.view("chat").weights["v2"] == 0


async def test_a_proxy_that_refuses_holds_the_step(house: House) -> None:
    proxy = FakeProxy(house.hub)
    await house.apply(route(V1))
    await house.phase("Healthy")
    proxy.refuse = {CLUSTER}
    await house.apply(route(V1, V2, CANARY))
    await house.until(lambda: house.engine.view("chat").convergence.nacked == 1)
    await house.until(lambda: "refused by the test" in house.engine.view("chat").message)
    assert house.engine.view("chat").phase == "Pending"
    assert house.engine.view("chat").weights["v2"] == 0
    proxy.refuse = set()
    await house.apply(route(("v1", "127.0.0.1:9003"), V2, CANARY).replace("/v1/", "/"))
    await house.until(lambda: house.engine.view("chat").weights["v2"] == 5)


async def test_one_silent_proxy_of_two_holds_the_step(house: House) -> None:
    FakeProxy(house.hub, "one")
    slow = FakeProxy(house.hub, "two")
    await house.apply(route(V1))
    await house.phase("Healthy")
    slow.silent = True
    await house.apply(route(V1, V2, CANARY))
    await house.until(lambda: house.engine.view("chat").convergence.acked == 1)
    assert house.engine.view("chat").weights["v2"] == 0
    assert "two" in house.engine.view("chat").convergence.detail
    slow.silent = False
    slow.answer()
    await house.until(lambda: house.engine.view("chat").weights["v2"] == 5)


async def test_a_silent_proxy_that_leaves_holds_nobody_up(house: House) -> None:
    FakeProxy(house.hub, "one")
    slow = FakeProxy(house.hub, "two")
    await house.apply(route(V1))
    await house.phase("Healthy")
    slow.silent = True
    await house.apply(route(V1, V2, CANARY))
    await house.until(lambda: house.engine.view("chat").convergence.acked == 1)
    slow.leave()
    await house.until(lambda: house.engine.view("chat").weights["v2"] == 5)


async def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    async with living(path) as first:
        FakeProxy(first.hub)
        await first.apply(route(V1, V2, CANARY))
        await first.until(lambda: (s := first.engine.view("chat").step) is not None and s.kind == "pause")
        before = first.engine.view("chat")
        world = first.engine.compile(next(iter(first.hub._streams)).proxies)  # type: ignore[arg-type]
    async with living(path) as second:
        after = second.engine.view("chat")
        assert (after.step, after.weights, after.revision) == (before.step, before.weights, before.revision)
        assert [event.message for event in after.events] == [event.message for event in before.events]
        second.now = 1_000.0 + 3_601
        await asyncio.sleep(0.05)
        assert second.engine.view("chat").weights["v2"] == 5, "no step ends before a proxy is back"
        proxy = FakeProxy(second.hub)
        assert proxy.stream.session.snapshot is not None
        assert proxy.stream.session.snapshot.version == world.version
        await second.until(lambda: second.engine.view("chat").weights["v2"] == 100)


async def test_the_same_spec_again_changes_nothing(house: House) -> None:
    await house.apply(route(V1, V2, CANARY))
    revision = house.engine.view("chat").revision
    assert await house.apply("# a comment\n" + route(V1, V2, CANARY)) == "unchanged"
    assert house.engine.view("chat").revision == revision


async def test_a_dry_run_changes_nothing(house: House) -> None:
    applied = await house.engine.apply(route(V1), file="x", by=Caller(actor="test"), dry_run=True)
    assert applied.routes[0].action == "created"
    assert house.engine.views() == []


async def test_a_refused_spec_leaves_everything_as_it_was(house: House) -> None:
    await house.apply(route(V1))
    before = house.engine.view("chat")
    with pytest.raises(SpecRefusedError) as caught:
        await house.apply(route(V1, V2, CANARY).replace("setWeight: 5", "setWeight: 500"))
    assert len(caught.value.problems) == 1
    assert house.engine.view("chat") == before


async def test_a_file_is_accepted_whole_or_not_at_all(house: House) -> None:
    other = route(V1).replace("name: chat", "name: other").replace("/v1/", "/v2/")
    with pytest.raises(SpecRefusedError):
        await house.engine.apply(other + "---\n" + route(V1, V2, "{}"), file="x", by=Caller(actor="test"))
    assert house.engine.views() == []


async def test_two_routes_may_not_claim_the_same(house: House) -> None:
    await house.apply(route(V1))
    with pytest.raises(SpecRefusedError) as caught:
        await house.apply(route(V1).replace("name: chat", "name: other"))
    assert "two routes match" in str(caught.value.problems[0])


async def test_commands_that_make_no_sense_say_what_does(house: House) -> None:
    with pytest.raises(UnknownRouteError, match="there is no route 'chat'"):
        await house.act(Action.ABORT)
    FakeProxy(house.hub)
    await house.apply(route(V1, V2, CANARY))
    await house.until(lambda: house.engine.view("chat").weights["v2"] == 5)
    await house.act(Action.ABORT)
    await house.phase("RolledBack")
    with pytest.raises(CommandRefusedError, match="apply a spec"):
        await house.act(Action.PROMOTE)


async def test_a_deleted_route_is_gone_from_proxies_too(house: House) -> None:
    proxy = FakeProxy(house.hub)
    await house.apply(route(V1))
    await house.until(lambda: "chat/v1" in proxy.held.get(CLUSTER, {}))
    await house.engine.delete("chat", by=Caller(actor="test"))
    await house.until(lambda: proxy.held[CLUSTER] == {})
    assert house.engine.views() == []


async def test_a_route_that_changes_its_group_leaves_the_old_one(house: House) -> None:
    old, new = FakeProxy(house.hub, "old"), FakeProxy(house.hub, "new", group="other")
    await house.apply(route(V1))
    await house.until(lambda: "chat/v1" in old.held.get(CLUSTER, {}))
    await house.apply(route(V1).replace("{group: chat}", "{group: other}"))
    await house.until(lambda: "chat/v1" in new.held.get(CLUSTER, {}) and old.held[CLUSTER] == {})


async def test_a_shadow_is_planned_and_ended(house: House) -> None:
    proxy = FakeProxy(house.hub)
    await house.apply(route(V1, V2, SHADOW))
    await house.until(lambda: house.engine.view("chat").mirror_percent == 20)
    assert {"chat/hop", "chat/v2/shadow"} <= set(proxy.held[CLUSTER])
    await house.until(lambda: house.engine.view("chat").convergence.acked == 1)
    await house.until(
        lambda: (s := house.engine.view("chat").step) is not None and s.waiting_for == "operator"
    )
    await house.act(Action.PROMOTE)
    await house.phase("Healthy")
    assert house.engine.view("chat").mirror_percent == 0


async def test_a_store_that_fails_changes_nothing(house: House) -> None:
    await house.apply(route(V1))
    house.store.close()
    with pytest.raises(StoreError):
        await house.apply(route(V1, V2, CANARY))
    assert house.engine.view("chat").candidate is None
