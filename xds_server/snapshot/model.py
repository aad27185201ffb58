"""A world as bytes: named, versioned entries, ready to be put on a wire.

Versions are hashes of content, so that a restarted or another control plane gives the same version to the
same world, and an unchanged resource never travels twice. A world with a dangling reference is refused here,
whoever built it.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Protocol

from xds_server.wire import discovery_pb2 as wire

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "CLUSTER",
    "ENDPOINT",
    "LISTENER",
    "ROUTE",
    "TYPE_ORDER",
    "WILDCARD_TYPES",
    "DanglingReferenceError",
    "Entry",
    "Snapshot",
    "build",
    "short_name",
]

_PREFIX: Final = "type.googleapis.com/envoy.config."
CLUSTER: Final = f"{_PREFIX}cluster.v3.Cluster"
ENDPOINT: Final = f"{_PREFIX}endpoint.v3.ClusterLoadAssignment"
LISTENER: Final = f"{_PREFIX}listener.v3.Listener"
ROUTE: Final = f"{_PREFIX}route.v3.RouteConfiguration"

TYPE_ORDER: Final = (CLUSTER, ENDPOINT, LISTENER, ROUTE)
"""The order in which additions travel: nothing arrives before what it refers to."""

WILDCARD_TYPES: Final = frozenset({CLUSTER, LISTENER})
"""The types for which naming nothing means: all of them."""


class DanglingReferenceError(ValueError):
    """A world refers to something it does not hold; `missing` lists (referrer, missing name)."""

    def __init__(self, missing: tuple[tuple[str, str], ...]) -> None:
        self.missing = missing
        listed = "; ".join(f"{source} needs {name}" for source, name in missing)
        super().__init__(f"the world is not complete: {listed}")


class Source(Protocol):
    """What `build` needs to know of a resource; `body` is an encoded google.protobuf.Any."""

    @property
    def type_url(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def body(self) -> bytes: ...
    @property
    def refers_to(self) -> frozenset[tuple[str, str]]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One resource. `body` is an Any for state-of-the-world; `delta` the same inside a delta Resource.

    `clusters` are the clusters it refers to; None where that is not known (a resource of an earlier world
    which only the proxy remembers).
    """

    name: str
    version: str
    body: bytes
    delta: bytes
    clusters: frozenset[str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Everything one class of proxies is served; `version` is a hash over all of it."""

    version: str
    entries: Mapping[str, Mapping[str, Entry]]

    def of(self, type_url: str) -> Mapping[str, Entry]:
        """Return the entries of one type by name; empty for a type this world does not hold."""
        return self.entries.get(type_url, _NOTHING)


_NOTHING: Final[Mapping[str, Entry]] = MappingProxyType({})


def build(resources: Iterable[Source]) -> Snapshot:
    """Return the snapshot of these resources.

    Raises:
        DanglingReferenceError: Something refers to a resource that is not among them.
    """
    found: dict[str, dict[str, Entry]] = {}
    needed: list[tuple[str, tuple[str, str]]] = []
    for resource in resources:
        delta = wire.Resource(name=resource.name, version=resource.version, resource=resource.body)
        found.setdefault(resource.type_url, {})[resource.name] = Entry(
            name=resource.name,
            version=resource.version,
            body=resource.body,
            delta=delta.SerializeToString(),
            clusters=frozenset(name for kind, name in resource.refers_to if kind == CLUSTER),
        )
        label = f"{short_name(resource.type_url)} {resource.name!r}"
        needed.extend((label, reference) for reference in sorted(resource.refers_to))
    missing = tuple(
        (label, f"{short_name(kind)} {name!r}")
        for label, (kind, name) in needed
        if name not in found.get(kind, {})
    )
    if missing:
        raise DanglingReferenceError(missing)
    return Snapshot(
        version=_version(found),
        entries=MappingProxyType({kind: MappingProxyType(entries) for kind, entries in found.items()}),
    )


def _version(found: Mapping[str, Mapping[str, Entry]]) -> str:
    digest = blake2b(digest_size=8)
    for kind in sorted(found):
        for name in sorted(found[kind]):
            digest.update(f"{kind}\0{name}\0{found[kind][name].version}\0".encode())
    return digest.hexdigest()


def short_name(type_url: str) -> str:
    """Return the word people use for a type, such as `Cluster`."""
    return type_url.rsplit(".", 1)[-1]
