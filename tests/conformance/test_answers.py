"""Versions, nonces, ACKs and NACKs: what is recorded, and when no response is sent."""

from __future__ import annotations

import pytest

from tests.conformance.client import Client, Response, connect
from tests.conformance.links import ControlPlane, SessionControlPlane, serving
from tests.conformance.snapshots import snapshot
from xds_server.xds.session import Acked, Identified
from xds_server.xds.snapshot import CLUSTER, ENDPOINT, LISTENER, ROUTE
from xds_server.xds.wire import discovery_pb2 as wire

HEAVIER = {"main": (2, ("candidate", "stable"))}


async def booted(plane: ControlPlane, *, delta: bool) -> Client:
    client = await connect(plane, delta=delta)
    await client.boot()
    assert client.link.session.synced
    return client


@pytest.mark.item(6)
async def test_every_response_has_nonce_type_and_version(plane: ControlPlane, delta: bool) -> None:
    client = await connect(plane, delta=delta)
    responses: list[Response] = []
    for type_url, names in ((CLUSTER, ()), (ENDPOINT, ("stable",)), (LISTENER, ()), (ROUTE, ("main",))):
        await client.subscribe(type_url, *names)
        response = await client.take_one(type_url)
        await client.ack(response)
        responses.append(response)
    await plane.publish(snapshot(routes=HEAVIER))
    responses.extend(await client.ack_all())
    nonces = [response.nonce for response in responses]
    assert all(nonces)
    assert len(set(nonces)) == len(nonces) == 5
    assert all(response.version for response in responses)
    assert all(response.versions.keys() == set(response.names) for response in responses if delta)
    assert all(version for response in responses for version in response.versions.values())


@pytest.mark.item(6)
async def test_an_ack_may_arrive_before_the_write_returns() -> None:
    link = await SessionControlPlane(snapshot()).open(delta=True)
    client = Client(link, delta=True, node=wire.Node(id="n"))
    (event,) = link.session.receive(client.request(CLUSTER))
    assert isinstance(event, Identified)
    link.session.offer(snapshot())
    raw = link.session.next_response()
    assert raw is not None
    nonce = wire.DeltaDiscoveryResponse.FromString(raw).nonce
    # The response was not written yet, and its ACK arrives.
    (event,) = link.session.receive(client.request(CLUSTER, nonce=nonce))
    assert event == Acked(type_url=CLUSTER)


@pytest.mark.item(7)
async def test_an_ack_gets_no_response(plane: ControlPlane, delta: bool) -> None:
    client = await connect(plane, delta=delta)
    await client.subscribe(CLUSTER)
    response = await client.take_one(CLUSTER)
    assert client.acked_versions() == {}
    await client.ack(response)
    assert await client.take_all() == []
    assert sorted(client.acked_versions()) == ["candidate", "stable"]


@pytest.mark.item(7)
async def test_an_ack_may_add_names(plane: ControlPlane, delta: bool) -> None:
    client = await connect(plane, delta=delta)
    await client.subscribe(ENDPOINT, "stable")
    response = await client.take_one(ENDPOINT)
    names = ("candidate",) if delta else ("candidate", "stable")
    await client.send_request(ENDPOINT, *names, nonce=response.nonce, version=response.version)
    assert "candidate" in (await client.take_one(ENDPOINT)).names


@pytest.mark.item(7)
async def test_a_repeated_ack_has_no_effect(plane: ControlPlane, delta: bool) -> None:
    client = await connect(plane, delta=delta)
    await client.subscribe(CLUSTER)
    response = await client.take_one(CLUSTER)
    await client.ack(response)
    await client.ack(response)
    assert await client.take_all() == []
    assert client.link.session.nacks == ()


@pytest.mark.item(8)
async def test_a_nacked_version_is_recorded_and_not_sent_again(plane: ControlPlane, delta: bool) -> None:
    client = await booted(plane, delta=delta)
    await plane.publish(snapshot(routes=HEAVIER))
    bad = await client.take_one(ROUTE)
    await client.nack(bad, "no such cluster")
    # The server may send the previous version again, but not the NACKed one.
    assert all(r.content["main"] != bad.content["main"] for r in await client.ack_all())
    await plane.publish(snapshot(routes=HEAVIER))
    assert all(r.content["main"] != bad.content["main"] for r in await client.ack_all())
    assert client.content(ROUTE)["main"].startswith("1 ")
    await plane.publish(snapshot(routes={"main": (3, ("candidate", "stable"))}))
    assert (await client.take_one(ROUTE)).content["main"].startswith("3 ")


@pytest.mark.item(8)
async def test_a_nack_is_recorded_with_names_and_message(plane: ControlPlane, delta: bool) -> None:
    client = await connect(plane, delta=delta)
    await client.subscribe(CLUSTER)
    await client.nack(await client.take_one(CLUSTER), "no such extension")
    assert await client.take_all() == []
    (nack,) = client.link.session.nacks
    assert (nack.type_url, nack.message) == (CLUSTER, "no such extension")
    assert sorted(nack.names) == ["candidate", "stable"]
    assert not client.link.session.synced


@pytest.mark.item(8)
async def test_an_unrelated_change_does_not_send_a_nacked_version_again(
    plane: ControlPlane, delta: bool
) -> None:
    client = await connect(plane, delta=delta)
    await client.subscribe(CLUSTER)
    await client.nack(await client.take_one(CLUSTER))
    await plane.publish(snapshot(listeners={"front": 2}))
    assert await client.take_all() == []


@pytest.mark.item(8, 26)
async def test_delta_a_nacked_removal_is_sent_again_with_the_rest_of_its_response(
    plane: ControlPlane,
) -> None:
    client = await connect(plane, delta=True)
    await client.subscribe(ENDPOINT, "candidate", "stable")
    await client.ack_all()
    alone = {"main": (1, ("stable",))}
    await plane.publish(snapshot({"stable": 1}, endpoints={"stable": 2}, routes=alone))
    bad = await client.take_one(ENDPOINT)
    assert (bad.content, bad.removed) == ({"stable": "2"}, ("candidate",))
    await client.nack(bad)
    assert all(r.content.get("stable") != "2" for r in await client.ack_all())
    await plane.publish(snapshot({"stable": 1}, endpoints={"stable": 3}, routes=alone))
    (good,) = await client.ack_all()
    assert (good.content, good.removed) == ({"stable": "3"}, ("candidate",))


@pytest.mark.item(8, 19, 22)
async def test_a_new_subscription_to_a_nacked_resource_gets_a_response(
    plane: ControlPlane, delta: bool
) -> None:
    client = await connect(plane, delta=delta)
    await client.subscribe(ENDPOINT, "stable")
    await client.nack(await client.take_one(ENDPOINT))
    assert await client.take_all() == []
    await client.subscribe(ENDPOINT)
    await client.subscribe(ENDPOINT, "stable")
    assert (await client.take_one(ENDPOINT)).names == ("stable",)


@pytest.mark.item(8)
async def test_the_error_detail_makes_a_nack_and_not_the_version(plane: ControlPlane, delta: bool) -> None:
    client = await connect(plane, delta=delta)
    await client.subscribe(CLUSTER)
    response = await client.take_one(CLUSTER)
    # Some clients send the version that they NACK, and an empty error detail is a NACK.
    await client.send_request(CLUSTER, nonce=response.nonce, version=response.version, error=wire.Status())
    assert await client.take_all() == []
    assert len(client.link.session.nacks) == 1


@pytest.mark.item(8)
async def test_an_old_version_without_an_error_detail_is_an_ack() -> None:
    client = await connect(SessionControlPlane(snapshot()), delta=False)
    await client.subscribe(CLUSTER)
    response = await client.take_one(CLUSTER)
    await client.send_request(CLUSTER, nonce=response.nonce, version="an older one")
    assert client.link.session.nacks == ()
    assert len(client.acked_versions()) == 2


@pytest.mark.item(9)
async def test_a_nack_of_the_first_response_is_a_nack(plane: ControlPlane, delta: bool) -> None:
    client = await connect(plane, delta=delta)
    await client.subscribe(LISTENER)
    response = await client.take_one(LISTENER)
    await client.send_request(
        LISTENER, nonce=response.nonce, version="", error=wire.Status(code=3, message="no")
    )
    assert await client.take_all() == []
    assert [r.message for r in client.link.session.nacks] == ["no"]
    await plane.publish(snapshot(listeners={"front": 2}))
    assert [r.content for r in await client.ack_all()] == [{"front": "2"}]
    assert client.link.session.nacks == ()


async def stale(client: Client, plane: ControlPlane) -> tuple[Response, Response]:
    """Return two responses of one type: the first is outdated, the second not answered."""
    await client.subscribe(ENDPOINT, "stable")
    first = await client.take_one(ENDPOINT)
    await client.ack(first)
    await plane.publish(snapshot(endpoints={"candidate": 1, "stable": 2}))
    return first, await client.take_one(ENDPOINT)


@pytest.mark.item(10, 11)
async def test_a_stale_nonce_is_no_ack(plane: ControlPlane, delta: bool) -> None:
    client = await connect(plane, delta=delta)
    first, second = await stale(client, plane)
    names = () if delta else ("stable",)
    await client.send_request(ENDPOINT, *names, nonce=first.nonce, version=first.version)
    await client.send_request(ENDPOINT, *names, nonce=first.nonce, error=wire.Status(message="late"))
    assert await client.take_all() == []
    assert client.link.session.nacks == ()
    assert not client.link.session.synced
    held = client.acked_versions()
    await client.ack(second)
    assert await client.take_all() == []
    assert client.acked_versions() != held


@pytest.mark.item(10, 11)
async def test_names_in_a_stale_request_change_the_subscription(plane: ControlPlane, delta: bool) -> None:
    client = await connect(plane, delta=delta)
    first, second = await stale(client, plane)
    names = ("candidate",) if delta else ("candidate", "stable")
    await client.send_request(ENDPOINT, *names, nonce=first.nonce)
    assert await client.take_all() == []
    await client.ack(second)
    responses = await client.ack_all()
    assert [r.names for r in responses] == [("candidate",)]


@pytest.mark.item(11)
async def test_delta_an_unsubscription_in_a_stale_request_is_applied(plane: ControlPlane) -> None:
    client = await connect(plane, delta=True)
    first, second = await stale(client, plane)
    await client.send_request(ENDPOINT, without=("stable",), nonce=first.nonce)
    await client.ack(second)
    await plane.publish(snapshot(endpoints={"candidate": 1, "stable": 3}))
    assert await client.take_all() == []


@pytest.mark.item(12)
@pytest.mark.parametrize("refusing", [False, True], ids=["ack", "nack"])
async def test_a_nonce_of_another_stream_has_no_effect(
    plane: ControlPlane, delta: bool, refusing: bool
) -> None:
    former = await booted(plane, delta=delta)
    await plane.publish(snapshot(routes=HEAVIER))
    foreign = await former.take_one(ROUTE)
    client = await connect(plane, delta=delta, name="proxy-2")
    error = wire.Status(message="of another server") if refusing else None
    await client.send_request(CLUSTER, nonce=foreign.nonce, version="of another server", error=error)
    assert sorted((await client.take_one(CLUSTER)).names) == ["candidate", "stable"]
    assert client.link.session.nacks == ()


@pytest.mark.item(13)
async def test_replicas_give_the_same_versions(plane: ControlPlane, delta: bool) -> None:
    await plane.publish(snapshot(routes=HEAVIER))
    await plane.publish(snapshot())
    one = await booted(plane, delta=delta)
    async with serving(snapshot(), identifier="replica-2") as replica:
        other = await booted(replica, delta=delta)
        assert one._types[CLUSTER].version == other._types[CLUSTER].version
        assert one.versions(CLUSTER) == other.versions(CLUSTER)


@pytest.mark.item(13)
async def test_a_first_subscription_gets_a_response_for_any_version(plane: ControlPlane) -> None:
    former = await booted(plane, delta=False)
    client = await connect(plane, delta=False, name="proxy-2")
    await client.send_request(ENDPOINT, "stable", version=former._types[ENDPOINT].version)
    assert (await client.take_one(ENDPOINT)).names == ("stable",)


@pytest.mark.item(14)
async def test_an_equal_snapshot_is_not_sent(plane: ControlPlane, delta: bool) -> None:
    client = await booted(plane, delta=delta)
    await plane.publish(snapshot())
    assert await client.take_all() == []


@pytest.mark.item(14)
async def test_only_the_type_that_changed_is_sent(plane: ControlPlane, delta: bool) -> None:
    client = await booted(plane, delta=delta)
    await plane.publish(snapshot(routes=HEAVIER))
    response = await client.take_one(ROUTE)
    await client.ack(response)
    assert await client.take_all() == []
    assert client.link.session.synced


@pytest.mark.item(14)
async def test_a_change_without_a_subscription_is_not_sent(plane: ControlPlane, delta: bool) -> None:
    client = await connect(plane, delta=delta)
    await client.subscribe(ENDPOINT, "stable")
    await client.ack(await client.take_one(ENDPOINT))
    await plane.publish(snapshot(endpoints={"candidate": 2, "stable": 1}))
    assert await client.take_all() == []
