"""Snapshots whose resources contain only a name, a revision and references, as the protocol needs no more.

The value of each resource is a text with its name, revision and references, so that a client can read them
from the wire without information from the server.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

from google.protobuf.any_pb2 import Any as AnyMessage

from xds_server.xds.snapshot import CLUSTER, ENDPOINT, LISTENER, ROUTE, Resource, Snapshot, build

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["read", "resource", "resources", "snapshot"]

_STABLE_AND_CANDIDATE = {"candidate": 1, "stable": 1}
_FRONT = {"front": 1}
_NO_REFERENCES: frozenset[tuple[str, str]] = frozenset()


def resource(
    type_url: str,
    name: str,
    revision: int,
    refers_to: frozenset[tuple[str, str]] = _NO_REFERENCES,
    padding: int = 0,
) -> Resource:
    """Return a resource with this revision and `padding` more bytes."""
    names = ",".join(sorted(other for _, other in refers_to if other != name))
    value = f"{name} {revision} {names} {'.' * padding}".encode()
    body = AnyMessage(type_url=type_url, value=value).SerializeToString(deterministic=True)
    version = blake2b(body, digest_size=8).hexdigest()
    return Resource(type_url=type_url, name=name, version=version, body=body, refers_to=refers_to)


def read(body: bytes) -> tuple[str, str, str]:
    """Return type URL, name, and "revision references" of a resource on the wire."""
    message = AnyMessage.FromString(body)
    name, revision, names, _ = message.value.decode().split(" ")
    return message.type_url, name, f"{revision} {names}".strip()


def resources(
    clusters: Mapping[str, int] = _STABLE_AND_CANDIDATE,
    *,
    endpoints: Mapping[str, int] | None = None,
    listeners: Mapping[str, int] = _FRONT,
    routes: Mapping[str, tuple[int, tuple[str, ...]]] | None = None,
    padding: int = 0,
) -> tuple[Resource, ...]:
    """Return resources by name and revision; a route also has the clusters that it refers to.

    Without `endpoints` every cluster has some; without `routes` one route refers to every cluster.
    """
    endpoints = dict.fromkeys(clusters, 1) if endpoints is None else endpoints
    routes = {"main": (1, tuple(clusters))} if routes is None else routes
    return (
        *(resource(CLUSTER, n, r, frozenset({(ENDPOINT, n)}), padding) for n, r in clusters.items()),
        *(resource(ENDPOINT, name, revision) for name, revision in endpoints.items()),
        *(resource(LISTENER, name, revision) for name, revision in listeners.items()),
        *(
            resource(ROUTE, name, revision, frozenset((CLUSTER, cluster) for cluster in named))
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
    """Return a snapshot of `resources`, built anew so that it shares no objects with another one."""
    return build(
        resources(clusters, endpoints=endpoints, listeners=listeners, routes=routes, padding=padding)
    )
