"""A delta client in the test's event loop that subscribes to all resources and ACKs or NACKs them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xds_server.xds.server import Hub, Stream
from xds_server.xds.session import Delta, Session
from xds_server.xds.snapshot import CLUSTER, ENDPOINT, LISTENER, ROUTE, RUNTIME
from xds_server.xds.wire import discovery_pb2 as wire

if TYPE_CHECKING:
    from xds_server.xds.server.stream import Writer

__all__ = ["FakeProxy"]

_REFERENCED = {CLUSTER: ENDPOINT, LISTENER: ROUTE}


class FakeProxy:
    """A delta client. It NACKs the types and snapshot versions in `refuse`; if `silent`, it does not answer.

    `single_type` is the type of a stream that is not aggregated.
    """

    def __init__(
        self,
        hub: Hub,
        node: str = "proxy-1",
        group: str = "chat",
        *,
        minor: int = 0,
        entry: str = "",
        single_type: str | None = None,
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
        self._unanswered: list[wire.DeltaDiscoveryResponse] = []
        writer: Writer = self
        self.stream = Stream(
            session=Session(Delta(), identifier="test", nonce_prefix=f"{node}-", single_type=single_type),
            writer=writer,
            peer="test",
            connected_since=hub._clock.now(),
            last_seen=0.0,
        )
        hub.connect(self.stream)
        self._single_type = single_type
        for type_url in (CLUSTER, LISTENER):
            if single_type in {None, type_url}:
                self._request(type_url)
        if single_type in {None, RUNTIME}:
            self._request(RUNTIME, subscribe=["shiftplane"])

    async def write(self, message: bytes) -> None:
        response = wire.DeltaDiscoveryResponse.FromString(message)
        self._unanswered.append(response)
        resources = map(wire.Resource.FromString, response.resources)
        self.seen.update((resource.name, resource.version) for resource in resources)
        if not self.silent:
            self.answer()

    def cancel(self) -> bool:
        self.leave()
        return True

    @property
    def version(self) -> str:
        """The version of the newest offered snapshot, if the client ACKed it; empty otherwise."""
        session = self.stream.session
        return session.snapshot.version if session.snapshot is not None and session.synced else ""

    def answer(self) -> None:
        """ACK or NACK all responses that were not answered."""
        waiting, self._unanswered = self._unanswered, []
        for response in waiting:
            self._respond(response)

    def leave(self) -> None:
        self._hub.disconnect(self.stream)

    def _respond(self, response: wire.DeltaDiscoveryResponse) -> None:
        if response.type_url in self.refuse or response.system_version_info in self.refuse:
            self._request(response.type_url, nonce=response.nonce, error="refused by the test")
            return
        held = self.held.setdefault(response.type_url, {})
        for raw in response.resources:
            resource = wire.Resource.FromString(raw)
            held[resource.name] = resource.resource
        for name in response.removed_resources:
            held.pop(name, None)
        self._request(response.type_url, nonce=response.nonce)
        referenced = _REFERENCED.get(response.type_url)
        if referenced is not None and self._single_type is None:
            names = set(held) if referenced == ENDPOINT else {"entry", "hop"}
            self._request(referenced, subscribe=sorted(names - set(self.held.get(referenced, {}))))

    def _request(
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
