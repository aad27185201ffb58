"""Route specs and how far their rollouts are → what one class of proxies should do (pure).

Names follow the spec, so that an operator who reads a proxy's statistics knows whose they are:
`chat/v2` serves users of route `chat`, `chat/hop` takes its copies, `chat/v2/shadow` is where they end.
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

    from xds_server.plan.traffic import Traffic
    from xds_server.spec import ModelRoute

__all__ = ["COLLECTOR", "plan", "route_table"]


@dataclass(frozen=True, slots=True, eq=False)
class _Parts:
    """What one route adds to a world. Two are equal only if they are one, so that hosts are found by them."""

    clusters: tuple[ir.Cluster, ...]
    mirror_routes: tuple[ir.MirrorRoute, ...]
    routes: tuple[ir.Route, ...]
    tokens: tuple[ir.TokenIssuer, ...]


@lru_cache(maxsize=8192)
def _parts(item: Traffic, *, captured: bool) -> _Parts:
    return _Parts(
        tuple(clusters(item.route)),
        tuple(mirror_routes(item, captured=captured)),
        tuple(routes(item, captured=captured)),
        tuple(_tokens(item.route)),
    )


def plan(
    proxies: ir.NodeClass,
    traffic: Sequence[Traffic],
    collector: ir.Address | None,
    *,
    reads_usage: bool = True,
) -> ir.ProxyConfig:
    """Return the world of one class of proxies; the order of `traffic` does not matter."""
    ordered = sorted(traffic, key=lambda item: item.route.metadata.name)
    parts = [_parts(item, captured=collector is not None) for item in ordered]
    claims: dict[str, list[_Parts]] = {}
    for item, own in zip(ordered, parts, strict=True):
        for host in item.route.spec.match.hosts:
            claims.setdefault(host, []).append(own)
    sink = () if collector is None else (collector_cluster(collector),)
    return ir.ProxyConfig(
        proxies=proxies,
        listener=ir.Listener(
            entry=proxies.entry,
            collector=None if collector is None else COLLECTOR,
            tokens=tuple(issuer for own in parts for issuer in own.tokens),
            reads_usage=reads_usage,
        ),
        virtual_hosts=tuple(
            _virtual_host(host, tuple(tuple(claims[c]) for c in (host, *_wider(host)) if c in claims))
            for host in sorted(claims)
        ),
        mirror_routes=tuple(route for own in parts for route in own.mirror_routes),
        clusters=(*sink, *(cluster for own in parts for cluster in own.clusters)),
    )


def route_table(item: Traffic) -> tuple[ir.Route, ...]:
    """Return the routes of one spec in the order in which a proxy asks them."""
    return tuple(routes(item, captured=False))


@lru_cache(maxsize=8192)
def _virtual_host(host: str, claims: tuple[tuple[_Parts, ...], ...]) -> ir.VirtualHost:
    """Return one host with the routes that claim it, then those that claim more hosts with it.

    Envoy picks a virtual host first and never looks at another; without the second part, a route for one host
    would take away from `*` what it does not even claim.
    """
    found: list[ir.Route] = []
    for claim in claims:
        # The routes of one spec keep their order: sorting is stable, and no two specs claim the same path.
        found.extend(sorted((route for parts in claim for route in parts.routes), key=_specificity))
    return ir.VirtualHost(name=host, host=host, routes=tuple(found))


def _wider(host: str) -> Iterator[str]:
    """Yield the wildcards that cover a host besides itself, narrowest first: `*.b.c`, `*.c`, `*`."""
    rest = host.removeprefix("*")
    while (dot := rest.find(".", 1)) >= 0:
        rest = rest[dot:]
        yield f"*{rest}"
    if host != "*":
        yield "*"


def _specificity(route: ir.Route) -> tuple[int, int, str]:
    """Exact paths first, then longer prefixes."""
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
