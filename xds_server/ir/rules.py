"""Safety rules for proxy configurations; each rule prevents a known crash or user-visible failure.

`violations` checks a finished configuration and reports every broken rule; the compiler does not publish a
configuration with violations. The rules repair nothing and do not depend on Envoy's messages.
"""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING

from xds_server.ir.model import (
    FULL,
    Arm,
    Cluster,
    ClusterKind,
    ClusterName,
    Listener,
    ProxyConfig,
    Route,
    VirtualHost,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["UnsafeConfigError", "violations"]


class UnsafeConfigError(Exception):
    """The configuration breaks a safety rule; the message has one sentence per violation."""


def violations(config: ProxyConfig) -> tuple[str, ...]:
    """Return one sentence per violation, in a stable order; empty for a configuration that may be served."""
    clusters = {cluster.name: cluster for cluster in config.clusters}
    return (
        *_unique_names(config),
        *_references(config, clusters),
        *chain.from_iterable(map(_split, _routes(config))),
        *_bounded(config, clusters),
        *chain.from_iterable(map(_stickiness, config.virtual_hosts)),
        *chain.from_iterable(map(_runtime_fractions, _routes(config))),
        *chain.from_iterable(map(_prompt, _routes(config))),
    )


def _routes(config: ProxyConfig) -> Iterator[Route]:
    for host in config.virtual_hosts:
        yield from host.routes


def _unique_names(config: ProxyConfig) -> Iterator[str]:
    for what, names in (
        ("cluster", [cluster.name for cluster in config.clusters]),
        ("virtual host", [host.name for host in config.virtual_hosts]),
        ("host", [host.host for host in config.virtual_hosts]),
        ("mirror leg", [route.leg for route in config.mirror_routes]),
    ):
        for name, count in Counter(names).items():
            if count > 1:
                yield f"{what} {name!r} appears {count} times; each {what} must appear only once"


def _references(config: ProxyConfig, clusters: dict[ClusterName, Cluster]) -> Iterator[str]:
    legs = {route.leg for route in config.mirror_routes}
    for route in _routes(config):
        for served in dict.fromkeys(arm.cluster for arm in route.arms):
            if served not in clusters:
                yield f"route {route.name!r} uses cluster {served!r}, which does not exist"
        for mirror in route.mirrors:
            if mirror.cluster not in clusters:
                yield f"route {route.name!r} mirrors to cluster {mirror.cluster!r}, which does not exist"
            if mirror.leg not in legs:
                leg = f"leg {mirror.leg!r}, but the mirror listener has no route for this leg"
                yield f"route {route.name!r} mirrors requests as {leg}"
    for mirror_route in config.mirror_routes:
        name, cluster = mirror_route.name, mirror_route.arm.cluster
        if cluster not in clusters:
            yield f"mirror route {name!r} uses cluster {cluster!r}, which does not exist"
    yield from _listener_references(config.listener, clusters)


def _listener_references(listener: Listener, clusters: dict[ClusterName, Cluster]) -> Iterator[str]:
    for tokens in listener.tokens:
        if tokens.keys_cluster is not None and tokens.keys_cluster not in clusters:
            yield f"token issuer {tokens.name!r} uses cluster {tokens.keys_cluster!r}, which does not exist"
    collector = listener.collector
    if collector is not None and collector not in clusters:
        yield f"the access log uses cluster {collector!r}, which does not exist"


@lru_cache(maxsize=16384)
def _split(route: Route) -> tuple[str, ...]:
    problems = []
    total = sum(arm.weight for arm in route.arms)
    if total != FULL or any(arm.weight < 0 for arm in route.arms):
        problems.append(
            f"route {route.name!r} has weights that add up to {total} basis points; "
            f"they must add up to {FULL}, and none may be negative"
        )
    by_variant: dict[str, Arm] = {}
    for arm in route.arms:
        first = by_variant.setdefault(arm.variant, arm)
        if (first.cluster, first.model) != (arm.cluster, arm.model):
            problems.append(
                f"route {route.name!r} maps variant {arm.variant!r} to two different clusters or models"
            )
    return tuple(problems)


def _bounded(config: ProxyConfig, clusters: dict[ClusterName, Cluster]) -> Iterator[str]:
    copied = {mirror.cluster for route in _routes(config) for mirror in route.mirrors}
    copied |= {mirror_route.arm.cluster for mirror_route in config.mirror_routes}
    copied |= {
        c.name
        for c in config.clusters
        if c.kind in {ClusterKind.MIRROR_LISTENER, ClusterKind.COLLECTOR, ClusterKind.KEYS}
    }
    served = {arm.cluster for route in _routes(config) for arm in route.arms}
    for name in sorted(copied & clusters.keys()):
        yield from _copy_limits(clusters[name])
    for name in sorted(copied & served):
        yield f"cluster {name!r} serves both users and copies; copies could exhaust the capacity for users"
    for name in sorted(served & clusters.keys()):
        if clusters[name].limits is not None:
            yield f"cluster {name!r} serves users and must not have limits that reject requests"
    for route in _routes(config):
        if route.idle_timeout <= 0:
            yield f"route {route.name!r} has no idle timeout: an idle stream would never end"
        yield from _mirror_fits(route, clusters)
    for mirror_route in config.mirror_routes:
        if mirror_route.timeout <= 0:
            yield f"mirror route {mirror_route.name!r} has no timeout: a copy could last forever"


def _copy_limits(cluster: Cluster) -> Iterator[str]:
    if cluster.limits is None:
        yield f"cluster {cluster.name!r} does not serve users and must have limits"
    elif cluster.limits.max_retries:
        yield f"cluster {cluster.name!r} does not serve users and must not retry"
    elif cluster.kind not in {ClusterKind.COLLECTOR, ClusterKind.KEYS} and cluster.limits.max_stream is None:
        yield f"cluster {cluster.name!r} receives copies of users' traffic but does not limit their duration"


def _mirror_fits(route: Route, clusters: dict[ClusterName, Cluster]) -> Iterator[str]:
    for mirror in route.mirrors:
        cluster = clusters.get(mirror.cluster)
        if cluster is None or cluster.limits is None:
            continue
        if cluster.limits.buffer_bytes <= mirror.max_request_bytes:
            yield (
                f"route {route.name!r} copies requests of up to {mirror.max_request_bytes} bytes into a "
                f"buffer of {cluster.limits.buffer_bytes} bytes: "
                "a shadow that stops reading would block the user"
            )


@lru_cache(maxsize=8192)
def _stickiness(host: VirtualHost) -> tuple[str, ...]:
    problems = []
    splits: dict[tuple[str, str], tuple[tuple[Arm, ...], object]] = {}
    for route in host.routes:
        split = (route.arms, route.stickiness)
        if splits.setdefault((route.route, route.split), split) != split:
            problems.append(
                f"route {route.name!r} splits differently from another route of the same split: "
                "users would change variants"
            )
    return tuple(problems)


def _runtime_fractions(route: Route) -> Iterator[str]:
    fraction = route.runtime_fraction
    if fraction is not None and not all(0 <= share <= FULL for share in (fraction.default, fraction.now)):
        yield (
            f"route {route.name!r} has a runtime fraction with default {fraction.default} and current value "
            f"{fraction.now}; both must be from 0 to {FULL} basis points"
        )
    if route.mirrors and fraction is None:
        yield f"route {route.name!r} mirrors without a runtime fraction: mirroring could not be stopped"


def _prompt(route: Route) -> Iterator[str]:
    if route.prompt is None:
        return
    defined = {text.version for text in route.prompt.texts} | {""}
    named = {
        route.prompt.default,
        *(version for version, _ in route.prompt.slots),
        *(pin.version for pin in route.prompt.pins),
    }
    for version in sorted(named - defined):
        yield f"route {route.name!r} serves prompt version {version!r}, which the route does not define"
    total = sum(length for _, length in route.prompt.slots)
    if total not in {0, FULL}:
        yield f"route {route.name!r} has {total} prompt slots; there must be {FULL}, or none"
