"""The discovery service over a real socket, with clients that speak raw bytes."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from structlog.testing import capture_logs

from tests.support import worlds
from tests.support.proxy import FakeProxy
from xds_server.ir import UnsafeConfigError
from xds_server.view import ProxyStatus
from xds_server.xds.server import Hub, Server, proxies_of
from xds_server.xds.session import NodeInfo
from xds_server.xds.snapshot import CLUSTER, LISTENER, ROUTE, DanglingReferenceError
from xds_server.xds.wire import discovery_pb2 as wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from xds_server import ir
    from xds_server.xds.server.admission import Admission
    from xds_server.xds.snapshot import Snapshot

METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"


class Desk:
    """A server with a world that can be changed."""

    def __init__(self, admission: Admission | None = None) -> None:
        self.world = worlds.snapshot(worlds.group(500))
        self.changed: list[str] = []
        self.hub = Hub(self.compile, on_change=self.changed.append)
        self.server = Server(self.hub, identifier="test", admission=admission)
        self.port = 0

    def compile(self, _proxies: ir.NodeClass) -> Snapshot:
        return self.world


@asynccontextmanager
async def serving(admission: Admission | None = None) -> AsyncIterator[Desk]:
    desk = Desk(admission)
    desk.port = await desk.server.start("127.0.0.1:0")
    pushing = asyncio.create_task(desk.hub.run())
    try:
        yield desk
    finally:
        pushing.cancel()
        await asyncio.gather(pushing, return_exceptions=True)
        await desk.server.stop(0)


@asynccontextmanager
async def connected(desk: Desk) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{desk.port}") as channel:
        call = channel.stream_stream(METHOD, request_serializer=None, response_deserializer=None)()
        try:
            yield call
        finally:
            call.cancel()


async def ask(
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


async def until(holds: Any) -> None:
    async with asyncio.timeout(5):
        while not holds():
            await asyncio.sleep(0.005)


async def turns(count: int = 100) -> None:
    """Let the event loop run `count` times, so that whatever the hub could still send is sent."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_client_is_served_and_told_of_a_new_world() -> None:
    async with serving() as desk, connected(desk) as call:
        await ask(call, CLUSTER)
        first = await read(call)
        assert first.control_plane.identifier == "test"
        names = {wire.Resource.FromString(raw).name for raw in first.resources}
        assert names == {"chat/v1", "chat/v2"}
        await ask(call, CLUSTER, nonce=first.nonce)
        desk.world = worlds.snapshot(worlds.group(500, shadow=True))
        desk.hub.publish("chat")
        second = await read(call)
        assert {wire.Resource.FromString(raw).name for raw in second.resources} == {
            "chat/hop",
            "chat/v2/shadow",
        }


async def test_status_tells_the_truth() -> None:
    async with serving() as desk, connected(desk) as call:
        await ask(call, CLUSTER)
        first = await read(call)
        (view,) = desk.hub.proxies()
        assert (view.id, view.group, view.status) == ("n1", "chat", ProxyStatus.STALE)
        assert desk.hub.convergence("chat").acked == 0
        await ask(call, CLUSTER, nonce=first.nonce, error="bad cluster")
        await until(lambda: desk.hub.convergence("chat").nacked == 1)
        (view,) = desk.hub.proxies()
        assert view.status is ProxyStatus.NACKED
        assert "bad cluster" in view.detail
        assert desk.hub.convergence("chat").detail == "n1 refused Cluster: bad cluster"
        assert "chat" in desk.changed
    assert desk.hub.proxies() == ()


async def test_a_protocol_error_ends_the_stream_with_its_reason() -> None:
    async with serving() as desk, connected(desk) as call:
        await call.write(wire.DeltaDiscoveryRequest(type_url=CLUSTER).SerializeToString())
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await asyncio.wait_for(call.read(), 5)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "node.id" in str(caught.value.details())
        await until(lambda: not desk.hub._streams)


async def test_clients_do_not_disturb_each_other() -> None:
    async with serving() as desk, connected(desk) as one, connected(desk) as other:
        await ask(one, CLUSTER, node="one")
        await ask(other, LISTENER, node="other")
        assert (await read(other)).type_url == LISTENER
        assert (await read(one)).type_url == CLUSTER
        assert [view.id for view in desk.hub.proxies()] == ["one", "other"]


async def test_of_two_streams_of_one_node_the_newer_counts() -> None:
    async with serving() as desk, connected(desk) as old, connected(desk) as new:
        await ask(old, CLUSTER)
        await read(old)
        await ask(new, CLUSTER)
        await read(new)
        assert desk.hub.convergence("chat").connected == 1
        assert len(desk.hub.proxies()) == 2


async def test_when_the_newer_stream_of_a_node_ends_the_older_counts_again() -> None:
    async with serving() as desk, connected(desk) as old:
        await ask(old, CLUSTER)
        await read(old)
        async with connected(desk) as new:
            await ask(new, CLUSTER)
            await read(new)
        await until(lambda: len(desk.hub.proxies()) == 1)
        assert desk.hub.convergence("chat").connected == 1


async def test_many_worlds_in_a_row_end_at_the_newest() -> None:
    async with serving() as desk, connected(desk) as call:
        await ask(call, CLUSTER)
        got = await read(call)
        for weight in range(1, 50):
            desk.world = worlds.snapshot(worlds.group(weight, shadow=weight % 2 == 1))
            desk.hub.publish("chat")
        await ask(call, CLUSTER, nonce=got.nonce)
        got = await read(call)
        assert got.system_version_info == desk.world.version


async def test_an_address_in_use_is_said() -> None:
    async with serving() as desk:
        other = Server(desk.hub, identifier="x")
        with pytest.raises(OSError, match="cannot listen"):
            await other.start(f"127.0.0.1:{desk.port}")
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
def test_a_node_says_where_its_entry_is(
    metadata: tuple[tuple[str, str], ...], entry: tuple[str, int]
) -> None:
    proxies = proxies_of(NodeInfo(id="n", group="g", version="1.40.0", metadata=metadata))
    assert (proxies.group, proxies.entry.host, proxies.entry.port) == ("g", *entry)


async def test_a_refused_version_stops_at_its_probes() -> None:
    bad = worlds.snapshot(worlds.group(700))
    desk = Desk()
    good = desk.world.version
    clients = [FakeProxy(desk.hub, f"proxy-{number}") for number in range(6)]
    pushing = asyncio.create_task(desk.hub.run())
    await until(lambda: desk.hub.convergence("chat").acked == 6)
    for client in clients:
        client.refuse = {ROUTE}
    desk.world = bad
    desk.hub.publish("chat")
    await until(lambda: desk.hub.convergence("chat").nacked > 0)
    await turns()
    found = desk.hub.convergence("chat")
    assert (found.connected, found.acked, found.version) == (6, 0, bad.version)
    assert "refused RouteConfiguration entry: refused by the test" in found.detail
    assert f"all keep {good}" in found.detail
    untouched = [c for c in clients if ("entry", bad.of(ROUTE)["entry"].version) not in c.seen]
    assert len(untouched) >= 3, "nobody but probes heard of it"
    newcomer = FakeProxy(desk.hub, "proxy-new")
    await until(lambda: newcomer.stream.session.synced)
    offered = newcomer.stream.session.snapshot
    assert offered is not None
    assert offered.version == good
    for client in clients:
        client.refuse = set()
    desk.world = worlds.snapshot(worlds.group(800))
    desk.hub.publish("chat")
    await until(lambda: desk.hub.convergence("chat").acked == 7)
    assert desk.hub.convergence("chat").nacked == 0
    pushing.cancel()
    await asyncio.gather(pushing, return_exceptions=True)


async def test_a_refusal_is_remembered_and_says_nothing_while_nobody_is_there() -> None:
    desk = Desk()
    clients = [FakeProxy(desk.hub, f"proxy-{number}") for number in range(3)]
    other = FakeProxy(desk.hub, "other", minor=37)
    pushing = asyncio.create_task(desk.hub.run())
    await until(lambda: desk.hub.convergence("chat").acked == 4)
    good, desk.world = desk.world.version, worlds.snapshot(worlds.group(700))
    for client in clients:
        client.refuse = {desk.world.version}
    desk.hub.publish("chat")
    await until(lambda: desk.hub.convergence("chat").nacked > 0)
    for client in clients:
        client.leave()
    await until(lambda: other.version == desk.world.version)
    found = desk.hub.convergence("chat")
    assert (found.connected, found.acked, found.nacked, found.detail) == (1, 1, 0, "")
    assert found.version == desk.world.version
    newcomer = FakeProxy(desk.hub, "newcomer")
    await until(lambda: newcomer.version == good)
    found = desk.hub.convergence("chat")
    assert (found.connected, found.acked, found.nacked) == (2, 1, 1)
    assert f"all keep {good}" in found.detail
    newcomer.leave()
    # What came after it is not tried on one that starts now: it has nothing to fall back to.
    desk.world = worlds.snapshot(worlds.group(800))
    desk.hub.publish("chat")
    late = FakeProxy(desk.hub, "late")
    await until(lambda: late.version == good)
    await until(lambda: desk.hub.convergence("chat").acked == 2)
    assert late.version == desk.world.version
    pushing.cancel()
    await asyncio.gather(pushing, return_exceptions=True)


async def test_a_stream_of_one_type_is_no_probe_and_proves_nothing() -> None:
    desk = Desk()
    parts = [FakeProxy(desk.hub, f"part-{number}", only=CLUSTER) for number in range(5)]
    one, other = (FakeProxy(desk.hub, name) for name in ("one", "other"))
    pushing = asyncio.create_task(desk.hub.run())
    await until(lambda: desk.hub.convergence("chat").acked == 7)
    good, desk.world = desk.world.version, worlds.snapshot(worlds.group(700, shadow=True))
    one.silent = other.silent = True
    desk.hub.publish("chat")
    await until(lambda: one._open and other._open)
    await turns()
    assert {part.version for part in parts} == {good}, "they know nothing of routes"
    newcomer = FakeProxy(desk.hub, "part-new", only=CLUSTER)
    await until(lambda: newcomer.version == good)
    one.refuse = other.refuse = {desk.world.version}
    one.silent = other.silent = False
    one.answer()
    await until(lambda: desk.hub.convergence("chat").nacked > 0)
    await turns()
    assert {part.version for part in parts} == {good}
    pushing.cancel()
    await asyncio.gather(pushing, return_exceptions=True)


async def test_a_clock_that_is_set_changes_what_people_see_and_nothing_else() -> None:
    desk, wall, steady = Desk(), [5_000.0], [100.0]
    desk.hub = Hub(desk.compile, clock=lambda: wall[0], steady=lambda: steady[0])
    clients = [FakeProxy(desk.hub, f"proxy-{number}") for number in range(3)]
    pushing = asyncio.create_task(desk.hub.run())
    await until(lambda: desk.hub.convergence("chat").acked == 3)
    for client in clients:
        client.silent = True
    desk.world = worlds.snapshot(worlds.group(700))
    desk.hub.publish("chat")
    await until(lambda: all(client._open for client in clients))
    wall[0] = 1.0  # Hours back.
    steady[0] += 1.5
    assert desk.hub._groups["chat"].deadline == 102.0
    for client in clients:
        client.silent = False
        client.answer()
    await until(lambda: desk.hub.convergence("chat").acked == 3)
    counters = desk.hub.counters
    assert counters.convergence_seconds.total == 1.5
    assert counters.queue_seconds.total >= 0
    assert {view.last_seen for view in desk.hub.proxies()} == {1.0}
    pushing.cancel()
    await asyncio.gather(pushing, return_exceptions=True)


async def test_what_is_remembered_of_classes_that_clients_choose_is_bounded() -> None:
    desk = Desk()
    pushing = asyncio.create_task(desk.hub.run())
    clients = [FakeProxy(desk.hub, f"proxy-{port}", entry=f"127.0.0.1:{port}") for port in range(1, 101)]
    await until(lambda: desk.hub.convergence("chat").acked == 100)
    desk.world = worlds.snapshot(worlds.group(700))
    for client in clients:
        client.refuse = {desk.world.version}
    desk.hub.publish("chat")
    await until(lambda: desk.hub.convergence("chat").nacked >= 100)
    for client in clients:
        client.leave()
    assert len(desk.hub._groups["chat"].classes) == 64
    pushing.cancel()
    await asyncio.gather(pushing, return_exceptions=True)


async def test_a_world_that_cannot_be_built_stops_nobody_else() -> None:
    desk = Desk()
    broken: set[int] = set()

    def compile_resources(proxies: ir.NodeClass) -> Snapshot:
        if proxies.envoy in broken:
            raise UnsafeConfigError("it would break a rule")
        return desk.world

    desk.hub._world_of.world_of = compile_resources
    old, new = FakeProxy(desk.hub, "old", minor=37), FakeProxy(desk.hub, "new", minor=40)
    pushing = asyncio.create_task(desk.hub.run())
    await until(lambda: desk.hub.convergence("chat").acked == 2)
    before, desk.world = desk.world, worlds.snapshot(worlds.group(700))
    broken.add(37)
    with capture_logs() as logs:
        desk.hub.publish("chat")
    (said,) = [entry for entry in logs if entry["event"] == "world_not_built"]
    assert (said["group"], said["envoy"], desk.hub.counters.worlds_failed) == ("chat", "1.37", 1)
    await until(lambda: new.version == desk.world.version)
    late, elsewhere = FakeProxy(desk.hub, "late", minor=37), FakeProxy(desk.hub, "x", "other", minor=37)
    await until(lambda: late.stream.session.synced)
    await turns()
    assert old.version == late.version == before.version, "they keep the world before"
    found = desk.hub.convergence("chat")
    assert (found.connected, found.acked) == (3, 1), "nobody holds a world that there is not"
    assert "with Envoy 1.37: it would break a rule" in found.detail
    assert not elsewhere.held, "one that comes while there is no world waits for one"
    broken.clear()
    desk.hub.publish("chat")
    desk.hub.publish("other")
    await until(lambda: desk.hub.convergence("chat").acked == 3)
    await until(lambda: elsewhere.version == desk.world.version)
    assert desk.hub.convergence("chat").detail == ""
    assert not pushing.done()
    pushing.cancel()
    await asyncio.gather(pushing, return_exceptions=True)


async def test_a_world_that_refers_to_nothing_is_no_world_either() -> None:
    desk = Desk()

    def compile_resources(_proxies: ir.NodeClass) -> Snapshot:
        raise DanglingReferenceError((("entry", "nowhere"),))

    desk.hub._world_of.world_of = compile_resources
    FakeProxy(desk.hub)
    desk.hub.publish("chat")
    assert desk.hub.counters.worlds_failed == 2


async def test_each_version_has_its_world_and_an_old_one_is_named_once() -> None:
    async with serving() as desk:
        asked: list[int] = []

        def compile_resources(proxies: ir.NodeClass) -> Snapshot:
            asked.append(proxies.envoy)
            return desk.world

        desk.hub._world_of.world_of = compile_resources
        with capture_logs() as logs:
            for minor, node in ((40, "new"), (37, "older"), (12, "oldest"), (12, "oldest")):
                async with connected(desk) as call:
                    await ask(call, CLUSTER, node=node, minor=minor)
                    await read(call)
                    (view,) = desk.hub.proxies()
                    assert bool(view.reduced) == (minor < 38)
                await until(lambda: not desk.hub.proxies())
        assert asked == [40, 37, 36, 36]
        (warning,) = [entry for entry in logs if entry["log_level"] == "warning"]
        assert (warning["node"], warning["envoy"], warning["served_as"]) == ("oldest", "1.12.0", "1.36")
