"""A proxy without I/O: it keeps what it ACKed and subscribes to what that refers to.

It shares no code with the server except the messages. The bytes of a resource contain its type, name and
references, so that a test need not trust the rest of a response. Two behaviors of Envoy that servers have got
wrong are included: a new or changed cluster waits for its endpoints ("warming") without a new subscription to
them, and while a cluster is warming, no request about clusters is sent.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING

from google.protobuf.any_pb2 import Any as AnyMessage

from xds_server.xds.snapshot import (
    CLUSTER,
    ENDPOINT,
    LISTENER,
    ROUTE,
    VIRTUAL_HOST,
    Resource,
    Snapshot,
    build,
)
from xds_server.xds.wire import discovery_pb2 as wire

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

__all__ = ["FULL", "NAMED", "FakeEnvoy", "Made", "Response", "made", "read", "snapshot_of"]

FULL = (CLUSTER, LISTENER, VIRTUAL_HOST)
NAMED = {CLUSTER: ENDPOINT, LISTENER: ROUTE}


@dataclass(frozen=True, slots=True)
class Made:
    """A resource of a test: `generation` stands for its content, `refers_to` is what it needs."""

    type_url: str
    name: str
    generation: int
    refers_to: frozenset[tuple[str, str]] = frozenset()

    @property
    def body(self) -> bytes:
        text = json.dumps([self.name, self.generation, sorted(self.refers_to)])
        return AnyMessage(type_url=self.type_url, value=text.encode()).SerializeToString(deterministic=True)

    @property
    def version(self) -> str:
        return blake2b(self.body, digest_size=8).hexdigest()

    @property
    def resource(self) -> Resource:
        """The resource that the server sends."""
        return Resource(
            type_url=self.type_url,
            name=self.name,
            version=self.version,
            body=self.body,
            refers_to=self.refers_to,
        )

    def names(self, type_url: str) -> frozenset[str]:
        """The names of one type that it refers to."""
        return frozenset(name for kind, name in self.refers_to if kind == type_url)


def made(body: bytes) -> Made:
    """Parse a resource from its bytes."""
    message = AnyMessage.FromString(body)
    name, generation, refers_to = json.loads(message.value)
    return Made(message.type_url, name, generation, frozenset((kind, other) for kind, other in refers_to))


def snapshot_of(resources: Iterable[Made]) -> Snapshot:
    return build(one.resource for one in resources)


@dataclass(frozen=True, slots=True)
class Response:
    """A parsed response of either variant."""

    type_url: str
    nonce: str
    resources: Mapping[str, Made]
    removed: tuple[str, ...] = ()


def read(raw: bytes, *, delta: bool) -> Response:
    """Parse a response, and check the properties that every response has."""
    message: wire.DeltaDiscoveryResponse | wire.DiscoveryResponse
    removed: tuple[str, ...] = ()
    if delta:
        message = wire.DeltaDiscoveryResponse.FromString(raw)
        wrapped = [wire.Resource.FromString(body) for body in message.resources]
        resources = [made(resource.resource) for resource in wrapped]
        assert [r.name for r in wrapped] == [r.name for r in resources], (
            "the name in the message is the name in the body"
        )
        assert [r.version for r in wrapped] == [r.version for r in resources]
        removed = tuple(message.removed_resources)
    else:
        message = wire.DiscoveryResponse.FromString(raw)
        resources = [made(body) for body in message.resources]
    names = [resource.name for resource in resources]
    assert len({*names, *removed}) == len(names) + len(removed), "a name occurs twice in one response"
    assert all(resource.type_url == message.type_url for resource in resources)
    assert message.nonce
    assert message.control_plane.identifier
    return Response(message.type_url, message.nonce, {r.name: r for r in resources}, removed)


@dataclass(slots=True)
class FakeEnvoy:
    """One proxy and its streams, one after the other; `send` sends a request on the current stream.

    With `explicit` it subscribes to "*"; older proxies send an empty list instead.
    """

    delta: bool
    explicit: bool
    send: Callable[[bytes], None]
    held: dict[str, dict[str, Made]] = field(
        default_factory=lambda: {kind: {} for kind in (CLUSTER, ENDPOINT, LISTENER, ROUTE, VIRTUAL_HOST)}
    )
    subscribed: dict[str, set[str]] = field(default_factory=lambda: {ENDPOINT: set(), ROUTE: set()})
    extra_names: set[str] = field(default_factory=set)
    warming: dict[str, bool] = field(default_factory=dict)
    seen: list[tuple[str, str]] = field(default_factory=list)
    _last: dict[str, str] = field(default_factory=dict)
    _requested: set[str] = field(default_factory=set)
    _node_sent: bool = False
    _delayed: list[bytes] = field(default_factory=list)

    @property
    def active(self) -> set[str]:
        """The clusters that can serve requests: all except new ones that are warming."""
        return {name for name in self.held[CLUSTER] if self.warming.get(name, True)}

    # A stream

    def open(self, order: Sequence[str]) -> None:
        """Start a stream: subscribe to each type in `order`, and report the resources of earlier streams."""
        self._node_sent = False
        self._requested, self._last, self.seen, self._delayed = set(), {}, [], []
        for type_url in order:
            if type_url in FULL or self.subscribed[type_url]:
                self._request(type_url, subscribe=self._subscription(type_url))

    def take(self, response: Response, *, nack: bool = False, apply: Collection[str] = ()) -> None:
        """ACK or NACK a response; of a NACKed one, the names in `apply` are applied nevertheless."""
        assert response.nonce not in {nonce for _, nonce in self.seen}, "a nonce twice on one stream"
        self.seen.append((response.type_url, response.nonce))
        self._last[response.type_url] = response.nonce
        self._apply(response, None if not nack else apply)
        self._request(response.type_url, nonce=response.nonce, error="no" if nack else "")
        self._subscribe_to_references()
        self._send_delayed()

    def resubscribe(self, type_url: str, name: str) -> None:
        """Unsubscribe from a name and subscribe again at once: the server must send the resource again."""
        self.held[type_url].pop(name, None)
        self.subscribed[type_url].discard(name)
        self._request(type_url, unsubscribe=[name])
        self.subscribed[type_url].add(name)
        self._request(type_url, subscribe=[name])

    def subscribe_to_endpoints(self, names: set[str]) -> None:
        """Subscribe to the endpoints of these names too, whether or not there are such clusters."""
        self.extra_names = names
        self._subscribe_to_references()

    def send_nonce(self, type_url: str, nonce: str, *, error: str = "") -> None:
        """Send a request with the nonce of an old response, or of another stream."""
        if type_url in self._requested:
            self._request(type_url, nonce=nonce, error=error)

    def end_warming(self, name: str) -> None:
        """End the warming of a cluster without endpoints, as Envoy does after fifteen seconds."""
        self.warming.pop(name)
        self._send_delayed()

    # Internals

    def _apply(self, response: Response, only: Collection[str] | None) -> None:
        kind, held = response.type_url, self.held[response.type_url]
        gone = set(response.removed)
        if kind in FULL and not self.delta:
            gone = held.keys() - response.resources.keys()
        for name, resource in response.resources.items():
            if only is None or name in only:
                self._put(kind, resource)
        for name in gone:
            if only is None or name in only:
                held.pop(name, None)
                if kind == CLUSTER:
                    self.warming.pop(name, None)
        if kind == ENDPOINT:
            for name in (*response.resources, *response.removed):
                self.warming.pop(name, None)

    def _put(self, kind: str, resource: Made) -> None:
        name, held = resource.name, self.held[kind]
        if kind == CLUSTER:
            if not resource.refers_to:
                self.warming.pop(name, None)
            elif held.get(name) != resource:
                self.warming.setdefault(name, name in held)
        if kind in FULL or name in self.subscribed[kind]:
            held[name] = resource

    def _subscribe_to_references(self) -> None:
        """Subscribe to the resources that others refer to, and unsubscribe from the rest."""
        for source, kind in NAMED.items():
            wanted = {name for resource in self.held[source].values() for name in resource.names(kind)}
            if kind == ENDPOINT:
                wanted |= self.extra_names
            before = self.subscribed[kind]
            if wanted == before:
                continue
            self.subscribed[kind] = wanted
            for name in before - wanted:
                self.held[kind].pop(name, None)
            self._request(kind, subscribe=sorted(wanted - before), unsubscribe=sorted(before - wanted))

    def _subscription(self, type_url: str) -> list[str]:
        if type_url in FULL:
            return ["*"] if self.explicit else []
        return sorted(self.subscribed[type_url])

    def _request(
        self,
        type_url: str,
        *,
        subscribe: Sequence[str] = (),
        unsubscribe: Sequence[str] = (),
        nonce: str = "",
        error: str = "",
    ) -> None:
        node = None if self._node_sent else wire.Node(id="fake", cluster="chat")
        detail = wire.Status(code=13, message=error) if error else None
        request: wire.DeltaDiscoveryRequest | wire.DiscoveryRequest
        if self.delta:
            first = type_url not in self._requested
            request = wire.DeltaDiscoveryRequest(
                node=node,
                type_url=type_url,
                resource_names_subscribe=subscribe,
                resource_names_unsubscribe=unsubscribe,
                initial_resource_versions=(
                    {name: resource.version for name, resource in self.held[type_url].items()}
                    if first
                    else {}
                ),
                response_nonce=nonce,
                error_detail=detail,
            )
        else:
            request = wire.DiscoveryRequest(
                node=node,
                type_url=type_url,
                resource_names=self._subscription(type_url),
                response_nonce=nonce or self._last.get(type_url, ""),
                error_detail=detail,
            )
        self._requested.add(type_url)
        if type_url == CLUSTER and self.warming:
            request.ClearField("node")
            self._delayed.append(request.SerializeToString())
            return
        self._node_sent = True
        self.send(request.SerializeToString())

    def _send_delayed(self) -> None:
        if self.warming or not self._delayed:
            return
        ready, self._delayed = self._delayed, []
        for raw in ready:
            self.send(raw)
