"""Worlds of nothing but names, revisions and references: the protocol looks no deeper, a proxy would.

Each resource is an Any whose value says what it is, so that a client can read names and revisions from the
wire and need not ask the server what it meant.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING

from google.protobuf.any_pb2 import Any as AnyMessage

from xds_server.xds.snapshot import CLUSTER, ENDPOINT, LISTENER, ROUTE, Snapshot, build

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Resource", "read", "snapshot", "world"]

_STABLE_AND_CANDIDATE = {"candidate": 1, "stable": 1}
_FRONT = {"front": 1}


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource with nothing in it but its name, its revision and what it refers to."""

    type_url: str
    name: str
    revision: int
    refers_to: frozenset[tuple[str, str]] = frozenset()
    padding: int = 0

    @property
    def body(self) -> bytes:
        names = ",".join(sorted(name for _, name in self.refers_to if name != self.name))
        value = f"{self.name} {self.revision} {names} {'.' * self.padding}".encode()
        return AnyMessage(type_url=self.type_url, value=value).SerializeToString(deterministic=True)

    @property
    def version(self) -> str:
        return blake2b(self.body, digest_size=8).hexdigest()


def read(body: bytes) -> tuple[str, str, str]:
    """Return the type URL, the name, and the revision with what it refers to of a resource on the wire."""
    message = AnyMessage.FromString(body)
    name, revision, names, _ = message.value.decode().split(" ")
    return message.type_url, name, f"{revision} {names}".strip()


def world(
    clusters: Mapping[str, int] = _STABLE_AND_CANDIDATE,
    *,
    endpoints: Mapping[str, int] | None = None,
    listeners: Mapping[str, int] = _FRONT,
    routes: Mapping[str, tuple[int, tuple[str, ...]]] | None = None,
    padding: int = 0,
) -> tuple[Resource, ...]:
    """Return the resources of a world: names with revisions, and for a route the clusters it names.

    Without `endpoints` every cluster has some; without `routes` one route names every cluster.
    """
    endpoints = dict.fromkeys(clusters, 1) if endpoints is None else endpoints
    routes = {"main": (1, tuple(clusters))} if routes is None else routes
    return (
        *(Resource(CLUSTER, n, r, frozenset({(ENDPOINT, n)}), padding) for n, r in clusters.items()),
        *(Resource(ENDPOINT, name, revision) for name, revision in endpoints.items()),
        *(Resource(LISTENER, name, revision) for name, revision in listeners.items()),
        *(
            Resource(ROUTE, name, revision, frozenset((CLUSTER, cluster) for cluster in named))
            for name, (revision, named) in routes.items()
        ),
    )


def snapshot(
    clusters: Mapping[str, int] = _STABLE_AND_CANDIDATE,
    *,
    endpoints: Mapping[str, int] | None = None,
    listeners: Mapping[str, int] = _FRONT,
    routes: Mapping[str, tuple[int, tuple[str, ...]]] | None = None,
    padding: int = 0,
) -> Snapshot:
    """Return a world as it is served, built anew each time so that nothing is shared by chance."""
    return build(world(clusters, endpoints=endpoints, listeners=listeners, routes=routes, padding=padding))
