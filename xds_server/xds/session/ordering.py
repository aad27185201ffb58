"""Make before break: when a resource may be sent, and when it may be removed.

A route table or virtual host is sent only after the client ACKed every cluster that it names. Exceptions are
clusters that the client is not subscribed to, and clients that subscribe to no cluster (`may_send`).

A cluster is removed only when no listener, route table or virtual host that the client has, or may have,
names it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from xds_server.xds.session.state import same_version
from xds_server.xds.snapshot import CLUSTER, ENDPOINT, LISTENER, ROUTE, VIRTUAL_HOST

if TYPE_CHECKING:
    from xds_server.xds.session.state import StreamState, TypeState
    from xds_server.xds.snapshot import Resource

__all__ = ["may_remove", "may_send"]

_ROUTING: Final = (ROUTE, VIRTUAL_HOST)


def may_send(stream: StreamState, type_url: str, state: TypeState, resource: Resource) -> bool:
    """Return whether a resource may be sent now; only route tables and virtual hosts have to wait.

    They wait until the client ACKed all clusters that they name and is not being sent the removal of one.
    Clusters that the client is not subscribed to do not count: a client that subscribes to clusters by name
    does so only after it received a route that names them. A route table also does not wait if the client
    subscribed to no cluster and is not expected to (`expected_types`).
    """
    if type_url not in _ROUTING or same_version(state.acked.get(resource.name), resource):
        return True
    clusters = stream.types.get(CLUSTER)
    if clusters is None and (stream.expected_types or type_url == VIRTUAL_HOST):
        return False  # The client has yet to subscribe to clusters, and will subscribe to all.
    if clusters is None or resource.clusters is None:
        return type_url != VIRTUAL_HOST
    if stream.snapshot is not None and clusters.acked is clusters.sent is stream.snapshot.of(CLUSTER):
        return True  # The client has all clusters, and a snapshot has no dangling references.
    return all(
        (name in clusters.acked and clusters.sent.get(name) is not None)
        or not clusters.subscription.includes(name)
        for name in resource.clusters
    )


def may_remove(stream: StreamState, type_url: str, name: str) -> bool:
    """Return whether a resource may be removed now; clusters and endpoints wait until they are unused."""
    if type_url == CLUSTER:
        return not _is_named(stream, name) and not _is_subscribed_by_name(stream, name)
    clusters = stream.types.get(CLUSTER)
    return type_url != ENDPOINT or clusters is None or name not in clusters.acked


def _is_subscribed_by_name(stream: StreamState, cluster: str) -> bool:
    """Return whether a client that subscribes to clusters by name still subscribes to this one.

    Such a client ACKs a route table before using the table, and unsubscribes from unused clusters afterwards.
    Its calls would fail if the cluster were removed in between.
    """
    state = stream.types.get(CLUSTER)
    if state is None or not stream.full_sets or ROUTE not in stream.types:
        return False
    return not state.subscription.wildcard and cluster in state.subscription.names


def _is_named(stream: StreamState, cluster: str) -> bool:
    """Return whether any resource that the client has, may have or is being sent names this cluster.

    Return True, too, while the clusters that such a resource names are not known.
    """
    if _awaits_subscriptions(stream):
        return True
    for type_url in (LISTENER, *_ROUTING):
        state = stream.types.get(type_url)
        if state is None:
            continue
        in_flight = () if state.in_flight is None else state.in_flight.resources
        for resource in (*state.acked.values(), *in_flight, *state.maybe_applied):
            if resource.clusters is None or cluster in resource.clusters:
                return True
    return False


def _awaits_subscriptions(stream: StreamState) -> bool:
    """Return whether a reconnected client has yet to report which listeners and routes it has.

    It subscribes to clusters first. A cluster that is no longer in the snapshot may be in use until the
    client has reported the other types.
    """
    clusters = stream.types.get(CLUSTER)
    if clusters is None or not clusters.resumed:
        return False
    for type_url in stream.expected_types:
        state = stream.types.get(type_url)
        if state is None:
            return True
        if not state.acked:
            return False  # The client has no resource of this type, so it does not subscribe to the next one.
    return False
