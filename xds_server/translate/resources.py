"""A complete proxy configuration → named, versioned resources with their references (pure).

Each cluster, endpoint list, route and listener pair is encoded once and cached by its input, so that a weight
step costs the encoding of one route.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache, lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from xds_server import ir
from xds_server.ir.names import ENTRY_ROUTES, MIRROR_ROUTES, SEPARATE_VERSION_PREFIX
from xds_server.translate.clusters import MIRROR_LISTENER, assignment, cluster
from xds_server.translate.encode import encode_any, type_url
from xds_server.translate.listeners import Scripts, listeners
from xds_server.translate.routes import (
    apart_name,
    entry_routes,
    entry_table,
    entry_virtual_host,
    mirror_routes,
)
from xds_server.translate.runtime import RUNTIME_LAYER, runtime
from xds_server.xds.snapshot import CLUSTER, ENDPOINT, ROUTE, Resource

if TYPE_CHECKING:
    from collections.abc import Iterator

    import betterproto2

__all__ = ["resources"]

_PLACEHOLDER_HOST: Final = ir.VirtualHost(name="nobody.invalid", host="nobody.invalid", routes=())
"""Used when there are no virtual hosts: a starting Envoy treats an empty response as missing, and waits."""


def resources(config: ir.ProxyConfig, scripts: Scripts) -> tuple[Resource, ...]:
    """Return all resources of one node class."""
    found: list[Resource] = []
    for source in config.clusters:
        found.extend(_cluster_resources(source))
    found.extend(_listener_resources(config.listener, scripts, config.node_class.envoy))
    if config.node_class.virtual_hosts_apart:
        found.append(_entry_table())
        found.extend(map(_virtual_host_resource, config.virtual_hosts or (_PLACEHOLDER_HOST,)))
    else:
        table, hosts = entry_routes(config.virtual_hosts)
        entry_refs = {name for host in config.virtual_hosts for name in _named(host)}
        found.append(_resource(ENTRY_ROUTES, table, _clusters(entry_refs), hosts))
    mirror_refs = {route.arm.cluster for route in config.mirror_routes}
    table, hosts = mirror_routes(config.mirror_routes)
    found.append(_resource(MIRROR_ROUTES, table, _clusters(mirror_refs), hosts))
    found.append(_resource(RUNTIME_LAYER, runtime(config.virtual_hosts)))
    return tuple(found)


@cache
def _entry_table() -> Resource:
    plain = _resource(ENTRY_ROUTES, entry_table())
    return replace(plain, version=f"{SEPARATE_VERSION_PREFIX}{plain.version}")


@lru_cache(maxsize=8192)
def _virtual_host_resource(host: ir.VirtualHost) -> Resource:
    head, routes = entry_virtual_host(host)
    return _resource(apart_name(host.name), head, _clusters(set(_named(host))), routes)


def _named(host: ir.VirtualHost) -> Iterator[ir.ClusterName]:
    """Yield the clusters that the routes of a host reference."""
    for route in host.routes:
        for arm in route.arms:
            yield arm.cluster
        for mirror in route.mirrors:
            yield mirror.cluster


@lru_cache(maxsize=8192)
def _cluster_resources(source: ir.Cluster) -> tuple[Resource, ...]:
    if source.kind is not ir.ClusterKind.ENDPOINTS:
        return (_resource(source.name, cluster(source)),)
    head, localities = assignment(source)
    endpoints = _resource(source.name, head, more=localities)
    return (_resource(source.name, cluster(source), frozenset({(ENDPOINT, source.name)})), endpoints)


@lru_cache(maxsize=256)
def _listener_resources(source: ir.Listener, scripts: Scripts, envoy: int) -> tuple[Resource, ...]:
    sinks = {source.collector, *(issuer.keys_cluster for issuer in source.tokens)}
    needed = _clusters({name for name in sinks if name is not None})
    routes = {"entry": ENTRY_ROUTES, MIRROR_LISTENER: MIRROR_ROUTES}
    return tuple(
        _resource(message.name, message, needed | {(ROUTE, routes[message.name])})
        for message in listeners(source, scripts, envoy)
    )


def _clusters(names: set[ir.ClusterName]) -> frozenset[tuple[str, str]]:
    return frozenset((CLUSTER, name) for name in names)


def _resource(
    name: str,
    message: betterproto2.Message,
    refers_to: frozenset[tuple[str, str]] = frozenset(),
    more: bytes = b"",
) -> Resource:
    body = encode_any(message, more)
    return Resource(
        type_url=type_url(type(message)),
        name=name,
        version=blake2b(body, digest_size=8).hexdigest(),
        body=body,
        refers_to=refers_to,
    )
