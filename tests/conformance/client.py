"""A client that follows the protocol exactly, in either variant, and uses only what is on the wire."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.conformance.links import StreamEndedError
from tests.conformance.snapshots import read
from xds_server.xds.snapshot import CLUSTER, ENDPOINT, LISTENER, ROUTE
from xds_server.xds.wire import discovery_pb2 as wire

if TYPE_CHECKING:
    from tests.conformance.links import ControlPlane, Link

__all__ = ["Client", "Response", "connect", "node"]

_MAX_RESPONSES = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """A parsed response; `content` has "revision references" of each resource by name."""

    type_url: str
    nonce: str
    version: str
    identifier: str
    names: tuple[str, ...]
    content: dict[str, str]
    versions: dict[str, str]
    removed: tuple[str, ...]
    raw: bytes


@dataclass(slots=True)
class _ClientState:
    """The client's subscription, resources and last ACK of one type."""

    names: set[str] = field(default_factory=set)
    wildcard: bool = False
    content: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    version: str = ""
    nonce: str = ""
    requested: bool = False


@dataclass(slots=True)
class Client:
    """One client on one stream."""

    link: Link
    delta: bool
    node: wire.Node
    _types: dict[str, _ClientState] = field(default_factory=dict)
    _node_sent: bool = False

    # Requests

    def request(
        self,
        type_url: str,
        *names: str,
        without: tuple[str, ...] = (),
        nonce: str = "",
        version: str = "",
        error: wire.Status | None = None,
        initial_versions: dict[str, str] | None = None,
    ) -> bytes:
        """Return an encoded request; the first one of a stream contains the node."""
        node = None if self._node_sent else self.node
        self._node_sent = True
        if self.delta:
            return wire.DeltaDiscoveryRequest(
                node=node,
                type_url=type_url,
                resource_names_subscribe=names,
                resource_names_unsubscribe=without,
                initial_resource_versions=initial_versions or {},
                response_nonce=nonce,
                error_detail=error,
            ).SerializeToString()
        return wire.DiscoveryRequest(
            version_info=version,
            node=node,
            resource_names=names,
            type_url=type_url,
            response_nonce=nonce,
            error_detail=error,
        ).SerializeToString()

    async def send_request(
        self,
        type_url: str,
        *names: str,
        without: tuple[str, ...] = (),
        nonce: str = "",
        version: str = "",
        error: wire.Status | None = None,
        initial_versions: dict[str, str] | None = None,
    ) -> None:
        """Send one request and update the client's own state."""
        raw = self.request(
            type_url,
            *names,
            without=without,
            nonce=nonce,
            version=version,
            error=error,
            initial_versions=initial_versions,
        )
        state = self._state(type_url)
        if not state.requested:
            state.wildcard = not names and type_url in {CLUSTER, LISTENER}
        elif names and not self.delta:
            state.wildcard = False
        if self.delta and "*" in without:
            state.wildcard = False
        state.requested = True
        state.names = (state.names | set(names)) - set(without) if self.delta else set(names)
        for name in [name for name in state.content if not self.includes(type_url, name)]:
            del state.content[name]
            state.versions.pop(name, None)
        await self.link.send(raw)

    async def subscribe(self, type_url: str, *names: str) -> None:
        """Change the subscription to exactly these names; an empty first list may be a wildcard."""
        state = self._state(type_url)
        if not self.delta:
            await self.send_request(type_url, *names, nonce=state.nonce, version=state.version)
            return
        wanted = set(names)
        fresh = [name for name in names if name not in state.names]
        if state.requested and not fresh and wanted == state.names:
            return
        await self.send_request(type_url, *fresh, without=tuple(sorted(state.names - wanted)))

    async def ack(self, response: Response) -> None:
        """Apply a response and ACK it."""
        state = self._state(response.type_url)
        if not self.delta and response.type_url in {CLUSTER, LISTENER}:
            state.content.clear()
        state.content.update(
            {n: c for n, c in response.content.items() if self.includes(response.type_url, n)}
        )
        state.versions.update(response.versions)
        for name in response.removed:
            state.content.pop(name, None)
            state.versions.pop(name, None)
        state.version, state.nonce = response.version, response.nonce
        names = () if self.delta else sorted(state.names)
        await self.send_request(response.type_url, *names, nonce=response.nonce, version=response.version)

    async def nack(self, response: Response, message: str = "refused") -> None:
        """NACK a response and keep the previous resources."""
        state = self._state(response.type_url)
        state.nonce = response.nonce
        names = () if self.delta else sorted(state.names)
        error = wire.Status(code=13, message=message)
        await self.send_request(
            response.type_url, *names, nonce=response.nonce, version=state.version, error=error
        )

    # Responses

    async def take(self) -> Response | None:
        """Return the next response without answering it; None if the server has none to send."""
        raw = await self.link.receive()
        if raw is None:
            return None
        return _delta_response(raw) if self.delta else _full_response(raw)

    async def take_all(self) -> list[Response]:
        """Return all responses that the server sends without an ACK or NACK."""
        received = []
        while (response := await self.take()) is not None:
            received.append(response)
        return received

    async def take_one(self, type_url: str) -> Response:
        """Return the only response, which must be of this type."""
        (response,) = await self.take_all()
        assert response.type_url == type_url
        return response

    async def ack_all(self) -> list[Response]:
        """ACK all responses until the server has none to send, and return them in order."""
        received = []
        while (response := await self.take()) is not None:
            received.append(response)
            assert len(received) < _MAX_RESPONSES, "the server never stops sending"
            await self.ack(response)
        return received

    async def ended(self) -> StreamEndedError:
        """Return how the server ended the stream."""
        try:
            responses = await self.take_all()
        except StreamEndedError as error:
            return error
        raise AssertionError(f"the stream is still open: {responses}")

    # Behavior of a complete proxy

    async def boot(self) -> None:
        """Start as Envoy does: clusters and their endpoints, then listeners and their routes."""
        await self.subscribe(CLUSTER)
        await self.ack_all()
        await self.subscribe(ENDPOINT, *sorted(self.content(CLUSTER)))
        await self.ack_all()
        await self.subscribe(LISTENER)
        await self.ack_all()
        await self.subscribe(ROUTE, "main")
        await self.ack_all()

    async def run(self) -> list[Response]:
        """Continue as Envoy does: ACK all responses, and subscribe to the endpoints of every cluster."""
        responses = await self.ack_all()
        while set(self.content(CLUSTER)) != self._state(ENDPOINT).names:
            await self.subscribe(ENDPOINT, *sorted(self.content(CLUSTER)))
            responses.extend(await self.ack_all())
        return responses

    def dangling(self) -> set[str]:
        """Return the clusters that the client's routes refer to and that it lacks."""
        named = (content.partition(" ")[2] for content in self.content(ROUTE).values())
        return {name for names in named for name in names.split(",") if name} - set(self.content(CLUSTER))

    def acked_versions(self) -> dict[str, str]:
        """Return by name the versions that the server recorded as ACKed."""
        return {item.name: item.version for item in self.link.session.inventory() if item.version}

    def includes(self, type_url: str, name: str) -> bool:
        """Return whether the client is subscribed to a name."""
        state = self._state(type_url)
        return state.wildcard or bool({"*", name} & state.names)

    def content(self, type_url: str) -> dict[str, str]:
        """Return the client's resources of one type: "revision references" by name."""
        return self._state(type_url).content

    def versions(self, type_url: str) -> dict[str, str]:
        """Return the client's versions of one type by name; only delta responses contain them."""
        return dict(self._state(type_url).versions)

    def _state(self, type_url: str) -> _ClientState:
        return self._types.setdefault(type_url, _ClientState())


def node(name: str = "proxy-1") -> wire.Node:
    """Return the node of a proxy."""
    return wire.Node(id=name, cluster="group")


async def connect(plane: ControlPlane, *, delta: bool, name: str = "proxy-1") -> Client:
    """Open a stream and return its client, which has sent no request yet."""
    return Client(await plane.open(delta=delta), delta, node(name))


def _full_response(raw: bytes) -> Response:
    message = wire.DiscoveryResponse.FromString(raw)
    found = [read(body) for body in message.resources]
    assert all(type_url == message.type_url for type_url, _, _ in found)
    return Response(
        type_url=message.type_url,
        nonce=message.nonce,
        version=message.version_info,
        identifier=message.control_plane.identifier,
        names=tuple(name for _, name, _ in found),
        content={name: content for _, name, content in found},
        versions={},
        removed=(),
        raw=raw,
    )


def _delta_response(raw: bytes) -> Response:
    message = wire.DeltaDiscoveryResponse.FromString(raw)
    wrapped = [wire.Resource.FromString(body) for body in message.resources]
    found = [read(resource.resource) for resource in wrapped]
    assert all(type_url == message.type_url for type_url, _, _ in found)
    assert [resource.name for resource in wrapped] == [name for _, name, _ in found]
    return Response(
        type_url=message.type_url,
        nonce=message.nonce,
        version=message.system_version_info,
        identifier=message.control_plane.identifier,
        names=tuple(name for _, name, _ in found),
        content={name: content for _, name, content in found},
        versions={resource.name: resource.version for resource in wrapped},
        removed=tuple(message.removed_resources),
        raw=raw,
    )
