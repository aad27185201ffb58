"""The server around the protocol: limits, slow and hostile clients, start, stop, and authentication."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf.unknown_fields import UnknownFieldSet
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conformance.client import Client, connect
from tests.conformance.client import node as node_of
from tests.conformance.links import (
    AGGREGATED,
    IDENTIFIER,
    ControlPlane,
    SocketControlPlane,
    StreamEndedError,
    serving,
    until,
)
from tests.conformance.snapshots import snapshot
from xds_server import app
from xds_server.engine.committer import Committer
from xds_server.store import SqliteStore
from xds_server.xds.server import ListenerConfig, NodeAuthorizer, Server, service
from xds_server.xds.server.admission import Admission
from xds_server.xds.session import Delta, ProtocolError, Session, Sotw, parse_rule
from xds_server.xds.snapshot import CLUSTER, ENDPOINT, LISTENER, ROUTE
from xds_server.xds.wire import discovery_pb2 as wire

if TYPE_CHECKING:
    from pathlib import Path

    from google.protobuf.message import Message

MANY = 100_000
SERVICES = {
    CLUSTER: ("cluster", "Cluster"),
    ENDPOINT: ("endpoint", "Endpoint"),
    LISTENER: ("listener", "Listener"),
    ROUTE: ("route", "Route"),
}


def unknown(message: Message) -> set[int]:
    """Return the numbers of fields on the wire that our definition does not have."""
    fields = UnknownFieldSet(message)
    return {fields[index].field_number for index in range(len(fields))}


@pytest.mark.item(38)
async def test_resources_never_expire(plane: ControlPlane, delta: bool) -> None:
    client = await connect(plane, delta=delta)
    await client.subscribe(CLUSTER)
    raw = (await client.take_one(CLUSTER)).raw
    if delta:
        wrapped = [wire.Resource.FromString(r) for r in wire.DeltaDiscoveryResponse.FromString(raw).resources]
        assert [unknown(resource) for resource in wrapped] == [set(), set()]
    else:
        # `take_one` parsed the resources, so none of them is wrapped in another message.
        assert len(wire.DiscoveryResponse.FromString(raw).resources) == 2


@pytest.mark.item(39)
async def test_every_response_identifies_its_replica(plane: ControlPlane, delta: bool) -> None:
    client = await connect(plane, delta=delta)
    await client.subscribe(CLUSTER)
    assert (await client.take_one(CLUSTER)).identifier == IDENTIFIER
    async with serving(snapshot(), identifier="replica-2") as replica:
        other = await connect(replica, delta=delta)
        await other.subscribe(CLUSTER)
        assert (await other.take_one(CLUSTER)).identifier == "replica-2"


@pytest.mark.item(41)
async def test_a_large_first_request_is_read(plane: ControlPlane) -> None:
    client = await connect(plane, delta=True)
    held = {f"{number:05}-of-a-cluster-with-a-rather-long-name": "0123456789abcdef" for number in range(MANY)}
    raw = client.request(CLUSTER, initial_versions=held)
    assert len(raw) > 4 << 20
    await client.link.send(raw)
    response = await client.take_one(CLUSTER)
    assert len(response.removed) == MANY
    assert sorted(response.names) == ["candidate", "stable"]


@pytest.mark.item(41)
async def test_a_large_response_is_written(plane: ControlPlane, delta: bool) -> None:
    await plane.publish(snapshot(padding=3 << 20))
    client = await connect(plane, delta=delta)
    await client.subscribe(CLUSTER)
    assert len((await client.take_one(CLUSTER)).raw) > 4 << 20


@pytest.mark.item(42)
async def test_a_client_that_does_not_read_delays_no_other_client(delta: bool) -> None:
    method = "DeltaAggregatedResources" if delta else "StreamAggregatedResources"
    async with serving(snapshot(padding=4 << 20), write_seconds=0.5) as plane:
        link = await plane.open_method(f"{AGGREGATED}{method}", reading=False)
        stuck = Client(link, delta, node_of("stuck"))
        await stuck.subscribe(CLUSTER)
        await until(lambda: plane.hub.counters.pushes == 1)
        client = await connect(plane, delta=delta, name="quick")
        await client.boot()
        for revision in range(2, 12):
            routes = {"main": (revision, ("candidate", "stable"))}
            await plane.publish(snapshot(padding=4 << 20, routes=routes))
            assert (await client.ack_all())[-1].content["main"].startswith(f"{revision} ")
        assert link.served.written == 0, "after ten snapshots it still occupies one place"
        await until(lambda: plane.hub.connected == 1)
        assert plane.hub.counters.slow_clients_closed == 1


@pytest.mark.item(43)
async def test_a_stopping_server_ends_streams_and_accepts_no_more(
    socket: SocketControlPlane, delta: bool
) -> None:
    client = await connect(socket, delta=delta)
    await client.boot()
    await socket.server.stop(0.2)
    with pytest.raises(StreamEndedError):
        await until_ended(client)
    assert socket.hub.connected == 0
    with pytest.raises(StreamEndedError, match="UNAVAILABLE"):
        await socket.open(delta=delta)


async def until_ended(client: Client) -> None:
    """Read until the stream ends, which raises StreamEndedError."""
    while True:
        assert await client.take() is None
        await asyncio.sleep(0)


@pytest.mark.item(43)
async def test_a_new_server_learns_versions_from_its_clients(socket: SocketControlPlane) -> None:
    client = await connect(socket, delta=True)
    await client.boot()
    await socket.server.stop(0)
    async with serving(snapshot()) as successor:
        again = await connect(successor, delta=True)
        for type_url in (CLUSTER, LISTENER):
            await again.send_request(type_url, initial_versions=client.versions(type_url))
            assert [r.names for r in await again.ack_all()] == [()]
        for type_url in (ENDPOINT, ROUTE):
            await again.send_request(
                type_url, *client.content(type_url), initial_versions=client.versions(type_url)
            )
            await again.ack_all()
        assert again.link.session.synced
        assert successor.hub.convergence("group").acked == 1


@pytest.mark.item(43)
async def test_streams_are_drained_one_by_one(socket: SocketControlPlane) -> None:
    loop, grace = asyncio.get_running_loop(), 0.5
    calls = []
    for number in range(8):
        link = await socket.open(delta=True)
        await Client(link, delta=True, node=node_of(f"proxy-{number}")).boot()
        calls.append(link.call)
    ends: list[float] = []
    for call in calls:
        call.add_done_callback(lambda _: ends.append(loop.time()))
    await socket.server.stop(grace)
    await until(lambda: len(ends) == len(calls))
    assert max(ends) - min(ends) > grace / 2


@pytest.mark.item(44)
async def test_a_server_that_has_not_started_accepts_no_streams(delta: bool) -> None:
    plane = SocketControlPlane(snapshot())
    plane.port = 1
    with pytest.raises(StreamEndedError, match="UNAVAILABLE"):
        await plane.open(delta=delta)
    await plane.hang_up()
    await plane.server.stop(0)


@pytest.mark.item(44)
async def test_routes_are_loaded_before_the_port_opens(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    order: list[str] = []
    load, start = Committer.load, Server.start

    async def recorded_load(committer: Committer) -> None:
        await load(committer)
        order.append("loaded")

    async def recorded_start(server: Server, address: str) -> int:
        order.append("open")
        return await start(server, address)

    monkeypatch.setattr(Committer, "load", recorded_load)
    monkeypatch.setattr(Server, "start", recorded_start)
    stopping = asyncio.Event()
    stopping.set()
    config = app.Config(
        listener=ListenerConfig(address="127.0.0.1:0"),
        http_host="127.0.0.1",
        http_port=0,
        store=tmp_path / "store",
    )
    store = SqliteStore(config.store)
    try:
        await app._serve(config, store, stopping)
    finally:
        store.close()
    assert order == ["loaded", "open"]


@pytest.mark.item(45)
async def test_a_node_without_a_certificate_is_denied_if_there_are_rules(delta: bool) -> None:
    plane = SocketControlPlane(snapshot())
    plane.server = Server(
        plane.hub, identifier="test", authorizer=NodeAuthorizer([parse_rule("dns:{id}.{group}.mesh")])
    )
    plane.port = await plane.server.start("127.0.0.1:0")
    try:
        client = await connect(plane, delta=delta)
        await client.subscribe(CLUSTER)
        assert (await client.ended()).code == "UNAUTHENTICATED"
        assert plane.hub.counters.nodes_denied == 1
    finally:
        await plane.hang_up()
        await plane.server.stop(0)


@pytest.mark.item(46)
@pytest.mark.parametrize("raw", [b"\xff\xff\xff\xff", b"\x12\xff\x01", b"\x0a\x02\xff\xfe"])
async def test_invalid_bytes_end_their_own_stream_only(plane: ControlPlane, delta: bool, raw: bytes) -> None:
    client = await connect(plane, delta=delta)
    await client.subscribe(CLUSTER)
    hostile = await connect(plane, delta=delta, name="hostile")
    await hostile.link.send(raw)
    assert (await hostile.ended()).code == "INVALID_ARGUMENT"
    await client.ack_all()
    await plane.publish(snapshot({"candidate": 2, "stable": 1}))
    assert (await client.take_one(CLUSTER)).content["candidate"] == "2"


@pytest.mark.item(46)
async def test_many_and_huge_names_are_handled(plane: ControlPlane, delta: bool) -> None:
    client = await connect(plane, delta=delta)
    names = [f"nowhere-{number}" for number in range(MANY)]
    await client.subscribe(ENDPOINT, "stable", "x" * (1 << 20), *names, *names)
    response = await client.take_one(ENDPOINT)
    assert response.names == ("stable",)
    assert len(response.removed) == (MANY + 1 if delta else 0)


@pytest.mark.item(46)
async def test_too_many_types_end_the_stream(plane: ControlPlane, delta: bool) -> None:
    client = await connect(plane, delta=delta)
    with pytest.raises(StreamEndedError, match="INVALID_ARGUMENT"):
        await ask_for_new_types(client, 1_000)


async def ask_for_new_types(client: Client, count: int) -> None:
    for number in range(count):
        await client.send_request(f"type.googleapis.com/some.Thing{number}")
        await client.ack_all()


@pytest.mark.item(46)
@pytest.mark.parametrize("entry", ["h:" + "9" * 5_000, "h:99999999", "h:-1", ":::", "h:٣", "[]:1", "\0:1"])
async def test_an_invalid_entry_address_is_no_error(
    socket: SocketControlPlane, delta: bool, entry: str
) -> None:
    client = await connect(socket, delta=delta)
    client.node.metadata.update({"shiftplane": {"entry": entry, "mode": {"no": "string"}}})
    await client.subscribe(CLUSTER)
    assert (await client.take_one(CLUSTER)).names


NAMES = st.lists(st.sampled_from(["", "*", "a", "stable", "xdstp://x/*", "\0"]), max_size=5)
TYPES = st.sampled_from([CLUSTER, ENDPOINT, LISTENER, ROUTE, "", "x"])
NONCES = st.sampled_from(["", "n1", "n2", "n3", "foreign"])


@pytest.mark.item(46)
@settings(max_examples=200, deadline=None)
@given(raw=st.binary(max_size=300), variant=st.sampled_from([Delta(), Sotw()]))
def test_random_bytes_are_a_request_or_a_protocol_error(raw: bytes, variant: Delta | Sotw) -> None:
    session = Session(variant, identifier="i", nonce_prefix="n")
    try:
        session.receive(raw)
    except ProtocolError:
        return
    session.offer(snapshot())
    session.next_response()


@pytest.mark.item(46)
@settings(max_examples=100, deadline=None)
@given(requests=st.lists(st.tuples(TYPES, NAMES, NAMES, NONCES, st.booleans(), st.booleans()), max_size=25))
def test_requests_in_any_order_are_handled(
    requests: list[tuple[str, list[str], list[str], str, bool, bool]],
) -> None:
    snapshots = [snapshot(), snapshot({"stable": 2})]
    sessions = [Session(variant, identifier="i", nonce_prefix="n") for variant in (Delta(), Sotw())]
    for number, (type_url, names, without, nonce, nacked, publish) in enumerate(requests):
        node, error = wire.Node(id="n"), wire.Status(message="no") if nacked else None
        delta = wire.DeltaDiscoveryRequest(
            node=node,
            type_url=type_url,
            resource_names_subscribe=names,
            resource_names_unsubscribe=without,
            initial_resource_versions=dict.fromkeys(without, "1"),
            response_nonce=nonce,
            error_detail=error,
        )
        full = wire.DiscoveryRequest(
            node=node, type_url=type_url, resource_names=names, response_nonce=nonce, error_detail=error
        )
        for session, request in zip(sessions, (delta, full), strict=True):
            try:
                session.receive(request.SerializeToString())
            except ProtocolError:
                assert not type_url
            if publish:
                session.offer(snapshots[number % 2])
            responses = 0
            while session.next_response() is not None:
                responses += 1
                assert responses <= len(TYPES_OF_A_STREAM), "one response in flight per type"


TYPES_OF_A_STREAM = (CLUSTER, ENDPOINT, LISTENER, ROUTE, "x")


@pytest.mark.item(47)
@pytest.mark.parametrize("type_url", SERVICES)
async def test_each_type_has_a_service(socket: SocketControlPlane, delta: bool, type_url: str) -> None:
    package, name = SERVICES[type_url]
    method = f"{'Delta' if delta else 'Stream'}{name}s"
    link = await socket.open_method(f"/envoy.service.{package}.v3.{name}DiscoveryService/{method}")
    client = Client(link, delta, node_of())
    name = {LISTENER: "front", ROUTE: "main"}.get(type_url, "stable")
    await client.send_request("", name)
    assert (await client.take_one(type_url)).names == (name,)
    await link.send(client.request(ROUTE if type_url == CLUSTER else CLUSTER))
    assert (await client.ended()).code == "INVALID_ARGUMENT"


@pytest.mark.item(48)
async def test_a_burst_of_new_streams_gets_responses(socket: SocketControlPlane) -> None:
    bulk = b"\x4a\xe8\xd6\x03" + b"x" * 60_264  # Envoy's first request contains all its extensions.
    count = 300
    nodes = [wire.Node.FromString(node_of(f"n{n}").SerializeToString() + bulk) for n in range(count)]
    calls = [socket.call(f"{AGGREGATED}DeltaAggregatedResources") for _ in range(count)]

    async def first_response(call: Any, node: wire.Node) -> bytes:
        await call.write(wire.DeltaDiscoveryRequest(node=node, type_url=CLUSTER).SerializeToString())
        return bytes(await call.read())

    async with asyncio.timeout(20):
        responses = await asyncio.gather(*map(first_response, calls, nodes))
    assert len(responses) == count
    assert all(len(wire.DeltaDiscoveryResponse.FromString(raw).resources) == 2 for raw in responses)
    for call in calls:
        call.cancel()
    await until(lambda: socket.hub.connected == 0)


@pytest.mark.item(48)
def test_many_streams_may_wait_to_be_accepted() -> None:
    options = dict(service._OPTIONS)
    assert options["grpc.server.max_pending_requests"] >= 10_000
    assert options["grpc.server.max_pending_requests_hard_limit"] >= 10_000


@pytest.mark.item(48)
async def test_streams_above_the_rate_limit_are_rejected(delta: bool) -> None:
    async with serving(snapshot(), admission=Admission(rate=0.0, burst=3.0)) as plane:
        peers = [await connect(plane, delta=delta, name=f"proxy-{number}") for number in range(3)]
        with pytest.raises(StreamEndedError, match="RESOURCE_EXHAUSTED"):
            await plane.open(delta=delta)
        for client in peers:
            await client.subscribe(CLUSTER)
            assert len((await client.take_one(CLUSTER)).names) == 2
