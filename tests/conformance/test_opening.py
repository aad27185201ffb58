"""Streams and nodes: how a stream begins, what it may carry, and what is left when it ends."""

from __future__ import annotations

import pytest

from tests.conformance.links import Plane, SocketPlane, StreamEndedError, until
from tests.conformance.peer import Peer, connect
from tests.conformance.world import snapshot
from xds_server.xds.server import service
from xds_server.xds.session import Delta, NodeInfo, ProtocolError, Session, StateOfTheWorld
from xds_server.xds.snapshot import CLUSTER, ENDPOINT, LISTENER, ROUTE
from xds_server.xds.wire import discovery_pb2 as wire

UNKNOWN = "type.googleapis.com/some.other.v3.Thing"


@pytest.mark.item(1)
@pytest.mark.parametrize("node", [None, wire.Node(cluster="group")], ids=["no node", "no id"])
async def test_a_stream_that_names_no_node_is_refused(
    plane: Plane, delta: bool, node: wire.Node | None
) -> None:
    peer = await connect(plane, delta=delta)
    request = wire.DeltaDiscoveryRequest if delta else wire.DiscoveryRequest
    await peer.link.send(request(type_url=CLUSTER, node=node).SerializeToString())
    ended = await peer.ended()
    assert ended.code == "INVALID_ARGUMENT"
    assert "node.id" in str(ended)


@pytest.mark.item(1)
async def test_only_the_first_request_must_name_the_node(plane: Plane, delta: bool) -> None:
    peer = await connect(plane, delta=delta)
    await peer.follow(CLUSTER)
    await peer.accept(await peer.take_one(CLUSTER))
    await peer.follow(LISTENER)
    assert (await peer.take_one(LISTENER)).names == ("front",)


@pytest.mark.item(1)
async def test_of_a_node_only_what_matters_is_kept(plane: Plane, delta: bool) -> None:
    peer = await connect(plane, delta=delta)
    peer.node.user_agent_name = "envoy"
    peer.node.metadata.update({"shiftplane": {"mode": "sidecar"}, "bulk": "x" * 100_000})
    peer.node.user_agent_build_version.version.major_number = 1
    await peer.follow(CLUSTER)
    await peer.link.settle()
    assert peer.link.session.node == NodeInfo(
        id="proxy-1", group="group", version="1.0.0", metadata=(("mode", "sidecar"),)
    )


@pytest.mark.item(2)
async def test_a_request_without_a_type_ends_an_aggregated_stream(plane: Plane, delta: bool) -> None:
    peer = await connect(plane, delta=delta)
    await peer.ask("")
    ended = await peer.ended()
    assert ended.code == "INVALID_ARGUMENT"
    assert "type_url" in str(ended)


@pytest.mark.item(2)
def test_on_a_service_of_one_type_the_type_is_implied(delta: bool) -> None:
    flavour = Delta() if delta else StateOfTheWorld()
    session = Session(flavour, identifier="i", nonce_prefix="n", only=CLUSTER)
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
async def test_an_unknown_type_is_survived(plane: Plane, delta: bool) -> None:
    peer = await connect(plane, delta=delta)
    await peer.follow(UNKNOWN, "x")
    assert [r.removed for r in await peer.accept_all()] == ([("x",)] if delta else [])
    await peer.boot()
    assert peer.link.session.synced


@pytest.mark.item(3)
async def test_refusing_one_type_leaves_the_others_alone(plane: Plane, delta: bool) -> None:
    peer = await connect(plane, delta=delta)
    await peer.follow(CLUSTER)
    clusters = await peer.take_one(CLUSTER)
    await peer.follow(LISTENER)
    listeners = await peer.take_one(LISTENER)
    await peer.refuse(clusters)
    await peer.accept(listeners)
    assert await peer.take_all() == []
    assert [r.type_url for r in peer.link.session.rejections] == [CLUSTER]
    await plane.publish(snapshot(listeners={"front": 2}))
    assert (await peer.accept_all())[-1].content == {"front": "2"}


@pytest.mark.item(3)
async def test_a_nonce_of_one_type_acknowledges_no_other(plane: Plane, delta: bool) -> None:
    peer = await connect(plane, delta=delta)
    await peer.follow(CLUSTER)
    clusters = await peer.take_one(CLUSTER)
    await peer.follow(LISTENER)
    await peer.take_one(LISTENER)
    await peer.ask(LISTENER, nonce=clusters.nonce)
    assert await peer.take_all() == []
    assert peer.known_to_hold() == {}


@pytest.mark.item(3)
async def test_any_type_may_come_first(plane: Plane, delta: bool) -> None:
    peer = await connect(plane, delta=delta)
    await peer.follow(ENDPOINT, "stable")
    assert (await peer.take_one(ENDPOINT)).names == ("stable",)


@pytest.mark.item(4)
async def test_a_second_request_before_any_answer_supersedes(plane: Plane, delta: bool) -> None:
    peer = await connect(plane, delta=delta)
    more = ("candidate",) if delta else ("stable", "candidate")
    await peer.link.send(peer.request(ENDPOINT, "stable"), peer.request(ENDPOINT, *more))
    first = await peer.take()
    assert first is not None
    await peer.ask(ENDPOINT, *(() if delta else ("stable", "candidate")), nonce=first.nonce)
    said = [first, *await peer.accept_all()]
    assert sorted(name for response in said for name in response.names) == ["candidate", "stable"]


@pytest.mark.item(5)
@pytest.mark.parametrize("way", ["half-close", "reset"])
async def test_an_ended_stream_leaves_nothing_behind(socket: SocketPlane, delta: bool, way: str) -> None:
    link = await socket.open(delta=delta)
    peer = Peer(link, delta, wire.Node(id="proxy-1", cluster="group"))
    await peer.boot()
    assert socket.hub.connected == 1
    await (link.half_close() if way == "half-close" else link.close())
    await until(lambda: socket.hub.connected == 0)
    assert socket.hub.proxies() == ()
    assert socket.hub.convergence("group").connected == 0
    assert not socket.hub._groups


@pytest.mark.item(5)
async def test_of_two_streams_of_one_node_the_newer_counts(socket: SocketPlane, delta: bool) -> None:
    link = await socket.open(delta=delta)
    old = Peer(link, delta, wire.Node(id="proxy-1", cluster="group"))
    await old.boot()
    new = await connect(socket, delta=delta)
    await new.follow(CLUSTER)
    response = await new.take_one(CLUSTER)
    assert len(socket.hub.proxies()) == 2
    counted = socket.hub.convergence("group")
    assert (counted.connected, counted.acked) == (1, 0)
    await socket.publish(snapshot({"candidate": 2, "stable": 1}))
    assert (await old.accept_all())[0].content["candidate"] == "2"
    await link.close()
    await until(lambda: socket.hub.connected == 1)
    assert socket.hub.convergence("group").connected == 1
    await new.accept(response)
    await new.accept_all()
    await new.boot()
    assert socket.hub.convergence("group").acked == 1


@pytest.mark.item(5)
def test_silent_death_is_noticed_by_pings() -> None:
    options = dict(service._OPTIONS)
    assert options["grpc.keepalive_time_ms"] + options["grpc.keepalive_timeout_ms"] <= 60_000


async def test_the_harness_hears_how_a_stream_ended(socket: SocketPlane) -> None:
    with pytest.raises(StreamEndedError, match="UNIMPLEMENTED"):
        await socket.open_method("/some.other.v3.Service/Stream")


@pytest.mark.item(3)
async def test_types_have_subscriptions_of_their_own(plane: Plane, delta: bool) -> None:
    peer = await connect(plane, delta=delta)
    await peer.boot()
    await peer.follow(ENDPOINT, "stable")
    assert await peer.accept_all() == []
    worlds = {"candidate": 1, "stable": 1}
    await plane.publish(
        snapshot(worlds, endpoints={"candidate": 2, "stable": 2}, routes={"main": (2, ("stable",))})
    )
    said = {r.type_url: r.names for r in await peer.accept_all()}
    assert said == {ENDPOINT: ("stable",), ROUTE: ("main",)}
