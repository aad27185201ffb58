"""What an ACK, a NACK and a stale nonce change, and what a client holds after a reconnect."""

from __future__ import annotations

import pytest

from tests.support.client import NODE, URLS, Client
from tests.support.fake_envoy import Made, snapshot_of
from xds_server.xds.session import (
    Acked,
    ClientResource,
    Delta,
    Identified,
    Nacked,
    ProtocolError,
    ResourceStatus,
    Resumed,
    Session,
    Sotw,
    Stale,
)
from xds_server.xds.snapshot import CLUSTER, ENDPOINT, LISTENER, ROUTE, RUNTIME, Snapshot
from xds_server.xds.wire import discovery_pb2 as wire

both = pytest.mark.parametrize("delta", [False, True], ids=["sotw", "delta"])


def clusters(**generations: int) -> Snapshot:
    """Return a snapshot of clusters without endpoints, each with its content."""
    return snapshot_of(Made(CLUSTER, name, generation) for name, generation in generations.items())


def following(snapshot: Snapshot, *, delta: bool) -> Client:
    """Return a client that has accepted all clusters of a snapshot."""
    client = Client(delta)
    client.request("CDS")
    client.offer(snapshot)
    (got,) = client.take_all()
    client.ack(got)
    assert client.session.type_synced(CLUSTER)
    return client


def statuses(client: Client) -> dict[str, ResourceStatus]:
    return {item.name: item.status for item in client.session.inventory()}


# ACK


@both
def test_a_response_is_held_when_it_is_accepted_and_not_before(delta: bool) -> None:
    client = Client(delta)
    client.request("CDS")
    assert not client.session.has_work, "there is no snapshot yet"
    client.offer(clusters(a=1, b=1))
    assert client.session.has_work
    assert statuses(client) == {"a": ResourceStatus.NOT_SENT, "b": ResourceStatus.NOT_SENT}
    (got,) = client.take_all()
    assert not client.session.has_work
    assert statuses(client) == {"a": ResourceStatus.SENT, "b": ResourceStatus.SENT}
    assert not client.session.type_synced(CLUSTER)
    assert client.request("CDS", nonce=got.nonce) == (Acked(type_url=CLUSTER),)
    assert statuses(client) == {"a": ResourceStatus.SYNCED, "b": ResourceStatus.SYNCED}
    assert client.session.type_synced(CLUSTER)


@both
def test_an_older_version_of_a_resource_is_not_held(delta: bool) -> None:
    client = following(clusters(a=1, b=1), delta=delta)
    client.offer(clusters(a=1, b=2))
    assert not client.session.type_synced(CLUSTER)
    assert statuses(client) == {"a": ResourceStatus.SYNCED, "b": ResourceStatus.SENT}
    (got,) = client.take_all()
    assert got.names == (("b",) if delta else ("a", "b"))
    client.ack(got)
    assert client.session.type_synced(CLUSTER)


@both
def test_a_newer_snapshot_while_a_response_is_open_is_sent_after_its_answer(delta: bool) -> None:
    client = following(clusters(a=1), delta=delta)
    client.offer(clusters(a=2))
    (got,) = client.take_all()
    client.offer(clusters(a=3))
    assert not client.session.has_work
    assert client.take() is None
    client.ack(got)
    assert client.session.has_work
    assert not client.session.type_synced(CLUSTER)
    (last,) = client.take_all()
    client.ack(last)
    assert client.session.type_synced(CLUSTER)


@both
def test_a_snapshot_without_a_cluster_is_held_when_the_client_let_it_go(delta: bool) -> None:
    client = following(clusters(a=1, b=1), delta=delta)
    client.offer(clusters(a=1))
    assert not client.session.type_synced(CLUSTER)
    (got,) = client.take_all()
    assert (got.names, got.removed) == (((), ("b",)) if delta else (("a",), ()))
    client.ack(got)
    assert client.session.type_synced(CLUSTER)
    assert statuses(client) == {"a": ResourceStatus.SYNCED}
    client.offer(clusters(a=1, b=1))
    (back,) = client.take_all()
    assert "b" in back.names


def test_a_client_subscribed_to_some_clusters_is_not_synced() -> None:
    client = Client(delta=True)
    client.request("CDS", "a")
    client.offer(clusters(a=1, b=1))
    (got,) = client.take_all()
    client.ack(got)
    assert not client.session.type_synced(CLUSTER)
    assert not client.session.has_work


@both
def test_a_client_without_all_endpoints_is_not_synced(delta: bool) -> None:
    client = Client(delta)
    client.request("EDS", "a")
    client.offer(snapshot_of((Made(ENDPOINT, "a", 1), Made(ENDPOINT, "b", 1))))
    (got,) = client.take_all()
    client.ack(got, "a")
    assert not client.session.type_synced(ENDPOINT)
    client.request("EDS", *(("b",) if delta else ("a", "b")))
    (got,) = client.take_all()
    client.ack(got, "a", "b")
    assert client.session.type_synced(ENDPOINT)


@both
def test_what_the_client_does_not_follow_is_held_where_it_is_optional(delta: bool) -> None:
    client = Client(delta)
    client.request("CDS")
    client.offer(snapshot_of((Made(CLUSTER, "a", 1), Made(RUNTIME, "layer", 1), Made(LISTENER, "entry", 1))))
    assert client.session.type_synced(RUNTIME)
    assert client.session.type_synced(ROUTE), "there is none"
    assert not client.session.type_synced(LISTENER)


@both
def test_nothing_is_held_or_sent_while_it_is_withheld(delta: bool) -> None:
    client = following(clusters(a=1), delta=delta)
    client.session.clear_snapshot()
    assert not client.session.type_synced(CLUSTER)
    assert not client.session.synced
    assert not client.session.has_work
    assert client.take() is None


@both
def test_a_client_that_follows_everything_is_answered_even_if_there_is_nothing(delta: bool) -> None:
    client = Client(delta)
    client.request("CDS")
    client.offer(snapshot_of([]))
    assert client.session.has_work
    (got,) = client.take_all()
    assert (got.type, got.names, got.removed) == ("CDS", (), ())
    client.ack(got)
    assert not client.session.has_work


# NACK


@both
def test_a_nack_is_kept_until_the_client_accepts_a_successor(delta: bool) -> None:
    client = following(clusters(a=1), delta=delta)
    client.offer(clusters(a=2))
    (got,) = client.take_all()
    refused = Nacked(type_url=CLUSTER, names=("a",), message="no")
    assert client.request("CDS", nonce=got.nonce, error="no") == (refused,)
    assert client.session.nacks == (refused,)
    assert statuses(client) == {"a": ResourceStatus.NACKED}
    assert [item.error for item in client.session.inventory()] == ["no"]
    assert client.take() is None, "the same is not sent again"
    client.offer(clusters(a=3))
    assert client.session.nacks == (refused,)
    (next_,) = client.take_all()
    client.ack(next_)
    assert not client.session.nacks
    assert client.session.type_synced(CLUSTER)


@both
def test_a_client_that_goes_back_after_a_nack_is_sent_what_it_had(delta: bool) -> None:
    before = clusters(a=1, b=1)
    client = following(before, delta=delta)
    client.offer(clusters(a=2, b=2))
    (got,) = client.take_all()
    client.request("CDS", nonce=got.nonce, error="no")
    assert not client.session.type_synced(CLUSTER)
    client.offer(before)
    assert not client.session.type_synced(CLUSTER), "it may have applied a part of what it refused"
    (back,) = client.take_all()
    assert back.names == ("a", "b")
    client.ack(back)
    assert client.session.type_synced(CLUSTER)
    assert client.take() is None


def test_all_of_a_refused_response_is_sent_anew_with_the_next_change() -> None:
    client = following(clusters(a=1, b=1, c=1), delta=True)
    client.offer(clusters(a=2, b=2, c=1))
    (got,) = client.take_all()
    client.request("CDS", nonce=got.nonce, error="no")
    client.offer(clusters(a=2, b=3, c=1))
    (next_,) = client.take_all()
    assert next_.names == ("a", "b")
    client.ack(next_)
    assert client.take() is None, "and once it is accepted, nothing is repeated"


def test_a_refused_removal_is_sent_anew() -> None:
    client = following(clusters(a=1, b=1), delta=True)
    client.offer(clusters(a=2))
    (got,) = client.take_all()
    assert (got.names, got.removed) == (("a",), ("b",))
    (event,) = client.request("CDS", nonce=got.nonce, error="no")
    assert event == Nacked(type_url=CLUSTER, names=("a", "b"), message="no")
    assert client.take() is None
    client.offer(clusters(a=3))
    (next_,) = client.take_all()
    assert (next_.names, next_.removed) == (("a",), ("b",))


@both
def test_a_refused_resource_is_sent_again_to_a_client_that_asks_for_it(delta: bool) -> None:
    client = Client(delta)
    client.request("EDS", "a")
    client.offer(snapshot_of((Made(ENDPOINT, "a", 1), Made(ENDPOINT, "b", 1))))
    (got,) = client.take_all()
    client.request("EDS", *(() if delta else ("a",)), nonce=got.nonce, error="no")
    assert client.take() is None
    client.request("EDS", *(("a",) if delta else ("a", "b")))
    (again,) = client.take_all()
    assert again.names == (("a",) if delta else ("a", "b"))


@both
def test_a_nack_of_one_type_stops_no_other(delta: bool) -> None:
    client = Client(delta)
    client.request("CDS")
    client.request("LDS")
    client.offer(snapshot_of((Made(CLUSTER, "a", 1), Made(LISTENER, "entry", 1))))
    first, second = client.take_all()
    client.request("CDS", nonce=first.nonce, error="no")
    client.request("LDS", nonce=second.nonce)
    assert client.session.type_synced(LISTENER)
    assert [rejection.type_url for rejection in client.session.nacks] == [CLUSTER]


# Nonces


@both
def test_only_the_nonce_of_the_open_response_is_an_answer(delta: bool) -> None:
    client = following(clusters(a=1), delta=delta)
    client.offer(clusters(a=2))
    (got,) = client.take_all()
    assert client.request("CDS", nonce="other") == (Stale(type_url=CLUSTER),)
    assert client.request("CDS", nonce="other", error="no") == (Stale(type_url=CLUSTER),)
    assert client.session.nacks == ()
    assert client.take() is None, "the open response waits for its own answer"
    assert client.request("CDS", nonce=got.nonce) == (Acked(type_url=CLUSTER),)
    assert client.request("CDS", nonce=got.nonce) == (), "names alone changed"
    assert client.request("CDS", nonce=got.nonce, error="late") == ()
    assert client.session.type_synced(CLUSTER)
    assert client.request("CDS", nonce="other") == (Stale(type_url=CLUSTER),)


@both
def test_a_nonce_of_an_earlier_stream_is_no_answer(delta: bool) -> None:
    client = Client(delta)
    (node,) = client.request("CDS", nonce="of-an-earlier-stream")
    assert isinstance(node, Identified)
    client.offer(clusters(a=1))
    (got,) = client.take_all()
    assert got.names == ("a",)


# Limits, and streams of one type


@both
def test_a_stream_may_follow_sixty_four_types(delta: bool) -> None:
    client = Client(delta)
    for number in range(64):
        client.request(f"type.googleapis.com/some.Thing{number}", "x")
    client.request("type.googleapis.com/some.Thing63", "y")
    with pytest.raises(ProtocolError, match="at most 64 resource types"):
        client.request("type.googleapis.com/some.Thing64", "x")


@pytest.mark.parametrize("named", ["", CLUSTER])
def test_a_stream_of_one_type_may_leave_its_name_out(named: str) -> None:
    session = Session(Sotw(), identifier="test", nonce_prefix="n", single_type=CLUSTER)
    session.receive(wire.DiscoveryRequest(node=NODE, type_url=named).SerializeToString())
    session.offer(snapshot_of((Made(CLUSTER, "a", 1), Made(LISTENER, "entry", 1))))
    raw = session.next_response()
    assert raw is not None
    got = wire.DiscoveryResponse.FromString(raw)
    assert got.type_url == CLUSTER
    session.receive(wire.DiscoveryRequest(type_url=named, response_nonce=got.nonce).SerializeToString())
    assert session.synced, "all of its type"


def test_a_stream_of_one_type_refuses_another() -> None:
    session = Session(Delta(), identifier="test", nonce_prefix="n", single_type=CLUSTER)
    request = wire.DeltaDiscoveryRequest(node=NODE, type_url=LISTENER)
    with pytest.raises(ProtocolError, match=f"serves {CLUSTER}, not {LISTENER}"):
        session.receive(request.SerializeToString())


def test_of_a_type_that_is_not_served_each_response_is_answered_before_the_next() -> None:
    client = Client(delta=True)
    kind = "type.googleapis.com/some.Thing"
    client.request(kind, "x")
    client.offer(clusters(a=1))
    (got,) = client.take_all()
    assert (got.type, got.removed) == (kind, ("x",))
    client.request(kind, "y")
    assert client.take() is None
    client.request(kind, nonce=got.nonce)
    (got,) = client.take_all()
    assert got.removed == ("y",)


# Names that are not there


def test_a_name_that_is_gone_is_reported_once() -> None:
    client = Client(delta=True)
    client.request("EDS", "a", "b")
    client.offer(snapshot_of((Made(ENDPOINT, "a", 1), Made(ENDPOINT, "b", 1))))
    (got,) = client.take_all()
    client.ack(got)
    client.offer(snapshot_of((Made(ENDPOINT, "b", 1),)))
    (got,) = client.take_all()
    assert got.removed == ("a",)
    client.ack(got)
    client.offer(snapshot_of((Made(ENDPOINT, "b", 2),)))
    (got,) = client.take_all()
    assert (got.names, got.removed) == (("b",), ())
    client.ack(got)
    client.request("EDS", "a")
    (got,) = client.take_all()
    assert got.removed == ("a",), "a client that asks again is answered again"


def test_a_name_that_comes_back_unchanged_is_sent() -> None:
    before = snapshot_of((Made(ENDPOINT, "a", 1), Made(ENDPOINT, "b", 1)))
    client = Client(delta=True)
    client.request("EDS", "a", "b")
    names = []
    for snapshot in (before, snapshot_of((Made(ENDPOINT, "b", 1),)), before):
        client.offer(snapshot)
        (got,) = client.take_all()
        client.ack(got)
        names.append(got.names)
    assert names == [("a", "b"), (), ("a",)]
    assert client.session.type_synced(ENDPOINT)


def test_a_cluster_that_is_followed_by_name_is_removed_when_it_is_gone() -> None:
    client = Client(delta=True)
    client.request("CDS", "a", "b")
    client.request("RDS", "table")
    client.offer(clusters(a=1, b=1))
    for got in client.take_all():
        client.ack(got)
    client.offer(clusters(a=1))
    (got,) = client.take_all()
    assert got.removed == ("b",)


def test_a_client_of_clusters_alone_loses_one_that_is_gone() -> None:
    client = Client(delta=False)
    client.request("CDS", "a", "b")
    client.offer(clusters(a=1, b=1))
    (got,) = client.take_all()
    client.ack(got, "a", "b")
    client.offer(clusters(a=1))
    (got,) = client.take_all()
    assert got.names == ("a",)


def test_a_client_that_leaves_a_wildcard_gets_all_of_it_again_when_it_returns() -> None:
    client = Client(delta=True)
    client.request("CDS", "*", "a")
    client.offer(clusters(a=1, b=1))
    (got,) = client.take_all()
    client.ack(got)
    client.request("CDS", without=("*",))
    assert statuses(client) == {"a": ResourceStatus.SYNCED}
    client.offer(clusters(a=1, b=2))
    assert client.take() is None
    client.request("CDS", "*")
    (got,) = client.take_all()
    assert got.names == ("b",)


def test_a_name_left_beside_a_wildcard_is_repeated() -> None:
    client = Client(delta=True)
    client.request("CDS", "*", "a")
    client.offer(clusters(a=1, b=1))
    (got,) = client.take_all()
    client.ack(got)
    client.request("CDS", without=("a",))
    (got,) = client.take_all()
    assert got.names == ("a",)
    client.ack(got)
    assert client.take() is None


def test_a_name_that_is_unsubscribed_is_held_no_more() -> None:
    client = Client(delta=True)
    client.request("EDS", "a", "b")
    client.offer(snapshot_of((Made(ENDPOINT, "a", 1), Made(ENDPOINT, "b", 1))))
    (got,) = client.take_all()
    client.request("EDS", without=("a",))
    client.ack(got)
    assert [item.name for item in client.session.inventory() if item.type_url == ENDPOINT] == ["b"]
    client.offer(snapshot_of((Made(ENDPOINT, "a", 2), Made(ENDPOINT, "b", 1))))
    assert client.take() is None


# Reconnects


def test_what_a_client_brings_along_is_reported_with_its_first_request_of_a_type() -> None:
    client = Client(delta=True)
    events = client.request("CDS", versions={"a": "1"})
    assert events[1:] == (Resumed(type_url=CLUSTER, versions={"a": "1"}),)
    assert client.request("CDS", versions={"b": "1"}) == (), "only the first request counts"
    assert client.request("LDS") == (), "nothing was brought along"
    assert [(item.name, item.version) for item in client.session.inventory()] == [("a", "1")]


def test_a_reconnected_client_is_sent_what_differs() -> None:
    current = clusters(a=1, b=2, c=1)
    held = {"a": current.of(CLUSTER)["a"].version, "b": clusters(b=1).of(CLUSTER)["b"].version, "gone": "1"}
    client = Client(delta=True)
    client.request("CDS", versions=held)
    client.offer(current)
    (got,) = client.take_all()
    assert (got.names, got.removed) == (("b", "c"), ("gone",))
    client.ack(got)
    assert client.session.type_synced(CLUSTER)
    assert {item.body for item in client.session.inventory()} == {
        e.body for e in current.of(CLUSTER).values()
    }


def test_the_inventory_lists_what_is_followed_and_held() -> None:
    client = Client(delta=True)
    client.request("EDS", "a")
    client.offer(snapshot_of((Made(ENDPOINT, "a", 1), Made(ENDPOINT, "b", 1))))
    (got,) = client.take_all()
    client.ack(got)
    entry = client.session.snapshot.of(URLS["EDS"])["a"]  # type: ignore[union-attr]
    assert list(client.session.inventory()) == [
        ClientResource(
            type_url=ENDPOINT, name="a", version=entry.version, body=entry.body, status=ResourceStatus.SYNCED
        )
    ]
