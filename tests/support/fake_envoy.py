"""A proxy without I/O: it stores the resources it accepted and subscribes to those they refer to.

It shares only the messages with the server. The body of a resource contains its identity and its references,
so that the proxy can verify a response by itself. It copies two behaviors of the real Envoy that have broken
servers: a new or changed cluster waits for its endpoints ("warming"), for which Envoy sends no second
request, and while any cluster is warming Envoy sends no request for clusters.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING

from google.protobuf.any_pb2 import Any as AnyMessage

from xds_server.snapshot import CLUSTER, ENDPOINT, LISTENER, ROUTE, VIRTUAL_HOST, Snapshot, build
from xds_server.wire import discovery_pb2 as wire

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

__all__ = ["FULL", "NAMED", "FakeEnvoy", "Made", "Response", "made", "read", "world_of"]

FULL = (CLUSTER, LISTENER, VIRTUAL_HOST)
NAMED = {CLUSTER: ENDPOINT, LISTENER: ROUTE}


@dataclass(frozen=True, slots=True)
class Made:
    """A test resource: `generation` is its content, `refers_to` the resources it needs."""

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

    def names(self, type_url: str) -> frozenset[str]:
        """Return the names of one type that the resource refers to."""
        return frozenset(name for kind, name in self.refers_to if kind == type_url)


def made(body: bytes) -> Made:
    """Parse a resource from its bytes."""
    message = AnyMessage.FromString(body)
    name, generation, refers_to = json.loads(message.value)
    return Made(message.type_url, name, generation, frozenset((kind, other) for kind, other in refers_to))


def world_of(resources: Iterable[Made]) -> Snapshot:
    return build(resources)


@dataclass(frozen=True, slots=True)
class Response:
    """A parsed and validated response of either protocol variant."""

    type_url: str
    nonce: str
    resources: Mapping[str, Made]
    removed: tuple[str, ...] = ()


def read(raw: bytes, *, delta: bool) -> Response:
    """Parse a response and check what every single response must fulfill."""
    message: wire.DeltaDiscoveryResponse | wire.DiscoveryResponse
    removed: tuple[str, ...] = ()
    if delta:
        message = wire.DeltaDiscoveryResponse.FromString(raw)
        told = [wire.Resource.FromString(body) for body in message.resources]
        resources = [made(resource.resource) for resource in told]
        assert [r.name for r in told] == [r.name for r in resources], "resource names are unique"
        assert [r.version for r in told] == [r.version for r in resources]
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
    """One proxy over all its streams; `send` passes a request to the current stream.

    With `explicit` it subscribes to `*`; an older proxy subscribes to nothing, which means everything.
    """

    delta: bool
    explicit: bool
    send: Callable[[bytes], None]
    held: dict[str, dict[str, Made]] = field(
        default_factory=lambda: {kind: {} for kind in (CLUSTER, ENDPOINT, LISTENER, ROUTE, VIRTUAL_HOST)}
    )
    follows: dict[str, set[str]] = field(default_factory=lambda: {ENDPOINT: set(), ROUTE: set()})
    curious: set[str] = field(default_factory=set)
    warming: dict[str, bool] = field(default_factory=dict)
    seen: list[tuple[str, str]] = field(default_factory=list)
    _last: dict[str, str] = field(default_factory=dict)
    _asked: set[str] = field(default_factory=set)
    _node_sent: bool = False
    _held_back: list[bytes] = field(default_factory=list)

    @property
    def active(self) -> set[str]:
        """The clusters that serve requests: all except new ones that still wait for endpoints."""
        return {name for name in self.held[CLUSTER] if self.warming.get(name, True)}

    # A stream

    def open(self, order: Sequence[str]) -> None:
        """Open a stream and subscribe to each type, with the versions of the stored resources."""
        self._node_sent = False
        self._asked, self._last, self.seen, self._held_back = set(), {}, [], []
        for type_url in order:
            if type_url in FULL or self.follows[type_url]:
                self._ask(type_url, subscribe=self._everything(type_url))

    def take(self, response: Response, *, refuse: bool = False, keep: Collection[str] = ()) -> None:
        """ACK or NACK a response; of a rejected one, the names in `keep` are applied nevertheless."""
        assert response.nonce not in {nonce for _, nonce in self.seen}, "a nonce occurs twice on one stream"
        self.seen.append((response.type_url, response.nonce))
        self._last[response.type_url] = response.nonce
        self._apply(response, None if not refuse else keep)
        self._ask(response.type_url, nonce=response.nonce, error="no" if refuse else "")
        self._follow()
        self._release()

    def ask_again(self, type_url: str, name: str) -> None:
        """Unsubscribe and resubscribe at once: the copy is dropped, and the server must send it again."""
        self.held[type_url].pop(name, None)
        self.follows[type_url].discard(name)
        self._ask(type_url, unsubscribe=[name])
        self.follows[type_url].add(name)
        self._ask(type_url, subscribe=[name])

    def be_curious(self, names: set[str]) -> None:
        """Subscribe to the endpoints of these names too, whether such clusters exist or not."""
        self.curious = names
        self._follow()

    def speak_of(self, type_url: str, nonce: str, *, error: str = "") -> None:
        """Send a request with the nonce of an old response or of another stream."""
        if type_url in self._asked:
            self._ask(type_url, nonce=nonce, error=error)

    def give_up_waiting(self, name: str) -> None:
        """Do what Envoy does after 15 seconds without endpoints."""
        self.warming.pop(name)
        self._release()

    # Inside

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
        if kind in FULL or name in self.follows[kind]:
            held[name] = resource

    def _follow(self) -> None:
        """Subscribe to the referenced resources and to nothing else."""
        for source, kind in NAMED.items():
            wanted = {name for resource in self.held[source].values() for name in resource.names(kind)}
            if kind == ENDPOINT:
                wanted |= self.curious
            before = self.follows[kind]
            if wanted == before:
                continue
            self.follows[kind] = wanted
            for name in before - wanted:
                self.held[kind].pop(name, None)
            self._ask(kind, subscribe=sorted(wanted - before), unsubscribe=sorted(before - wanted))

    def _everything(self, type_url: str) -> list[str]:
        if type_url in FULL:
            return ["*"] if self.explicit else []
        return sorted(self.follows[type_url])

    def _ask(
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
            first = type_url not in self._asked
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
                resource_names=self._everything(type_url),
                response_nonce=nonce or self._last.get(type_url, ""),
                error_detail=detail,
            )
        self._asked.add(type_url)
        if type_url == CLUSTER and self.warming:
            request.ClearField("node")
            self._held_back.append(request.SerializeToString())
            return
        self._node_sent = True
        self.send(request.SerializeToString())

    def _release(self) -> None:
        if self.warming or not self._held_back:
            return
        ready, self._held_back = self._held_back, []
        for raw in ready:
            self.send(raw)
