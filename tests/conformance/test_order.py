"""Order on an aggregated stream: nothing is named before it is there, or taken away while it is named."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.conformance.peer import Peer, Response, connect
from tests.conformance.world import Resource, snapshot, world
from tests.support import worlds
from xds_server import ir
from xds_server.translate import resources
from xds_server.xds.snapshot import (
    CLUSTER,
    ENDPOINT,
    LISTENER,
    ROUTE,
    DanglingReferenceError,
    Snapshot,
    build,
)

if TYPE_CHECKING:
    from tests.conformance.links import Plane

BOTH = ("candidate", "stable")
REPLACED = {"stable": 2, "third": 1}


async def booted(plane: Plane, *, delta: bool) -> Peer:
    peer = await connect(plane, delta=delta)
    await peer.boot()
    return peer


def everything_changed() -> Snapshot:
    return snapshot(REPLACED, listeners={"front": 2}, routes={"main": (2, tuple(REPLACED))})


@pytest.mark.item(32)
async def test_additions_go_down_the_chain_and_removals_come_last(plane: Plane, delta: bool) -> None:
    peer = await booted(plane, delta=delta)
    await plane.publish(everything_changed())
    clusters, *others = await peer.take_all()
    assert clusters.type_url == CLUSTER
    assert sorted(clusters.names) == (["stable", "third"] if delta else ["candidate", "stable", "third"])
    assert clusters.removed == ()
    assert [r.type_url for r in others] == [ENDPOINT, LISTENER], "the route waits for its clusters"
    for response in others:
        await peer.accept(response)
    # A proxy asks for the endpoints of a new cluster first, and accepts the cluster when they have come.
    await peer.follow(ENDPOINT, "candidate", "stable", "third")
    await peer.accept(await peer.take_one(ENDPOINT))
    assert await peer.take_all() == []
    await peer.accept(clusters)
    await peer.accept(await peer.take_one(ROUTE))
    last = await peer.take_one(CLUSTER)
    assert last.removed == (("candidate",) if delta else ())
    await peer.accept(last)
    await peer.run()
    assert sorted(peer.content(CLUSTER)) == ["stable", "third"]
    assert peer.dangling() == set()
    assert peer.link.session.synced


@pytest.mark.item(32)
async def test_clusters_stay_until_the_route_that_left_them_is_accepted(plane: Plane, delta: bool) -> None:
    peer = await booted(plane, delta=delta)
    await plane.publish(snapshot({"stable": 1}, routes={"main": (2, ("stable",))}))
    route = await peer.take_one(ROUTE)
    assert await peer.take_all() == []
    await peer.refuse(route)
    await peer.run()
    assert sorted(peer.content(CLUSTER)) == ["candidate", "stable"], "the refused route did not leave"
    assert peer.dangling() == set()


@pytest.mark.item(32, 35)
@pytest.mark.parametrize("seed", range(8))
async def test_whatever_happens_nothing_dangles(plane: Plane, delta: bool, seed: int) -> None:
    draw = random.Random(seed)
    peer = await booted(plane, delta=delta)
    waiting: list[Response] = []
    for step in range(2, 40):
        if draw.random() < 0.4:
            names = sorted(draw.sample(["candidate", "stable", "third", "fourth"], draw.randint(1, 4)))
            clusters = {name: draw.randint(1, 2) for name in names}
            await plane.publish(snapshot(clusters, routes={"main": (step, tuple(names))}))
        waiting.extend(await peer.take_all())
        draw.shuffle(waiting)
        if waiting and draw.random() < 0.7:
            response = waiting.pop()
            await (peer.refuse(response) if draw.random() < 0.3 else peer.accept(response))
        assert peer.dangling() == set()
    for response in waiting:
        await peer.accept(response)
    await plane.publish(snapshot({"last": 1}))
    await peer.run()
    assert peer.content(ROUTE) == {"main": "1 last"}
    assert sorted(peer.content(CLUSTER)) == ["last"]
    assert peer.link.session.synced


@pytest.mark.item(33)
async def test_endpoints_follow_a_changed_cluster(plane: Plane, delta: bool) -> None:
    peer = await booted(plane, delta=delta)
    await plane.publish(snapshot({"candidate": 1, "stable": 2}))
    # A proxy accepts the cluster only after its endpoints have come.
    said = await peer.take_all()
    assert [r.type_url for r in said] == [CLUSTER, ENDPOINT]
    assert said[1].names == ("stable",)
    for response in said:
        await peer.accept(response)
    assert await peer.take_all() == []
    assert peer.link.session.synced


@pytest.mark.item(33)
async def test_endpoints_nobody_follows_stay_where_they_are(plane: Plane, delta: bool) -> None:
    peer = await connect(plane, delta=delta)
    await peer.follow(CLUSTER)
    await peer.accept_all()
    await peer.follow(ENDPOINT, "candidate")
    await peer.accept_all()
    await plane.publish(snapshot({"candidate": 1, "stable": 2}))
    assert [r.type_url for r in await peer.accept_all()] == [CLUSTER]


@pytest.mark.item(34)
async def test_routes_are_sent_again_when_a_changed_listener_asks(plane: Plane, delta: bool) -> None:
    peer = await booted(plane, delta=delta)
    await plane.publish(snapshot(listeners={"front": 2}))
    await peer.accept(await peer.take_one(LISTENER))
    if delta:
        await peer.ask(ROUTE, "main")
    else:
        await peer.follow(ROUTE)
        await peer.follow(ROUTE, "main")
    assert (await peer.take_one(ROUTE)).names == ("main",)


@pytest.mark.item(35)
async def test_no_route_refers_to_a_refused_cluster(plane: Plane, delta: bool) -> None:
    peer = await booted(plane, delta=delta)
    more = {"candidate": 1, "stable": 1, "third": 1}
    await plane.publish(snapshot(more))
    await peer.refuse(await peer.take_one(CLUSTER))
    assert all("third" not in r.content.get("main", "") for r in await peer.accept_all())
    assert peer.content(ROUTE) == {"main": "1 candidate,stable"}
    await plane.publish(snapshot({**more, "third": 2}))
    await peer.run()
    assert peer.content(ROUTE) == {"main": "1 candidate,stable,third"}
    assert peer.dangling() == set()
    assert peer.link.session.synced


@pytest.mark.item(36)
async def test_newer_worlds_replace_what_waits(plane: Plane, delta: bool) -> None:
    peer = await booted(plane, delta=delta)
    await plane.publish(snapshot(routes={"main": (2, BOTH)}))
    first = await peer.take_one(ROUTE)
    for revision in (3, 4, 5):
        await plane.publish(snapshot(routes={"main": (revision, BOTH)}))
        assert await peer.take_all() == []
    await peer.accept(first)
    newest = await peer.take_one(ROUTE)
    assert newest.content == {"main": "5 candidate,stable"}
    await peer.accept(newest)
    assert await peer.take_all() == []
    assert peer.link.session.synced


@pytest.mark.item(36)
async def test_no_world_goes_backwards(plane: Plane, delta: bool) -> None:
    peer = await booted(plane, delta=delta)
    seen = [1]
    for revision in range(2, 30):
        await plane.publish(snapshot(routes={"main": (revision, BOTH)}))
        if revision % 3 == 0:
            seen.extend(int(r.content["main"].split()[0]) for r in await peer.accept_all())
    seen.extend(int(r.content["main"].split()[0]) for r in await peer.accept_all())
    assert seen == sorted(set(seen))
    assert seen[-1] == 29


@pytest.mark.item(37)
@pytest.mark.parametrize(
    ("made", "missing"),
    [
        (world(routes={"main": (1, ("nowhere",))}), "RouteConfiguration 'main' needs Cluster 'nowhere'"),
        (world(endpoints={"stable": 1}), "Cluster 'candidate' needs ClusterLoadAssignment 'candidate'"),
        (
            (*world(), Resource(LISTENER, "side", 1, frozenset({(ROUTE, "nowhere")}))),
            "Listener 'side' needs RouteConfiguration 'nowhere'",
        ),
    ],
    ids=["route without cluster", "cluster without endpoints", "listener without route"],
)
def test_a_world_with_a_dangling_reference_is_refused(made: tuple[Resource, ...], missing: str) -> None:
    with pytest.raises(DanglingReferenceError, match=missing):
        build(made)


@pytest.mark.item(37)
def test_a_mirror_needs_its_cluster_too() -> None:
    whole = worlds.group(shadow=True)
    broken = replace(whole, clusters=tuple(c for c in whole.clusters if c.name != "chat/hop"))
    assert any("mirrors to cluster 'chat/hop'" in message for message in ir.violations(broken))
    with pytest.raises(DanglingReferenceError, match="chat/hop"):
        build(resources(broken, worlds.SCRIPTS))
