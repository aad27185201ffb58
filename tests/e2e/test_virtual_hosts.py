"""Virtual hosts as resources: each is added and removed alone, and a serving proxy keeps its variant."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import aiohttp
import pytest

from tests.support.configs import SCRIPTS
from tests.support.plane import Plane, eventually
from tests.support.pushing import pushing
from xds_server.compiler import compile_resources
from xds_server.plan import RouteTraffic
from xds_server.spec import load
from xds_server.xds.server import Hub, Server
from xds_server.xds.snapshot import build

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.support.envoy import Envoy
    from xds_server import ir
    from xds_server.xds.snapshot import Snapshot

pytestmark = pytest.mark.e2e

SPEC = """\
apiVersion: shiftplane.dev/v1alpha1
kind: ModelRoute
metadata: {{name: {name}}}
spec:
  proxies: {{group: chat}}
  match: {{hosts: ["{name}.test"], path: {{prefix: /}}}}
  backends:
    - {{name: v1, endpoints: ["{one}"]}}
    - {{name: v2, endpoints: ["{two}"]}}
  stable: v1
  candidate: v2
  strategy: {{canary: {{steps: [{{setWeight: {weight}}}, {{pause: {{}}}}, {{setWeight: 100}}]}}}}
"""


@dataclass(slots=True)
class Users:
    """Continuous requests to one host; `failed` lists the unexpected responses."""

    envoy: Envoy
    host: str
    ok: int = 0
    failed: list[str] = field(default_factory=list)

    async def ask(self) -> None:
        """Send requests until canceled."""
        timeout = aiohttp.ClientTimeout(total=10)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while True:
                status = await answered(session, self.envoy, self.host)
                if status == 200:
                    self.ok += 1
                else:
                    self.failed.append(f"{self.host}: {status}")


async def answered(session: aiohttp.ClientSession, envoy: Envoy, host: str) -> int:
    async with session.get(f"{envoy.entry}/health", headers={"host": host}) as answer:
        await answer.read()
        return answer.status


@asynccontextmanager
async def asking(*users: Users) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(user.ask()) for user in users]
    yield
    for task in tasks:
        task.cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(end, asyncio.CancelledError) for end in ended), ended
    for user in users:
        assert user.failed == []
        assert user.ok > 50


async def test_hosts_come_and_go_alone(plane: Plane) -> None:
    control = plane.start_control_plane(collector=False)
    one, two = plane.start_backend("v1").address, plane.start_backend("v2").address

    def spec(name: str, weight: int) -> str:
        return SPEC.format(name=name, one=one, two=two, weight=weight)

    async def settled() -> None:
        await asyncio.to_thread(
            eventually, lambda: plane.view("old"), lambda view: view["convergence"]["acked"] == 1
        )

    plane.apply(spec("old", 10))
    envoy = plane.start_envoy()
    async with asking(Users(envoy, "old.test")), aiohttp.ClientSession() as session:
        for turn in range(8):
            await asyncio.to_thread(plane.apply, spec("new", 20))
            await settled()
            assert await answered(session, envoy, "new.test") == 200
            await asyncio.to_thread(plane.apply, spec("old", 11 + turn))
            if turn == 4:
                control.kill()
                await asyncio.to_thread(plane.start_control_plane, collector=False)
            await settled()
            await asyncio.to_thread(plane.api.delete, "/v1/routes/new")
            await settled()
            assert await answered(session, envoy, "new.test") == 404
    stats = envoy.stats("update_rejected|no_cluster|warming|rds.entry.config_reload$")
    assert stats.pop("http.entry.rds.entry.config_reload", None) is not None
    assert {name for name, value in stats.items() if value} == set()
    assert hosts(envoy) == ["entry/old.test"]


async def test_a_proxy_starts_without_any_route(plane: Plane) -> None:
    plane.start_control_plane(collector=False)
    envoy = plane.start_envoy()
    assert hosts(envoy) == ["entry/nobody.invalid"], "the proxy starts without a route"
    one, two = plane.start_backend("v1").address, plane.start_backend("v2").address
    plane.apply(SPEC.format(name="old", one=one, two=two, weight=10))
    plane.until(lambda view: view["convergence"]["acked"] == 1, "old")
    async with aiohttp.ClientSession() as session:
        assert await answered(session, envoy, "old.test") == 200
        plane.api.delete("/v1/routes/old")
        await asyncio.to_thread(eventually, lambda: hosts(envoy), lambda now: now == ["entry/nobody.invalid"])
        assert await answered(session, envoy, "old.test") == 404


async def test_a_proxy_that_holds_whole_tables_keeps_them(plane: Plane) -> None:
    one, two = plane.start_backend("v1").address, plane.start_backend("v2").address
    (spec,) = load(SPEC.format(name="old", one=one, two=two, weight=10), file="test").routes
    weight = 1_000

    def snapshot(node_class: ir.NodeClass) -> Snapshot:
        traffic = [RouteTraffic.with_weight(spec, weight)]
        return build(compile_resources(node_class, traffic, SCRIPTS, collector=None))

    async with serving(
        plane.xds, lambda node_class: snapshot(replace(node_class, virtual_hosts_apart=False))
    ) as hub:
        envoy = await asyncio.to_thread(plane.start_envoy)
        await until(lambda: hub.convergence("chat").acked == 1)
    assert hosts(envoy) == ["old.test"]
    async with asking(Users(envoy, "old.test")):
        for start in (2_000, 3_000):
            weight = start
            async with serving(plane.xds, snapshot) as hub:
                await until(lambda: hub.convergence("chat").acked == 1)
                weight = start + 100
                hub.publish("chat")
                await until(lambda: hub.convergence("chat").acked == 1)
                assert hosts(envoy) == ["old.test"], "unchanged"
    async with serving(plane.xds, snapshot) as hub:
        fresh = await asyncio.to_thread(plane.start_envoy, "envoy-2")
        await until(lambda: hub.convergence("chat").acked == 2)
        assert (hosts(envoy), hosts(fresh)) == (["old.test"], ["entry/old.test"])


def hosts(envoy: Envoy) -> list[str]:
    """Return the names of the virtual hosts in the configuration of the Envoy."""
    for table in envoy.config()["RoutesConfigDump"]["dynamic_route_configs"]:
        if table["route_config"]["name"] == "entry":
            return [host["name"] for host in table["route_config"].get("virtual_hosts", [])]
    return []


@asynccontextmanager
async def serving(port: int, snapshot_for: Callable[[ir.NodeClass], Snapshot]) -> AsyncIterator[Hub]:
    hub = Hub(snapshot_for)
    server = Server(hub, identifier="test")
    await server.start(f"127.0.0.1:{port}")
    try:
        async with pushing(hub):
            yield hub
    finally:
        await server.stop(0)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():
            await asyncio.sleep(0.02)
