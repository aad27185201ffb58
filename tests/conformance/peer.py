"""A client that follows the rules of its side to the letter, in either flavour, and reads only the wire."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.conformance.links import StreamEndedError
from tests.conformance.world import read
from xds_server.xds.snapshot import CLUSTER, ENDPOINT, LISTENER, ROUTE
from xds_server.xds.wire import discovery_pb2 as wire

if TYPE_CHECKING:
    from tests.conformance.links import Link, Plane

__all__ = ["Peer", "Response", "connect", "node"]

_MOST_TURNS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """A response as its client reads it; `content` holds the revision and references of each resource."""

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
class _Held:
    """What the client follows, holds and last accepted of one type."""

    names: set[str] = field(default_factory=set)
    everything: bool = False
    content: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    version: str = ""
    nonce: str = ""
    asked: bool = False


@dataclass(slots=True)
class Peer:
    """One client on one stream."""

    link: Link
    delta: bool
    node: wire.Node
    _types: dict[str, _Held] = field(default_factory=dict)
    _introduced: bool = False

    # Requests

    def request(
        self,
        type_url: str,
        *names: str,
        without: tuple[str, ...] = (),
        nonce: str = "",
        version: str = "",
        error: wire.Status | None = None,
        holds: dict[str, str] | None = None,
    ) -> bytes:
        """Return a request as it stands on the wire; the first one of a stream introduces the node."""
        node = None if self._introduced else self.node
        self._introduced = True
        if self.delta:
            return wire.DeltaDiscoveryRequest(
                node=node,
                type_url=type_url,
                resource_names_subscribe=names,
                resource_names_unsubscribe=without,
                initial_resource_versions=holds or {},
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

    async def ask(
        self,
        type_url: str,
        *names: str,
        without: tuple[str, ...] = (),
        nonce: str = "",
        version: str = "",
        error: wire.Status | None = None,
        holds: dict[str, str] | None = None,
    ) -> None:
        """Send one request, whatever it says."""
        raw = self.request(
            type_url, *names, without=without, nonce=nonce, version=version, error=error, holds=holds
        )
        held = self._held(type_url)
        if not held.asked:
            held.everything = not names and type_url in {CLUSTER, LISTENER}
        elif names and not self.delta:
            held.everything = False
        if self.delta and "*" in without:
            held.everything = False
        held.asked = True
        held.names = (held.names | set(names)) - set(without) if self.delta else set(names)
        for name in [name for name in held.content if not self.follows(type_url, name)]:
            del held.content[name]
            held.versions.pop(name, None)
        await self.link.send(raw)

    async def follow(self, type_url: str, *names: str) -> None:
        """Follow exactly these names from now on; none at first means everything where that is allowed."""
        held = self._held(type_url)
        if not self.delta:
            await self.ask(type_url, *names, nonce=held.nonce, version=held.version)
            return
        wanted = set(names)
        fresh = [name for name in names if name not in held.names]
        if held.asked and not fresh and wanted == held.names:
            return
        await self.ask(type_url, *fresh, without=tuple(sorted(held.names - wanted)))

    async def accept(self, response: Response) -> None:
        """Take a response over and acknowledge it."""
        held = self._held(response.type_url)
        if not self.delta and response.type_url in {CLUSTER, LISTENER}:
            held.content.clear()
        held.content.update({n: c for n, c in response.content.items() if self.follows(response.type_url, n)})
        held.versions.update(response.versions)
        for name in response.removed:
            held.content.pop(name, None)
            held.versions.pop(name, None)
        held.version, held.nonce = response.version, response.nonce
        names = () if self.delta else sorted(held.names)
        await self.ask(response.type_url, *names, nonce=response.nonce, version=response.version)

    async def refuse(self, response: Response, message: str = "refused") -> None:
        """Refuse a response; what was held before stays."""
        held = self._held(response.type_url)
        held.nonce = response.nonce
        names = () if self.delta else sorted(held.names)
        error = wire.Status(code=13, message=message)
        await self.ask(response.type_url, *names, nonce=response.nonce, version=held.version, error=error)

    # Responses

    async def take(self) -> Response | None:
        """Return the next response without answering it; None once the server is silent."""
        raw = await self.link.receive()
        if raw is None:
            return None
        return _delta_response(raw) if self.delta else _full_response(raw)

    async def take_all(self) -> list[Response]:
        """Return all that the server says as long as nothing is answered."""
        taken = []
        while (response := await self.take()) is not None:
            taken.append(response)
        return taken

    async def take_one(self, type_url: str) -> Response:
        """Return the one response there is, of this type."""
        (response,) = await self.take_all()
        assert response.type_url == type_url
        return response

    async def accept_all(self) -> list[Response]:
        """Accept what comes until the server is silent, and return it in order."""
        taken = []
        while (response := await self.take()) is not None:
            taken.append(response)
            assert len(taken) < _MOST_TURNS, "the server never falls silent"
            await self.accept(response)
        return taken

    async def ended(self) -> StreamEndedError:
        """Return how the server ended the stream."""
        try:
            said = await self.take_all()
        except StreamEndedError as error:
            return error
        raise AssertionError(f"the stream goes on: {said}")

    # A whole proxy

    async def boot(self) -> None:
        """Start as a proxy does: clusters and their endpoints, then listeners and their routes."""
        await self.follow(CLUSTER)
        await self.accept_all()
        await self.follow(ENDPOINT, *sorted(self.content(CLUSTER)))
        await self.accept_all()
        await self.follow(LISTENER)
        await self.accept_all()
        await self.follow(ROUTE, "main")
        await self.accept_all()

    async def run(self) -> list[Response]:
        """Go on as a proxy does: accept everything, and follow the endpoints of every cluster there is."""
        said = await self.accept_all()
        while set(self.content(CLUSTER)) != self._held(ENDPOINT).names:
            await self.follow(ENDPOINT, *sorted(self.content(CLUSTER)))
            said.extend(await self.accept_all())
        return said

    def dangling(self) -> set[str]:
        """Return the clusters that a route held here names and that are not held."""
        named = (content.partition(" ")[2] for content in self.content(ROUTE).values())
        return {name for names in named for name in names.split(",") if name} - set(self.content(CLUSTER))

    def known_to_hold(self) -> dict[str, str]:
        """Return the versions, by name, of what the server takes this client to hold."""
        return {item.name: item.version for item in self.link.session.inventory() if item.version}

    def follows(self, type_url: str, name: str) -> bool:
        """Return whether the client wants to hear of a name."""
        held = self._held(type_url)
        return held.everything or bool({"*", name} & held.names)

    def content(self, type_url: str) -> dict[str, str]:
        """Return what is held of one type: revisions and references by name."""
        return self._held(type_url).content

    def versions(self, type_url: str) -> dict[str, str]:
        """Return the versions held of one type by name, which only the delta flavour tells."""
        return dict(self._held(type_url).versions)

    def _held(self, type_url: str) -> _Held:
        return self._types.setdefault(type_url, _Held())


def node(name: str = "proxy-1") -> wire.Node:
    """Return how a proxy introduces itself."""
    return wire.Node(id=name, cluster="group")


async def connect(plane: Plane, *, delta: bool, name: str = "proxy-1") -> Peer:
    """Open a stream and return the client on it, which has said nothing yet."""
    return Peer(await plane.open(delta=delta), delta, node(name))


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
