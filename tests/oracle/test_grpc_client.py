"""The xDS client in grpcio as an oracle: it shares no code with this project or with Envoy."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import asynccontextmanager
from datetime import timedelta
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
from envoy_data_plane.envoy.config.cluster.v3 import (
    Cluster,
    ClusterDiscoveryType,
    ClusterEdsClusterConfig,
    ClusterLbPolicy,
)
from envoy_data_plane.envoy.config.core.v3 import (
    Address,
    AggregatedConfigSource,
    ApiVersion,
    ConfigSource,
    Locality,
    SocketAddress,
)
from envoy_data_plane.envoy.config.endpoint.v3 import (
    ClusterLoadAssignment,
    Endpoint,
    LbEndpoint,
    LocalityLbEndpoints,
)
from envoy_data_plane.envoy.config.listener.v3 import ApiListener, Listener
from envoy_data_plane.envoy.config.route.v3 import (
    Route,
    RouteAction,
    RouteConfiguration,
    RouteMatch,
    VirtualHost,
)
from envoy_data_plane.envoy.extensions.filters.http.router.v3 import Router
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
    HttpFilter,
    Rds,
)

from tests.support import xds_caller
from tests.support.pushing import pushing
from xds_server.translate.encode import encode_any, pack, type_url
from xds_server.view import ProxyStatus
from xds_server.xds.server import Hub, Server
from xds_server.xds.snapshot import CLUSTER, ENDPOINT, LISTENER, ROUTE, Resource, Snapshot, build

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator, Iterable

    import betterproto2

    from xds_server import ir

CALL_SECONDS = 10.0
TIMEOUT_SECONDS = 20.0
ADS = ConfigSource(ads=AggregatedConfigSource(), resource_api_version=ApiVersion.V3)


def resource(name: str, message: betterproto2.Message, *refers_to: tuple[str, str]) -> Resource:
    body = encode_any(message)
    return Resource(
        type_url=type_url(type(message)),
        name=name,
        version=blake2b(body, digest_size=8).hexdigest(),
        body=body,
        refers_to=frozenset(refers_to),
    )


def listener() -> Resource:
    manager = HttpConnectionManager(
        stat_prefix="svc",
        rds=Rds(config_source=ADS, route_config_name="svc-routes"),
        http_filters=[HttpFilter(name="router", typed_config=pack(Router()))],
    )
    message = Listener(name="svc", api_listener=ApiListener(api_listener=pack(manager)))
    return resource("svc", message, (ROUTE, "svc-routes"))


def routes(cluster: str) -> Resource:
    every = Route(match=RouteMatch(prefix=""), route=RouteAction(cluster=cluster))
    host = VirtualHost(name="svc", domains=["*"], routes=[every])
    message = RouteConfiguration(name="svc-routes", virtual_hosts=[host])
    return resource("svc-routes", message, (CLUSTER, cluster))


def cluster(name: str, port: int) -> Iterable[Resource]:
    message = Cluster(
        name=name,
        type=ClusterDiscoveryType.EDS,
        eds_cluster_config=ClusterEdsClusterConfig(eds_config=ADS),
        lb_policy=ClusterLbPolicy.ROUND_ROBIN,
        connect_timeout=timedelta(seconds=1),
    )
    address = Address(socket_address=SocketAddress(address="127.0.0.1", port_value=port))
    place = LocalityLbEndpoints(
        locality=Locality(region="here"),
        load_balancing_weight=1,
        lb_endpoints=[LbEndpoint(endpoint=Endpoint(address=address))],
    )
    yield resource(name, message, (ENDPOINT, name))
    yield resource(name, ClusterLoadAssignment(cluster_name=name, endpoints=[place]))


class ServerHarness:
    """The server under test, with one snapshot for all clients."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.hub = Hub(self.snapshot_for)
        self.server = Server(self.hub, identifier="test")

    def snapshot_for(self, _node_class: ir.NodeClass) -> Snapshot:
        return self.snapshot

    def publish(self, *resources: Resource) -> None:
        self.snapshot = build(resources, self.snapshot)
        self.hub.publish("oracle")

    async def settled(self) -> None:
        """Wait until the only client has ACKed the complete newest snapshot."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while not any(
                s.session.synced and s.session.snapshot is self.snapshot for s in self.hub.streams()
            ):
                await asyncio.sleep(0.01)
        assert [view.status for view in self.hub.proxies()] == [ProxyStatus.SYNCED]
        assert self.hub.counters.nacks.total() == 0


@asynccontextmanager
async def serving(snapshot: Snapshot) -> AsyncIterator[tuple[ServerHarness, int]]:
    harness = ServerHarness(snapshot)
    port = await harness.server.start("127.0.0.1:0")
    try:
        async with pushing(harness.hub):
            yield harness, port
    finally:
        await harness.server.stop(0)


@asynccontextmanager
async def echo(name: str) -> AsyncIterator[int]:
    """A server that answers every call with its name and the request."""

    async def handle(request: bytes, _context: Any) -> bytes:
        return f"{name}: {request.decode()}".encode()

    service, method = xds_caller.METHOD.strip("/").split("/")
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(
                service, {method: grpc.unary_unary_rpc_method_handler(handle)}
            ),
        )
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0)


@asynccontextmanager
async def grpc_client(xds_port: int) -> AsyncIterator[Process]:
    """A client configured with the address of the control plane and the name `svc` only."""
    bootstrap = {
        "xds_servers": [
            {
                "server_uri": f"127.0.0.1:{xds_port}",
                "channel_creds": [{"type": "insecure"}],
                "server_features": ["xds_v3"],
            }
        ],
        "node": {"id": "grpc-client", "cluster": "oracle"},
    }
    client = await asyncio.create_subprocess_exec(
        sys.executable,
        Path(xds_caller.__file__),
        "xds:///svc",
        str(CALL_SECONDS),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"GRPC_XDS_BOOTSTRAP_CONFIG": json.dumps(bootstrap)},
    )
    try:
        yield client
    finally:
        if client.returncode is None:
            client.kill()
        await client.wait()


async def call(client: Process, text: str) -> dict[str, str]:
    assert client.stdin is not None
    assert client.stdout is not None
    client.stdin.write(f"{text}\n".encode())
    await client.stdin.drain()
    line = await asyncio.wait_for(client.stdout.readline(), CALL_SECONDS + TIMEOUT_SECONDS)
    found = json.loads(line)
    assert isinstance(found, dict)
    return found


async def until_answered(client: Process, wanted: dict[str, str]) -> None:
    """Call until the answer is `wanted`: the client applies a change some time after its ACK."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while await call(client, "hello") != wanted:
            await asyncio.sleep(0.01)


async def test_calls_go_to_the_published_endpoint() -> None:
    async with echo("one") as one, echo("two") as two:
        first = (listener(), routes("c1"), *cluster("c1", one))
        second = (listener(), routes("c2"), *cluster("c2", two))
        async with serving(build(first)) as (harness, port), grpc_client(port) as client:
            assert await call(client, "hello") == {"answer": "one: hello"}
            await harness.settled()

            harness.publish(*second)
            await harness.settled()
            await until_answered(client, {"answer": "two: hello"})
            assert await call(client, "again") == {"answer": "two: again"}, "for later calls too"

            harness.publish(listener(), routes("c2"), *cluster("c2", one))
            await harness.settled()
            await until_answered(client, {"answer": "one: hello"})


async def test_no_call_fails_while_snapshots_change() -> None:
    async with echo("one") as one, echo("two") as two:
        versions = [
            (listener(), routes(name), *cluster(name, port)) for name, port in (("c1", one), ("c2", two))
        ]
        async with serving(build(versions[0])) as (harness, port), grpc_client(port) as client:
            answers = [await call(client, "0")]
            for number in range(1, 31):
                if number % 3 == 0:
                    harness.publish(*versions[number % 2])
                answers.append(await call(client, str(number)))
            assert [answer for answer in answers if "error" in answer] == []
            assert {answer["answer"].partition(":")[0] for answer in answers} == {"one", "two"}
            await harness.settled()


def _acked_types(harness: ServerHarness) -> list[str]:
    return [i.type_url for s in harness.hub.streams() for i in s.session.inventory() if i.version]


async def test_calls_fail_while_the_listener_is_removed() -> None:
    async with echo("one") as one:
        resources = (listener(), routes("c1"), *cluster("c1", one))
        async with serving(build(resources)) as (harness, port), grpc_client(port) as client:
            assert await call(client, "hello") == {"answer": "one: hello"}
            harness.publish()
            async with asyncio.timeout(TIMEOUT_SECONDS):
                while "error" not in (failed := await call(client, "hello")):
                    await asyncio.sleep(0.01)
            assert failed["error"] == "UNAVAILABLE"
            # The client stays subscribed to the routes without a listener, and so keeps their cluster.
            # Its ACK of the removal may arrive after the failed call.
            async with asyncio.timeout(TIMEOUT_SECONDS):
                while LISTENER in (acked := _acked_types(harness)):
                    await asyncio.sleep(0.01)
            assert acked
            assert harness.hub.counters.nacks.total() == 0
            harness.publish(*resources)
            await until_answered(client, {"answer": "one: hello"})
            await harness.settled()
