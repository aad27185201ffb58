"""Subscriptions: what a client follows, and what it is told when that changes."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from tests.conformance.peer import Peer, Response, connect
from tests.conformance.world import read, snapshot
from xds_server.xds.snapshot import CLUSTER, ENDPOINT, LISTENER, ROUTE, Snapshot

if TYPE_CHECKING:
    from tests.conformance.links import Plane

BOTH = {"candidate": 1, "stable": 1}
THIRD = {**BOTH, "third": 1}
TO_STABLE = {"main": (2, ("stable",))}
FOREIGN = "of an older world"


async def names_now(peer: Peer) -> list[tuple[str, ...]]:
    return [tuple(sorted(response.names)) for response in await peer.accept_all()]


@pytest.mark.item(15)
async def test_naming_nothing_means_everything_and_goes_on_so(plane: Plane, delta: bool) -> None:
    peer = await connect(plane, delta=delta)
    await peer.follow(CLUSTER)
    assert await names_now(peer) == [("candidate", "stable")]
    await plane.publish(snapshot(THIRD))
    assert await names_now(peer) == [("third",) if delta else ("candidate", "stable", "third")]
    await peer.follow(LISTENER)
    assert await names_now(peer) == [("front",)]


@pytest.mark.item(16)
@pytest.mark.parametrize("type_url", [CLUSTER, ENDPOINT])
async def test_naming_nothing_after_a_name_means_nothing(plane: Plane, delta: bool, type_url: str) -> None:
    peer = await connect(plane, delta=delta)
    await peer.follow(type_url, "stable")
    assert await names_now(peer) == [("stable",)]
    await peer.follow(type_url)
    await plane.publish(snapshot({"candidate": 2, "stable": 2}, endpoints={"candidate": 2, "stable": 2}))
    assert await peer.take_all() == []
    await peer.follow(type_url)
    assert await peer.take_all() == []


@pytest.mark.item(16, 17)
async def test_an_explicit_wildcard_ends_with_an_empty_list(plane: Plane, delta: bool) -> None:
    peer = await connect(plane, delta=delta)
    await peer.follow(CLUSTER, "*")
    assert await names_now(peer) == [("candidate", "stable")]
    await peer.follow(CLUSTER)
    assert await peer.take_all() == []
    await plane.publish(snapshot({"stable": 2}, routes=TO_STABLE))
    assert await peer.take_all() == []


@pytest.mark.item(17)
async def test_a_wildcard_can_be_left_while_a_name_is_kept(plane: Plane, delta: bool) -> None:
    peer = await connect(plane, delta=delta)
    await peer.follow(CLUSTER, "*", "stable")
    assert await names_now(peer) == [("candidate", "stable")]
    await peer.follow(CLUSTER, "stable")
    await peer.accept_all()
    await plane.publish(snapshot({"candidate": 2, "stable": 1}))
    assert [r for r in await peer.accept_all() if "candidate" in (*r.names, *r.removed)] == []
    await plane.publish(snapshot({"candidate": 2, "stable": 2}))
    assert await names_now(peer) == [("stable",)]
    await peer.follow(CLUSTER)
    await plane.publish(snapshot({"candidate": 3, "stable": 3}))
    assert await peer.take_all() == []


@pytest.mark.item(17, 19)
async def test_a_wildcard_entered_again_tells_everything_again(plane: Plane, delta: bool) -> None:
    peer = await connect(plane, delta=delta)
    await peer.follow(CLUSTER, "*", "stable")
    await peer.accept_all()
    await peer.follow(CLUSTER, "stable")
    await peer.accept_all()
    await peer.follow(CLUSTER, "*", "stable")
    assert "candidate" in {name for names in await names_now(peer) for name in names}


@pytest.mark.item(18)
@pytest.mark.parametrize(("type_url", "name"), [(ENDPOINT, "stable"), (ROUTE, "main")])
async def test_naming_nothing_means_nothing(plane: Plane, delta: bool, type_url: str, name: str) -> None:
    peer = await connect(plane, delta=delta)
    await peer.follow(type_url)
    assert await peer.take_all() == []
    await peer.follow(type_url, name)
    assert await names_now(peer) == [(name,)]


@pytest.mark.item(19)
async def test_sotw_an_added_name_is_sent(plane: Plane) -> None:
    peer = await connect(plane, delta=False)
    await peer.follow(ENDPOINT, "stable")
    assert await names_now(peer) == [("stable",)]
    await peer.follow(ENDPOINT, "candidate", "stable")
    (names,) = await names_now(peer)
    assert "candidate" in names
    await peer.follow(ENDPOINT, "candidate")
    assert await peer.take_all() == []
    await peer.follow(ENDPOINT, "candidate", "stable")
    (names,) = await names_now(peer)
    assert "stable" in names, "the client forgot it when it stopped following"


@pytest.mark.item(19)
async def test_sotw_a_name_already_sent_unasked_is_sent_again(plane: Plane) -> None:
    peer = await connect(plane, delta=False)
    await peer.follow(CLUSTER, "*")
    assert await names_now(peer) == [("candidate", "stable")]
    await peer.follow(CLUSTER, "*", "stable")
    (names,) = await names_now(peer)
    assert "stable" in names


@pytest.mark.item(20)
async def test_sotw_clusters_and_listeners_come_as_full_sets(plane: Plane) -> None:
    peer = await connect(plane, delta=False)
    await peer.boot()
    await plane.publish(snapshot({"candidate": 2, "stable": 1}, listeners={"front": 1, "side": 1}))
    said = {r.type_url: tuple(sorted(r.names)) for r in await peer.accept_all()}
    assert said[CLUSTER] == ("candidate", "stable")
    assert said[LISTENER] == ("front", "side")


@pytest.mark.item(20)
async def test_sotw_absence_deletes_and_an_empty_set_deletes_all(plane: Plane) -> None:
    peer = await connect(plane, delta=False)
    await peer.follow(LISTENER)
    await peer.accept_all()
    await plane.publish(snapshot(listeners={"side": 1}))
    assert await names_now(peer) == [("side",)]
    await plane.publish(snapshot(listeners={}))
    assert await names_now(peer) == [()]
    assert peer.content(LISTENER) == {}


@pytest.mark.item(20)
async def test_sotw_other_types_may_come_in_part_and_are_never_deleted(plane: Plane) -> None:
    peer = await connect(plane, delta=False)
    await peer.follow(ENDPOINT, "candidate", "stable")
    await peer.accept_all()
    await plane.publish(snapshot(endpoints={"candidate": 2, "stable": 1}))
    assert await names_now(peer) == [("candidate",)]
    await plane.publish(snapshot({"stable": 1}, routes=TO_STABLE))
    assert await peer.take_all() == []


@pytest.mark.item(21)
async def test_sotw_a_missing_name_is_remembered(plane: Plane) -> None:
    peer = await connect(plane, delta=False)
    await peer.follow(ENDPOINT, "stable", "third")
    assert await names_now(peer) == [("stable",)]
    await plane.publish(snapshot(THIRD))
    (names,) = await names_now(peer)
    assert "third" in names
    await peer.follow(ROUTE, "other")
    assert await peer.take_all() == [], "a client that waits is not told of nothing"
    await plane.publish(snapshot(THIRD, routes={"main": (1, tuple(THIRD)), "other": (1, ("third",))}))
    assert await names_now(peer) == [("other",)]


@pytest.mark.item(22)
async def test_delta_subscriptions_add_up(plane: Plane) -> None:
    peer = await connect(plane, delta=True)
    await peer.ask(ENDPOINT, "stable")
    assert await names_now(peer) == [("stable",)]
    await peer.ask(ENDPOINT, "candidate")
    assert await names_now(peer) == [("candidate",)]
    await plane.publish(snapshot(endpoints={"candidate": 2, "stable": 2}))
    assert await names_now(peer) == [("candidate", "stable")]


@pytest.mark.item(22)
@pytest.mark.parametrize("wildcard", [False, True], ids=["named", "wildcard"])
async def test_delta_subscribing_again_forces_an_answer(plane: Plane, wildcard: bool) -> None:
    peer = await connect(plane, delta=True)
    type_url = CLUSTER if wildcard else ENDPOINT
    await peer.ask(type_url, *(() if wildcard else ("candidate", "stable")))
    assert await names_now(peer) == [("candidate", "stable")]
    await peer.ask(type_url, "stable")
    assert await names_now(peer) == [("stable",)]
    await peer.ask(type_url, "stable")
    assert await names_now(peer) == [("stable",)]


@pytest.mark.item(23)
async def test_delta_unsubscribing_is_answered_by_silence(plane: Plane) -> None:
    peer = await connect(plane, delta=True)
    await peer.ask(ENDPOINT, "candidate", "stable")
    await peer.accept_all()
    await peer.ask(ENDPOINT, without=("never-heard-of",))
    assert await peer.take_all() == []
    await peer.ask(ENDPOINT, without=("candidate",))
    assert await peer.take_all() == []
    await plane.publish(snapshot(endpoints={"candidate": 2, "stable": 1}))
    assert await peer.take_all() == []


@pytest.mark.item(23)
async def test_delta_under_a_wildcard_an_unsubscription_is_answered(plane: Plane) -> None:
    peer = await connect(plane, delta=True)
    await peer.ask(CLUSTER, "*", "stable", "third")
    await peer.accept_all()
    await peer.ask(CLUSTER, without=("stable",))
    assert [(r.names, r.removed) for r in await peer.accept_all()] == [(("stable",), ())]
    await peer.ask(CLUSTER, without=("third",))
    assert [(r.names, r.removed) for r in await peer.accept_all()] == [((), ("third",))]
    await peer.ask(CLUSTER, without=("never-heard-of",))
    assert await peer.take_all() == []


@pytest.mark.item(24)
@pytest.mark.parametrize("first", [(), ("*",)], ids=["implicit", "explicit"])
async def test_delta_leaving_a_wildcard_keeps_names(plane: Plane, first: tuple[str, ...]) -> None:
    peer = await connect(plane, delta=True)
    await peer.ask(CLUSTER, *first)
    assert await names_now(peer) == [("candidate", "stable")]
    await peer.ask(CLUSTER, "stable")
    await peer.accept_all()
    await plane.publish(snapshot({"candidate": 2, "stable": 1}))
    assert await names_now(peer) == [("candidate",)], "a name adds to the wildcard"
    await peer.ask(CLUSTER, without=("*",))
    await peer.accept_all()
    await plane.publish(snapshot({"candidate": 3, "stable": 2, "third": 1}))
    assert await names_now(peer) == [("stable",)]
    await peer.ask(CLUSTER, without=("stable",))
    await plane.publish(snapshot({"candidate": 4, "stable": 3}))
    assert await peer.take_all() == [], "an empty subscription is no wildcard any more"


@pytest.mark.item(24)
async def test_delta_a_wildcard_may_be_added_to_names(plane: Plane) -> None:
    peer = await connect(plane, delta=True)
    await peer.ask(CLUSTER, "stable")
    assert await names_now(peer) == [("stable",)]
    await peer.ask(CLUSTER, "*")
    assert "candidate" in {name for names in await names_now(peer) for name in names}
    await plane.publish(snapshot(THIRD))
    assert await names_now(peer) == [("third",)]


@pytest.mark.item(25)
async def test_delta_a_missing_name_is_said_once_and_sent_when_it_comes(plane: Plane) -> None:
    peer = await connect(plane, delta=True)
    await peer.ask(ENDPOINT, "stable", "third")
    assert [(r.names, r.removed) for r in await peer.accept_all()] == [(("stable",), ("third",))]
    await plane.publish(snapshot(endpoints={"candidate": 1, "stable": 2}))
    assert [(r.names, r.removed) for r in await peer.accept_all()] == [(("stable",), ())]
    await plane.publish(snapshot(THIRD))
    assert "third" in (await peer.accept_all())[-1].names


@pytest.mark.item(26)
async def test_delta_a_deletion_is_said_once(plane: Plane) -> None:
    peer = await connect(plane, delta=True)
    await peer.follow(LISTENER)
    await peer.accept_all()
    await plane.publish(snapshot(listeners={}))
    assert [(r.names, r.removed) for r in await peer.accept_all()] == [((), ("front",))]
    await plane.publish(snapshot(listeners={}, routes={"main": (9, ("stable",))}))
    assert await peer.take_all() == []
    await plane.publish(snapshot(listeners={"front": 2}))
    assert [r.content for r in await peer.accept_all()] == [{"front": "2"}]
    await plane.publish(snapshot(listeners={}))
    await peer.accept_all()
    await plane.publish(snapshot(listeners={"front": 2}))
    assert [r.content for r in await peer.accept_all()] == [{"front": "2"}], "equal, but it was gone"


@pytest.mark.item(26)
async def test_delta_a_named_resource_may_go_and_return(plane: Plane) -> None:
    peer = await connect(plane, delta=True)
    await peer.ask(ENDPOINT, "candidate", "stable")
    await peer.accept_all()
    await plane.publish(snapshot({"stable": 1}, routes=TO_STABLE))
    assert [(r.names, r.removed) for r in await peer.accept_all()] == [((), ("candidate",))]
    assert await peer.take_all() == []
    await plane.publish(snapshot())
    assert [(r.names, r.removed) for r in await peer.accept_all()] == [(("candidate",), ())]


@pytest.mark.item(27)
async def test_delta_a_wildcard_client_is_told_what_differs(plane: Plane) -> None:
    former = await connect(plane, delta=True)
    await former.boot()
    await plane.publish(snapshot({"candidate": 1, "stable": 2, "third": 1}))
    await former.run()
    peer = await connect(plane, delta=True, name="proxy-2")
    held = {**former.versions(CLUSTER), "stable": FOREIGN, "gone": FOREIGN}
    held.pop("third")
    await peer.ask(CLUSTER, holds=held)
    (response,) = await peer.accept_all()
    assert (response.names, response.removed) == (("stable", "third"), ("gone",))


@pytest.mark.item(27)
async def test_delta_a_named_resource_is_sent_though_the_client_holds_it(plane: Plane) -> None:
    former = await connect(plane, delta=True)
    await former.boot()
    peer = await connect(plane, delta=True, name="proxy-2")
    await peer.ask(
        ENDPOINT, "candidate", "gone", "stable", holds={**former.versions(ENDPOINT), "gone": FOREIGN}
    )
    (response,) = await peer.accept_all()
    assert (response.names, response.removed) == (("candidate", "stable"), ("gone",))


@pytest.mark.item(28)
async def test_a_first_wildcard_request_is_answered_even_with_nothing(plane: Plane, delta: bool) -> None:
    await plane.publish(snapshot({}, listeners={}, routes={}))
    peer = await connect(plane, delta=delta)
    await peer.follow(CLUSTER)
    assert [(r.names, r.removed) for r in await peer.accept_all()] == [((), ())]
    await peer.follow(LISTENER)
    assert [(r.names, r.removed) for r in await peer.accept_all()] == [((), ())]


@pytest.mark.item(28)
async def test_delta_a_client_that_holds_everything_is_answered(plane: Plane) -> None:
    former = await connect(plane, delta=True)
    await former.boot()
    peer = await connect(plane, delta=True, name="proxy-2")
    await peer.ask(CLUSTER, holds=former.versions(CLUSTER))
    assert [(r.names, r.removed) for r in await peer.accept_all()] == [((), ())]


@pytest.mark.item(30)
@pytest.mark.parametrize("type_url", [CLUSTER, ENDPOINT])
async def test_no_response_names_a_resource_twice(plane: Plane, delta: bool, type_url: str) -> None:
    peer = await connect(plane, delta=delta)
    everything = ("*",) if type_url == CLUSTER else ("candidate",)
    await peer.ask(type_url, "stable", *everything, "stable", "missing", "missing")
    said = await peer.accept_all()
    await plane.publish(snapshot({"candidate": 2, "stable": 2}, endpoints={"candidate": 2, "stable": 2}))
    said.extend(await peer.accept_all())
    assert len(said) == 2
    for response in said:
        mentioned = (*response.names, *response.removed)
        assert len(set(mentioned)) == len(mentioned)


NAMES = ("a", "b", "c", "d")


def drawn(draw: random.Random, kind: str, least: int = 1) -> Snapshot:
    """Return a world that holds some resources of one type and is empty otherwise."""
    some = {name: draw.randint(least, least + 2) for name in NAMES if draw.random() < 0.6}
    if kind == LISTENER:
        return snapshot({}, listeners=some, routes={})
    return snapshot({}, endpoints=some, listeners={}, routes={})


@pytest.mark.item(14, 15, 16, 17, 19, 20, 21, 22, 24, 25, 26)
@pytest.mark.parametrize("type_url", [LISTENER, ENDPOINT], ids=["LDS", "EDS"])
@pytest.mark.parametrize("seed", range(5))
async def test_a_client_ends_with_what_it_follows(
    plane: Plane, delta: bool, type_url: str, seed: int
) -> None:
    draw = random.Random(seed)
    peer = await connect(plane, delta=delta)
    waiting: Response | None = None
    for _ in range(30):
        action = draw.choice(["publish", "follow", "answer", "answer"])
        if action == "publish":
            await plane.publish(drawn(draw, type_url))
        elif action == "follow" and (waiting is None or delta or type_url == ENDPOINT):
            names = draw.sample(NAMES, draw.randint(0, 3))
            every = ["*"] if type_url == LISTENER and draw.random() < 0.4 else []
            await peer.follow(type_url, *every, *names)
        elif waiting is not None:
            await (peer.refuse(waiting) if draw.random() < 0.3 else peer.accept(waiting))
            waiting = None
        waiting = waiting or await peer.take()
    if waiting is not None:
        await peer.accept(waiting)
    await plane.publish(drawn(draw, type_url))
    await peer.accept_all()
    last = drawn(draw, type_url, 4)
    await plane.publish(last)
    await peer.accept_all()
    there = {name: read(entry.body)[2] for name, entry in last.of(type_url).items()}
    held = peer.content(type_url)
    followed = {name: there[name] for name in there if peer.follows(type_url, name)}
    assert {name: held.get(name) for name in followed} == followed
    if delta or type_url == LISTENER:
        assert held == followed
