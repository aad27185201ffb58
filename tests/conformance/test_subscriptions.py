"""Subscriptions: wildcards and names, and what is sent when they change."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from tests.conformance.client import Client, Response, connect
from tests.conformance.snapshots import read, snapshot
from xds_server.xds.snapshot import CLUSTER, ENDPOINT, LISTENER, ROUTE, Snapshot

if TYPE_CHECKING:
    from tests.conformance.links import ControlPlane

BOTH = {"candidate": 1, "stable": 1}
THIRD = {**BOTH, "third": 1}
TO_STABLE = {"main": (2, ("stable",))}
FOREIGN = "of-an-older-snapshot"


async def names_now(client: Client) -> list[tuple[str, ...]]:
    return [tuple(sorted(response.names)) for response in await client.ack_all()]


@pytest.mark.item(15)
async def test_an_empty_first_list_is_a_lasting_wildcard(plane: ControlPlane, delta: bool) -> None:
    client = await connect(plane, delta=delta)
    await client.subscribe(CLUSTER)
    assert await names_now(client) == [("candidate", "stable")]
    await plane.publish(snapshot(THIRD))
    assert await names_now(client) == [("third",) if delta else ("candidate", "stable", "third")]
    await client.subscribe(LISTENER)
    assert await names_now(client) == [("front",)]


@pytest.mark.item(16)
@pytest.mark.parametrize("type_url", [CLUSTER, ENDPOINT])
async def test_an_empty_list_after_a_name_subscribes_to_nothing(
    plane: ControlPlane, delta: bool, type_url: str
) -> None:
    client = await connect(plane, delta=delta)
    await client.subscribe(type_url, "stable")
    assert await names_now(client) == [("stable",)]
    await client.subscribe(type_url)
    await plane.publish(snapshot({"candidate": 2, "stable": 2}, endpoints={"candidate": 2, "stable": 2}))
    assert await client.take_all() == []
    await client.subscribe(type_url)
    assert await client.take_all() == []


@pytest.mark.item(16, 17)
async def test_an_explicit_wildcard_ends_with_an_empty_list(plane: ControlPlane, delta: bool) -> None:
    client = await connect(plane, delta=delta)
    await client.subscribe(CLUSTER, "*")
    assert await names_now(client) == [("candidate", "stable")]
    await client.subscribe(CLUSTER)
    assert await client.take_all() == []
    await plane.publish(snapshot({"stable": 2}, routes=TO_STABLE))
    assert await client.take_all() == []


@pytest.mark.item(17)
async def test_a_client_can_end_a_wildcard_and_keep_a_name(plane: ControlPlane, delta: bool) -> None:
    client = await connect(plane, delta=delta)
    await client.subscribe(CLUSTER, "*", "stable")
    assert await names_now(client) == [("candidate", "stable")]
    await client.subscribe(CLUSTER, "stable")
    await client.ack_all()
    await plane.publish(snapshot({"candidate": 2, "stable": 1}))
    assert [r for r in await client.ack_all() if "candidate" in (*r.names, *r.removed)] == []
    await plane.publish(snapshot({"candidate": 2, "stable": 2}))
    assert await names_now(client) == [("stable",)]
    await client.subscribe(CLUSTER)
    await plane.publish(snapshot({"candidate": 3, "stable": 3}))
    assert await client.take_all() == []


@pytest.mark.item(17, 19)
async def test_a_new_wildcard_sends_all_resources_again(plane: ControlPlane, delta: bool) -> None:
    client = await connect(plane, delta=delta)
    await client.subscribe(CLUSTER, "*", "stable")
    await client.ack_all()
    await client.subscribe(CLUSTER, "stable")
    await client.ack_all()
    await client.subscribe(CLUSTER, "*", "stable")
    assert "candidate" in {name for names in await names_now(client) for name in names}


@pytest.mark.item(18)
@pytest.mark.parametrize(("type_url", "name"), [(ENDPOINT, "stable"), (ROUTE, "main")])
async def test_an_empty_first_list_subscribes_to_nothing(
    plane: ControlPlane, delta: bool, type_url: str, name: str
) -> None:
    client = await connect(plane, delta=delta)
    await client.subscribe(type_url)
    assert await client.take_all() == []
    await client.subscribe(type_url, name)
    assert await names_now(client) == [(name,)]


@pytest.mark.item(19)
async def test_sotw_an_added_name_is_sent(plane: ControlPlane) -> None:
    client = await connect(plane, delta=False)
    await client.subscribe(ENDPOINT, "stable")
    assert await names_now(client) == [("stable",)]
    await client.subscribe(ENDPOINT, "candidate", "stable")
    (names,) = await names_now(client)
    assert "candidate" in names
    await client.subscribe(ENDPOINT, "candidate")
    assert await client.take_all() == []
    await client.subscribe(ENDPOINT, "candidate", "stable")
    (names,) = await names_now(client)
    assert "stable" in names, "the client dropped the resource when it unsubscribed"


@pytest.mark.item(19)
async def test_sotw_a_name_added_to_a_wildcard_is_sent_again(plane: ControlPlane) -> None:
    client = await connect(plane, delta=False)
    await client.subscribe(CLUSTER, "*")
    assert await names_now(client) == [("candidate", "stable")]
    await client.subscribe(CLUSTER, "*", "stable")
    (names,) = await names_now(client)
    assert "stable" in names


@pytest.mark.item(20)
async def test_sotw_clusters_and_listeners_are_full_sets(plane: ControlPlane) -> None:
    client = await connect(plane, delta=False)
    await client.boot()
    await plane.publish(snapshot({"candidate": 2, "stable": 1}, listeners={"front": 1, "side": 1}))
    responses = {r.type_url: tuple(sorted(r.names)) for r in await client.ack_all()}
    assert responses[CLUSTER] == ("candidate", "stable")
    assert responses[LISTENER] == ("front", "side")


@pytest.mark.item(20)
async def test_sotw_a_full_set_without_a_resource_removes_it(plane: ControlPlane) -> None:
    client = await connect(plane, delta=False)
    await client.subscribe(LISTENER)
    await client.ack_all()
    await plane.publish(snapshot(listeners={"side": 1}))
    assert await names_now(client) == [("side",)]
    await plane.publish(snapshot(listeners={}))
    assert await names_now(client) == [()]
    assert client.content(LISTENER) == {}


@pytest.mark.item(20)
async def test_sotw_other_types_are_partial_and_never_removed(plane: ControlPlane) -> None:
    client = await connect(plane, delta=False)
    await client.subscribe(ENDPOINT, "candidate", "stable")
    await client.ack_all()
    await plane.publish(snapshot(endpoints={"candidate": 2, "stable": 1}))
    assert await names_now(client) == [("candidate",)]
    await plane.publish(snapshot({"stable": 1}, routes=TO_STABLE))
    assert await client.take_all() == []


@pytest.mark.item(21)
async def test_sotw_a_missing_name_stays_subscribed(plane: ControlPlane) -> None:
    client = await connect(plane, delta=False)
    await client.subscribe(ENDPOINT, "stable", "third")
    assert await names_now(client) == [("stable",)]
    await plane.publish(snapshot(THIRD))
    (names,) = await names_now(client)
    assert "third" in names
    await client.subscribe(ROUTE, "other")
    assert await client.take_all() == [], "no empty response is sent for a missing name"
    await plane.publish(snapshot(THIRD, routes={"main": (1, tuple(THIRD)), "other": (1, ("third",))}))
    assert await names_now(client) == [("other",)]


@pytest.mark.item(22)
async def test_delta_subscriptions_accumulate(plane: ControlPlane) -> None:
    client = await connect(plane, delta=True)
    await client.send_request(ENDPOINT, "stable")
    assert await names_now(client) == [("stable",)]
    await client.send_request(ENDPOINT, "candidate")
    assert await names_now(client) == [("candidate",)]
    await plane.publish(snapshot(endpoints={"candidate": 2, "stable": 2}))
    assert await names_now(client) == [("candidate", "stable")]


@pytest.mark.item(22)
@pytest.mark.parametrize("wildcard", [False, True], ids=["named", "wildcard"])
async def test_delta_a_repeated_subscription_gets_a_response(plane: ControlPlane, wildcard: bool) -> None:
    client = await connect(plane, delta=True)
    type_url = CLUSTER if wildcard else ENDPOINT
    await client.send_request(type_url, *(() if wildcard else ("candidate", "stable")))
    assert await names_now(client) == [("candidate", "stable")]
    await client.send_request(type_url, "stable")
    assert await names_now(client) == [("stable",)]
    await client.send_request(type_url, "stable")
    assert await names_now(client) == [("stable",)]


@pytest.mark.item(23)
async def test_delta_an_unsubscription_gets_no_response(plane: ControlPlane) -> None:
    client = await connect(plane, delta=True)
    await client.send_request(ENDPOINT, "candidate", "stable")
    await client.ack_all()
    await client.send_request(ENDPOINT, without=("unknown-name",))
    assert await client.take_all() == []
    await client.send_request(ENDPOINT, without=("candidate",))
    assert await client.take_all() == []
    await plane.publish(snapshot(endpoints={"candidate": 2, "stable": 1}))
    assert await client.take_all() == []


@pytest.mark.item(23)
async def test_delta_an_unsubscription_under_a_wildcard_gets_a_response(plane: ControlPlane) -> None:
    client = await connect(plane, delta=True)
    await client.send_request(CLUSTER, "*", "stable", "third")
    await client.ack_all()
    await client.send_request(CLUSTER, without=("stable",))
    assert [(r.names, r.removed) for r in await client.ack_all()] == [(("stable",), ())]
    await client.send_request(CLUSTER, without=("third",))
    assert [(r.names, r.removed) for r in await client.ack_all()] == [((), ("third",))]
    await client.send_request(CLUSTER, without=("unknown-name",))
    assert await client.take_all() == []


@pytest.mark.item(24)
@pytest.mark.parametrize("first", [(), ("*",)], ids=["implicit", "explicit"])
async def test_delta_ending_a_wildcard_keeps_names(plane: ControlPlane, first: tuple[str, ...]) -> None:
    client = await connect(plane, delta=True)
    await client.send_request(CLUSTER, *first)
    assert await names_now(client) == [("candidate", "stable")]
    await client.send_request(CLUSTER, "stable")
    await client.ack_all()
    await plane.publish(snapshot({"candidate": 2, "stable": 1}))
    assert await names_now(client) == [("candidate",)], "a name adds to the wildcard"
    await client.send_request(CLUSTER, without=("*",))
    await client.ack_all()
    await plane.publish(snapshot({"candidate": 3, "stable": 2, "third": 1}))
    assert await names_now(client) == [("stable",)]
    await client.send_request(CLUSTER, without=("stable",))
    await plane.publish(snapshot({"candidate": 4, "stable": 3}))
    assert await client.take_all() == [], "an empty subscription is no wildcard after a name"


@pytest.mark.item(24)
async def test_delta_a_wildcard_may_be_added_to_names(plane: ControlPlane) -> None:
    client = await connect(plane, delta=True)
    await client.send_request(CLUSTER, "stable")
    assert await names_now(client) == [("stable",)]
    await client.send_request(CLUSTER, "*")
    assert "candidate" in {name for names in await names_now(client) for name in names}
    await plane.publish(snapshot(THIRD))
    assert await names_now(client) == [("third",)]


@pytest.mark.item(25)
async def test_delta_a_missing_name_is_removed_once_and_sent_when_it_exists(plane: ControlPlane) -> None:
    client = await connect(plane, delta=True)
    await client.send_request(ENDPOINT, "stable", "third")
    assert [(r.names, r.removed) for r in await client.ack_all()] == [(("stable",), ("third",))]
    await plane.publish(snapshot(endpoints={"candidate": 1, "stable": 2}))
    assert [(r.names, r.removed) for r in await client.ack_all()] == [(("stable",), ())]
    await plane.publish(snapshot(THIRD))
    assert "third" in (await client.ack_all())[-1].names


@pytest.mark.item(26)
async def test_delta_a_removal_is_sent_once(plane: ControlPlane) -> None:
    client = await connect(plane, delta=True)
    await client.subscribe(LISTENER)
    await client.ack_all()
    await plane.publish(snapshot(listeners={}))
    assert [(r.names, r.removed) for r in await client.ack_all()] == [((), ("front",))]
    await plane.publish(snapshot(listeners={}, routes={"main": (9, ("stable",))}))
    assert await client.take_all() == []
    await plane.publish(snapshot(listeners={"front": 2}))
    assert [r.content for r in await client.ack_all()] == [{"front": "2"}]
    await plane.publish(snapshot(listeners={}))
    await client.ack_all()
    await plane.publish(snapshot(listeners={"front": 2}))
    assert [r.content for r in await client.ack_all()] == [{"front": "2"}], (
        "the same version, but it was removed in between"
    )


@pytest.mark.item(26)
async def test_delta_a_named_resource_may_be_removed_and_added_again(plane: ControlPlane) -> None:
    client = await connect(plane, delta=True)
    await client.send_request(ENDPOINT, "candidate", "stable")
    await client.ack_all()
    await plane.publish(snapshot({"stable": 1}, routes=TO_STABLE))
    assert [(r.names, r.removed) for r in await client.ack_all()] == [((), ("candidate",))]
    assert await client.take_all() == []
    await plane.publish(snapshot())
    assert [(r.names, r.removed) for r in await client.ack_all()] == [(("candidate",), ())]


@pytest.mark.item(27)
async def test_delta_a_reconnected_wildcard_client_receives_what_differs(plane: ControlPlane) -> None:
    former = await connect(plane, delta=True)
    await former.boot()
    await plane.publish(snapshot({"candidate": 1, "stable": 2, "third": 1}))
    await former.run()
    client = await connect(plane, delta=True, name="proxy-2")
    actual = {**former.versions(CLUSTER), "stable": FOREIGN, "gone": FOREIGN}
    actual.pop("third")
    await client.send_request(CLUSTER, initial_versions=actual)
    (response,) = await client.ack_all()
    assert (response.names, response.removed) == (("stable", "third"), ("gone",))


@pytest.mark.item(27)
async def test_delta_a_named_resource_is_sent_to_a_reconnected_client(plane: ControlPlane) -> None:
    former = await connect(plane, delta=True)
    await former.boot()
    client = await connect(plane, delta=True, name="proxy-2")
    await client.send_request(
        ENDPOINT,
        "candidate",
        "gone",
        "stable",
        initial_versions={**former.versions(ENDPOINT), "gone": FOREIGN},
    )
    (response,) = await client.ack_all()
    assert (response.names, response.removed) == (("candidate", "stable"), ("gone",))


@pytest.mark.item(28)
async def test_a_first_wildcard_request_gets_an_empty_response(plane: ControlPlane, delta: bool) -> None:
    await plane.publish(snapshot({}, listeners={}, routes={}))
    client = await connect(plane, delta=delta)
    await client.subscribe(CLUSTER)
    assert [(r.names, r.removed) for r in await client.ack_all()] == [((), ())]
    await client.subscribe(LISTENER)
    assert [(r.names, r.removed) for r in await client.ack_all()] == [((), ())]


@pytest.mark.item(28)
async def test_delta_a_reconnected_client_with_all_resources_gets_a_response(plane: ControlPlane) -> None:
    former = await connect(plane, delta=True)
    await former.boot()
    client = await connect(plane, delta=True, name="proxy-2")
    await client.send_request(CLUSTER, initial_versions=former.versions(CLUSTER))
    assert [(r.names, r.removed) for r in await client.ack_all()] == [((), ())]


@pytest.mark.item(30)
@pytest.mark.parametrize("type_url", [CLUSTER, ENDPOINT])
async def test_no_response_contains_a_resource_twice(plane: ControlPlane, delta: bool, type_url: str) -> None:
    client = await connect(plane, delta=delta)
    everything = ("*",) if type_url == CLUSTER else ("candidate",)
    await client.send_request(type_url, "stable", *everything, "stable", "missing", "missing")
    responses = await client.ack_all()
    await plane.publish(snapshot({"candidate": 2, "stable": 2}, endpoints={"candidate": 2, "stable": 2}))
    responses.extend(await client.ack_all())
    assert len(responses) == 2
    for response in responses:
        mentioned = (*response.names, *response.removed)
        assert len(set(mentioned)) == len(mentioned)


NAMES = ("a", "b", "c", "d")


def drawn(draw: random.Random, kind: str, least: int = 1) -> Snapshot:
    """Return a snapshot with some resources of one type and no others."""
    some = {name: draw.randint(least, least + 2) for name in NAMES if draw.random() < 0.6}
    if kind == LISTENER:
        return snapshot({}, listeners=some, routes={})
    return snapshot({}, endpoints=some, listeners={}, routes={})


@pytest.mark.item(14, 15, 16, 17, 19, 20, 21, 22, 24, 25, 26)
@pytest.mark.parametrize("type_url", [LISTENER, ENDPOINT], ids=["LDS", "EDS"])
@pytest.mark.parametrize("seed", range(5))
async def test_a_client_ends_with_the_resources_of_its_subscription(
    plane: ControlPlane, delta: bool, type_url: str, seed: int
) -> None:
    draw = random.Random(seed)
    client = await connect(plane, delta=delta)
    waiting: Response | None = None
    for _ in range(30):
        action = draw.choice(["publish", "subscribe", "answer", "answer"])
        if action == "publish":
            await plane.publish(drawn(draw, type_url))
        elif action == "subscribe" and (waiting is None or delta or type_url == ENDPOINT):
            names = draw.sample(NAMES, draw.randint(0, 3))
            wildcard = ["*"] if type_url == LISTENER and draw.random() < 0.4 else []
            await client.subscribe(type_url, *wildcard, *names)
        elif waiting is not None:
            await (client.nack(waiting) if draw.random() < 0.3 else client.ack(waiting))
            waiting = None
        waiting = waiting or await client.take()
    if waiting is not None:
        await client.ack(waiting)
    await plane.publish(drawn(draw, type_url))
    await client.ack_all()
    last = drawn(draw, type_url, 4)
    await plane.publish(last)
    await client.ack_all()
    existing = {name: read(entry.body)[2] for name, entry in last.of(type_url).items()}
    actual = client.content(type_url)
    expected = {name: existing[name] for name in existing if client.includes(type_url, name)}
    assert {name: actual.get(name) for name in expected} == expected
    if delta or type_url == LISTENER:
        assert actual == expected
