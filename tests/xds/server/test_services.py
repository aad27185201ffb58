"""What is served besides the aggregated stream: a service per type, status, health and reflection."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from tests.support import worlds
from tests.support.proxy import FakeProxy
from tests.xds.server.test_streams import ask, connected, read, serving, until
from xds_server.xds.server.admission import Admission
from xds_server.xds.snapshot import CLUSTER, ENDPOINT, LISTENER, ROUTE, RUNTIME
from xds_server.xds.wire import discovery_pb2 as wire
from xds_server.xds.wire import status_pb2

if TYPE_CHECKING:
    from tests.xds.server.test_streams import Desk

SERVICES = {
    CLUSTER: ("cluster.v3.ClusterDiscoveryService", "StreamClusters", "DeltaClusters"),
    ENDPOINT: ("endpoint.v3.EndpointDiscoveryService", "StreamEndpoints", "DeltaEndpoints"),
    LISTENER: ("listener.v3.ListenerDiscoveryService", "StreamListeners", "DeltaListeners"),
    ROUTE: ("route.v3.RouteDiscoveryService", "StreamRoutes", "DeltaRoutes"),
    RUNTIME: ("runtime.v3.RuntimeDiscoveryService", "StreamRuntime", "DeltaRuntime"),
}
NAMES = {ENDPOINT: ["chat/v1"], ROUTE: ["entry"], RUNTIME: ["shiftplane"]}


@pytest.mark.parametrize("type_url", SERVICES)
async def test_each_type_has_a_service_of_its_own(type_url: str) -> None:
    service, full, delta = SERVICES[type_url]
    async with serving() as desk, grpc.aio.insecure_channel(f"127.0.0.1:{desk.port}") as channel:
        call = channel.stream_stream(f"/envoy.service.{service}/{delta}")()
        first = wire.DeltaDiscoveryRequest(
            node=wire.Node(id="n1", cluster="chat"), resource_names_subscribe=NAMES.get(type_url, [])
        )
        await call.write(first.SerializeToString())  # The service implies the type.
        got = await read(call)
        assert got.type_url == type_url
        assert got.resources
        other = channel.stream_stream(f"/envoy.service.{service}/{full}")()
        request = wire.DiscoveryRequest(
            node=wire.Node(id="n2", cluster="chat"), resource_names=NAMES.get(type_url, [])
        )
        await other.write(request.SerializeToString())
        assert wire.DiscoveryResponse.FromString(await other.read()).type_url == type_url
        call.cancel()
        other.cancel()


async def test_a_service_refuses_another_type() -> None:
    async with serving() as desk, grpc.aio.insecure_channel(f"127.0.0.1:{desk.port}") as channel:
        call = channel.stream_stream("/envoy.service.cluster.v3.ClusterDiscoveryService/DeltaClusters")()
        await ask(call, ROUTE)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "this service serves" in str(caught.value.details())


async def test_streams_per_type_of_one_node_are_all_waited_for() -> None:
    async with serving() as desk, grpc.aio.insecure_channel(f"127.0.0.1:{desk.port}") as channel:
        calls = {}
        for type_url, (service, _, delta) in SERVICES.items():
            call = calls[type_url] = channel.stream_stream(f"/envoy.service.{service}/{delta}")()
            names = sorted(desk.world.of(type_url)) if type_url in NAMES else []
            await call.write(
                wire.DeltaDiscoveryRequest(
                    node=wire.Node(id="n1", cluster="chat"), resource_names_subscribe=names
                ).SerializeToString()
            )
            got = await read(call)
            await ask(call, type_url, nonce=got.nonce)
        await until(lambda: desk.hub.convergence("chat").acked == len(SERVICES))
        desk.world = worlds.snapshot(worlds.group(900))
        desk.hub.publish("chat")
        got = await read(calls[ROUTE])
        assert desk.hub.convergence("chat").acked < len(SERVICES)
        await ask(calls[ROUTE], ROUTE, nonce=got.nonce)
        await until(lambda: desk.hub.convergence("chat").acked == len(SERVICES))
        for call in calls.values():
            call.cancel()


async def status_of(desk: Desk, request: status_pb2.ClientStatusRequest) -> status_pb2.ClientStatusResponse:
    path = "/envoy.service.status.v3.ClientStatusDiscoveryService/FetchClientStatus"
    async with grpc.aio.insecure_channel(f"127.0.0.1:{desk.port}") as channel:
        raw = await channel.unary_unary(path)(request.SerializeToString())
    return status_pb2.ClientStatusResponse.FromString(raw)


async def test_client_status_says_what_each_client_holds() -> None:
    async with serving() as desk, connected(desk) as call:
        await ask(call, CLUSTER)
        got = await read(call)
        before = await status_of(desk, status_pb2.ClientStatusRequest())
        assert {item.config_status for item in before.config[0].generic_xds_configs} == {status_pb2.STALE}
        await ask(call, CLUSTER, nonce=got.nonce)
        await until(lambda: desk.hub.counters.accepted["Cluster"] == 1)
        (config,) = (await status_of(desk, status_pb2.ClientStatusRequest())).config
        assert wire.Node.FromString(config.node).id == "n1"
        (item, _) = config.generic_xds_configs
        entry = desk.world.of(CLUSTER)[item.name]
        assert (item.type_url, item.version_info, item.xds_config) == (CLUSTER, entry.version, entry.body)
        assert item.config_status == status_pb2.SYNCED


async def test_client_status_shows_refusals_and_selects_nodes() -> None:
    async with serving() as desk, connected(desk) as call:
        await ask(call, CLUSTER)
        await ask(call, CLUSTER, nonce=(await read(call)).nonce, error="bad cluster")
        await until(lambda: desk.hub.counters.rejected["Cluster"] == 1)
        request = status_pb2.ClientStatusRequest(exclude_resource_contents=True)
        request.node_matchers.add().node_id.prefix = "n"
        (config,) = (await status_of(desk, request)).config
        assert {item.config_status for item in config.generic_xds_configs} == {status_pb2.ERROR}
        assert config.generic_xds_configs[0].error_state.details == "bad cluster"
        assert not config.generic_xds_configs[0].xds_config
        request.node_matchers[0].node_id.exact = "another"
        assert not (await status_of(desk, request)).config


STATUS = "/envoy.service.status.v3.ClientStatusDiscoveryService"


async def test_client_status_of_many_comes_in_parts_and_keeps_nobody_waiting() -> None:
    async with serving() as desk:
        for number in range(600):
            FakeProxy(desk.hub, f"proxy-{number:03}")
        await until(lambda: desk.hub.convergence("chat").acked == 600)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{desk.port}") as channel:
            call = channel.stream_stream(f"{STATUS}/StreamClientStatus")()
            await call.write(status_pb2.ClientStatusRequest().SerializeToString())
            nodes: set[str] = set()
            parts = turns = 0
            while len(nodes) < 600:
                part = status_pb2.ClientStatusResponse.FromString(await asyncio.wait_for(call.read(), 10))
                assert 0 < len(part.config) <= 16
                nodes |= {wire.Node.FromString(config.node).id for config in part.config}
                parts += 1
            assert parts >= 600 / 16
            with pytest.raises(grpc.aio.AioRpcError, match="600 nodes are more than 512 at once"):
                await channel.unary_unary(f"{STATUS}/FetchClientStatus")(b"")
            request = status_pb2.ClientStatusRequest()
            request.node_matchers.add().node_id.prefix = "proxy-1"
            asked = asyncio.ensure_future(status_of(desk, request))
            while not asked.done():
                turns += 1
                await asyncio.sleep(0)
            assert len(asked.result().config) == 100
            assert turns > 100 / 16, "others had their turn"
            request.node_matchers[0].node_id.exact = "nobody"
            await call.write(request.SerializeToString())
            nothing = await asyncio.wait_for(call.read(), 10)
            assert nothing == b"", "an answer all the same"
            call.cancel()


def look(port: int) -> tuple[int, list[str], Any]:
    """What a tool without a loop of its own finds out."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        status = stub.Check(health_pb2.HealthCheckRequest(), timeout=5).status
        database = ProtoReflectionDescriptorDatabase(channel)
        services = list(database.get_services())
        described = DescriptorPool(database).FindServiceByName(services[0])
        return status, services, described


async def test_health_and_reflection() -> None:
    async with serving() as desk:
        status, services, described = await asyncio.to_thread(look, desk.port)
    assert status == health_pb2.HealthCheckResponse.SERVING
    assert len(services) >= 8
    assert described.methods


async def test_new_streams_beyond_the_limit_are_turned_away() -> None:
    async with serving(Admission(rate=0.001, burst=1)) as desk, connected(desk) as call:
        await ask(call, CLUSTER)
        await read(call)
        async with connected(desk) as other:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await other.read()
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert desk.hub.counters.turned_away == 1


def test_admission_fills_with_time() -> None:
    gate = Admission(rate=2.0, burst=3.0)
    assert [gate.take(10.0) for _ in range(4)] == [True, True, True, False]
    assert not gate.take(10.4)
    assert gate.take(10.6)
    assert [gate.take(99.0) for _ in range(4)] == [True, True, True, False], "no more than the burst"
