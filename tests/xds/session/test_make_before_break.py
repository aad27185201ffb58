"""No route reaches a client before its clusters, and no cluster leaves before the routes that name it."""

from __future__ import annotations

import pytest

from tests.support.client import Client, Response
from tests.support.fake_envoy import Made, snapshot_of
from xds_server.xds.snapshot import CLUSTER, ENDPOINT, LISTENER, ROUTE, VIRTUAL_HOST, Snapshot

both = pytest.mark.parametrize("delta", [False, True], ids=["sotw", "delta"])
NAMES = {"RDS": ("entry-routes",), "CDS": (), "LDS": (), "EDS": ()}


def snapshot(
    *clusters: str,
    routes: tuple[str, ...] | None = (),
    hosts: dict[str, tuple[str, ...]] | None = None,
    at: int = 0,
) -> Snapshot:
    """Return a snapshot of clusters, virtual hosts, and a listener with its route table.

    `routes` are the clusters that the route table refers to; None omits the listener and the table.
    """
    table = [
        Made(LISTENER, "entry", 0, frozenset({(ROUTE, "entry-routes")})),
        Made(ROUTE, "entry-routes", at, frozenset((CLUSTER, name) for name in routes or ())),
    ]
    return snapshot_of(
        [
            *(Made(CLUSTER, name, 0) for name in clusters),
            *([] if routes is None else table),
            *(
                Made(VIRTUAL_HOST, name, at, frozenset((CLUSTER, cluster) for cluster in named))
                for name, named in (hosts or {}).items()
            ),
        ]
    )


def booted(snapshot: Snapshot, *, delta: bool) -> Client:
    """Return a client that accepted clusters, the listener and the route table of a snapshot."""
    client = Client(delta)
    client.offer(snapshot)
    for kind, names in (("CDS", ()), ("LDS", ()), ("RDS", NAMES["RDS"])):
        client.request(kind, *names)
        settle(client)
    assert client.session.synced
    return client


def settle(client: Client) -> list[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    """Accept everything until nothing more is sent, and return it in order."""
    seen = []
    while (got := client.take()) is not None:
        seen.append((got.type, got.names, got.removed))
        client.ack(got, *NAMES.get(got.type, ()))
    return seen


def refuse(client: Client, got: Response) -> None:
    names = () if client.delta else NAMES[got.type]
    client.request(got.type, *names, nonce=got.nonce, error="no")


def kinds(client: Client) -> list[str]:
    """Return the types of everything that may be sent now, without an answer to any of it."""
    return [got.type for got in client.take_all()]


@both
def test_a_route_waits_until_all_its_clusters_are_accepted(delta: bool) -> None:
    client = booted(snapshot("a", routes=("a",)), delta=delta)
    client.offer(snapshot("a", "b", routes=("a", "b"), at=1))
    (got,) = client.take_all()
    assert got.type == "CDS"
    assert not client.session.synced
    client.ack(got)
    assert kinds(client) == ["RDS"]


@both
def test_a_route_does_not_follow_clusters_that_were_refused(delta: bool) -> None:
    client = booted(snapshot("a", routes=("a",)), delta=delta)
    client.offer(snapshot("a", "b", routes=("b",), at=1))
    (got,) = client.take_all()
    refuse(client, got)
    assert kinds(client) == []
    client.offer(snapshot("a", "b", routes=("a",), at=2))
    assert kinds(client) == ["RDS"], "a route to what it holds may go"


@both
def test_a_cluster_leaves_only_after_its_route_was_accepted(delta: bool) -> None:
    client = booted(snapshot("a", "b", routes=("a", "b")), delta=delta)
    client.offer(snapshot("a", routes=("a",), at=1))
    (got,) = client.take_all()
    assert got.type == "RDS", "the cluster stays while the new route is on its way"
    client.ack(got, *NAMES["RDS"])
    removal = ("CDS", (), ("b",)) if delta else ("CDS", ("a",), ())
    assert settle(client) == [removal]
    assert client.session.synced


@both
def test_a_cluster_stays_while_a_refused_route_may_name_it(delta: bool) -> None:
    client = booted(snapshot("a", "b", routes=("a",)), delta=delta)
    client.offer(snapshot("a", "b", routes=("b",), at=1))
    (got,) = client.take_all()
    refuse(client, got)
    client.offer(snapshot("a", routes=("a",), at=0))
    (back,) = client.take_all()
    assert back.type == "RDS", "the client may route to b: it gets the old route first"
    client.ack(back, *NAMES["RDS"])
    assert [kind for kind, _, _ in settle(client)] == ["CDS"]


@both
def test_a_cluster_that_returns_before_it_left_is_not_sent_again(delta: bool) -> None:
    both_clusters = snapshot("a", "b", routes=("a", "b"))
    client = booted(both_clusters, delta=delta)
    client.offer(snapshot("a", routes=("a",), at=1))
    (got,) = client.take_all()
    client.offer(both_clusters)
    client.ack(got, *NAMES["RDS"])
    assert [kind for kind, _, _ in settle(client)] == ["RDS"]
    assert client.session.synced


@both
def test_a_route_does_not_name_a_cluster_that_is_just_leaving(delta: bool) -> None:
    client = booted(snapshot("a", "b", routes=("a",)), delta=delta)
    client.offer(snapshot("a", routes=("a",)))
    (removal,) = client.take_all()
    assert removal.type == "CDS"
    client.offer(snapshot("a", "b", routes=("b",), at=1))
    assert kinds(client) == [], "b is still on its way out"
    client.ack(removal)
    assert [kind for kind, _, _ in settle(client)] == ["CDS", "RDS"]
    assert client.session.synced


@both
def test_endpoints_stay_as_long_as_their_cluster(delta: bool) -> None:
    def with_endpoints(*clusters: str) -> Snapshot:
        found = [Made(CLUSTER, name, 0, frozenset({(ENDPOINT, name)})) for name in clusters]
        return snapshot_of([*found, *(Made(ENDPOINT, name, 0) for name in clusters)])

    client = Client(delta)
    client.offer(with_endpoints("a", "b"))
    client.request("CDS")
    settle(client)
    client.request("EDS", "a", "b")
    for got in client.take_all():
        client.ack(got, "a", "b")
    client.offer(with_endpoints("a"))
    (got,) = client.take_all()
    assert got.type == "CDS", "the endpoints of b stay until it is gone"
    client.ack(got)
    assert [(got.type, got.removed) for got in client.take_all()] == ([("EDS", ("b",))] if delta else [])


# Clients that ask for routes before clusters


def expecting(client: Client, *kinds: str) -> Client:
    client.session.expect_types(kinds)
    return client


def test_a_client_that_will_ask_for_clusters_gets_no_route_before_them() -> None:
    client = expecting(Client(delta=True), LISTENER, ROUTE)
    client.request("RDS", "entry-routes")
    client.offer(snapshot("a", routes=("a",)))
    assert kinds(client) == []
    client.request("CDS")
    (got,) = client.take_all()
    assert got.type == "CDS"
    client.ack(got)
    assert kinds(client) == ["RDS"]


@both
def test_a_client_that_asks_for_clusters_by_name_gets_the_route_first(delta: bool) -> None:
    client = Client(delta)
    client.request("RDS", "entry-routes")
    client.offer(snapshot("a", "b", routes=("a",)))
    (got,) = client.take_all()
    assert got.type == "RDS"
    client.ack(got, "entry-routes")
    client.request("CDS", "a")
    (got,) = client.take_all()
    client.ack(got, "a")
    client.offer(snapshot("a", "b", routes=("b",), at=1))
    assert kinds(client) == ["RDS"], "it will ask for b once it has the route"


def test_a_cluster_stays_while_a_client_still_asks_for_it_by_name() -> None:
    client = Client(delta=False)
    client.request("RDS", "entry-routes")
    client.offer(snapshot("a", routes=("a",)))
    (route,) = client.take_all()
    client.ack(route, "entry-routes")
    client.request("CDS", "a")
    (cluster,) = client.take_all()
    client.ack(cluster, "a")
    client.offer(snapshot("b", routes=("b",), at=1))
    (route,) = client.take_all()
    client.ack(route, "entry-routes")
    assert kinds(client) == [], "its calls on a go on"
    client.request("CDS", "b", nonce=cluster.nonce)
    (got,) = client.take_all()
    assert (got.type, got.names) == ("CDS", ("b",))


@pytest.mark.parametrize("follows", [True, False], ids=["after-clusters", "before-clusters"])
def test_virtual_hosts_wait_for_clusters_and_begin_whole(follows: bool) -> None:
    client = Client(delta=True)
    if follows:
        client.request("CDS")
    client.request(VIRTUAL_HOST)
    client.offer(snapshot("a", "b", routes=None, hosts={"x": ("a",), "y": ("b",)}))
    first = client.take_all()
    assert [got.type for got in first] == (["CDS"] if follows else [])
    if not follows:
        client.request("CDS")
        first = client.take_all()
    client.ack(first[0])
    (hosts,) = client.take_all()
    assert hosts.names == ("x", "y")
    client.ack(hosts)
    client.offer(snapshot("a", "b", "c", routes=None, hosts={"x": ("a",), "y": ("b",), "z": ("c",)}))
    assert kinds(client) == ["CDS"]


# Reconnects


def returned(*, order: tuple[str, ...], holds: dict[str, dict[str, str]], then: Snapshot) -> Client:
    """Return a reconnected client that has asked for `order`, and was offered a snapshot."""
    client = expecting(Client(delta=True), LISTENER, ROUTE)
    for kind in order:
        client.request(kind, *NAMES[kind], versions=holds.get(kind, {}))
    client.offer(then)
    return client


OLD = snapshot("a", "b", routes=("b",))
HELD = {
    "CDS": {name: entry.version for name, entry in OLD.of(CLUSTER).items()},
    "LDS": {"entry": OLD.of(LISTENER)["entry"].version},
    "RDS": {"entry-routes": OLD.of(ROUTE)["entry-routes"].version},
}


def test_a_reconnected_client_keeps_its_clusters_until_it_has_reported_its_routes() -> None:
    new = snapshot("a", routes=("a",), at=1)
    client = returned(order=("CDS",), holds=HELD, then=new)
    assert settle(client) == [("CDS", (), ())], "the answer to its first request; b may be in use"
    client.request("LDS", versions=HELD["LDS"])
    assert [removed for _, _, removed in settle(client)] == [()], "its routes are not known yet"
    client.request("RDS", *NAMES["RDS"], versions=HELD["RDS"])
    assert settle(client) == [("RDS", ("entry-routes",), ()), ("CDS", (), ("b",))]
    assert client.session.synced


def test_a_reconnected_client_without_listeners_lets_its_clusters_go() -> None:
    client = returned(order=("CDS", "LDS"), holds={"CDS": HELD["CDS"]}, then=snapshot("a", routes=None))
    assert ("CDS", (), ("b",)) in settle(client)


def test_a_new_client_reports_nothing_and_loses_nothing() -> None:
    client = returned(order=("CDS",), holds={}, then=snapshot("a", "b", routes=None))
    assert settle(client) == [("CDS", ("a", "b"), ())]
    client.offer(snapshot("a", routes=None))
    assert settle(client) == [("CDS", (), ("b",))], "it held nothing when it came"


def test_a_reconnected_client_is_answered_at_once_for_a_route_it_holds() -> None:
    client = returned(order=("RDS",), holds=HELD, then=OLD)
    assert kinds(client) == ["RDS"]
    newer = returned(order=("RDS",), holds=HELD, then=snapshot("a", "b", routes=("b",), at=1))
    assert kinds(newer) == [], "and for another after its clusters"


def test_a_route_of_an_earlier_stream_keeps_its_clusters_until_it_is_known_what_it_names() -> None:
    new = snapshot("a", "b", routes=("b",), at=0)
    client = returned(order=("CDS", "LDS", "RDS"), holds=HELD, then=new)
    settle(client)
    assert client.session.synced
    client.offer(snapshot("a", routes=("a",), at=1))
    assert settle(client) == [("RDS", ("entry-routes",), ()), ("CDS", (), ("b",))]
