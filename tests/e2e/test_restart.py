"""kill -9 of the control plane in the middle of a step: traffic and the step continue."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from demo.traffic import Traffic, TrafficConfig
from tests.support.plane import Plane, eventually, route

if TYPE_CHECKING:
    from tests.support.envoy import Envoy

pytestmark = pytest.mark.e2e


def weights(envoy: Envoy) -> dict[str, int]:
    """Return the weights in the configuration of the Envoy."""
    for table in envoy.config()["RoutesConfigDump"].get("dynamic_route_configs", []):
        config = table["route_config"]
        if config["name"] == "entry" and config.get("virtual_hosts"):
            clusters = config["virtual_hosts"][0]["routes"][-1]["route"]["weighted_clusters"]["clusters"]
            return {cluster["name"]: cluster.get("weight", 0) for cluster in clusters}
    return {}


def updates(envoy: Envoy) -> dict[str, Any]:
    return envoy.stats(
        "(rds.entry|cluster_manager.cds|listener_manager.lds).(update_success|update_rejected|config_reload)$"
    )


async def test_the_same_step_with_its_clock(plane: Plane) -> None:
    control = plane.start_control_plane(collector=False)
    old, new = plane.start_backend("v1"), plane.start_backend("v2")
    steps = "[{setWeight: 25}, {pause: {duration: 20s}}, {setWeight: 100}]"
    plane.apply(route(("v1", old.address), ("v2", new.address), f"{{canary: {{steps: {steps}}}}}"))
    envoy = plane.start_envoy()
    before = plane.until(
        lambda view: bool(view["step"]) and view["step"]["kind"] == "pause" and bool(view["step"]["began_at"])
    )
    held = {"chat/v2": 2_500, "chat/v1": 7_500}
    assert weights(envoy) == held
    dump, counted = envoy.config()["ClustersConfigDump"], updates(envoy)

    traffic = Traffic(TrafficConfig(url=envoy.entry, rate=30, duration=None))
    users = asyncio.create_task(traffic.run())
    await asyncio.sleep(1)
    control.kill()
    await asyncio.sleep(2)
    assert weights(envoy) == held
    await asyncio.to_thread(plane.start_control_plane, collector=False)

    def connected() -> dict[str, Any]:
        assert weights(envoy) in (held, {"chat/v2": 10_000}), "never an empty or older snapshot"
        return plane.view()

    after = await asyncio.to_thread(eventually, connected, lambda view: view["convergence"]["acked"] == 1)
    assert after["step"]["index"] == before["step"]["index"]
    assert after["step"]["began_at"] == before["step"]["began_at"], "the clock of the step continued"
    assert after["step"]["ends_at"] == before["step"]["ends_at"]
    assert after["convergence"]["version"] == before["convergence"]["version"]
    assert envoy.config()["ClustersConfigDump"]["dynamic_active_clusters"] == dump["dynamic_active_clusters"]
    reloads = {name: value for name, value in updates(envoy).items() if name.endswith("config_reload")}
    assert reloads == {name: counted[name] for name in reloads}, "no configuration was reloaded"

    done = await asyncio.to_thread(eventually, connected, lambda v: v["phase"] == "Healthy", within=40)
    assert done["weights"] == {"v1": 0.0, "v2": 100.0}
    traffic.stop()
    result = await users
    assert result.failed == 0, result
    assert result.ok > 100
