"""One xDS resource as it is sent: name, content version, encoded body, and what it refers to."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final

from xds_server.xds.wire import discovery_pb2 as wire

__all__ = [
    "CLUSTER",
    "ENDPOINT",
    "LISTENER",
    "ROUTE",
    "RUNTIME",
    "TYPE_ORDER",
    "VIRTUAL_HOST",
    "WILDCARD_TYPES",
    "Resource",
    "short_name",
]

_PREFIX: Final = "type.googleapis.com/envoy.config."
CLUSTER: Final = f"{_PREFIX}cluster.v3.Cluster"
ENDPOINT: Final = f"{_PREFIX}endpoint.v3.ClusterLoadAssignment"
LISTENER: Final = f"{_PREFIX}listener.v3.Listener"
ROUTE: Final = f"{_PREFIX}route.v3.RouteConfiguration"
VIRTUAL_HOST: Final = f"{_PREFIX}route.v3.VirtualHost"
RUNTIME: Final = "type.googleapis.com/envoy.service.runtime.v3.Runtime"

TYPE_ORDER: Final = (RUNTIME, CLUSTER, ENDPOINT, LISTENER, ROUTE, VIRTUAL_HOST)
"""The order in which types are sent, as in the xDS protocol: clusters precede what routes traffic to them.

Virtual hosts are last: a proxy subscribes to them after it received a route table without virtual hosts, and
they mirror to routes of the mirror listener's table.
"""

WILDCARD_TYPES: Final = frozenset({CLUSTER, LISTENER, VIRTUAL_HOST})
"""The types for which a first request without names subscribes to all resources.

For virtual hosts, the protocol specifies glob collections of names; Envoy sends an empty list.
"""

_NO_NAMES: Final[frozenset[str]] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Resource:
    """One named resource: `body` is an encoded google.protobuf.Any, `version` a hash of its content.

    `refers_to` holds (type URL, name) of every resource this one needs. None means unknown: only the version
    is known, because a reconnecting client reported it as a resource of an earlier stream.

    Resources are compared by identity, because thousands of streams compare and hash them. To find out
    whether two are the same configuration, compare `version`.
    """

    type_url: str
    name: str
    version: str
    body: bytes
    refers_to: frozenset[tuple[str, str]] | None = frozenset()
    clusters: frozenset[str] | None = field(init=False)
    """The clusters among `refers_to`; None if unknown."""
    delta: bytes = field(init=False, repr=False)
    """The resource as an encoded delta `Resource` message, serialized once for all clients."""
    share: int = field(init=False, repr=False)
    """The number that this resource adds to the version of a snapshot that holds it."""

    def __post_init__(self) -> None:
        """Compute what depends on the other fields."""
        clusters, delta, share = None, b"", 0
        if self.refers_to is not None:
            clusters = frozenset(name for kind, name in self.refers_to if kind == CLUSTER) or _NO_NAMES
            message = wire.Resource(name=self.name, version=self.version, resource=self.body)
            delta = message.SerializeToString()
            identity = f"{self.type_url}\0{self.name}\0{self.version}"
            share = int.from_bytes(blake2b(identity.encode(), digest_size=32).digest())
        object.__setattr__(self, "clusters", clusters)
        object.__setattr__(self, "delta", delta)
        object.__setattr__(self, "share", share)


def short_name(type_url: str) -> str:
    """Return the unqualified name of a resource type, such as `Cluster`."""
    return type_url.rsplit(".", 1)[-1]
