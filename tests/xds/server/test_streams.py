"""The xDS service over a socket, with raw clients, and probe rollouts with fake proxies."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from structlog.testing import capture_logs

from tests.support import configs
from tests.support.clock import ManualClock
from tests.support.proxy import FakeProxy
from tests.support.pushing import pushing
from xds_server.ir import UnsafeConfigError
from xds_server.view import ProxyStatus
from xds_server.xds.server import Hub, Server, node_class_of
from xds_server.xds.session import NodeInfo
from xds_server.xds.snapshot import CLUSTER, LISTENER, ROUTE, DanglingReferenceError
from xds_server.xds.wire import discovery_pb2 as wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from xds_server import ir
    from xds_server.xds.server.admission import Admission
    from xds_server.xds.snapshot import Snapshot

METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"


class ServerHarness:
    """A server with a snapshot that tests replace."""

    def __init__(self, admission: Admission | None = None) -> None:
        self.snapshot = configs.snapshot(configs.group(500))
        self.changed: list[str] = []
        self.hub = Hub(self.snapshot_for, on_change=self.changed.append)
        self.server = Server(self.hub, identifier="test", admission=admission)
        self.port = 0

    def snapshot_for(self, _node_class: ir.NodeClass) -> Snapshot:
        return self.snapshot


@asynccontextmanager
async def serving(admission: Admission | None = None) -> AsyncIterator[ServerHarness]:
    harness = ServerHarness(admission)
    harness.port = await harness.server.start("127.0.0.1:0")
    try:
        async with pushing(harness.hub):
            yield harness
    finally:
        await harness.server.stop(0)


@asynccontextmanager
async def connected(harness: ServerHarness) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{harness.port}") as channel:
        call = channel.stream_stream(METHOD, request_serializer=None, response_deserializer=None)()
        try:
            yield call
        finally:
            call.cancel()


async def send_request(
    call: Any, type_url: str, *, nonce: str = "", error: str = "", node: str = "n1", minor: int = 0
) -> None:
    request = wire.DeltaDiscoveryRequest(type_url=type_url, response_nonce=nonce)
    request.node.id, request.node.cluster = node, "chat"
    if minor:
        version = request.node.user_agent_build_version.version
        version.major_number, version.minor_number = 1, minor
    if error:
        request.error_detail.message = error
    await call.write(request.SerializeToString())


async def read(call: Any) -> wire.DeltaDiscoveryResponse:
    return wire.DeltaDiscoveryResponse.FromString(await asyncio.wait_for(call.read(), 5))


async def until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


async def turns(count: int = 100) -> None:
    """Let the event loop run `count` times, so that whatever the hub could still send is sent."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_client_receives_a_snapshot_and_its_successor() -> None:
    async with serving() as harness, connected(harness) as call:
        await send_request(call, CLUSTER)
        first = await read(call)
        assert first.control_plane.identifier == "test"
        names = {wire.Resource.FromString(raw).name for raw in first.resources}
        assert names == {"chat/v1", "chat/v2"}
        await send_request(call, CLUSTER, nonce=first.nonce)
        harness.snapshot = configs.snapshot(configs.group(500, shadow=True))
        harness.hub.publish("chat")
        second = await read(call)
        assert {wire.Resource.FromString(raw).name for raw in second.resources} == {
            "chat/hop",
            "chat/v2/shadow",
        }


async def test_status_and_convergence_show_a_nack() -> None:
    async with serving() as harness, connected(harness) as call:
        await send_request(call, CLUSTER)
        first = await read(call)
        (view,) = harness.hub.proxies()
        assert (view.id, view.group, view.status) == ("n1", "chat", ProxyStatus.STALE)
        assert harness.hub.convergence("chat").acked == 0
        await send_request(call, CLUSTER, nonce=first.nonce, error="bad cluster")
        await until(lambda: harness.hub.convergence("chat").nacked == 1)
        (view,) = harness.hub.proxies()
        assert view.status is ProxyStatus.NACKED
        assert "bad cluster" in view.detail
        assert harness.hub.convergence("chat").detail == "n1 NACKed Cluster: bad cluster"
        assert "chat" in harness.changed
    assert harness.hub.proxies() == ()


async def test_a_protocol_error_ends_the_stream_with_its_reason() -> None:
    async with serving() as harness, connected(harness) as call:
        await call.write(wire.DeltaDiscoveryRequest(type_url=CLUSTER).SerializeToString())
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await asyncio.wait_for(call.read(), 5)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "node.id" in str(caught.value.details())
        await until(lambda: not harness.hub._streams)


async def test_clients_are_independent() -> None:
    async with serving() as harness, connected(harness) as one, connected(harness) as other:
        await send_request(one, CLUSTER, node="one")
        await send_request(other, LISTENER, node="other")
        assert (await read(other)).type_url == LISTENER
        assert (await read(one)).type_url == CLUSTER
        assert [view.id for view in harness.hub.proxies()] == ["one", "other"]


async def test_of_two_streams_of_one_node_the_newer_counts() -> None:
    async with serving() as harness, connected(harness) as old, connected(harness) as new:
        await send_request(old, CLUSTER)
        await read(old)
        await send_request(new, CLUSTER)
        await read(new)
        assert harness.hub.convergence("chat").connected == 1
        assert len(harness.hub.proxies()) == 2


async def test_when_the_newer_stream_of_a_node_ends_the_older_counts_again() -> None:
    async with serving() as harness, connected(harness) as old:
        await send_request(old, CLUSTER)
        await read(old)
        async with connected(harness) as new:
            await send_request(new, CLUSTER)
            await read(new)
        await until(lambda: len(harness.hub.proxies()) == 1)
        assert harness.hub.convergence("chat").connected == 1


async def test_of_many_snapshots_in_a_row_the_newest_is_sent() -> None:
    async with serving() as harness, connected(harness) as call:
        await send_request(call, CLUSTER)
        got = await read(call)
        for weight in range(1, 50):
            harness.snapshot = configs.snapshot(configs.group(weight, shadow=weight % 2 == 1))
            harness.hub.publish("chat")
        await send_request(call, CLUSTER, nonce=got.nonce)
        got = await read(call)
        assert got.system_version_info == harness.snapshot.version


async def test_an_address_in_use_is_an_error() -> None:
    async with serving() as harness:
        other = Server(harness.hub, identifier="x")
        with pytest.raises(OSError, match="cannot listen"):
            await other.start(f"127.0.0.1:{harness.port}")
        await other.stop(0)


@pytest.mark.parametrize(
    ("metadata", "entry"),
    [
        ((("entry", "127.0.0.1:8080"), ("mode", "sidecar")), ("127.0.0.1", 8080)),
        ((("entry", "[::]:8080"),), ("::", 8080)),
        ((), ("0.0.0.0", 10_000)),
        ((("entry", "nonsense"),), ("0.0.0.0", 10_000)),
    ],
)
def test_the_node_metadata_contains_the_entry_address(
    metadata: tuple[tuple[str, str], ...], entry: tuple[str, int]
) -> None:
    found = node_class_of(NodeInfo(id="n", group="g", version="1.40.0", metadata=metadata))
    assert (found.group, found.entry.host, found.entry.port) == ("g", *entry)


async def test_a_nacked_version_stops_at_its_probes() -> None:
    bad = configs.snapshot(configs.group(700))
    harness = ServerHarness()
    good = harness.snapshot.version
    clients = [FakeProxy(harness.hub, f"proxy-{number}") for number in range(6)]
    async with pushing(harness.hub):
        await until(lambda: harness.hub.convergence("chat").acked == 6)
        for client in clients:
            client.refuse = {ROUTE}
        harness.snapshot = bad
        harness.hub.publish("chat")
        await until(lambda: harness.hub.convergence("chat").nacked > 0)
        await turns()
        found = harness.hub.convergence("chat")
        assert (found.connected, found.acked, found.version) == (6, 0, bad.version)
        assert ": RouteConfiguration entry: refused by the test; this version is not sent" in found.detail
        assert f"which keep version {good}" in found.detail
        untouched = [c for c in clients if ("entry", bad.of(ROUTE)["entry"].version) not in c.seen]
        assert len(untouched) >= 3, "only probes received it"
        new_proxy = FakeProxy(harness.hub, "proxy-new")
        await until(lambda: new_proxy.stream.session.synced)
        offered = new_proxy.stream.session.snapshot
        assert offered is not None
        assert offered.version == good
        for client in clients:
            client.refuse = set()
        harness.snapshot = configs.snapshot(configs.group(800))
        harness.hub.publish("chat")
        await until(lambda: harness.hub.convergence("chat").acked == 7)
        assert harness.hub.convergence("chat").nacked == 0


async def test_the_nack_of_an_unused_node_class_is_kept_and_not_counted() -> None:
    harness = ServerHarness()
    clients = [FakeProxy(harness.hub, f"proxy-{number}") for number in range(3)]
    other = FakeProxy(harness.hub, "other", minor=37)
    async with pushing(harness.hub):
        await until(lambda: harness.hub.convergence("chat").acked == 4)
        good, harness.snapshot = harness.snapshot.version, configs.snapshot(configs.group(700))
        for client in clients:
            client.refuse = {harness.snapshot.version}
        harness.hub.publish("chat")
        await until(lambda: harness.hub.convergence("chat").nacked > 0)
        for client in clients:
            client.leave()
        await until(lambda: other.version == harness.snapshot.version)
        found = harness.hub.convergence("chat")
        assert (found.connected, found.acked, found.nacked, found.detail) == (1, 1, 0, "")
        assert found.version == harness.snapshot.version
        new_proxy = FakeProxy(harness.hub, "new_proxy")
        await until(lambda: new_proxy.version == good)
        found = harness.hub.convergence("chat")
        assert (found.connected, found.acked, found.nacked) == (2, 1, 1)
        assert f"which keep version {good}" in found.detail
        new_proxy.leave()
        # The next version is not probed on a proxy that starts now: it has no version to fall back to.
        harness.snapshot = configs.snapshot(configs.group(800))
        harness.hub.publish("chat")
        late = FakeProxy(harness.hub, "late")
        await until(lambda: late.version == good)
        await until(lambda: harness.hub.convergence("chat").acked == 2)
        assert late.version == harness.snapshot.version


async def test_a_stream_of_one_type_is_no_probe() -> None:
    harness = ServerHarness()
    parts = [FakeProxy(harness.hub, f"part-{number}", single_type=CLUSTER) for number in range(5)]
    one, other = (FakeProxy(harness.hub, name) for name in ("one", "other"))
    async with pushing(harness.hub):
        await until(lambda: harness.hub.convergence("chat").acked == 7)
        good, harness.snapshot = harness.snapshot.version, configs.snapshot(configs.group(700, shadow=True))
        one.silent = other.silent = True
        harness.hub.publish("chat")
        await until(lambda: one._unanswered and other._unanswered)
        await turns()
        assert {part.version for part in parts} == {good}, "they receive no routes"
        new_proxy = FakeProxy(harness.hub, "part-new", single_type=CLUSTER)
        await until(lambda: new_proxy.version == good)
        one.refuse = other.refuse = {harness.snapshot.version}
        one.silent = other.silent = False
        one.answer()
        await until(lambda: harness.hub.convergence("chat").nacked > 0)
        await turns()
        assert {part.version for part in parts} == {good}


async def test_setting_the_wall_clock_changes_displayed_times_only() -> None:
    harness, wall, steady = ServerHarness(), [5_000.0], [100.0]
    harness.hub = Hub(harness.snapshot_for, clock=ManualClock(lambda: wall[0], lambda: steady[0]))
    clients = [FakeProxy(harness.hub, f"proxy-{number}") for number in range(3)]
    async with pushing(harness.hub):
        await until(lambda: harness.hub.convergence("chat").acked == 3)
        for client in clients:
            client.silent = True
        harness.snapshot = configs.snapshot(configs.group(700))
        harness.hub.publish("chat")
        await until(lambda: all(client._unanswered for client in clients))
        wall[0] = 1.0  # More than an hour back.
        steady[0] += 1.5
        assert harness.hub._groups["chat"].deadline == 102.0
        for client in clients:
            client.silent = False
            client.answer()
        await until(lambda: harness.hub.convergence("chat").acked == 3)
        counters = harness.hub.counters
        assert counters.convergence_seconds.total == 1.5
        assert counters.queue_seconds.total >= 0
        assert {view.last_seen for view in harness.hub.proxies()} == {1.0}


async def test_the_number_of_unused_node_classes_is_bounded() -> None:
    harness = ServerHarness()
    async with pushing(harness.hub):
        clients = [
            FakeProxy(harness.hub, f"proxy-{port}", entry=f"127.0.0.1:{port}") for port in range(1, 101)
        ]
        await until(lambda: harness.hub.convergence("chat").acked == 100)
        harness.snapshot = configs.snapshot(configs.group(700))
        for client in clients:
            client.refuse = {harness.snapshot.version}
        harness.hub.publish("chat")
        await until(lambda: harness.hub.convergence("chat").nacked >= 100)
        for client in clients:
            client.leave()
        assert len(harness.hub._groups["chat"].classes) == 64


async def test_a_failed_snapshot_build_does_not_affect_other_node_classes() -> None:
    harness = ServerHarness()
    broken: set[int] = set()

    def snapshot_for(node_class: ir.NodeClass) -> Snapshot:
        if node_class.envoy in broken:
            raise UnsafeConfigError("it violates a rule")
        return harness.snapshot

    harness.hub._builder.snapshot_for = snapshot_for
    old, new = FakeProxy(harness.hub, "old", minor=37), FakeProxy(harness.hub, "new", minor=40)
    async with pushing(harness.hub) as task:
        await until(lambda: harness.hub.convergence("chat").acked == 2)
        before, harness.snapshot = harness.snapshot, configs.snapshot(configs.group(700))
        broken.add(37)
        with capture_logs() as logs:
            harness.hub.publish("chat")
        (event,) = [entry for entry in logs if entry["event"] == "snapshot_build_failed"]
        assert (event["group"], event["envoy"], harness.hub.counters.snapshot_builds_failed) == (
            "chat",
            "1.37",
            1,
        )
        await until(lambda: new.version == harness.snapshot.version)
        late, elsewhere = (
            FakeProxy(harness.hub, "late", minor=37),
            FakeProxy(harness.hub, "x", "other", minor=37),
        )
        await until(lambda: late.stream.session.synced)
        await turns()
        assert old.version == late.version == before.version, "they keep the previous snapshot"
        found = harness.hub.convergence("chat")
        assert (found.connected, found.acked) == (3, 1), "clients of the failed node class are not synced"
        assert "and Envoy 1.37: it violates a rule" in found.detail
        assert not elsewhere.held, "a client without a previous snapshot waits"
        broken.clear()
        harness.hub.publish("chat")
        harness.hub.publish("other")
        await until(lambda: harness.hub.convergence("chat").acked == 3)
        await until(lambda: elsewhere.version == harness.snapshot.version)
        assert harness.hub.convergence("chat").detail == ""
        assert not task.done()


async def test_a_dangling_reference_is_a_failed_snapshot_build() -> None:
    harness = ServerHarness()

    def snapshot_for(_node_class: ir.NodeClass) -> Snapshot:
        raise DanglingReferenceError((("entry", "nowhere"),))

    harness.hub._builder.snapshot_for = snapshot_for
    FakeProxy(harness.hub)
    harness.hub.publish("chat")
    assert harness.hub.counters.snapshot_builds_failed == 2


async def test_each_envoy_version_has_a_snapshot_and_an_old_one_is_logged_once() -> None:
    async with serving() as harness:
        built: list[int] = []

        def snapshot_for(node_class: ir.NodeClass) -> Snapshot:
            built.append(node_class.envoy)
            return harness.snapshot

        harness.hub._builder.snapshot_for = snapshot_for
        with capture_logs() as logs:
            for minor, node in ((40, "new"), (37, "older"), (12, "oldest"), (12, "oldest")):
                async with connected(harness) as call:
                    await send_request(call, CLUSTER, node=node, minor=minor)
                    await read(call)
                    (view,) = harness.hub.proxies()
                    assert bool(view.reduced) == (minor < 38)
                await until(lambda: not harness.hub.proxies())
        assert built == [40, 37, 36, 36]
        (warning,) = [entry for entry in logs if entry["log_level"] == "warning"]
        assert (warning["node"], warning["envoy"], warning["served_as"]) == ("oldest", "1.12.0", "1.36")
