"""The rules no world may break, whoever planned it: each of them once crashed a proxy or hurt a user.

`violations` looks at finished values and names everything that is wrong; the compiler refuses to publish a
world with any. It does not repair and knows nothing of Envoy's messages.
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
    """The world would break a rule that protects users; each broken rule is one sentence of the message."""


def violations(group: ProxyConfig) -> tuple[str, ...]:
    """Return one sentence per broken rule, in a stable order; empty for a world that may be served."""
    clusters = {cluster.name: cluster for cluster in group.clusters}
    return (
        *_unique_names(group),
        *_references(group, clusters),
        *chain.from_iterable(map(_split, _routes(group))),
        *_bounded(group, clusters),
        *chain.from_iterable(map(_stickiness, group.virtual_hosts)),
        *chain.from_iterable(map(_gate, _routes(group))),
        *chain.from_iterable(map(_prompt, _routes(group))),
    )


def _routes(group: ProxyConfig) -> Iterator[Route]:
    for host in group.virtual_hosts:
        yield from host.routes


def _unique_names(group: ProxyConfig) -> Iterator[str]:
    for what, names in (
        ("cluster", [cluster.name for cluster in group.clusters]),
        ("virtual host", [host.name for host in group.virtual_hosts]),
        ("host", [host.host for host in group.virtual_hosts]),
        ("hop leg", [route.leg for route in group.mirror_routes]),
    ):
        for name, count in Counter(names).items():
            if count > 1:
                yield f"{what} {name!r} appears {count} times; Envoy would refuse the whole message"


def _references(group: ProxyConfig, clusters: dict[ClusterName, Cluster]) -> Iterator[str]:
    legs = {route.leg for route in group.mirror_routes}
    for route in _routes(group):
        for arm in route.arms:
            if arm.cluster not in clusters:
                yield f"route {route.name!r} points at cluster {arm.cluster!r}, which is not there"
        for mirror in route.mirrors:
            if mirror.cluster not in clusters:
                yield f"route {route.name!r} mirrors to cluster {mirror.cluster!r}, which is not there"
            if mirror.leg not in legs:
                yield f"route {route.name!r} mirrors leg {mirror.leg!r}, which the hop does not know"
    for hop in group.mirror_routes:
        if hop.arm.cluster not in clusters:
            yield f"hop route {hop.name!r} points at cluster {hop.arm.cluster!r}, which is not there"
    yield from _listener_references(group.listener, clusters)


def _listener_references(listener: Listener, clusters: dict[ClusterName, Cluster]) -> Iterator[str]:
    for tokens in listener.tokens:
        if tokens.keys_cluster is not None and tokens.keys_cluster not in clusters:
            yield f"tokens {tokens.name!r} need cluster {tokens.keys_cluster!r}, which is not there"
    collector = listener.collector
    if collector is not None and collector not in clusters:
        yield f"the access log points at cluster {collector!r}, which is not there"


@lru_cache(maxsize=16384)
def _split(route: Route) -> tuple[str, ...]:
    found = []
    total = sum(arm.weight for arm in route.arms)
    if total != FULL or any(arm.weight < 0 for arm in route.arms):
        found.append(f"route {route.name!r} has weights that sum to {total}; {FULL} is needed")
    by_variant: dict[str, Arm] = {}
    for arm in route.arms:
        first = by_variant.setdefault(arm.variant, arm)
        if (first.cluster, first.model) != (arm.cluster, arm.model):
            found.append(f"route {route.name!r} gives variant {arm.variant!r} two different meanings")
    return tuple(found)


def _bounded(group: ProxyConfig, clusters: dict[ClusterName, Cluster]) -> Iterator[str]:
    copied = {mirror.cluster for route in _routes(group) for mirror in route.mirrors}
    copied |= {hop.arm.cluster for hop in group.mirror_routes}
    copied |= {
        c.name for c in group.clusters if c.kind in {ClusterKind.HOP, ClusterKind.COLLECTOR, ClusterKind.KEYS}
    }
    served = {arm.cluster for route in _routes(group) for arm in route.arms}
    for name in sorted(copied & clusters.keys()):
        yield from _copy_limits(clusters[name])
    for name in sorted(copied & served):
        yield f"cluster {name!r} serves users and copies at once; copies could use up users' room"
    for name in sorted(served & clusters.keys()):
        if clusters[name].limits is not None:
            yield f"cluster {name!r} serves users and must not turn them away by limits"
    for route in _routes(group):
        if route.idle_timeout <= 0:
            yield f"route {route.name!r} has no idle timeout: a stuck stream would never end"
        yield from _mirror_fits(route, clusters)
    for hop in group.mirror_routes:
        if hop.timeout <= 0:
            yield f"hop route {hop.name!r} has no timeout: a hanging shadow would leak requests"


def _copy_limits(cluster: Cluster) -> Iterator[str]:
    if cluster.limits is None:
        yield f"cluster {cluster.name!r} takes copies of users' traffic but has no limits"
    elif cluster.limits.max_retries:
        yield f"cluster {cluster.name!r} takes copies of users' traffic and must not retry"
    elif cluster.kind not in {ClusterKind.COLLECTOR, ClusterKind.KEYS} and cluster.limits.max_stream is None:
        yield f"cluster {cluster.name!r} takes copies of users' traffic but lets them live for ever"


def _mirror_fits(route: Route, clusters: dict[ClusterName, Cluster]) -> Iterator[str]:
    for mirror in route.mirrors:
        cluster = clusters.get(mirror.cluster)
        if cluster is None or cluster.limits is None:
            continue
        if cluster.limits.buffer_bytes <= mirror.max_request_bytes:
            yield (
                f"route {route.name!r} copies requests of up to {mirror.max_request_bytes} bytes into a "
                f"buffer of {cluster.limits.buffer_bytes}: a shadow that stops reading would block the user"
            )


@lru_cache(maxsize=8192)
def _stickiness(host: VirtualHost) -> tuple[str, ...]:
    found = []
    splits: dict[tuple[str, str], tuple[tuple[Arm, ...], object]] = {}
    for route in host.routes:
        split = (route.arms, route.stickiness)
        if splits.setdefault((route.route, route.split), split) != split:
            found.append(f"route {route.name!r} splits differently from its sibling: users would move")
    return tuple(found)


def _gate(route: Route) -> Iterator[str]:
    gate = route.gate
    if gate is not None and not all(0 <= share <= FULL for share in (gate.default, gate.now)):
        yield f"route {route.name!r} takes {gate.default} or {gate.now} of {FULL}"
    if route.mirrors and gate is None:
        yield f"route {route.name!r} copies, and nothing could stop it at once"


def _prompt(route: Route) -> Iterator[str]:
    if route.prompt is None:
        return
    known = {text.version for text in route.prompt.texts} | {""}
    named = {
        route.prompt.default,
        *(version for version, _ in route.prompt.slots),
        *(pin.version for pin in route.prompt.pins),
    }
    for version in sorted(named - known):
        yield f"route {route.name!r} gives out prompt version {version!r}, which is not there"
    if sum(length for _, length in route.prompt.slots) not in {0, FULL}:
        yield f"route {route.name!r} has prompt slots that do not sum to {FULL}"
