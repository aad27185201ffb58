"""A snapshot: all resources that one node class is served, with a version and checked references.

Versions are hashes of content. A restarted control plane, or another replica, therefore gives the same
version to the same snapshot, so that unchanged resources need not be sent again. `build` rejects a snapshot
with a dangling reference.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from xds_server.xds.snapshot.resource import RUNTIME, Resource, short_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["DanglingReferenceError", "Snapshot", "build", "changes", "with_runtime"]


class DanglingReferenceError(ValueError):
    """A snapshot refers to a resource it does not contain; `missing` lists (referrer, missing resource)."""

    def __init__(self, missing: tuple[tuple[str, str], ...]) -> None:
        self.missing = missing
        listed = "; ".join(f"{source} refers to {target}" for source, target in missing)
        super().__init__(f"the snapshot lacks resources that it refers to: {listed}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The resources of one node class, by type URL and name.

    `version` is a hash over all resources. `version_without_runtime` leaves out the runtime layer, which
    holds traffic shares and kill switches: no proxy has a reason to NACK it, so its changes need no probes.
    """

    version: str
    version_without_runtime: str
    resources: Mapping[str, Mapping[str, Resource]]

    def of(self, type_url: str) -> Mapping[str, Resource]:
        """Return the resources of one type by name; empty for a type this snapshot does not contain."""
        return self.resources.get(type_url, _NOTHING)


_NOTHING: Final[Mapping[str, Resource]] = MappingProxyType({})


def build(resources: Iterable[Resource], former: Snapshot | None = None) -> Snapshot:
    """Return the snapshot of these resources; unchanged ones are the same objects as in `former`.

    Raises:
        DanglingReferenceError: A resource refers to one that is not among them.
    """
    found: dict[str, dict[str, Resource]] = {}
    before = {} if former is None else former.resources
    given = tuple(resources)
    for resource in given:
        known = before.get(resource.type_url, _NOTHING).get(resource.name)
        unchanged = known is not None and known.version == resource.version
        found.setdefault(resource.type_url, {})[resource.name] = (
            known if known is not None and unchanged else resource
        )
    missing = tuple(
        (f"{short_name(source.type_url)} {source.name!r}", f"{short_name(type_url)} {name!r}")
        for source in given
        if source.refers_to
        for type_url, name in sorted(
            ref for ref in source.refers_to if ref[1] not in found.get(ref[0], _NOTHING)
        )
    )
    if missing:
        raise DanglingReferenceError(missing)
    version = _version(found)
    if former is not None and former.version == version:
        return former
    return Snapshot(
        version=version,
        version_without_runtime=_version({t: named for t, named in found.items() if t != RUNTIME}),
        resources=MappingProxyType({t: _shared(t, named, former) for t, named in found.items()}),
    )


def with_runtime(snapshot: Snapshot, newest: Snapshot) -> Snapshot:
    """Return `snapshot` with the runtime layer of `newest`."""
    own, other = snapshot.of(RUNTIME), newest.of(RUNTIME)
    if own is other or {n: r.version for n, r in own.items()} == {n: r.version for n, r in other.items()}:
        return snapshot
    resources = {**snapshot.resources, RUNTIME: other}
    return Snapshot(
        version=_version(resources),
        version_without_runtime=snapshot.version_without_runtime,
        resources=MappingProxyType(resources),
    )


def changes(old: Snapshot | None, new: Snapshot) -> Mapping[str, frozenset[str]]:
    """Return by type URL the names that were added, changed or removed; unchanged types are left out."""
    if old is None:
        return {type_url: frozenset(named) for type_url, named in new.resources.items()}
    found = {}
    for type_url in (*new.resources, *(t for t in old.resources if t not in new.resources)):
        before, after = old.of(type_url), new.of(type_url)
        if before is after:
            continue
        changed = [n for n, r in after.items() if n not in before or before[n].version != r.version]
        names = frozenset((*changed, *(name for name in before if name not in after)))
        if names:
            found[type_url] = names
    return found


def _shared(type_url: str, named: dict[str, Resource], former: Snapshot | None) -> Mapping[str, Resource]:
    """Return the former mapping if it is equal: streams detect by identity that a type did not change."""
    before = None if former is None else former.resources.get(type_url)
    return before if before is not None and before == named else MappingProxyType(named)


def _version(resources: Mapping[str, Mapping[str, Resource]]) -> str:
    # A sum of precomputed hashes costs additions and not hashing for a snapshot of thousands of resources.
    # The addends have 256 bits so that two different snapshots do not get the same sum.
    total = sum(resource.share for named in resources.values() for resource in named.values())
    return blake2b(str(total).encode(), digest_size=8).hexdigest()
