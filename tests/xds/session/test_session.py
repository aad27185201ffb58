"""The session, with a client in both variants."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import configs
from tests.support.client import NODE, URLS, Client, Response
from xds_server.xds.session import Acked, Identified, Nacked, ProtocolError, Stale
from xds_server.xds.snapshot import CLUSTER, ROUTE
from xds_server.xds.wire import discovery_pb2 as wire

BASE = configs.snapshot(configs.group(500))
HEAVIER = configs.snapshot(configs.group(2_500))
SHADOWED = configs.snapshot(configs.group(500, shadow=True))
ALONE = configs.snapshot(configs.without_candidate(configs.group(500)))

both = pytest.mark.parametrize("delta", [False, True], ids=["sotw", "delta"])


def booted(*, delta: bool) -> Client:
    client = Client(delta)
    client.boot(BASE)
    return client


@both
def test_the_first_request_must_name_its_node(delta: bool) -> None:
    client = Client(delta)
    client.opened = True
    with pytest.raises(ProtocolError, match=r"node\.id"):
        client.request("CDS")


@both
def test_a_request_must_name_its_type(delta: bool) -> None:
    with pytest.raises(ProtocolError, match="type_url"):
        Client(delta).request("")


@both
def test_invalid_bytes_are_a_protocol_error(delta: bool) -> None:
    with pytest.raises(ProtocolError):
        Client(delta).session.receive(b"\xff\xff\xff\xff")


def test_only_the_used_fields_of_the_node_are_stored() -> None:
    node = wire.Node(id="n", cluster="g", user_agent_name="envoy")
    node.metadata.update({"shiftplane": {"mode": "sidecar", "entry": "127.0.0.1:1"}, "other": "x"})
    node.user_agent_build_version.version.major_number = 1
    node.user_agent_build_version.version.minor_number = 40
    session = Client(delta=True).session
    request = wire.DeltaDiscoveryRequest(node=node, type_url=CLUSTER)
    (event,) = session.receive(request.SerializeToString())
    assert isinstance(event, Identified)
    assert (event.node.id, event.node.group, event.node.version) == ("n", "g", "1.40.0")
    assert dict(event.node.metadata) == {"mode": "sidecar", "entry": "127.0.0.1:1"}


@both
def test_no_response_is_sent_before_a_snapshot_is_offered(delta: bool) -> None:
    client = Client(delta)
    client.request("CDS")
    assert client.take() is None


@both
def test_after_the_start_the_client_is_synced(delta: bool) -> None:
    client = booted(delta=delta)
    assert client.take() is None
    client.offer(configs.snapshot(configs.group(500)))
    assert client.take() is None


@both
def test_a_weight_step_is_one_message(delta: bool) -> None:
    client = booted(delta=delta)
    client.offer(HEAVIER)
    (got,) = client.take_all()
    assert (got.type, got.names) == ("RDS", ("entry",))
    assert not client.session.synced
    client.ack(got, "entry", "hop")
    assert client.session.synced


@both
def test_nonces_are_unique_and_never_empty(delta: bool) -> None:
    client = Client(delta)
    client.request("CDS")
    client.request("LDS")
    client.request("EDS", "chat/v1")
    client.offer(BASE)
    nonces = [got.nonce for got in client.take_all()]
    assert all(nonces)
    assert len(set(nonces)) == len(nonces) == 3


@both
def test_added_resources_are_sent_before_their_referrers(delta: bool) -> None:
    client = booted(delta=delta)
    client.offer(SHADOWED)
    first = client.take_all()
    assert [got.type for got in first] == ["CDS"], "routes wait until their clusters are ACKed"
    client.ack(first[0])
    client.request("EDS", *(() if delta else ("chat/v1", "chat/v2")), "chat/v2/shadow")
    rest = client.take_all()
    assert [got.type for got in rest] == ["EDS", "RDS"]


@both
def test_routes_to_a_nacked_cluster_are_not_sent(delta: bool) -> None:
    client = booted(delta=delta)
    client.offer(SHADOWED)
    (got,) = client.take_all()
    client.request("CDS", nonce=got.nonce, error="no such extension")
    assert client.take_all() == []
    assert not client.session.synced


@both
def test_removals_wait_for_routes_that_no_longer_name_the_cluster(delta: bool) -> None:
    client = booted(delta=delta)
    client.offer(ALONE)
    (routes,) = client.take_all()
    assert routes.type == "RDS"
    client.ack(routes, "entry", "hop")
    (clusters,) = client.take_all()
    assert clusters.type == "CDS"
    assert clusters.removed == (("chat/v2",) if delta else ())
    assert delta or clusters.names == ("chat/v1",)
    client.ack(clusters)
    assert client.session.synced


@both
def test_the_clusters_of_a_nacked_route_are_kept(delta: bool) -> None:
    client = booted(delta=delta)
    client.offer(ALONE)
    (routes,) = client.take_all()
    client.request("RDS", *(() if delta else ("entry", "hop")), nonce=routes.nonce, error="bad route")
    assert client.take_all() == [], "the proxy still routes to the old candidate"


@both
def test_a_nacked_version_is_recorded_and_not_sent_again(delta: bool) -> None:
    client = booted(delta=delta)
    client.offer(HEAVIER)
    (got,) = client.take_all()
    names = () if delta else ("entry", "hop")
    (event,) = client.request("RDS", *names, nonce=got.nonce, error="x" * 10_000)
    assert isinstance(event, Nacked)
    assert event.names == ("entry",)
    assert len(event.message) == 2_000
    assert client.take() is None
    client.offer(HEAVIER)
    assert client.take() is None, "the same version is not sent again"
    client.offer(BASE)
    (back,) = client.take_all()
    client.ack(back, *names)
    assert client.session.synced
    assert client.session.nacks == ()


@both
def test_a_nack_of_the_first_response_is_reported(delta: bool) -> None:
    client = Client(delta)
    client.request("CDS")
    client.offer(BASE)
    (got,) = client.take_all()
    (event,) = client.request("CDS", nonce=got.nonce, error="no")
    assert isinstance(event, Nacked)


@both
def test_types_are_independent(delta: bool) -> None:
    client = Client(delta)
    client.request("CDS")
    client.request("LDS")
    client.offer(BASE)
    clusters, listeners = client.take_all()
    client.request("CDS", nonce=clusters.nonce, error="no")
    (event,) = client.request("LDS", nonce=listeners.nonce)
    assert isinstance(event, Acked)


@both
def test_a_stale_nonce_is_no_ack_but_its_names_are_applied(delta: bool) -> None:
    client = Client(delta)
    client.request("EDS", "chat/v1")
    client.offer(BASE)
    (first,) = client.take_all()
    client.ack(first, "chat/v1")
    moved = configs.group(500)
    moved = type(moved)(
        node_class=moved.node_class,
        listener=moved.listener,
        virtual_hosts=moved.virtual_hosts,
        mirror_routes=moved.mirror_routes,
        clusters=(configs.cluster("chat/v1", 9_101), configs.cluster("chat/v2", 9_102)),
    )
    client.offer(configs.snapshot(moved))
    (second,) = client.take_all()
    (event,) = client.request("EDS", *(() if delta else ("chat/v1",)), "chat/v2", nonce=first.nonce)
    assert isinstance(event, Stale)
    client.ack(second, "chat/v1", "chat/v2")
    (third,) = client.take_all()
    assert third.names == ("chat/v2",)


@both
def test_one_response_per_type_is_in_flight_and_the_newest_is_sent_next(delta: bool) -> None:
    client = booted(delta=delta)
    client.offer(HEAVIER)
    (got,) = client.take_all()
    for weight in (3_000, 4_000, 5_000):
        client.offer(configs.snapshot(configs.group(weight)))
        assert client.take() is None
    client.ack(got, "entry", "hop")
    (last,) = client.take_all()
    client.ack(last, "entry", "hop")
    assert client.session.synced
    assert last.version == configs.snapshot(configs.group(5_000)).version


@both
def test_endpoints_are_sent_again_after_a_cluster_changed(delta: bool) -> None:
    client = booted(delta=delta)
    changed = configs.group(500)
    slower = tuple(
        type(c)(name=c.name, kind=c.kind, addresses=c.addresses, connect_timeout=9.0)
        for c in changed.clusters
    )
    client.offer(
        configs.snapshot(
            type(changed)(
                node_class=changed.node_class,
                listener=changed.listener,
                virtual_hosts=changed.virtual_hosts,
                mirror_routes=(),
                clusters=slower,
            )
        )
    )
    kinds = [(got.type, got.names) for got in client.take_all()]
    assert kinds == [("CDS", ("chat/v1", "chat/v2")), ("EDS", ("chat/v1", "chat/v2"))]


@both
def test_an_unknown_type_is_no_error(delta: bool) -> None:
    client = booted(delta=delta)
    client.request("type.googleapis.com/some.Thing", "x")
    got = client.take_all()
    assert [g.removed for g in got] == ([("x",)] if delta else [])


@both
def test_an_empty_list_subscribes_to_nothing_for_routes(delta: bool) -> None:
    client = Client(delta)
    client.request("RDS")
    client.offer(BASE)
    assert client.take() is None


def test_delta_missing_names_are_removed_once_and_sent_when_they_exist() -> None:
    client = Client(delta=True)
    client.request("EDS", "chat/v1", "chat/v2/shadow")
    client.offer(BASE)
    (got,) = client.take_all()
    assert (got.names, got.removed) == (("chat/v1",), ("chat/v2/shadow",))
    client.ack(got)
    assert client.take() is None
    client.offer(SHADOWED)
    (came,) = client.take_all()
    assert came.names == ("chat/v2/shadow",)


def test_delta_subscribing_again_sends_again() -> None:
    client = booted(delta=True)
    client.request("EDS", "chat/v1")
    (got,) = client.take_all()
    assert got.names == ("chat/v1",)


def test_delta_a_reconnected_wildcard_client_receives_what_differs() -> None:
    held = {name: entry.version for name, entry in BASE.of(CLUSTER).items()}
    client = Client(delta=True)
    client.request("CDS", versions={**held, "gone": "1"})
    client.offer(BASE)
    (got,) = client.take_all()
    assert (got.names, got.removed) == ((), ("gone",))


def test_delta_a_reconnected_wildcard_client_with_all_resources_gets_a_response() -> None:
    held = {name: entry.version for name, entry in BASE.of(CLUSTER).items()}
    client = Client(delta=True)
    client.request("CDS", versions=held)
    client.offer(BASE)
    (got,) = client.take_all()
    assert (got.names, got.removed) == ((), ())


def test_delta_a_reconnected_client_receives_every_named_resource() -> None:
    held = {"chat/v1": next(iter(BASE.of(URLS["EDS"]).values())).version}
    client = Client(delta=True)
    client.request("EDS", "chat/v1", "chat/v2", versions=held)
    client.offer(BASE)
    (got,) = client.take_all()
    assert got.names == ("chat/v1", "chat/v2")


def test_delta_clusters_that_an_unknown_route_may_use_are_kept() -> None:
    client = Client(delta=True)
    client.request("RDS", "entry", versions={"entry": "older"})
    held = {name: entry.version for name, entry in BASE.of(CLUSTER).items()}
    client.request("CDS", versions={**held, "chat/old": "1"})
    client.offer(BASE)
    first = {got.type: got for got in client.take_all()}
    assert first["CDS"].removed == ()
    client.ack(first["CDS"])
    (routes,) = [first["RDS"]] if "RDS" in first else client.take_all()
    client.ack(routes)
    (later,) = client.take_all()
    assert later.removed == ("chat/old",)


def test_delta_an_explicit_wildcard_can_end() -> None:
    client = Client(delta=True)
    client.request("CDS", "*", "chat/v1")
    client.offer(BASE)
    (got,) = client.take_all()
    client.ack(got)
    client.request("CDS", without=("*",))
    client.offer(configs.snapshot(configs.group(500, shadow=True)))
    assert client.take() is None


def test_sotw_an_empty_list_after_names_subscribes_to_nothing() -> None:
    client = Client(delta=False)
    client.request("CDS", "chat/v1")
    client.offer(BASE)
    (got,) = client.take_all()
    assert got.names == ("chat/v1",)
    client.request("CDS", nonce=got.nonce)
    client.offer(SHADOWED)
    assert [g.names for g in client.take_all()] in ([], [()])


def test_sotw_a_name_subscribed_to_again_is_sent_again() -> None:
    client = Client(delta=False)
    client.request("EDS", "chat/v1")
    client.offer(BASE)
    (got,) = client.take_all()
    client.ack(got)
    assert client.take() is None
    client.request("EDS", "chat/v1", nonce=got.nonce)
    (again,) = client.take_all()
    assert again.names == ("chat/v1",)


STEP = st.sampled_from(["base", "heavier", "shadowed", "alone", "take", "ack", "nack"])


@both
@settings(max_examples=150, deadline=None)
@given(steps=st.lists(STEP, max_size=40))
def test_every_sequence_ends_synced_and_without_dangling_references(delta: bool, steps: list[str]) -> None:
    client = booted(delta=delta)
    snapshots = {"base": BASE, "heavier": HEAVIER, "shadowed": SHADOWED, "alone": ALONE}
    open_: dict[str, Response] = {}
    follow = {"CDS": (), "LDS": (), "EDS": ("chat/v1", "chat/v2", "chat/v2/shadow"), "RDS": ("entry", "hop")}

    def check() -> None:
        held = client.session._state.types
        routes = [*held[ROUTE].acked.values()]
        present = held[CLUSTER].acked
        assert all(name in present for entry in routes for name in entry.clusters or ())

    for step in [*steps, "base"]:
        if step in snapshots:
            client.offer(snapshots[step])
        elif step == "take" and (got := client.take()) is not None:
            open_[got.type] = got
        elif step in {"ack", "nack"} and open_:
            kind, waiting = open_.popitem()
            names = () if delta else follow[kind]
            client.request(kind, *names, nonce=waiting.nonce, error="no" if step == "nack" else None)
        check()
    final = configs.snapshot(configs.group(777))
    client.offer(final)
    for _ in range(20):
        for kind, waiting in list(open_.items()):
            client.request(kind, *(() if delta else follow[kind]), nonce=waiting.nonce)
        open_.clear()
        if (got := client.take()) is None:
            break
        open_[got.type] = got
        check()
    nacked = {r.type_url for r in client.session.nacks}
    assert client.session.synced or nacked


def test_later_requests_may_lack_the_node() -> None:
    client = Client(delta=True)
    client.request("CDS")
    assert client.session.node is not None
    assert client.session.node.id == NODE.id
    client.request("LDS")
