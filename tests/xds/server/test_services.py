"""The services besides the aggregated one: a service per type, client status, health and reflection."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from tests.support import configs
from tests.support.proxy import FakeProxy
from tests.xds.server.test_streams import connected, read, send_request, serving, until
from xds_server.xds.server.admission import Admission
from xds_server.xds.snapshot import CLUSTER, ENDPOINT, LISTENER, ROUTE, RUNTIME
from xds_server.xds.wire import discovery_pb2 as wire
from xds_server.xds.wire import status_pb2

if TYPE_CHECKING:
    from tests.xds.server.test_streams import ServerHarness

SERVICES = {
    CLUSTER: ("cluster.v3.ClusterDiscoveryService", "StreamClusters", "DeltaClusters"),
    ENDPOINT: ("endpoint.v3.EndpointDiscoveryService", "StreamEndpoints", "DeltaEndpoints"),
    LISTENER: ("listener.v3.ListenerDiscoveryService", "StreamListeners", "DeltaListeners"),
    ROUTE: ("route.v3.RouteDiscoveryService", "StreamRoutes", "DeltaRoutes"),
    RUNTIME: ("runtime.v3.RuntimeDiscoveryService", "StreamRuntime", "DeltaRuntime"),
}
NAMES = {ENDPOINT: ["chat/v1"], ROUTE: ["entry"], RUNTIME: ["shiftplane"]}


@pytest.mark.parametrize("type_url", SERVICES)
async def test_each_type_has_a_service(type_url: str) -> None:
    service, full, delta = SERVICES[type_url]
    async with serving() as harness, grpc.aio.insecure_channel(f"127.0.0.1:{harness.port}") as channel:
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


async def test_a_service_rejects_another_type() -> None:
    async with serving() as harness, grpc.aio.insecure_channel(f"127.0.0.1:{harness.port}") as channel:
        call = channel.stream_stream("/envoy.service.cluster.v3.ClusterDiscoveryService/DeltaClusters")()
        await send_request(call, ROUTE)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "this service serves" in str(caught.value.details())


async def test_convergence_counts_each_stream_of_a_node_with_a_stream_per_type() -> None:
    async with serving() as harness, grpc.aio.insecure_channel(f"127.0.0.1:{harness.port}") as channel:
        calls = {}
        for type_url, (service, _, delta) in SERVICES.items():
            call = calls[type_url] = channel.stream_stream(f"/envoy.service.{service}/{delta}")()
            names = sorted(harness.snapshot.of(type_url)) if type_url in NAMES else []
            await call.write(
                wire.DeltaDiscoveryRequest(
                    node=wire.Node(id="n1", cluster="chat"), resource_names_subscribe=names
                ).SerializeToString()
            )
            got = await read(call)
            await send_request(call, type_url, nonce=got.nonce)
        await until(lambda: harness.hub.convergence("chat").acked == len(SERVICES))
        harness.snapshot = configs.snapshot(configs.group(900))
        harness.hub.publish("chat")
        got = await read(calls[ROUTE])
        assert harness.hub.convergence("chat").acked < len(SERVICES)
        await send_request(calls[ROUTE], ROUTE, nonce=got.nonce)
        await until(lambda: harness.hub.convergence("chat").acked == len(SERVICES))
        for call in calls.values():
            call.cancel()


async def status_of(
    harness: ServerHarness, request: status_pb2.ClientStatusRequest
) -> status_pb2.ClientStatusResponse:
    path = "/envoy.service.status.v3.ClientStatusDiscoveryService/FetchClientStatus"
    # A hundred nodes need more than gRPC's default of 4 MiB for received messages.
    options = (("grpc.max_receive_message_length", 32 << 20),)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{harness.port}", options=options) as channel:
        raw = await channel.unary_unary(path)(request.SerializeToString())
    return status_pb2.ClientStatusResponse.FromString(raw)


async def test_client_status_shows_the_resources_of_each_client() -> None:
    async with serving() as harness, connected(harness) as call:
        await send_request(call, CLUSTER)
        got = await read(call)
        before = await status_of(harness, status_pb2.ClientStatusRequest())
        assert {item.config_status for item in before.config[0].generic_xds_configs} == {status_pb2.STALE}
        await send_request(call, CLUSTER, nonce=got.nonce)
        await until(lambda: harness.hub.counters.acks["Cluster"] == 1)
        (config,) = (await status_of(harness, status_pb2.ClientStatusRequest())).config
        assert wire.Node.FromString(config.node).id == "n1"
        (item, _) = config.generic_xds_configs
        entry = harness.snapshot.of(CLUSTER)[item.name]
        assert (item.type_url, item.version_info, item.xds_config) == (CLUSTER, entry.version, entry.body)
        assert item.config_status == status_pb2.SYNCED


async def test_client_status_shows_nacks_and_selects_nodes() -> None:
    async with serving() as harness, connected(harness) as call:
        await send_request(call, CLUSTER)
        await send_request(call, CLUSTER, nonce=(await read(call)).nonce, error="bad cluster")
        await until(lambda: harness.hub.counters.nacks["Cluster"] == 1)
        request = status_pb2.ClientStatusRequest(exclude_resource_contents=True)
        request.node_matchers.add().node_id.prefix = "n"
        (config,) = (await status_of(harness, request)).config
        assert {item.config_status for item in config.generic_xds_configs} == {status_pb2.ERROR}
        assert config.generic_xds_configs[0].error_state.details == "bad cluster"
        assert not config.generic_xds_configs[0].xds_config
        request.node_matchers[0].node_id.exact = "another"
        assert not (await status_of(harness, request)).config


STATUS = "/envoy.service.status.v3.ClientStatusDiscoveryService"


async def test_client_status_is_sent_in_parts_and_blocks_no_other_task() -> None:
    async with serving() as harness:
        for number in range(600):
            FakeProxy(harness.hub, f"proxy-{number:03}")
        await until(lambda: harness.hub.convergence("chat").acked == 600)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{harness.port}") as channel:
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
            with pytest.raises(grpc.aio.AioRpcError, match=r"the request selects 600 nodes, .* at most 512"):
                await channel.unary_unary(f"{STATUS}/FetchClientStatus")(b"")
            request = status_pb2.ClientStatusRequest()
            request.node_matchers.add().node_id.prefix = "proxy-1"
            status = asyncio.ensure_future(status_of(harness, request))
            while not status.done():
                turns += 1
                await asyncio.sleep(0)
            assert len(status.result().config) == 100
            assert turns > 100 / 16, "other tasks ran in between"
            request.node_matchers[0].node_id.exact = "no-such-node"
            await call.write(request.SerializeToString())
            nothing = await asyncio.wait_for(call.read(), 10)
            assert nothing == b"", "an empty response"
            call.cancel()


def inspect(port: int) -> tuple[int, list[str], Any]:
    """Query health and reflection with a synchronous client."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        status = stub.Check(health_pb2.HealthCheckRequest(), timeout=5).status
        database = ProtoReflectionDescriptorDatabase(channel)
        services = list(database.get_services())
        described = DescriptorPool(database).FindServiceByName(services[0])
        return status, services, described


async def test_health_and_reflection() -> None:
    async with serving() as harness:
        status, services, described = await asyncio.to_thread(inspect, harness.port)
    assert status == health_pb2.HealthCheckResponse.SERVING
    assert len(services) >= 8
    assert described.methods


async def test_new_streams_above_the_limit_are_rejected() -> None:
    async with serving(Admission(rate=0.001, burst=1)) as harness, connected(harness) as call:
        await send_request(call, CLUSTER)
        await read(call)
        async with connected(harness) as other:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await other.read()
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert harness.hub.counters.streams_rejected == 1


def test_the_admission_bucket_refills_with_time() -> None:
    admission = Admission(rate=2.0, burst=3.0)
    assert [admission.take(10.0) for _ in range(4)] == [True, True, True, False]
    assert not admission.take(10.4)
    assert admission.take(10.6)
    assert [admission.take(99.0) for _ in range(4)] == [True, True, True, False], "no more than the burst"
