"""Specs and rollout states → the configuration of one node class (pure).

Cluster names follow the spec, so that operators can read a proxy's statistics: `chat/v2` serves users of
route `chat`, `chat/hop` leads copies to the mirror listener, and `chat/v2/shadow` receives them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from xds_server import ir
from xds_server.plan.attributes import claim_header
from xds_server.plan.clusters import COLLECTOR, clusters, collector_cluster, keys_name
from xds_server.plan.routes import mirror_routes, routes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from xds_server.plan.traffic import RouteTraffic
    from xds_server.spec import ModelRoute

__all__ = ["COLLECTOR", "plan", "route_table"]


@dataclass(frozen=True, slots=True, eq=False)
class _Parts:
    """The part of a configuration that comes from one route; compared by identity to keep caching cheap."""

    clusters: tuple[ir.Cluster, ...]
    mirror_routes: tuple[ir.MirrorRoute, ...]
    routes: tuple[ir.Route, ...]
    tokens: tuple[ir.TokenIssuer, ...]


@lru_cache(maxsize=8192)
def _parts(item: RouteTraffic, *, captured: bool) -> _Parts:
    return _Parts(
        tuple(clusters(item.route)),
        tuple(mirror_routes(item, captured=captured)),
        tuple(routes(item, captured=captured)),
        tuple(_tokens(item.route)),
    )


def plan(
    node_class: ir.NodeClass,
    traffic: Sequence[RouteTraffic],
    collector: ir.Address | None,
    *,
    reads_usage: bool = True,
) -> ir.ProxyConfig:
    """Return the configuration of one node class; the order of `traffic` does not matter."""
    ordered = sorted(traffic, key=lambda item: item.route.metadata.name)
    parts = [_parts(item, captured=collector is not None) for item in ordered]
    claims: dict[str, list[_Parts]] = {}
    for item, part in zip(ordered, parts, strict=True):
        for host in item.route.spec.match.hosts:
            claims.setdefault(host, []).append(part)
    sink = () if collector is None else (collector_cluster(collector),)
    return ir.ProxyConfig(
        node_class=node_class,
        listener=ir.Listener(
            entry=node_class.entry,
            collector=None if collector is None else COLLECTOR,
            tokens=tuple(issuer for part in parts for issuer in part.tokens),
            reads_usage=reads_usage,
        ),
        virtual_hosts=tuple(
            _virtual_host(host, tuple(tuple(claims[c]) for c in (host, *_wider_hosts(host)) if c in claims))
            for host in sorted(claims)
        ),
        mirror_routes=tuple(route for part in parts for route in part.mirror_routes),
        clusters=(*sink, *(cluster for part in parts for cluster in part.clusters)),
    )


def route_table(item: RouteTraffic) -> tuple[ir.Route, ...]:
    """Return the routes of one spec in evaluation order."""
    return tuple(routes(item, captured=False))


@lru_cache(maxsize=8192)
def _virtual_host(host: str, claims: tuple[tuple[_Parts, ...], ...]) -> ir.VirtualHost:
    """Return the virtual host of one host: the routes that match it, then those that match wider hosts.

    Envoy selects one virtual host and never falls back to another; without the wider routes, a route for one
    host would hide those of `*` for paths it does not match.
    """
    found: list[ir.Route] = []
    for claim in claims:
        # All routes of one spec have the same path, hence the same sort key, and the sort is stable: they
        # keep their order. No other spec of this host has that path, so they stay together.
        found.extend(sorted((route for parts in claim for route in parts.routes), key=_specificity))
    return ir.VirtualHost(name=host, host=host, routes=tuple(found))


def _wider_hosts(host: str) -> Iterator[str]:
    """Yield the wildcards that also match a host, narrowest first; for `a.b.c`: `*.b.c`, `*.c`, `*`."""
    rest = host.removeprefix("*")
    while (dot := rest.find(".", 1)) >= 0:
        rest = rest[dot:]
        yield f"*{rest}"
    if host != "*":
        yield "*"


def _specificity(route: ir.Route) -> tuple[int, int, str]:
    """Sort key: exact paths first, then longer prefixes."""
    path = route.path.exact or route.path.prefix or ""
    return (0 if route.path.exact else 1, -len(path), path)


def _tokens(route: ModelRoute) -> Iterator[ir.TokenIssuer]:
    for name, provider in route.spec.jwt_providers.items():
        claims = tuple(
            (claim_header(route.metadata.name, attribute), source.claim)
            for attribute, source in route.spec.attributes.items()
            if source.claim is not None and (source.provider or name) == name
        )
        if not claims:
            continue
        yield ir.TokenIssuer(
            name=f"{route.metadata.name}/{name}",
            issuer=provider.issuer,
            audiences=provider.audiences,
            claims=claims,
            keys=provider.jwks.inline,
            keys_url=provider.jwks.url,
            keys_cluster=None if provider.jwks.url is None else keys_name(route, name),
        )
