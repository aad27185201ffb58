"""The clusters of one route: variants, mirror listener, shadows and key servers (pure)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from xds_server import ir

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xds_server.spec import Backend, ModelRoute, Shadow

__all__ = [
    "COLLECTOR",
    "clusters",
    "collector_cluster",
    "keys_name",
    "mirror_listener_name",
    "noise_name",
    "shadow_name",
    "shadow_of",
    "variant_name",
]

COLLECTOR: Final = ir.ClusterName("shiftplane/collector")

# The buffer of a copy exceeds the largest copied request by this much, for headers and framing.
_BUFFER_MARGIN: Final = 1 << 20
_HTTPS_PORT: Final = 443
_HTTP_PORT: Final = 80
_COLLECTOR_LIMITS: Final = ir.Limits(
    max_connections=16,
    max_pending_requests=64,
    max_requests=256,
    max_retries=0,
    buffer_bytes=4 << 20,
    max_stream=None,
)
_KEYS_LIMITS: Final = ir.Limits(
    max_connections=2,
    max_pending_requests=4,
    max_requests=4,
    max_retries=0,
    buffer_bytes=1 << 20,
    max_stream=None,
)


def collector_cluster(collector: ir.Address) -> ir.Cluster:
    """Return the cluster of the collector."""
    return ir.Cluster(
        name=COLLECTOR,
        kind=ir.ClusterKind.COLLECTOR,
        addresses=(collector,),
        connect_timeout=1.0,
        limits=_COLLECTOR_LIMITS,
    )


def clusters(route: ModelRoute) -> Iterator[ir.Cluster]:
    """Yield all clusters of a route."""
    for backend in route.spec.backends:
        yield _variant_cluster(route, backend)
    yield from _shadow_clusters(route)
    yield from _keys_clusters(route)


def variant_name(route: ModelRoute, variant: str) -> ir.ClusterName:
    """Return the cluster name of a variant that serves users."""
    return ir.ClusterName(f"{route.metadata.name}/{variant}")


def shadow_name(route: ModelRoute, variant: str) -> ir.ClusterName:
    """Return the cluster name of a variant that receives copies."""
    return ir.ClusterName(f"{route.metadata.name}/{variant}/shadow")


def noise_name(route: ModelRoute, variant: str) -> ir.ClusterName:
    """Return the cluster name of the stable variant that receives noise-baseline copies."""
    return ir.ClusterName(f"{route.metadata.name}/{variant}/noise")


def mirror_listener_name(route: ModelRoute) -> ir.ClusterName:
    """Return the name of the cluster that leads to the mirror listener."""
    return ir.ClusterName(f"{route.metadata.name}/hop")


def keys_name(route: ModelRoute, provider: str) -> ir.ClusterName:
    """Return the cluster name of a token provider's key server."""
    return ir.ClusterName(f"{route.metadata.name}/keys/{provider}")


def shadow_of(route: ModelRoute) -> Shadow | None:
    """Return the shadow strategy of a route, if any."""
    strategy = route.spec.strategy
    return None if strategy is None or route.spec.candidate is None else strategy.shadow


def _shadow_clusters(route: ModelRoute) -> Iterator[ir.Cluster]:
    shadow = shadow_of(route)
    if shadow is None:
        return
    limits = ir.Limits(
        max_connections=shadow.limits.max_concurrent_requests,
        max_pending_requests=shadow.limits.max_pending_requests,
        max_requests=shadow.limits.max_concurrent_requests,
        max_retries=0,
        buffer_bytes=shadow.limits.max_request_size + _BUFFER_MARGIN,
        max_stream=shadow.limits.timeout.total_seconds(),
    )
    targets = {route.spec.candidate: shadow_name}
    listener_limits = limits
    if shadow.compare.noise_baseline is not None:
        targets[route.spec.stable] = noise_name
        # Both copies of a request pass through the mirror listener, which therefore gets twice the limits.
        listener_limits = replace(
            limits,
            max_connections=2 * limits.max_connections,
            max_pending_requests=2 * limits.max_pending_requests,
            max_requests=2 * limits.max_requests,
        )
    yield ir.Cluster(
        name=mirror_listener_name(route),
        kind=ir.ClusterKind.MIRROR_LISTENER,
        addresses=(),
        connect_timeout=1.0,
        limits=listener_limits,
    )
    for backend in route.spec.backends:
        if backend.name in targets:
            yield ir.Cluster(
                name=targets[backend.name](route, backend.name),
                kind=_kind(backend),
                addresses=_addresses(backend),
                connect_timeout=route.spec.timeouts.connect.total_seconds(),
                limits=limits,
            )


def _keys_clusters(route: ModelRoute) -> Iterator[ir.Cluster]:
    for name, provider in route.spec.jwt_providers.items():
        if provider.jwks.url is None:
            continue
        where = urlsplit(provider.jwks.url)
        secure, host = where.scheme == "https", where.hostname or ""
        port = where.port or (_HTTPS_PORT if secure else _HTTP_PORT)
        yield ir.Cluster(
            name=keys_name(route, name),
            kind=ir.ClusterKind.KEYS,
            addresses=(ir.Address(host=host, port=port),),
            connect_timeout=2.0,
            limits=_KEYS_LIMITS,
            tls=ir.Tls(name=host, ca_file=provider.jwks.ca_file) if secure else None,
        )


def _variant_cluster(route: ModelRoute, backend: Backend) -> ir.Cluster:
    health = backend.passive_health
    return ir.Cluster(
        name=variant_name(route, backend.name),
        kind=_kind(backend),
        addresses=_addresses(backend),
        connect_timeout=route.spec.timeouts.connect.total_seconds(),
        health=(
            ir.PassiveHealth(
                consecutive_5xx=health.consecutive5xx,
                consecutive_gateway_failures=health.consecutive_gateway_failures,
                interval=health.interval.total_seconds(),
                ejection_time=health.ejection_time.total_seconds(),
            )
            if health.enabled
            else None
        ),
    )


def _kind(backend: Backend) -> ir.ClusterKind:
    return ir.ClusterKind.ENDPOINTS if backend.dns is None else ir.ClusterKind.DNS


def _addresses(backend: Backend) -> tuple[ir.Address, ...]:
    found = backend.endpoints if backend.dns is None else (backend.dns,)
    return tuple(ir.Address(host=endpoint.host, port=endpoint.port) for endpoint in found or ())
