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

from xds_server.xds.wire import discovery_pb2 as wire

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "CLUSTER",
    "ENDPOINT",
    "LISTENER",
    "ROUTE",
    "RUNTIME",
    "TYPE_ORDER",
    "VIRTUAL_HOST",
    "WILDCARD_TYPES",
    "DanglingReferenceError",
    "Entry",
    "Snapshot",
    "build",
    "changes",
    "short_name",
    "with_runtime",
]

_PREFIX: Final = "type.googleapis.com/envoy.config."
CLUSTER: Final = f"{_PREFIX}cluster.v3.Cluster"
ENDPOINT: Final = f"{_PREFIX}endpoint.v3.ClusterLoadAssignment"
LISTENER: Final = f"{_PREFIX}listener.v3.Listener"
ROUTE: Final = f"{_PREFIX}route.v3.RouteConfiguration"
VIRTUAL_HOST: Final = f"{_PREFIX}route.v3.VirtualHost"
RUNTIME: Final = "type.googleapis.com/envoy.service.runtime.v3.Runtime"

TYPE_ORDER: Final = (RUNTIME, CLUSTER, ENDPOINT, LISTENER, ROUTE, VIRTUAL_HOST)
"""The order in which additions travel: nothing arrives before what it refers to.

A route table without its virtual hosts asks for them, and virtual hosts mirror to routes of the hop's table.
"""

WILDCARD_TYPES: Final = frozenset({CLUSTER, LISTENER, VIRTUAL_HOST})
"""The types for which naming nothing means: all of them.

For virtual hosts the protocol promises names of a collection; what Envoy sends is an empty list.
"""


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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Entry:
    """One resource. `body` is an Any for state-of-the-world; `delta` the same inside a delta Resource.

    Two entries are equal only if they are one: thousands of streams compare and hash them. Compare versions.

    `clusters` are the clusters it refers to; None where that is not known (a resource of an earlier world
    which only the proxy remembers). `share` is what it adds to the version of a world that holds it.
    """

    name: str
    version: str
    body: bytes
    delta: bytes
    clusters: frozenset[str] | None
    share: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Everything one class of proxies is served.

    `version` is a hash over all of it, `core` one over all but the runtime layer: shares and kills, which no
    proxy has a reason to refuse.
    """

    version: str
    core: str
    entries: Mapping[str, Mapping[str, Entry]]

    def of(self, type_url: str) -> Mapping[str, Entry]:
        """Return the entries of one type by name; empty for a type this world does not hold."""
        return self.entries.get(type_url, _NOTHING)


_NOTHING: Final[Mapping[str, Entry]] = MappingProxyType({})


def build(resources: Iterable[Source], former: Snapshot | None = None) -> Snapshot:
    """Return the snapshot of these resources; what did not change since `former` is the same object there.

    Raises:
        DanglingReferenceError: Something refers to a resource that is not among them.
    """
    found: dict[str, dict[str, Entry]] = {}
    before = {} if former is None else former.entries
    given = tuple(resources)
    for resource in given:
        entry = before.get(resource.type_url, _NOTHING).get(resource.name)
        if entry is None or entry.version != resource.version:
            entry = _entry(resource)
        found.setdefault(resource.type_url, {})[resource.name] = entry
    missing = tuple(
        (f"{short_name(source.type_url)} {source.name!r}", f"{short_name(kind)} {name!r}")
        for source in given
        if source.refers_to
        for kind, name in sorted(n for n in source.refers_to if n[1] not in found.get(n[0], _NOTHING))
    )
    if missing:
        raise DanglingReferenceError(missing)
    version, core = _version(found), _version({k: own for k, own in found.items() if k != RUNTIME})
    if former is not None and former.version == version:
        return former
    return Snapshot(
        version=version,
        core=core,
        entries=MappingProxyType({kind: _shared(kind, own, former) for kind, own in found.items()}),
    )


def with_runtime(world: Snapshot, newest: Snapshot) -> Snapshot:
    """Return a world with the runtime layer of another."""
    own, other = world.of(RUNTIME), newest.of(RUNTIME)
    if own is other or {n: e.version for n, e in own.items()} == {n: e.version for n, e in other.items()}:
        return world
    entries = {**world.entries, RUNTIME: other}
    return Snapshot(version=_version(entries), core=world.core, entries=MappingProxyType(entries))


def changes(old: Snapshot | None, new: Snapshot) -> Mapping[str, frozenset[str]]:
    """Return by type the names that are new, changed or gone; types without any are left out."""
    if old is None:
        return {kind: frozenset(entries) for kind, entries in new.entries.items()}
    found = {}
    for kind in (*new.entries, *(kind for kind in old.entries if kind not in new.entries)):
        before, after = old.of(kind), new.of(kind)
        if before is after:
            continue
        changed = [n for n, e in after.items() if n not in before or before[n].version != e.version]
        names = frozenset((*changed, *(name for name in before if name not in after)))
        if names:
            found[kind] = names
    return found


def _entry(resource: Source) -> Entry:
    delta = wire.Resource(name=resource.name, version=resource.version, resource=resource.body)
    return Entry(
        name=resource.name,
        version=resource.version,
        body=resource.body,
        delta=delta.SerializeToString(),
        clusters=frozenset(name for kind, name in resource.refers_to if kind == CLUSTER),
        share=int.from_bytes(_digest(f"{resource.type_url}\0{resource.name}\0{resource.version}")),
    )


def _shared(kind: str, own: dict[str, Entry], former: Snapshot | None) -> Mapping[str, Entry]:
    """Return the former mapping where nothing changed: streams recognise it without looking inside."""
    before = None if former is None else former.entries.get(kind)
    return before if before is not None and before == own else MappingProxyType(own)


def _version(found: Mapping[str, Mapping[str, Entry]]) -> str:
    # A sum, so that a world of thousands costs thousands of additions and not of hashes; of long shares, so
    # that nobody finds two worlds with the same one.
    total = sum(entry.share for entries in found.values() for entry in entries.values())
    return blake2b(str(total).encode(), digest_size=8).hexdigest()


def _digest(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=32).digest()


def short_name(type_url: str) -> str:
    """Return the word people use for a type, such as `Cluster`."""
    return type_url.rsplit(".", 1)[-1]
