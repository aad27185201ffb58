"""All interleavings of snapshots, answers and reconnects, between a session and a fake Envoy."""

from __future__ import annotations

from collections import deque
from types import MappingProxyType
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.support.client import Client
from tests.support.fake_envoy import FULL, FakeEnvoy, Made, Response, read, snapshot_of
from xds_server.xds.session import Delta, Identified, Session, Sotw
from xds_server.xds.snapshot import CLUSTER, ENDPOINT, LISTENER, ROUTE, VIRTUAL_HOST

if TYPE_CHECKING:
    from collections.abc import Mapping

KINDS = (CLUSTER, ENDPOINT, LISTENER, ROUTE, VIRTUAL_HOST)
CLUSTERS = ("c1", "c2", "c3")
STATIC = "c3"  # has no endpoints
MISSING = "missing"  # is in no snapshot
ROUTES = {"entry": "entry-routes", "hop": "hop-routes"}
HOSTS = ("entry-routes/a", "entry-routes/b")
ROUNDS = 60
KEYS = [
    *((kind, name) for kind in (CLUSTER, ENDPOINT) for name in CLUSTERS),
    *((LISTENER, name) for name in ROUTES),
    *((ROUTE, name) for name in ROUTES.values()),
    *((VIRTUAL_HOST, name) for name in HOSTS),
]

some_clusters = st.frozensets(st.sampled_from(CLUSTERS), max_size=2)
some_routes = st.dictionaries(st.sampled_from(list(ROUTES)), some_clusters)
some_hosts = st.dictionaries(st.sampled_from(HOSTS), some_clusters)
some_keys = st.frozensets(st.sampled_from(KEYS), max_size=4)
orders = st.permutations(KINDS)


class Machine(RuleBasedStateMachine):
    """One proxy, its streams one after the other, and the snapshots that it is offered."""

    delta = True

    def __init__(self) -> None:
        super().__init__()
        self.generations = dict.fromkeys(KEYS, 0)
        self.history: list[dict[tuple[str, str], Made]] = []
        self.floor: dict[tuple[str, str], int] = {}
        self.streams = 0
        self.unknown = False
        self.nacked = False
        self.nonces = ["never-sent"]
        self.up: deque[bytes] = deque()
        self.down: deque[Response] = deque()

    @initialize(order=orders, explicit=st.booleans(), routes=some_routes, extra=some_clusters)
    def begin(
        self, order: list[str], explicit: bool, routes: dict[str, frozenset[str]], extra: frozenset[str]
    ) -> None:
        self.envoy = FakeEnvoy(self.delta, explicit, self.up.append)
        self.session = self.new_session()
        self.publish(routes, extra, frozenset())
        self.envoy.open(self.supported(order))

    # Snapshots

    @rule(routes=some_routes, extra=some_clusters, bump=some_keys, hosts=some_hosts)
    def publish(
        self,
        routes: dict[str, frozenset[str]],
        extra: frozenset[str],
        bump: frozenset[tuple[str, str]],
        hosts: Mapping[str, frozenset[str]] = MappingProxyType({}),
    ) -> None:
        for key in bump:
            self.generations[key] += 1
        if not self.delta:
            hosts = {}  # SotW has no discovery of virtual hosts.
        resources = [
            *(
                Made(VIRTUAL_HOST, name, self.at(VIRTUAL_HOST, name), refs(CLUSTER, *clusters))
                for name, clusters in hosts.items()
            ),
            *(Made(LISTENER, name, self.at(LISTENER, name), refs(ROUTE, ROUTES[name])) for name in routes),
            *(
                Made(ROUTE, ROUTES[name], self.at(ROUTE, ROUTES[name]), refs(CLUSTER, *clusters))
                for name, clusters in routes.items()
            ),
        ]
        for name in extra.union(*routes.values(), *hosts.values()):
            resources.append(
                Made(
                    CLUSTER, name, self.at(CLUSTER, name), refs(ENDPOINT, *([name] if name != STATIC else []))
                )
            )
            if name != STATIC:
                resources.append(Made(ENDPOINT, name, self.at(ENDPOINT, name)))
        self.offer({(resource.type_url, resource.name): resource for resource in resources})

    @rule(bump=some_keys)
    def change_contents(self, bump: frozenset[tuple[str, str]]) -> None:
        for key in bump:
            self.generations[key] += 1
        self.offer(
            {
                key: Made(*key, self.generations[key], resource.refers_to)
                for key, resource in self.history[-1].items()
            }
        )

    @rule(back=st.integers(1, 3))
    def go_back(self, back: int) -> None:
        self.offer(self.history[max(0, len(self.history) - 1 - back)])

    # The link

    @rule()
    def server_reads(self) -> None:
        if self.up:
            events = self.session.receive(self.up.popleft())
            if any(isinstance(event, Identified) for event in events):
                self.session.offer(self.snapshot)
            _ = self.session.synced  # The server evaluates it after every request.

    @rule()
    def server_writes(self) -> None:
        raw = self.session.next_response()
        if raw is not None:
            self.down.append(read(raw, delta=self.delta))

    @rule()
    def client_acks(self) -> None:
        if self.down:
            response = self.down.popleft()
            self.check_not_older(response)
            self.check_first_hosts_are_complete(response)
            self.envoy.take(response)

    @precondition(lambda self: self.down)
    @rule(share=st.sampled_from([0, 1, 2]))
    def client_nacks(self, share: int) -> None:
        response = self.down.popleft()
        names = [*response.resources, *response.removed]
        self.nacked = True
        self.envoy.take(response, nack=True, apply=names[: len(names) * share // 2])

    @rule()
    def all_messages_travel(self) -> None:
        self.deliver_all()

    @precondition(lambda self: self.streams < 4)
    @rule(order=orders)
    def reconnect(self, order: list[str]) -> None:
        self.nonces = [nonce for _, nonce in self.envoy.seen[-2:]] or self.nonces
        self.up.clear()
        self.down.clear()
        self.session = self.new_session()
        # SotW requests have no versions, so the server cannot find out what a reconnected proxy refers to.
        self.unknown |= not self.delta
        self.envoy.open(self.supported(order))

    # Unusual requests

    @rule(names=st.frozensets(st.sampled_from([*CLUSTERS, MISSING]), max_size=2))
    def client_subscribes_to_endpoints(self, names: frozenset[str]) -> None:
        self.envoy.subscribe_to_endpoints(set(names))

    @rule(which=st.integers(0, 3))
    def client_resubscribes(self, which: int) -> None:
        followed = sorted((kind, name) for kind in (ENDPOINT, ROUTE) for name in self.envoy.subscribed[kind])
        if followed:
            self.envoy.resubscribe(*followed[which % len(followed)])

    @rule(type_url=st.sampled_from(KINDS), which=st.integers(0, 5), nack=st.booleans())
    def client_sends_old_nonce(self, type_url: str, which: int, nack: bool) -> None:
        past = [*self.nonces, *(nonce for _, nonce in self.envoy.seen)]
        self.envoy.send_nonce(type_url, past[which % len(past)], error="no" if nack else "")

    # Invariants

    @invariant()
    def clusters_of_routes_are_active(self) -> None:
        if self.streams == 0 or self.unknown:
            return
        for route in (*self.envoy.held[ROUTE].values(), *self.envoy.held[VIRTUAL_HOST].values()):
            missing = route.names(CLUSTER) - self.envoy.active
            assert not missing, f"{route} needs {missing}"

    def check_not_older(self, response: Response) -> None:
        sent: dict[str, Made | None] = {**response.resources, **dict.fromkeys(response.removed)}
        if response.type_url in FULL and not self.delta:
            sent = {name: response.resources.get(name) for kind, name in KEYS if kind == response.type_url}
        for name, resource in sent.items():
            key = (response.type_url, name)
            floor = self.floor.get(key, 0)
            when = (i for i in range(floor, len(self.history)) if self.history[i].get(key) == resource)
            found = next(when, None)
            assert found is not None, f"{key} went back to {resource}, which no snapshot since {floor} has"
            self.floor[key] = found

    def check_first_hosts_are_complete(self, response: Response) -> None:
        """Envoy serves requests after it received its first virtual hosts, so these must be complete."""
        if response.type_url == VIRTUAL_HOST and not self.envoy.held[VIRTUAL_HOST]:
            complete = [{name for kind, name in version if kind == VIRTUAL_HOST} for version in self.history]
            assert response.resources.keys() in complete, (
                "the first response has only a part of the virtual hosts"
            )

    # The final state

    @rule()
    def settle(self) -> None:
        self.deliver_all()
        if self.nacked:
            # A NACKed version is not sent again: another snapshot is necessary.
            self.nacked = False
            last = self.history[-1]
            every = frozenset(CLUSTERS)
            self.publish(
                dict.fromkeys(ROUTES, every), frozenset(), frozenset(KEYS), dict.fromkeys(HOSTS, every)
            )
            self.deliver_all()
            self.check_settled()
            self.offer(last)
            self.deliver_all()
        self.check_settled()
        self.session.offer(snapshot_of(self.history[-1].values()))
        assert self.session.next_response() is None, "a response without a change"
        assert self.session.synced
        self.unknown = False

    def teardown(self) -> None:
        if self.streams:
            self.settle()

    def check_settled(self) -> None:
        wanted: dict[str, dict[str, Made]] = {kind: {} for kind in KINDS}
        for (kind, name), resource in self.history[-1].items():
            if kind in FULL or name in self.envoy.subscribed[kind]:
                wanted[kind][name] = resource
        held = {kind: dict(found) for kind, found in self.envoy.held.items()}
        if not self.delta:
            # SotW has no removal of endpoints; the proxy unsubscribes from them.
            held[ENDPOINT] = {n: r for n, r in held[ENDPOINT].items() if (ENDPOINT, n) in self.history[-1]}
        assert held == wanted
        assert not self.envoy.warming
        assert self.session.synced
        assert not self.session.nacks

    # Internals

    def deliver_all(self) -> None:
        for _ in range(ROUNDS):
            while self.up:
                self.server_reads()
            while (raw := self.session.next_response()) is not None:
                self.down.append(read(raw, delta=self.delta))
            if not self.down and not self.up and not self.timed_out():
                return
            while self.down:
                self.client_acks()
        raise AssertionError("the exchange of messages never ends")

    def timed_out(self) -> bool:
        """End the warming of a cluster whose endpoints do not exist, which SotW responses cannot express."""
        for name in self.envoy.warming:
            if not self.delta and (ENDPOINT, name) not in self.history[-1]:
                self.envoy.end_warming(name)
                return True
        return False

    def offer(self, resources: dict[tuple[str, str], Made]) -> None:
        self.history.append(resources)
        self.snapshot = snapshot_of(resources.values())
        if self.session.node is not None:
            self.session.offer(self.snapshot)

    def supported(self, order: list[str]) -> list[str]:
        """Return the types that this variant can subscribe to."""
        return [kind for kind in order if self.delta or kind != VIRTUAL_HOST]

    def new_session(self) -> Session:
        self.streams += 1
        variant = Delta() if self.delta else Sotw()
        session = Session(variant, identifier="test", nonce_prefix=f"{self.streams}-")
        session.expect_types((LISTENER, ROUTE, VIRTUAL_HOST) if self.delta else ())
        return session

    def at(self, kind: str, name: str) -> int:
        return self.generations[kind, name]


class SotwMachine(Machine):
    """The same for the SotW variant."""

    delta = False


def refs(kind: str, *names: str) -> frozenset[tuple[str, str]]:
    return frozenset((kind, name) for name in names)


both = pytest.mark.parametrize("kind", [Machine, SotwMachine], ids=["delta", "sotw"])


@both
def test_every_interleaving_ends_with_the_newest_snapshot(kind: type[Machine]) -> None:
    run_state_machine_as_test(
        kind,
        settings=settings(max_examples=80, stateful_step_count=40, deadline=None, report_multiple_bugs=False),
    )


# Interleavings that were once found to fail, step by step

NONE: frozenset[str] = frozenset()
C1, C2 = frozenset({"c1"}), frozenset({"c2"})


def settled_machine(kind: type[Machine], **routes: frozenset[str]) -> Machine:
    machine = kind()
    machine.begin(order=list(KINDS), explicit=False, routes=routes, extra=NONE)
    machine.settle()
    return machine


def deliver_until(machine: Machine, type_url: str) -> None:
    """Deliver messages until the next response that the client will read is of this type."""
    for _ in range(ROUNDS):
        while machine.up:
            machine.server_reads()
        while (raw := machine.session.next_response()) is not None:
            machine.down.append(read(raw, delta=machine.delta))
        if machine.down[0].type_url == type_url:
            return
        machine.client_acks()
        machine.clusters_of_routes_are_active()
    raise AssertionError("no response of this type was sent")


def finish(machine: Machine) -> None:
    """Deliver all messages, and check the invariant after each."""
    for _ in range(ROUNDS):
        while machine.up:
            machine.server_reads()
        machine.server_writes()
        machine.client_acks()
        machine.clusters_of_routes_are_active()
    machine.settle()


@both
def test_a_nacked_response_may_be_applied_in_part(kind: type[Machine]) -> None:
    machine = settled_machine(kind, entry=C1, hop=C1)
    machine.publish(routes={"entry": C1 | C2, "hop": C1 | C2}, extra=NONE, bump=frozenset())
    deliver_until(machine, ROUTE)
    machine.client_nacks(share=1)
    machine.go_back(back=1)
    finish(machine)


@both
def test_routes_unsubscribed_while_in_flight_keep_no_cluster(kind: type[Machine]) -> None:
    machine = settled_machine(kind, entry=C1, hop=C2)
    machine.publish(routes={"entry": C1}, extra=C2, bump=frozenset())
    machine.server_writes()
    machine.publish(routes={"entry": C1, "hop": C2}, extra=NONE, bump=frozenset({(ROUTE, "hop-routes")}))
    machine.server_writes()
    assert [response.type_url for response in machine.down] == [LISTENER, ROUTE]
    machine.publish(routes={"entry": C1}, extra=NONE, bump=frozenset())
    finish(machine)


@both
def test_a_reconnected_proxy_loses_clusters_that_no_route_names(kind: type[Machine]) -> None:
    machine = settled_machine(kind, entry=C1 | C2)
    machine.reconnect(order=list(KINDS))
    machine.publish(routes={"entry": C1}, extra=NONE, bump=frozenset())
    finish(machine)


def test_removed_endpoints_end_the_warming_of_their_cluster() -> None:
    machine = settled_machine(Machine)
    machine.client_subscribes_to_endpoints(names=C1)
    machine.settle()
    machine.publish(routes={}, extra=C1, bump=frozenset())
    machine.server_writes()
    machine.go_back(back=1)
    finish(machine)


@both
def test_a_nacked_route_that_had_to_wait_is_sent_again(kind: type[Machine]) -> None:
    machine = settled_machine(kind, entry=C1)
    machine.change_contents(frozenset({(ROUTE, "entry-routes")}))
    machine.server_writes()
    machine.client_nacks(share=0)
    machine.publish(routes={"entry": C2, "hop": C1}, extra=NONE, bump=frozenset())
    deliver_until(machine, ROUTE)
    machine.publish(routes={"entry": C1, "hop": C1}, extra=NONE, bump=frozenset())
    machine.nacked = False
    finish(machine)


def test_a_client_that_subscribes_to_clusters_by_name_receives_the_route_first() -> None:
    entry = Made(LISTENER, "entry", 0, refs(ROUTE, "entry-routes"))
    snapshots = [
        snapshot_of(
            (
                entry,
                Made(ROUTE, "entry-routes", 0, refs(CLUSTER, name)),
                Made(CLUSTER, name, 0, refs(ENDPOINT, name)),
                Made(ENDPOINT, name, 0),
            )
        )
        for name in ("c1", "c2")
    ]
    client = Client(delta=False)
    client.offer(snapshots[0])
    for kind, name in (("LDS", "entry"), ("RDS", "entry-routes"), ("CDS", "c1"), ("EDS", "c1")):
        client.request(kind, name)
        got = client.take()
        assert got is not None
        client.ack(got, name)
    assert client.session.synced
    client.offer(snapshots[1])
    (got,) = client.take_all()
    assert (got.type, got.names) == ("RDS", ("entry-routes",))


def test_a_reconnected_client_keeps_clusters_until_it_reported_its_routes() -> None:
    machine = settled_machine(Machine, entry=C1)
    machine.reconnect(order=list(KINDS))
    machine.publish(routes={}, extra=NONE, bump=frozenset())
    machine.server_reads()  # The request for clusters, before those for listeners and routes.
    machine.server_writes()
    machine.client_acks()
    machine.clusters_of_routes_are_active()
    finish(machine)


def test_the_first_response_has_all_virtual_hosts() -> None:
    machine = Machine()
    machine.begin(order=list(KINDS), explicit=False, routes={"entry": NONE}, extra=NONE)
    machine.publish(
        routes={"entry": NONE}, extra=NONE, bump=frozenset(), hosts={HOSTS[0]: NONE, HOSTS[1]: C1}
    )
    deliver_until(machine, VIRTUAL_HOST)
    assert machine.down[0].resources.keys() == set(HOSTS), "the first host waits for the second"
    finish(machine)


def test_a_reconnected_client_that_requests_routes_first_receives_clusters_first() -> None:
    machine = settled_machine(Machine, entry=NONE)
    machine.reconnect(order=[ROUTE, *(kind for kind in KINDS if kind != ROUTE)])
    machine.publish(routes={"entry": C1}, extra=NONE, bump=frozenset())
    machine.server_reads()  # The request for routes, before that for clusters.
    machine.server_writes()
    machine.client_acks()
    machine.clusters_of_routes_are_active()
    finish(machine)
