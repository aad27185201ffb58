"""Streams and nodes: the first request, the types on a stream, and what remains when it ends."""

from __future__ import annotations

import pytest

from tests.conformance.client import Client, connect
from tests.conformance.links import ControlPlane, SocketControlPlane, StreamEndedError, until
from tests.conformance.snapshots import snapshot
from xds_server.xds.server import service
from xds_server.xds.session import Delta, NodeInfo, ProtocolError, Session, Sotw
from xds_server.xds.snapshot import CLUSTER, ENDPOINT, LISTENER, ROUTE
from xds_server.xds.wire import discovery_pb2 as wire

UNKNOWN = "type.googleapis.com/some.other.v3.Thing"


@pytest.mark.item(1)
@pytest.mark.parametrize("node", [None, wire.Node(cluster="group")], ids=["no node", "no id"])
async def test_a_stream_without_a_node_is_rejected(
    plane: ControlPlane, delta: bool, node: wire.Node | None
) -> None:
    client = await connect(plane, delta=delta)
    request = wire.DeltaDiscoveryRequest if delta else wire.DiscoveryRequest
    await client.link.send(request(type_url=CLUSTER, node=node).SerializeToString())
    ended = await client.ended()
    assert ended.code == "INVALID_ARGUMENT"
    assert "node.id" in str(ended)


@pytest.mark.item(1)
async def test_only_the_first_request_must_contain_the_node(plane: ControlPlane, delta: bool) -> None:
    client = await connect(plane, delta=delta)
    await client.subscribe(CLUSTER)
    await client.ack(await client.take_one(CLUSTER))
    await client.subscribe(LISTENER)
    assert (await client.take_one(LISTENER)).names == ("front",)


@pytest.mark.item(1)
async def test_only_the_used_fields_of_a_node_are_stored(plane: ControlPlane, delta: bool) -> None:
    client = await connect(plane, delta=delta)
    client.node.user_agent_name = "envoy"
    client.node.metadata.update({"shiftplane": {"mode": "sidecar"}, "bulk": "x" * 100_000})
    client.node.user_agent_build_version.version.major_number = 1
    await client.subscribe(CLUSTER)
    await client.link.settle()
    assert client.link.session.node == NodeInfo(
        id="proxy-1", group="group", version="1.0.0", metadata=(("mode", "sidecar"),)
    )


@pytest.mark.item(2)
async def test_a_request_without_a_type_ends_an_aggregated_stream(plane: ControlPlane, delta: bool) -> None:
    client = await connect(plane, delta=delta)
    await client.send_request("")
    ended = await client.ended()
    assert ended.code == "INVALID_ARGUMENT"
    assert "type_url" in str(ended)


@pytest.mark.item(2)
def test_the_service_of_a_type_implies_the_type(delta: bool) -> None:
    variant = Delta() if delta else Sotw()
    session = Session(variant, identifier="i", nonce_prefix="n", single_type=CLUSTER)
    request = wire.DeltaDiscoveryRequest if delta else wire.DiscoveryRequest
    response = wire.DeltaDiscoveryResponse if delta else wire.DiscoveryResponse
    session.receive(request(node=wire.Node(id="n")).SerializeToString())
    session.offer(snapshot())
    raw = session.next_response()
    assert raw is not None
    assert response.FromString(raw).type_url == CLUSTER
    with pytest.raises(ProtocolError, match="serves"):
        session.receive(request(type_url=LISTENER).SerializeToString())


@pytest.mark.item(2)
async def test_an_unknown_type_is_no_error(plane: ControlPlane, delta: bool) -> None:
    client = await connect(plane, delta=delta)
    await client.subscribe(UNKNOWN, "x")
    assert [r.removed for r in await client.ack_all()] == ([("x",)] if delta else [])
    await client.boot()
    assert client.link.session.synced


@pytest.mark.item(3)
async def test_a_nack_of_one_type_does_not_affect_the_others(plane: ControlPlane, delta: bool) -> None:
    client = await connect(plane, delta=delta)
    await client.subscribe(CLUSTER)
    clusters = await client.take_one(CLUSTER)
    await client.subscribe(LISTENER)
    listeners = await client.take_one(LISTENER)
    await client.nack(clusters)
    await client.ack(listeners)
    assert await client.take_all() == []
    assert [r.type_url for r in client.link.session.nacks] == [CLUSTER]
    await plane.publish(snapshot(listeners={"front": 2}))
    assert (await client.ack_all())[-1].content == {"front": "2"}


@pytest.mark.item(3)
async def test_the_nonce_of_one_type_acks_no_other_type(plane: ControlPlane, delta: bool) -> None:
    client = await connect(plane, delta=delta)
    await client.subscribe(CLUSTER)
    clusters = await client.take_one(CLUSTER)
    await client.subscribe(LISTENER)
    await client.take_one(LISTENER)
    await client.send_request(LISTENER, nonce=clusters.nonce)
    assert await client.take_all() == []
    assert client.acked_versions() == {}


@pytest.mark.item(3)
async def test_a_stream_may_start_with_any_type(plane: ControlPlane, delta: bool) -> None:
    client = await connect(plane, delta=delta)
    await client.subscribe(ENDPOINT, "stable")
    assert (await client.take_one(ENDPOINT)).names == ("stable",)


@pytest.mark.item(4)
async def test_a_second_request_before_the_first_response_replaces_the_first(
    plane: ControlPlane, delta: bool
) -> None:
    client = await connect(plane, delta=delta)
    more = ("candidate",) if delta else ("stable", "candidate")
    await client.link.send(client.request(ENDPOINT, "stable"), client.request(ENDPOINT, *more))
    first = await client.take()
    assert first is not None
    await client.send_request(ENDPOINT, *(() if delta else ("stable", "candidate")), nonce=first.nonce)
    responses = [first, *await client.ack_all()]
    assert sorted(name for response in responses for name in response.names) == ["candidate", "stable"]


@pytest.mark.item(5)
@pytest.mark.parametrize("way", ["half-close", "reset"])
async def test_a_closed_stream_leaves_no_state(socket: SocketControlPlane, delta: bool, way: str) -> None:
    link = await socket.open(delta=delta)
    client = Client(link, delta, wire.Node(id="proxy-1", cluster="group"))
    await client.boot()
    assert socket.hub.connected == 1
    await (link.half_close() if way == "half-close" else link.close())
    await until(lambda: socket.hub.connected == 0)
    assert socket.hub.proxies() == ()
    assert socket.hub.convergence("group").connected == 0
    assert not socket.hub._groups


@pytest.mark.item(5)
async def test_of_two_streams_of_one_node_the_newer_counts(socket: SocketControlPlane, delta: bool) -> None:
    link = await socket.open(delta=delta)
    old = Client(link, delta, wire.Node(id="proxy-1", cluster="group"))
    await old.boot()
    new = await connect(socket, delta=delta)
    await new.subscribe(CLUSTER)
    response = await new.take_one(CLUSTER)
    assert len(socket.hub.proxies()) == 2
    counted = socket.hub.convergence("group")
    assert (counted.connected, counted.acked) == (1, 0)
    await socket.publish(snapshot({"candidate": 2, "stable": 1}))
    assert (await old.ack_all())[0].content["candidate"] == "2"
    await link.close()
    await until(lambda: socket.hub.connected == 1)
    assert socket.hub.convergence("group").connected == 1
    await new.ack(response)
    await new.ack_all()
    await new.boot()
    assert socket.hub.convergence("group").acked == 1


@pytest.mark.item(5)
def test_a_dead_connection_is_detected_by_pings() -> None:
    options = dict(service._OPTIONS)
    assert options["grpc.keepalive_time_ms"] + options["grpc.keepalive_timeout_ms"] <= 60_000


async def test_the_harness_raises_the_status_of_a_stream(socket: SocketControlPlane) -> None:
    with pytest.raises(StreamEndedError, match="UNIMPLEMENTED"):
        await socket.open_method("/some.other.v3.Service/Stream")


@pytest.mark.item(3)
async def test_subscriptions_of_types_are_independent(plane: ControlPlane, delta: bool) -> None:
    client = await connect(plane, delta=delta)
    await client.boot()
    await client.subscribe(ENDPOINT, "stable")
    assert await client.ack_all() == []
    clusters = {"candidate": 1, "stable": 1}
    await plane.publish(
        snapshot(clusters, endpoints={"candidate": 2, "stable": 2}, routes={"main": (2, ("stable",))})
    )
    responses = {r.type_url: r.names for r in await client.ack_all()}
    assert responses == {ENDPOINT: ("stable",), ROUTE: ("main",)}
