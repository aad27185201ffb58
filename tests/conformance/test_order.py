"""Order on an aggregated stream: clusters are sent before routes that name them, and removed after."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.conformance.client import Client, Response, connect
from tests.conformance.snapshots import resource, resources, snapshot
from tests.support import configs
from xds_server import ir
from xds_server.translate import resources as translate
from xds_server.xds.snapshot import (
    CLUSTER,
    ENDPOINT,
    LISTENER,
    ROUTE,
    DanglingReferenceError,
    Resource,
    Snapshot,
    build,
)

if TYPE_CHECKING:
    from tests.conformance.links import ControlPlane

BOTH = ("candidate", "stable")
REPLACED = {"stable": 2, "third": 1}


async def booted(plane: ControlPlane, *, delta: bool) -> Client:
    client = await connect(plane, delta=delta)
    await client.boot()
    return client


def everything_changed() -> Snapshot:
    return snapshot(REPLACED, listeners={"front": 2}, routes={"main": (2, tuple(REPLACED))})


@pytest.mark.item(32)
async def test_added_resources_are_sent_before_their_referrers_and_removals_last(
    plane: ControlPlane, delta: bool
) -> None:
    client = await booted(plane, delta=delta)
    await plane.publish(everything_changed())
    clusters, *others = await client.take_all()
    assert clusters.type_url == CLUSTER
    assert sorted(clusters.names) == (["stable", "third"] if delta else ["candidate", "stable", "third"])
    assert clusters.removed == ()
    assert [r.type_url for r in others] == [ENDPOINT, LISTENER], "the route waits for its clusters"
    for response in others:
        await client.ack(response)
    # Envoy subscribes to the endpoints of a new cluster first, and ACKs the cluster after it received them.
    await client.subscribe(ENDPOINT, "candidate", "stable", "third")
    await client.ack(await client.take_one(ENDPOINT))
    assert await client.take_all() == []
    await client.ack(clusters)
    await client.ack(await client.take_one(ROUTE))
    last = await client.take_one(CLUSTER)
    assert last.removed == (("candidate",) if delta else ())
    await client.ack(last)
    await client.run()
    assert sorted(client.content(CLUSTER)) == ["stable", "third"]
    assert client.dangling() == set()
    assert client.link.session.synced


@pytest.mark.item(32)
async def test_clusters_stay_until_the_route_that_no_longer_names_them_is_acked(
    plane: ControlPlane, delta: bool
) -> None:
    client = await booted(plane, delta=delta)
    await plane.publish(snapshot({"stable": 1}, routes={"main": (2, ("stable",))}))
    route = await client.take_one(ROUTE)
    assert await client.take_all() == []
    await client.nack(route)
    await client.run()
    assert sorted(client.content(CLUSTER)) == ["candidate", "stable"], (
        "the client keeps the route before the NACKed one"
    )
    assert client.dangling() == set()


@pytest.mark.item(32, 35)
@pytest.mark.parametrize("seed", range(8))
async def test_no_sequence_of_events_leaves_a_dangling_reference(
    plane: ControlPlane, delta: bool, seed: int
) -> None:
    draw = random.Random(seed)
    client = await booted(plane, delta=delta)
    waiting: list[Response] = []
    for step in range(2, 40):
        if draw.random() < 0.4:
            names = sorted(draw.sample(["candidate", "stable", "third", "fourth"], draw.randint(1, 4)))
            clusters = {name: draw.randint(1, 2) for name in names}
            await plane.publish(snapshot(clusters, routes={"main": (step, tuple(names))}))
        waiting.extend(await client.take_all())
        draw.shuffle(waiting)
        if waiting and draw.random() < 0.7:
            response = waiting.pop()
            await (client.nack(response) if draw.random() < 0.3 else client.ack(response))
        assert client.dangling() == set()
    for response in waiting:
        await client.ack(response)
    await plane.publish(snapshot({"last": 1}))
    await client.run()
    assert client.content(ROUTE) == {"main": "1 last"}
    assert sorted(client.content(CLUSTER)) == ["last"]
    assert client.link.session.synced


@pytest.mark.item(33)
async def test_endpoints_are_sent_again_after_a_changed_cluster(plane: ControlPlane, delta: bool) -> None:
    client = await booted(plane, delta=delta)
    await plane.publish(snapshot({"candidate": 1, "stable": 2}))
    # Envoy ACKs the cluster only after it received its endpoints.
    responses = await client.take_all()
    assert [r.type_url for r in responses] == [CLUSTER, ENDPOINT]
    assert responses[1].names == ("stable",)
    for response in responses:
        await client.ack(response)
    assert await client.take_all() == []
    assert client.link.session.synced


@pytest.mark.item(33)
async def test_endpoints_without_a_subscription_are_not_sent(plane: ControlPlane, delta: bool) -> None:
    client = await connect(plane, delta=delta)
    await client.subscribe(CLUSTER)
    await client.ack_all()
    await client.subscribe(ENDPOINT, "candidate")
    await client.ack_all()
    await plane.publish(snapshot({"candidate": 1, "stable": 2}))
    assert [r.type_url for r in await client.ack_all()] == [CLUSTER]


@pytest.mark.item(34)
async def test_routes_are_sent_again_when_a_changed_listener_subscribes(
    plane: ControlPlane, delta: bool
) -> None:
    client = await booted(plane, delta=delta)
    await plane.publish(snapshot(listeners={"front": 2}))
    await client.ack(await client.take_one(LISTENER))
    if delta:
        await client.send_request(ROUTE, "main")
    else:
        await client.subscribe(ROUTE)
        await client.subscribe(ROUTE, "main")
    assert (await client.take_one(ROUTE)).names == ("main",)


@pytest.mark.item(35)
async def test_no_route_refers_to_a_nacked_cluster(plane: ControlPlane, delta: bool) -> None:
    client = await booted(plane, delta=delta)
    more = {"candidate": 1, "stable": 1, "third": 1}
    await plane.publish(snapshot(more))
    await client.nack(await client.take_one(CLUSTER))
    assert all("third" not in r.content.get("main", "") for r in await client.ack_all())
    assert client.content(ROUTE) == {"main": "1 candidate,stable"}
    await plane.publish(snapshot({**more, "third": 2}))
    await client.run()
    assert client.content(ROUTE) == {"main": "1 candidate,stable,third"}
    assert client.dangling() == set()
    assert client.link.session.synced


@pytest.mark.item(36)
async def test_a_newer_snapshot_replaces_an_unsent_one(plane: ControlPlane, delta: bool) -> None:
    client = await booted(plane, delta=delta)
    await plane.publish(snapshot(routes={"main": (2, BOTH)}))
    first = await client.take_one(ROUTE)
    for revision in (3, 4, 5):
        await plane.publish(snapshot(routes={"main": (revision, BOTH)}))
        assert await client.take_all() == []
    await client.ack(first)
    newest = await client.take_one(ROUTE)
    assert newest.content == {"main": "5 candidate,stable"}
    await client.ack(newest)
    assert await client.take_all() == []
    assert client.link.session.synced


@pytest.mark.item(36)
async def test_no_version_is_sent_after_a_newer_one(plane: ControlPlane, delta: bool) -> None:
    client = await booted(plane, delta=delta)
    seen = [1]
    for revision in range(2, 30):
        await plane.publish(snapshot(routes={"main": (revision, BOTH)}))
        if revision % 3 == 0:
            seen.extend(int(r.content["main"].split()[0]) for r in await client.ack_all())
    seen.extend(int(r.content["main"].split()[0]) for r in await client.ack_all())
    assert seen == sorted(set(seen))
    assert seen[-1] == 29


@pytest.mark.item(37)
@pytest.mark.parametrize(
    ("made", "missing"),
    [
        (
            resources(routes={"main": (1, ("nowhere",))}),
            "RouteConfiguration 'main' refers to Cluster 'nowhere'",
        ),
        (
            resources(endpoints={"stable": 1}),
            "Cluster 'candidate' refers to ClusterLoadAssignment 'candidate'",
        ),
        (
            (*resources(), resource(LISTENER, "side", 1, frozenset({(ROUTE, "nowhere")}))),
            "Listener 'side' refers to RouteConfiguration 'nowhere'",
        ),
    ],
    ids=["route without cluster", "cluster without endpoints", "listener without route"],
)
def test_a_snapshot_with_a_dangling_reference_is_rejected(made: tuple[Resource, ...], missing: str) -> None:
    with pytest.raises(DanglingReferenceError, match=missing):
        build(made)


@pytest.mark.item(37)
def test_a_mirror_without_its_cluster_is_rejected() -> None:
    whole = configs.group(shadow=True)
    broken = replace(whole, clusters=tuple(c for c in whole.clusters if c.name != "chat/hop"))
    assert any("mirrors to cluster 'chat/hop'" in violation for violation in ir.violations(broken))
    with pytest.raises(DanglingReferenceError, match="chat/hop"):
        build(translate(broken, configs.SCRIPTS))
