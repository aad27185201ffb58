"""Which clients are told their virtual hosts one by one, and that nobody changes over."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.support import worlds
from xds_server.xds.server import Hub, Stream, proxies_of
from xds_server.xds.session import Delta, NodeInfo, Session, StateOfTheWorld
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


def world(proxies: ir.NodeClass) -> Snapshot:
    return worlds.snapshot(replace(worlds.group(500), node_class=proxies))


class Returning:
    """An Envoy 1.40 whose stream broke: it asks for all it follows, and says what it holds."""

    def __init__(self, hub: Hub, held: Snapshot) -> None:
        self.told: dict[str, set[str]] = {}
        self.gone: set[str] = set()
        self._hub = hub
        self._held = held
        session = Session(Delta(), identifier="test", nonce_prefix="n")
        self.stream = Stream(session=session, writer=self, peer="test", connected_since=0.0, last_seen=0.0)
        hub.connect(self.stream)
        self.ask_for(RUNTIME, CLUSTER, LISTENER)

    def ask_for(self, *kinds: str) -> None:
        for kind in kinds:
            holds = {name: entry.version for name, entry in self._held.of(kind).items()}
            self._ask(kind, subscribe=NAMES[kind], holds={} if kind == RUNTIME else holds)

    async def write(self, message: bytes) -> None:
        response = wire.DeltaDiscoveryResponse.FromString(message)
        named = {wire.Resource.FromString(raw).name for raw in response.resources}
        self.told.setdefault(response.type_url, set()).update(named)
        self.gone.update(response.removed_resources)
        self._ask(response.type_url, nonce=response.nonce)

    def cancel(self) -> bool:
        return True

    def _ask(
        self,
        kind: str,
        *,
        subscribe: tuple[str, ...] = (),
        nonce: str = "",
        holds: Mapping[str, str] | None = None,
    ) -> None:
        node = wire.Node(id="envoy-1", cluster="chat")
        node.user_agent_build_version.version.major_number = 1
        node.user_agent_build_version.version.minor_number = 40
        request = wire.DeltaDiscoveryRequest(
            node=node,
            type_url=kind,
            resource_names_subscribe=subscribe,
            response_nonce=nonce,
            initial_resource_versions=holds or {},
        )
        self._hub.receive(self.stream, request.SerializeToString())


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("apart", [True, False], ids=["apart", "whole"])
@pytest.mark.parametrize("known", [True, False], ids=["known", "supplied-later"])
async def test_who_comes_back_keeps_the_form_it_has(apart: bool, known: bool) -> None:
    info = NodeInfo(id="envoy-1", group="chat", version="1.40.0", metadata=())
    proxies = replace(proxies_of(info, incremental=True), virtual_hosts_apart=apart)
    ready = {True, False} if known else {True}
    hub = Hub(lambda proxies: world(proxies) if proxies.virtual_hosts_apart in ready else None)
    pushing = asyncio.create_task(hub.run())
    try:
        client = Returning(hub, world(proxies))
        await until(lambda: client.told.keys() >= {RUNTIME, CLUSTER, LISTENER})
        client.ask_for(ROUTE, ENDPOINT, *((VIRTUAL_HOST,) if apart else ()))
        if not known and not apart:
            await asyncio.sleep(0.05)
            assert ROUTE not in client.told, "not even while its own world is unknown"
            hub.supply(proxies, world(proxies))
        await until(lambda: hub.convergence("chat").acked == 1)
    finally:
        pushing.cancel()
        await asyncio.gather(pushing, return_exceptions=True)
    assert client.stream.proxies == proxies
    assert client.told[ROUTE] == {"entry", "hop"}
    assert client.told.get(VIRTUAL_HOST, set()) == set(), "it holds them already, or got them in the table"
    assert client.gone == set()
    hub.disconnect(client.stream)
    assert hub.groups == frozenset()


@pytest.mark.parametrize(
    ("version", "incremental", "apart"),
    [
        ("1.40.0", True, True),
        ("1.37.0", True, True),
        ("1.36.4", True, False),
        ("0.0.0", True, False),
        ("1.40.0", False, False),
    ],
)
def test_who_can_is_told_virtual_hosts_one_by_one(version: str, incremental: bool, apart: bool) -> None:
    info = NodeInfo(id="n", group="g", version=version, metadata=())
    assert proxies_of(info, incremental=incremental).virtual_hosts_apart is apart


def test_only_an_aggregated_delta_stream_is_incremental() -> None:
    def of(flavour: Delta | StateOfTheWorld, only: str | None = None) -> bool:
        return Session(flavour, identifier="test", nonce_prefix="n", only=only).incremental

    assert (of(Delta()), of(Delta(), ROUTE), of(StateOfTheWorld())) == (True, False, False)


def test_a_world_without_routes_holds_a_host_that_nobody_can_ask_for() -> None:
    empty = replace(
        worlds.group(500), virtual_hosts=(), node_class=replace(worlds.PROXIES, virtual_hosts_apart=True)
    )
    assert worlds.snapshot(empty).of(VIRTUAL_HOST).keys() == {"entry/nobody.invalid"}
