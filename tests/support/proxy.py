"""A proxy in the event loop of the test: it subscribes to all resources and ACKs or NACKs them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xds_server.ads import Hub, Stream
from xds_server.protocol import Delta, Session
from xds_server.snapshot import CLUSTER, ENDPOINT, LISTENER, ROUTE, RUNTIME
from xds_server.wire import discovery_pb2 as wire

if TYPE_CHECKING:
    from xds_server.ads.stream import Writer

__all__ = ["FakeProxy"]

_FOLLOWS = {CLUSTER: ENDPOINT, LISTENER: ROUTE}


class FakeProxy:
    """A delta xDS client. It NACKs the types and versions in `refuse`; if `silent`, it sends no reply.

    `only` is the resource type of a stream that is not aggregated.
    """

    def __init__(
        self,
        hub: Hub,
        node: str = "proxy-1",
        group: str = "chat",
        *,
        minor: int = 0,
        entry: str = "",
        only: str | None = None,
    ) -> None:
        self.refuse: set[str] = set()
        self.silent = False
        self.seen: set[tuple[str, str]] = set()
        self.held: dict[str, dict[str, bytes]] = {}
        self._hub = hub
        self._node = wire.Node(id=node, cluster=group)
        if entry:
            self._node.metadata.update({"shiftplane": {"entry": entry}})
        if minor:
            version = self._node.user_agent_build_version.version
            version.major_number, version.minor_number = 1, minor
        self._open: list[wire.DeltaDiscoveryResponse] = []
        writer: Writer = self
        self.stream = Stream(
            session=Session(Delta(), identifier="test", nonce_prefix=f"{node}-", only=only),
            writer=writer,
            peer="test",
            connected_since=0.0,
            last_seen=0.0,
        )
        hub.connect(self.stream)
        self._only = only
        for type_url in (CLUSTER, LISTENER):
            if only in {None, type_url}:
                self._ask(type_url)
        if only in {None, RUNTIME}:
            self._ask(RUNTIME, subscribe=["shiftplane"])

    async def write(self, message: bytes) -> None:
        response = wire.DeltaDiscoveryResponse.FromString(message)
        self._open.append(response)
        told = map(wire.Resource.FromString, response.resources)
        self.seen.update((resource.name, resource.version) for resource in told)
        if not self.silent:
            self.answer()

    def cancel(self) -> bool:
        self.leave()
        return True

    @property
    def version(self) -> str:
        """The version of the newest snapshot if the proxy has ACKed all of it, else empty."""
        session = self.stream.session
        return session.snapshot.version if session.snapshot is not None and session.synced else ""

    def answer(self) -> None:
        """Reply to all unanswered responses."""
        waiting, self._open = self._open, []
        for response in waiting:
            self._answer(response)

    def leave(self) -> None:
        self._hub.disconnect(self.stream)

    def _answer(self, response: wire.DeltaDiscoveryResponse) -> None:
        if response.type_url in self.refuse or response.system_version_info in self.refuse:
            self._ask(response.type_url, nonce=response.nonce, error="refused by the test")
            return
        held = self.held.setdefault(response.type_url, {})
        for raw in response.resources:
            resource = wire.Resource.FromString(raw)
            held[resource.name] = resource.resource
        for name in response.removed_resources:
            held.pop(name, None)
        self._ask(response.type_url, nonce=response.nonce)
        refers = _FOLLOWS.get(response.type_url)
        if refers is not None and self._only is None:
            names = set(held) if refers == ENDPOINT else {"entry", "hop"}
            self._ask(refers, subscribe=sorted(names - set(self.held.get(refers, {}))))

    def _ask(
        self, type_url: str, *, subscribe: list[str] | None = None, nonce: str = "", error: str = ""
    ) -> None:
        request = wire.DeltaDiscoveryRequest(
            node=self._node,
            type_url=type_url,
            resource_names_subscribe=subscribe or [],
            response_nonce=nonce,
            error_detail=wire.Status(message=error) if error else None,
        )
        self._hub.receive(self.stream, request.SerializeToString())
