"""Versions, nonces, acknowledgements and refusals: who knows what, and when nothing is to be said."""

from __future__ import annotations

import pytest

from tests.conformance.links import Plane, SessionPlane, serving
from tests.conformance.peer import Peer, Response, connect
from tests.conformance.world import snapshot
from xds_server.xds.session import Acked, Identified
from xds_server.xds.snapshot import CLUSTER, ENDPOINT, LISTENER, ROUTE
from xds_server.xds.wire import discovery_pb2 as wire

HEAVIER = {"main": (2, ("candidate", "stable"))}


async def booted(plane: Plane, *, delta: bool) -> Peer:
    peer = await connect(plane, delta=delta)
    await peer.boot()
    assert peer.link.session.synced
    return peer


@pytest.mark.item(6)
async def test_every_response_has_nonce_type_and_version(plane: Plane, delta: bool) -> None:
    peer = await connect(plane, delta=delta)
    said: list[Response] = []
    for type_url, names in ((CLUSTER, ()), (ENDPOINT, ("stable",)), (LISTENER, ()), (ROUTE, ("main",))):
        await peer.follow(type_url, *names)
        response = await peer.take_one(type_url)
        await peer.accept(response)
        said.append(response)
    await plane.publish(snapshot(routes=HEAVIER))
    said.extend(await peer.accept_all())
    nonces = [response.nonce for response in said]
    assert all(nonces)
    assert len(set(nonces)) == len(nonces) == 5
    assert all(response.version for response in said)
    assert all(response.versions.keys() == set(response.names) for response in said if delta)
    assert all(version for response in said for version in response.versions.values())


@pytest.mark.item(6)
async def test_an_answer_may_come_before_the_write_returns() -> None:
    link = await SessionPlane(snapshot()).open(delta=True)
    peer = Peer(link, delta=True, node=wire.Node(id="n"))
    (event,) = link.session.receive(peer.request(CLUSTER))
    assert isinstance(event, Identified)
    link.session.offer(snapshot())
    raw = link.session.next_response()
    assert raw is not None
    nonce = wire.DeltaDiscoveryResponse.FromString(raw).nonce
    # The bytes have not left yet, and the client has answered already.
    (event,) = link.session.receive(peer.request(CLUSTER, nonce=nonce))
    assert event == Acked(type_url=CLUSTER)


@pytest.mark.item(7)
async def test_an_acknowledgement_is_answered_by_silence(plane: Plane, delta: bool) -> None:
    peer = await connect(plane, delta=delta)
    await peer.follow(CLUSTER)
    response = await peer.take_one(CLUSTER)
    assert peer.known_to_hold() == {}
    await peer.accept(response)
    assert await peer.take_all() == []
    assert sorted(peer.known_to_hold()) == ["candidate", "stable"]


@pytest.mark.item(7)
async def test_an_acknowledgement_may_bring_new_names(plane: Plane, delta: bool) -> None:
    peer = await connect(plane, delta=delta)
    await peer.follow(ENDPOINT, "stable")
    response = await peer.take_one(ENDPOINT)
    names = ("candidate",) if delta else ("candidate", "stable")
    await peer.ask(ENDPOINT, *names, nonce=response.nonce, version=response.version)
    assert "candidate" in (await peer.take_one(ENDPOINT)).names


@pytest.mark.item(7)
async def test_an_acknowledgement_that_comes_twice_counts_once(plane: Plane, delta: bool) -> None:
    peer = await connect(plane, delta=delta)
    await peer.follow(CLUSTER)
    response = await peer.take_one(CLUSTER)
    await peer.accept(response)
    await peer.accept(response)
    assert await peer.take_all() == []
    assert peer.link.session.rejections == ()


@pytest.mark.item(8)
async def test_a_refusal_is_recorded_and_not_repeated(plane: Plane, delta: bool) -> None:
    peer = await booted(plane, delta=delta)
    await plane.publish(snapshot(routes=HEAVIER))
    bad = await peer.take_one(ROUTE)
    await peer.refuse(bad, "no such cluster")
    # The server may take the version back; what it must not do is insist.
    assert all(r.content["main"] != bad.content["main"] for r in await peer.accept_all())
    await plane.publish(snapshot(routes=HEAVIER))
    assert all(r.content["main"] != bad.content["main"] for r in await peer.accept_all())
    assert peer.content(ROUTE)["main"].startswith("1 ")
    await plane.publish(snapshot(routes={"main": (3, ("candidate", "stable"))}))
    assert (await peer.take_one(ROUTE)).content["main"].startswith("3 ")


@pytest.mark.item(8)
async def test_a_refusal_says_what_and_why(plane: Plane, delta: bool) -> None:
    peer = await connect(plane, delta=delta)
    await peer.follow(CLUSTER)
    await peer.refuse(await peer.take_one(CLUSTER), "no such extension")
    assert await peer.take_all() == []
    (rejection,) = peer.link.session.rejections
    assert (rejection.type_url, rejection.message) == (CLUSTER, "no such extension")
    assert sorted(rejection.names) == ["candidate", "stable"]
    assert not peer.link.session.synced


@pytest.mark.item(8)
async def test_a_refusal_with_unrelated_changes_is_not_repeated(plane: Plane, delta: bool) -> None:
    peer = await connect(plane, delta=delta)
    await peer.follow(CLUSTER)
    await peer.refuse(await peer.take_one(CLUSTER))
    await plane.publish(snapshot(listeners={"front": 2}))
    assert await peer.take_all() == []


@pytest.mark.item(8, 26)
async def test_delta_a_refused_removal_stays_with_what_came_with_it(plane: Plane) -> None:
    peer = await connect(plane, delta=True)
    await peer.follow(ENDPOINT, "candidate", "stable")
    await peer.accept_all()
    alone = {"main": (1, ("stable",))}
    await plane.publish(snapshot({"stable": 1}, endpoints={"stable": 2}, routes=alone))
    bad = await peer.take_one(ENDPOINT)
    assert (bad.content, bad.removed) == ({"stable": "2"}, ("candidate",))
    await peer.refuse(bad)
    assert all(r.content.get("stable") != "2" for r in await peer.accept_all())
    await plane.publish(snapshot({"stable": 1}, endpoints={"stable": 3}, routes=alone))
    (good,) = await peer.accept_all()
    assert (good.content, good.removed) == ({"stable": "3"}, ("candidate",))


@pytest.mark.item(8, 19, 22)
async def test_who_asks_again_for_what_was_refused_is_answered(plane: Plane, delta: bool) -> None:
    peer = await connect(plane, delta=delta)
    await peer.follow(ENDPOINT, "stable")
    await peer.refuse(await peer.take_one(ENDPOINT))
    assert await peer.take_all() == []
    await peer.follow(ENDPOINT)
    await peer.follow(ENDPOINT, "stable")
    assert (await peer.take_one(ENDPOINT)).names == ("stable",)


@pytest.mark.item(8)
async def test_the_detail_makes_a_refusal_and_not_the_version(plane: Plane, delta: bool) -> None:
    peer = await connect(plane, delta=delta)
    await peer.follow(CLUSTER)
    response = await peer.take_one(CLUSTER)
    # Some clients repeat the version they refuse, and an empty detail is a detail.
    await peer.ask(CLUSTER, nonce=response.nonce, version=response.version, error=wire.Status())
    assert await peer.take_all() == []
    assert len(peer.link.session.rejections) == 1


@pytest.mark.item(8)
async def test_an_old_version_without_a_detail_is_an_acknowledgement() -> None:
    peer = await connect(SessionPlane(snapshot()), delta=False)
    await peer.follow(CLUSTER)
    response = await peer.take_one(CLUSTER)
    await peer.ask(CLUSTER, nonce=response.nonce, version="an older one")
    assert peer.link.session.rejections == ()
    assert len(peer.known_to_hold()) == 2


@pytest.mark.item(9)
async def test_a_first_ever_refusal_is_a_refusal(plane: Plane, delta: bool) -> None:
    peer = await connect(plane, delta=delta)
    await peer.follow(LISTENER)
    response = await peer.take_one(LISTENER)
    await peer.ask(LISTENER, nonce=response.nonce, version="", error=wire.Status(code=3, message="no"))
    assert await peer.take_all() == []
    assert [r.message for r in peer.link.session.rejections] == ["no"]
    await plane.publish(snapshot(listeners={"front": 2}))
    assert [r.content for r in await peer.accept_all()] == [{"front": "2"}]
    assert peer.link.session.rejections == ()


async def stale(peer: Peer, plane: Plane) -> tuple[Response, Response]:
    """Bring a stream to where the first of two responses is out of date and the second not answered."""
    await peer.follow(ENDPOINT, "stable")
    first = await peer.take_one(ENDPOINT)
    await peer.accept(first)
    await plane.publish(snapshot(endpoints={"candidate": 1, "stable": 2}))
    return first, await peer.take_one(ENDPOINT)


@pytest.mark.item(10, 11)
async def test_a_stale_nonce_acknowledges_nothing(plane: Plane, delta: bool) -> None:
    peer = await connect(plane, delta=delta)
    first, second = await stale(peer, plane)
    names = () if delta else ("stable",)
    await peer.ask(ENDPOINT, *names, nonce=first.nonce, version=first.version)
    await peer.ask(ENDPOINT, *names, nonce=first.nonce, error=wire.Status(message="late"))
    assert await peer.take_all() == []
    assert peer.link.session.rejections == ()
    assert not peer.link.session.synced
    held = peer.known_to_hold()
    await peer.accept(second)
    assert await peer.take_all() == []
    assert peer.known_to_hold() != held


@pytest.mark.item(10, 11)
async def test_names_of_a_stale_request_count(plane: Plane, delta: bool) -> None:
    peer = await connect(plane, delta=delta)
    first, second = await stale(peer, plane)
    names = ("candidate",) if delta else ("candidate", "stable")
    await peer.ask(ENDPOINT, *names, nonce=first.nonce)
    assert await peer.take_all() == []
    await peer.accept(second)
    said = await peer.accept_all()
    assert [r.names for r in said] == [("candidate",)]


@pytest.mark.item(11)
async def test_delta_a_stale_unsubscription_counts(plane: Plane) -> None:
    peer = await connect(plane, delta=True)
    first, second = await stale(peer, plane)
    await peer.ask(ENDPOINT, without=("stable",), nonce=first.nonce)
    await peer.accept(second)
    await plane.publish(snapshot(endpoints={"candidate": 1, "stable": 3}))
    assert await peer.take_all() == []


@pytest.mark.item(12)
@pytest.mark.parametrize("refusing", [False, True], ids=["ack", "nack"])
async def test_a_nonce_of_another_stream_does_no_harm(plane: Plane, delta: bool, refusing: bool) -> None:
    former = await booted(plane, delta=delta)
    await plane.publish(snapshot(routes=HEAVIER))
    foreign = await former.take_one(ROUTE)
    peer = await connect(plane, delta=delta, name="proxy-2")
    error = wire.Status(message="of another server") if refusing else None
    await peer.ask(CLUSTER, nonce=foreign.nonce, version="of another server", error=error)
    assert sorted((await peer.take_one(CLUSTER)).names) == ["candidate", "stable"]
    assert peer.link.session.rejections == ()


@pytest.mark.item(13)
async def test_replicas_give_the_same_versions(plane: Plane, delta: bool) -> None:
    await plane.publish(snapshot(routes=HEAVIER))
    await plane.publish(snapshot())
    one = await booted(plane, delta=delta)
    async with serving(snapshot(), identifier="replica-2") as replica:
        other = await booted(replica, delta=delta)
        assert one._types[CLUSTER].version == other._types[CLUSTER].version
        assert one.versions(CLUSTER) == other.versions(CLUSTER)


@pytest.mark.item(13)
async def test_names_are_answered_whatever_version_a_client_claims(plane: Plane) -> None:
    former = await booted(plane, delta=False)
    peer = await connect(plane, delta=False, name="proxy-2")
    await peer.ask(ENDPOINT, "stable", version=former._types[ENDPOINT].version)
    assert (await peer.take_one(ENDPOINT)).names == ("stable",)


@pytest.mark.item(14)
async def test_an_equal_world_is_no_news(plane: Plane, delta: bool) -> None:
    peer = await booted(plane, delta=delta)
    await plane.publish(snapshot())
    assert await peer.take_all() == []


@pytest.mark.item(14)
async def test_only_the_type_that_changed_is_sent(plane: Plane, delta: bool) -> None:
    peer = await booted(plane, delta=delta)
    await plane.publish(snapshot(routes=HEAVIER))
    response = await peer.take_one(ROUTE)
    await peer.accept(response)
    assert await peer.take_all() == []
    assert peer.link.session.synced


@pytest.mark.item(14)
async def test_a_change_nobody_follows_is_no_news(plane: Plane, delta: bool) -> None:
    peer = await connect(plane, delta=delta)
    await peer.follow(ENDPOINT, "stable")
    await peer.accept(await peer.take_one(ENDPOINT))
    await plane.publish(snapshot(endpoints={"candidate": 2, "stable": 1}))
    assert await peer.take_all() == []
