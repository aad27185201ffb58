"""The rules no world may break, whoever planned it: each of them once crashed a proxy or hurt a user.

`violations` looks at finished values and names everything that is wrong; the compiler refuses to publish a
world with any. It does not repair and knows nothing of Envoy's messages.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from xds_server.ir.model import FULL, Arm, Cluster, ClusterKind, ClusterName, Group, Route

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["WorldError", "violations"]


class WorldError(Exception):
    """The world would break a rule that protects users; each broken rule is one sentence of the message."""


def violations(group: Group) -> tuple[str, ...]:
    """Return one sentence per broken rule, in a stable order; empty for a world that may be served."""
    clusters = {cluster.name: cluster for cluster in group.clusters}
    return (
        *_unique_names(group),
        *_references(group, clusters),
        *_splits(group),
        *_bounded(group, clusters),
        *_stickiness(group),
    )


def _routes(group: Group) -> Iterator[Route]:
    for host in group.virtual_hosts:
        yield from host.routes


def _unique_names(group: Group) -> Iterator[str]:
    for what, names in (
        ("cluster", [cluster.name for cluster in group.clusters]),
        ("virtual host", [host.name for host in group.virtual_hosts]),
        ("host", [host.host for host in group.virtual_hosts]),
        ("hop leg", [route.leg for route in group.hop_routes]),
    ):
        for name, count in Counter(names).items():
            if count > 1:
                yield f"{what} {name!r} appears {count} times; Envoy would refuse the whole message"


def _references(group: Group, clusters: dict[ClusterName, Cluster]) -> Iterator[str]:
    legs = {route.leg for route in group.hop_routes}
    for route in _routes(group):
        for arm in route.arms:
            if arm.cluster not in clusters:
                yield f"route {route.name!r} points at cluster {arm.cluster!r}, which is not there"
        if route.mirror is not None:
            if route.mirror.cluster not in clusters:
                yield f"route {route.name!r} mirrors to cluster {route.mirror.cluster!r}, which is not there"
            if route.mirror.leg not in legs:
                yield f"route {route.name!r} mirrors leg {route.mirror.leg!r}, which the hop does not know"
    for hop in group.hop_routes:
        if hop.arm.cluster not in clusters:
            yield f"hop route {hop.name!r} points at cluster {hop.arm.cluster!r}, which is not there"
    collector = group.listener.collector
    if collector is not None and collector not in clusters:
        yield f"the access log points at cluster {collector!r}, which is not there"


def _splits(group: Group) -> Iterator[str]:
    for route in _routes(group):
        total = sum(arm.weight for arm in route.arms)
        if total != FULL or any(arm.weight < 0 for arm in route.arms):
            yield f"route {route.name!r} has weights that sum to {total}; {FULL} is needed"
        by_variant: dict[str, Arm] = {}
        for arm in route.arms:
            first = by_variant.setdefault(arm.variant, arm)
            if (first.cluster, first.model) != (arm.cluster, arm.model):
                yield f"route {route.name!r} gives variant {arm.variant!r} two different meanings"


def _bounded(group: Group, clusters: dict[ClusterName, Cluster]) -> Iterator[str]:
    copied = {route.mirror.cluster for route in _routes(group) if route.mirror is not None}
    copied |= {hop.arm.cluster for hop in group.hop_routes}
    copied |= {c.name for c in group.clusters if c.kind in {ClusterKind.HOP, ClusterKind.COLLECTOR}}
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
    for hop in group.hop_routes:
        if hop.timeout <= 0:
            yield f"hop route {hop.name!r} has no timeout: a hanging shadow would leak requests"


def _copy_limits(cluster: Cluster) -> Iterator[str]:
    if cluster.limits is None:
        yield f"cluster {cluster.name!r} takes copies of users' traffic but has no limits"
    elif cluster.limits.max_retries:
        yield f"cluster {cluster.name!r} takes copies of users' traffic and must not retry"
    elif cluster.kind is not ClusterKind.COLLECTOR and cluster.limits.max_stream is None:
        yield f"cluster {cluster.name!r} takes copies of users' traffic but lets them live for ever"


def _mirror_fits(route: Route, clusters: dict[ClusterName, Cluster]) -> Iterator[str]:
    if route.mirror is None:
        return
    cluster = clusters.get(route.mirror.cluster)
    if cluster is None or cluster.limits is None:
        return
    if cluster.limits.buffer_bytes <= route.mirror.max_request_bytes:
        yield (
            f"route {route.name!r} copies requests of up to {route.mirror.max_request_bytes} bytes into a "
            f"buffer of {cluster.limits.buffer_bytes}: a shadow that stops reading would block the user"
        )


def _stickiness(group: Group) -> Iterator[str]:
    for host in group.virtual_hosts:
        splits: dict[str, tuple[tuple[Arm, ...], object]] = {}
        for route in host.routes:
            split = (route.arms, route.stickiness)
            if splits.setdefault(route.route, split) != split:
                yield f"route {route.name!r} splits differently from its sibling: users would move"
