"""Which clients receive virtual hosts individually, and that a reconnected client keeps its form."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.support import configs
from tests.support.pushing import pushing
from xds_server.xds.server import Hub, Stream, node_class_of
from xds_server.xds.session import Delta, NodeInfo, Session, Sotw
from xds_server.xds.snapshot import CLUSTER, ENDPOINT, LISTENER, ROUTE, RUNTIME, VIRTUAL_HOST
from xds_server.xds.wire import discovery_pb2 as wire

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from xds_server import ir
    from xds_server.xds.snapshot import Snapshot

NAMES = {
    RUNTIME: ("shiftplane",),
    CLUSTER: (),
    ENDPOINT: ("chat/v1", "chat/v2"),
    LISTENER: (),
    ROUTE: ("entry", "hop"),
    VIRTUAL_HOST: (),
}


def snapshot_for(node_class: ir.NodeClass) -> Snapshot:
    return configs.snapshot(replace(configs.group(500), node_class=node_class))


class ReconnectingEnvoy:
    """An Envoy 1.40 that reconnects: it subscribes to its resources and reports their versions."""

    def __init__(self, hub: Hub, held: Snapshot) -> None:
        self.received: dict[str, set[str]] = {}
        self.removed: set[str] = set()
        self._hub = hub
        self._held = held
        session = Session(Delta(), identifier="test", nonce_prefix="n")
        self.stream = Stream(session=session, writer=self, peer="test", connected_since=0.0, last_seen=0.0)
        hub.connect(self.stream)
        self.subscribe(RUNTIME, CLUSTER, LISTENER)

    def subscribe(self, *kinds: str) -> None:
        for kind in kinds:
            initial_versions = {name: resource.version for name, resource in self._held.of(kind).items()}
            self._request(
                kind, subscribe=NAMES[kind], initial_versions={} if kind == RUNTIME else initial_versions
            )

    async def write(self, message: bytes) -> None:
        response = wire.DeltaDiscoveryResponse.FromString(message)
        named = {wire.Resource.FromString(raw).name for raw in response.resources}
        self.received.setdefault(response.type_url, set()).update(named)
        self.removed.update(response.removed_resources)
        self._request(response.type_url, nonce=response.nonce)

    def cancel(self) -> bool:
        return True

    def _request(
        self,
        kind: str,
        *,
        subscribe: tuple[str, ...] = (),
        nonce: str = "",
        initial_versions: Mapping[str, str] | None = None,
    ) -> None:
        node = wire.Node(id="envoy-1", cluster="chat")
        node.user_agent_build_version.version.major_number = 1
        node.user_agent_build_version.version.minor_number = 40
        request = wire.DeltaDiscoveryRequest(
            node=node,
            type_url=kind,
            resource_names_subscribe=subscribe,
            response_nonce=nonce,
            initial_resource_versions=initial_versions or {},
        )
        self._hub.receive(self.stream, request.SerializeToString())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def turns(count: int = 100) -> None:
    """Let the event loop run `count` times, so that whatever the hub could still send is sent."""
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.parametrize("apart", [True, False], ids=["apart", "tables"])
@pytest.mark.parametrize("ready", [True, False], ids=["ready", "set-later"])
async def test_a_reconnected_client_keeps_its_form_of_virtual_hosts(apart: bool, ready: bool) -> None:
    info = NodeInfo(id="envoy-1", group="chat", version="1.40.0", metadata=())
    node_class = replace(node_class_of(info, aggregated_delta=True), virtual_hosts_apart=apart)
    apart_ready = {True, False} if ready else {True}
    hub = Hub(lambda wanted: snapshot_for(wanted) if wanted.virtual_hosts_apart in apart_ready else None)
    async with pushing(hub):
        client = ReconnectingEnvoy(hub, snapshot_for(node_class))
        await until(lambda: client.received.keys() >= {RUNTIME, CLUSTER, LISTENER})
        client.subscribe(ROUTE, ENDPOINT, *((VIRTUAL_HOST,) if apart else ()))
        if not ready and not apart:
            await turns()
            assert ROUTE not in client.received, "no routes before the snapshot of its node class is set"
            hub.set_snapshot(node_class, snapshot_for(node_class))
        await until(lambda: hub.convergence("chat").acked == 1)
    assert client.stream.node_class == node_class
    assert client.received[ROUTE] == {"entry", "hop"}
    assert client.received.get(VIRTUAL_HOST, set()) == set(), (
        "the client has them already, or receives them in the table"
    )
    assert client.removed == set()
    hub.disconnect(client.stream)
    assert hub.groups == frozenset()


@pytest.mark.parametrize(
    ("version", "aggregated_delta", "apart"),
    [
        ("1.40.0", True, True),
        ("1.37.0", True, True),
        ("1.36.4", True, False),
        ("0.0.0", True, False),
        ("1.40.0", False, False),
    ],
)
def test_supporting_envoys_receive_virtual_hosts_individually(
    version: str, aggregated_delta: bool, apart: bool
) -> None:
    info = NodeInfo(id="n", group="g", version=version, metadata=())
    assert node_class_of(info, aggregated_delta=aggregated_delta).virtual_hosts_apart is apart


def test_which_streams_are_aggregated_delta_streams() -> None:
    def of(variant: Delta | Sotw, single_type: str | None = None) -> bool:
        return Session(variant, identifier="test", nonce_prefix="n", single_type=single_type).aggregated_delta

    assert (of(Delta()), of(Delta(), ROUTE), of(Sotw())) == (True, False, False)


def test_a_snapshot_without_routes_has_a_placeholder_virtual_host() -> None:
    empty = replace(
        configs.group(500), virtual_hosts=(), node_class=replace(configs.PROXIES, virtual_hosts_apart=True)
    )
    assert configs.snapshot(empty).of(VIRTUAL_HOST).keys() == {"entry/nobody.invalid"}
