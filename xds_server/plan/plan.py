"""Route specs and how far their rollouts are → what one class of proxies should do (pure).

Names follow the spec, so that an operator who reads a proxy's statistics knows whose they are:
`chat/v2` serves users of route `chat`, `chat/hop` takes its copies, `chat/v2/shadow` is where they end.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from xds_server import ir
from xds_server.plan.slots import Share, segments

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from xds_server.spec import Backend, ModelRoute, Shadow

__all__ = ["COLLECTOR", "Traffic", "plan"]

COLLECTOR: Final = ir.ClusterName("shiftplane/collector")

# The room between the largest request that is copied and the buffer it is copied into: headers, framing.
_BUFFER_MARGIN: Final = 1 << 20
_COLLECTOR_LIMITS: Final = ir.Limits(
    max_connections=16,
    max_pending_requests=64,
    max_requests=256,
    max_retries=0,
    buffer_bytes=4 << 20,
    max_stream=None,
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Traffic:
    """A route and where its rollout stands: the candidate's weight and the mirrored share, basis points.

    Two are equal if they speak of the same route object: specs are frozen, and looking into a thousand of
    them for one that changed would cost more than planning that one.
    """

    route: ModelRoute
    weight: int
    mirror: int

    def __eq__(self, other: object) -> bool:
        """Compare the route by identity."""
        return isinstance(other, Traffic) and self.route is other.route and self._stands == other._stands

    def __hash__(self) -> int:
        """Agree with equality."""
        return hash((id(self.route), self._stands))

    @property
    def _stands(self) -> tuple[int, int]:
        return self.weight, self.mirror


@dataclass(frozen=True, slots=True, eq=False)
class _Parts:
    """What one route adds to a world. Two are equal only if they are one, so that hosts are found by them."""

    clusters: tuple[ir.Cluster, ...]
    hop_routes: tuple[ir.HopRoute, ...]
    routes: tuple[ir.Route, ...]


@lru_cache(maxsize=8192)
def _parts(item: Traffic, *, captured: bool) -> _Parts:
    return _Parts(
        tuple(_clusters(item)),
        tuple(_hop_routes(item, captured=captured)),
        tuple(_routes(item, captured=captured)),
    )


def plan(proxies: ir.Proxies, traffic: Sequence[Traffic], collector: ir.Address | None) -> ir.Group:
    """Return the world of one class of proxies; the order of `traffic` does not matter."""
    ordered = sorted(traffic, key=lambda item: item.route.metadata.name)
    captured = collector is not None
    clusters: list[ir.Cluster] = []
    hop_routes: list[ir.HopRoute] = []
    claims: dict[str, list[_Parts]] = {}
    if collector is not None:
        clusters.append(_collector_cluster(collector))
    for item in ordered:
        parts = _parts(item, captured=captured)
        clusters.extend(parts.clusters)
        hop_routes.extend(parts.hop_routes)
        for host in item.route.spec.match.hosts:
            claims.setdefault(host, []).append(parts)
    return ir.Group(
        proxies=proxies,
        listener=ir.Listener(
            entry=proxies.entry,
            collector=None if collector is None else COLLECTOR,
        ),
        virtual_hosts=tuple(
            _virtual_host(host, tuple(tuple(claims[c]) for c in (host, *_wider(host)) if c in claims))
            for host in sorted(claims)
        ),
        hop_routes=tuple(hop_routes),
        clusters=tuple(clusters),
    )


@lru_cache(maxsize=8192)
def _virtual_host(host: str, claims: tuple[tuple[_Parts, ...], ...]) -> ir.VirtualHost:
    """Return one host with the routes that claim it, then those that claim more hosts with it.

    Envoy picks a virtual host first and never looks at another; without the second part, a route for one host
    would take away from `*` what it does not even claim.
    """
    routes: list[ir.Route] = []
    for claim in claims:
        routes.extend(sorted((route for parts in claim for route in parts.routes), key=_specificity))
    return ir.VirtualHost(name=host, host=host, routes=tuple(routes))


def _wider(host: str) -> Iterator[str]:
    """Yield the wildcards that cover a host besides itself, narrowest first: `*.b.c`, `*.c`, `*`."""
    rest = host.removeprefix("*")
    while (dot := rest.find(".", 1)) >= 0:
        rest = rest[dot:]
        yield f"*{rest}"
    if host != "*":
        yield "*"


def _specificity(route: ir.Route) -> tuple[int, int, str, int]:
    """Exact paths first, then longer prefixes; the sampled route before its plain sibling."""
    path = route.path.exact or route.path.prefix or ""
    return (0 if route.path.exact else 1, -len(path), path, 0 if route.mirror is not None else 1)


def _collector_cluster(collector: ir.Address) -> ir.Cluster:
    return ir.Cluster(
        name=COLLECTOR,
        kind=ir.ClusterKind.COLLECTOR,
        addresses=(collector,),
        connect_timeout=1.0,
        limits=_COLLECTOR_LIMITS,
    )


def _cluster_name(route: ModelRoute, variant: str) -> ir.ClusterName:
    return ir.ClusterName(f"{route.metadata.name}/{variant}")


def _shadow_name(route: ModelRoute, variant: str) -> ir.ClusterName:
    return ir.ClusterName(f"{route.metadata.name}/{variant}/shadow")


def _hop_name(route: ModelRoute) -> ir.ClusterName:
    return ir.ClusterName(f"{route.metadata.name}/hop")


def _shadow(item: Traffic) -> Shadow | None:
    strategy = item.route.spec.strategy
    return None if strategy is None or item.route.spec.candidate is None else strategy.shadow


def _clusters(item: Traffic) -> Iterator[ir.Cluster]:
    route = item.route
    for backend in route.spec.backends:
        yield _variant_cluster(route, backend)
    shadow = _shadow(item)
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
    yield ir.Cluster(
        name=_hop_name(route), kind=ir.ClusterKind.HOP, addresses=(), connect_timeout=1.0, limits=limits
    )
    for backend in route.spec.backends:
        if backend.name == route.spec.candidate:
            yield ir.Cluster(
                name=_shadow_name(route, backend.name),
                kind=_kind(backend),
                addresses=_addresses(backend),
                connect_timeout=route.spec.timeouts.connect.total_seconds(),
                limits=limits,
            )


def _variant_cluster(route: ModelRoute, backend: Backend) -> ir.Cluster:
    health = backend.passive_health
    return ir.Cluster(
        name=_cluster_name(route, backend.name),
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


def _models(route: ModelRoute) -> dict[str, str | None]:
    """Return the model name each backend's leg must carry; None leaves bodies alone.

    As soon as one leg is rewritten all of them are: the copy of a request is made after its primary was
    rewritten, so each leg has to say its own name.
    """
    overridden = any(backend.model_name_override is not None for backend in route.spec.backends)
    return {
        backend.name: backend.model_name_override or (route.spec.model if overridden else None)
        for backend in route.spec.backends
    }


def _arms(item: Traffic) -> tuple[ir.Arm, ...]:
    spec = item.route.spec
    shares = (
        []
        if spec.candidate is None
        else [Share(variant=spec.candidate, weight=item.weight, reserved=ir.FULL)]
    )
    models = _models(item.route)
    return tuple(
        ir.Arm(
            cluster=_cluster_name(item.route, segment.variant),
            variant=segment.variant,
            weight=segment.slots,
            model=models[segment.variant],
        )
        for segment in segments(spec.stable, shares)
    )


def _stickiness(route: ModelRoute) -> ir.Stickiness | None:
    strategy = route.spec.strategy
    if strategy is None or strategy.canary is None or strategy.canary.stickiness is None:
        return None
    sticky = strategy.canary.stickiness
    return ir.Stickiness(
        header=route.spec.attributes[sticky.attribute].header,
        salt=sticky.salt or route.metadata.name,
    )


def _capture(route: ModelRoute, role: ir.Role) -> ir.Capture:
    return ir.Capture(route=route.metadata.name, role=role, max_body_bytes=route.spec.capture.max_body_size)


def _routes(item: Traffic, *, captured: bool) -> Iterator[ir.Route]:
    spec, name = item.route.spec, item.route.metadata.name
    plain = ir.Route(
        name=name,
        route=name,
        path=ir.PathMatch(prefix=spec.match.path.prefix, exact=spec.match.path.exact),
        arms=_arms(item),
        stickiness=_stickiness(item.route),
        mirror=None,
        capture=None,
        timeout=None if spec.timeouts.request is None else spec.timeouts.request.total_seconds(),
        idle_timeout=spec.timeouts.idle.total_seconds(),
        retries=spec.retries,
        response_headers=spec.response_headers,
    )
    shadow = _shadow(item)
    if shadow is not None and item.mirror > 0:
        yield ir.Route(
            name=f"{name}/sampled",
            route=name,
            path=plain.path,
            arms=plain.arms,
            stickiness=plain.stickiness,
            mirror=ir.Mirror(
                cluster=_hop_name(item.route),
                leg=f"{name}/shadow",
                fraction=item.mirror,
                runtime_key=f"shiftplane.{name}.shadow",
                max_request_bytes=shadow.limits.max_request_size,
            ),
            capture=_capture(item.route, ir.Role.PRIMARY) if captured else None,
            timeout=plain.timeout,
            idle_timeout=plain.idle_timeout,
            retries=plain.retries,
            response_headers=plain.response_headers,
        )
    yield plain


def _hop_routes(item: Traffic, *, captured: bool) -> Iterator[ir.HopRoute]:
    shadow, candidate = _shadow(item), item.route.spec.candidate
    if shadow is None or candidate is None:
        return
    name = item.route.metadata.name
    yield ir.HopRoute(
        name=f"{name}/shadow",
        leg=f"{name}/shadow",
        arm=ir.Arm(
            cluster=_shadow_name(item.route, candidate),
            variant=candidate,
            weight=ir.FULL,
            model=_models(item.route)[candidate],
        ),
        capture=_capture(item.route, ir.Role.SHADOW) if captured else None,
        timeout=shadow.limits.timeout.total_seconds(),
    )
