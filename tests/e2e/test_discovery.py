"""The real Envoy as an oracle for both protocol variants: nothing warming or rejected, versions as sent."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc
import pytest

from demo.traffic import Traffic, TrafficConfig
from tests.support.plane import Plane, eventually, route
from xds_server.xds.snapshot import short_name
from xds_server.xds.wire import status_pb2

if TYPE_CHECKING:
    from tests.support.envoy import Envoy

pytestmark = pytest.mark.e2e

CANARY = "{canary: {steps: [{setWeight: 20}, {pause: {}}, {setWeight: 100}]}}"
ROUTES = ("RouteConfiguration entry", "RouteConfiguration hop")
SHADOW = "{shadow: {percentage: 50}}"


@pytest.mark.parametrize("delta", [True, False], ids=["delta", "sotw"])
async def test_edits_under_traffic_cause_no_failure(plane: Plane, delta: bool) -> None:
    plane.start_control_plane(collector=False)
    backends = [("v1", plane.start_backend("v1").address), ("v2", plane.start_backend("v2").address)]
    specs = [
        route(backends[0]),
        route(backends[0], backends[1], CANARY),
        route(backends[0], backends[1], SHADOW),
        route(backends[1]),
        route(backends[1], backends[0], CANARY),
    ]
    plane.apply(specs[0])
    envoy = plane.start_envoy(delta=delta)
    plane.until(lambda view: view["phase"] == "Healthy")
    traffic = Traffic(TrafficConfig(url=envoy.entry, rate=60, duration=None))
    users = asyncio.create_task(traffic.run())
    for spec in specs * 3:
        await asyncio.to_thread(plane.apply, spec)
        await asyncio.to_thread(
            eventually, plane.view, lambda view: view["convergence"]["acked"] == 1, within=10
        )
        await asyncio.sleep(0.2)
    traffic.stop()
    result = await users
    assert result.failed == 0, result
    stats = envoy.stats("update_rejected|warming|no_cluster|no_route")
    # A mirrored request in flight when its shadow is removed has no route in the hop; no user waits for it.
    errors = {name: value for name, value in stats.items() if value and name != "http.hop.no_route"}
    assert errors == {}
    dump = envoy.config()["ClustersConfigDump"]
    assert not dump.get("dynamic_warming_clusters")
    names = {cluster["cluster"]["name"] for cluster in dump["dynamic_active_clusters"]}
    assert names == {"chat/v1", "chat/v2"}, "clusters that no spec refers to are removed"
    assert plane.api.get("/v1/proxies")["proxies"][0]["status"] == "SYNCED"
    ours, theirs = await versions_we_gave(plane), versions_it_names(envoy)
    assert theirs.keys() == {"Cluster chat/v1", "Cluster chat/v2", "Listener entry", "Listener hop", *ROUTES}
    snapshot_version = plane.view()["convergence"]["version"]
    assert theirs.pop("RouteConfiguration entry") == snapshot_version, (
        "the last edit changed routes, in this snapshot"
    )
    if delta:
        assert theirs == {name: ours[name] for name in theirs}, "each resource has its own version"
    assert ("VirtualHost entry/*" in ours) == delta, "delta sends virtual hosts as resources of their own"


async def versions_we_gave(plane: Plane) -> dict[str, str]:
    """Return the versions that the proxy has ACKed, from the control plane."""
    method = "/envoy.service.status.v3.ClientStatusDiscoveryService/FetchClientStatus"
    async with grpc.aio.insecure_channel(f"127.0.0.1:{plane.xds}") as channel:
        fetch = channel.unary_unary(method, request_serializer=None, response_deserializer=None)
        request = status_pb2.ClientStatusRequest(exclude_resource_contents=True)
        (config,) = status_pb2.ClientStatusResponse.FromString(
            await fetch(request.SerializeToString())
        ).config
    assert {item.config_status for item in config.generic_xds_configs} == {status_pb2.SYNCED}
    return {
        f"{short_name(item.type_url)} {item.name}": item.version_info for item in config.generic_xds_configs
    }


def versions_it_names(envoy: Envoy) -> dict[str, str]:
    """Return the versions in the config dump of the proxy."""
    dump = envoy.config()
    clusters = dump["ClustersConfigDump"]["dynamic_active_clusters"]
    listeners = dump["ListenersConfigDump"]["dynamic_listeners"]
    tables = dump["RoutesConfigDump"]["dynamic_route_configs"]
    return {
        **{f"Cluster {item['cluster']['name']}": item["version_info"] for item in clusters},
        **{f"Listener {item['name']}": item["active_state"]["version_info"] for item in listeners},
        **{f"RouteConfiguration {item['route_config']['name']}": item["version_info"] for item in tables},
    }
