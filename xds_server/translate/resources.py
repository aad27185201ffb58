"""A whole world of the IR → named, versioned bytes, and what each of them refers to.

Each cluster, endpoint list, route and listener pair is encoded once and remembered by its input, so a weight
step costs the encoding of one route.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache, lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from xds_server import ir
from xds_server.ir.names import APART, ENTRY_ROUTES, HOP_ROUTES
from xds_server.translate.clusters import HOP_LISTENER, assignment, cluster
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

_NOBODY: Final = ir.VirtualHost(name="nobody.invalid", host="nobody.invalid", routes=())
"""Stands where there is no virtual host: an Envoy that starts takes an empty answer for none, and waits."""


def resources(group: ir.ProxyConfig, scripts: Scripts) -> tuple[Resource, ...]:
    """Return everything one class of proxies is served."""
    found: list[Resource] = []
    for source in group.clusters:
        found.extend(_cluster_resources(source))
    found.extend(_listener_resources(group.listener, scripts, group.proxies.envoy))
    if group.proxies.virtual_hosts_apart:
        found.append(_entry_table())
        found.extend(map(_virtual_host_resource, group.virtual_hosts or (_NOBODY,)))
    else:
        table, hosts = entry_routes(group.virtual_hosts)
        entry_refs = {name for host in group.virtual_hosts for name in _named(host)}
        found.append(_resource(ENTRY_ROUTES, table, _clusters(entry_refs), hosts))
    hop_refs = {route.arm.cluster for route in group.mirror_routes}
    table, hosts = mirror_routes(group.mirror_routes)
    found.append(_resource(HOP_ROUTES, table, _clusters(hop_refs), hosts))
    found.append(_resource(RUNTIME_LAYER, runtime(group.virtual_hosts)))
    return tuple(found)


@cache
def _entry_table() -> Resource:
    plain = _resource(ENTRY_ROUTES, entry_table())
    return replace(plain, version=f"{APART}{plain.version}")


@lru_cache(maxsize=8192)
def _virtual_host_resource(host: ir.VirtualHost) -> Resource:
    head, routes = entry_virtual_host(host)
    return _resource(apart_name(host.name), head, _clusters(set(_named(host))), routes)


def _named(host: ir.VirtualHost) -> Iterator[ir.ClusterName]:
    """Yield the clusters the routes of a host name."""
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
    routes = {"entry": ENTRY_ROUTES, HOP_LISTENER: HOP_ROUTES}
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
