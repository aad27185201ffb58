"""What the next response of a type contains, and what is recorded when it is sent."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING

from xds_server.xds.session.ordering import may_remove, may_send
from xds_server.xds.session.state import (
    NO_NAMES,
    PendingResponse,
    StreamState,
    TypeState,
    content,
    same_version,
)
from xds_server.xds.snapshot import CLUSTER, ENDPOINT, VIRTUAL_HOST, WILDCARD_TYPES

if TYPE_CHECKING:
    from xds_server.xds.snapshot import Resource, Snapshot

__all__ = ["Draft", "draft", "record_response"]


@dataclass(frozen=True, slots=True)
class Draft:
    """The content of a response: resources to send, names to remove, and names that must wait."""

    resources: list[Resource]
    removed: list[str]
    blocked: set[str]


def draft(stream: StreamState, type_url: str, state: TypeState, snapshot: Snapshot) -> Draft | None:
    """Return the content of the next response of a type; None if there is nothing to send now."""
    found = _review(stream, type_url, state, snapshot)
    if type_url == VIRTUAL_HOST and found.blocked and not state.acked:
        # Envoy serves requests after the first response. With only some of the virtual hosts, it would reject
        # requests for the others. All names stay dirty until none of them is blocked.
        return None
    state.dirty = frozenset(found.blocked) if found.blocked else NO_NAMES
    if not found.resources and not found.removed and not state.reply_pending:
        return None
    changed = found.resources
    if stream.full_sets and type_url in WILDCARD_TYPES:
        # The client deletes what is not in the response, so unchanged resources are part of it.
        found = Draft(_full_set(type_url, state, snapshot, found), found.removed, found.blocked)
    if state.nacked_content and content(found.resources, found.removed) == state.nacked_content:
        state.dirty |= {resource.name for resource in changed} | set(found.removed)
        return None
    return found


def record_response(stream: StreamState, type_url: str, state: TypeState, found: Draft, nonce: str) -> None:
    """Record that a response with this content and nonce is sent."""
    # When Envoy updates a cluster, it waits for the endpoints again but does not subscribe to them again.
    if type_url == CLUSTER:
        _resend_endpoints(stream, state, found.resources)
    if stream.full_sets and type_url in WILDCARD_TYPES:
        state.sent = {}
    for resource in found.resources:
        state.record_sent(resource.name, resource)
    for name in found.removed:
        if name in state.subscription.names:
            state.record_sent(name, None)
        else:
            state.forget_sent(name)
    if state.resend:
        state.resend &= found.blocked.difference(resource.name for resource in found.resources)
    state.reply_pending = False
    state.last_nonce = nonce
    state.in_flight = PendingResponse(
        nonce=nonce, resources=tuple(found.resources), removed=tuple(found.removed)
    )


def _review(stream: StreamState, type_url: str, state: TypeState, snapshot: Snapshot) -> Draft:
    """Sort the dirty names into those to send, those to remove and those that must wait."""
    found = Draft([], [], set())
    wanted, names = snapshot.of(type_url), state.subscription.names
    wildcard, full_sets = state.subscription.wildcard, stream.full_sets
    for name in state.dirty:
        resource, sent = wanted.get(name), state.sent.get(name)
        if resource is not None:
            subscribed = wildcard or name in names
            if not subscribed or (name not in state.resend and same_version(sent, resource)):
                state.learn_references(resource)
            elif may_send(stream, type_url, state, resource):
                found.resources.append(resource)
            else:
                found.blocked.add(name)
        elif sent is not None:
            if not may_remove(stream, type_url, name):
                if name in state.resend:
                    found.resources.append(sent)
                found.blocked.add(name)
            elif not full_sets or type_url in WILDCARD_TYPES:
                found.removed.append(name)
        elif not full_sets and (name in state.resend or (name in names and name not in state.sent)):
            found.removed.append(name)
    found.resources.sort(key=attrgetter("name"))
    found.removed.sort()
    return found


def _full_set(type_url: str, state: TypeState, snapshot: Snapshot, found: Draft) -> list[Resource]:
    """Return all resources of a type that the client should have now, with old versions of blocked ones."""
    wanted, resources = snapshot.of(type_url), []
    for name, resource in wanted.items():
        if not state.subscription.includes(name):
            continue
        if name not in found.blocked:
            resources.append(resource)
        elif name in state.acked:
            resources.append(state.acked[name])
    kept = (state.sent.get(name) for name in found.blocked if name not in wanted)
    resources.extend(resource for resource in kept if resource is not None)
    return resources


def _resend_endpoints(stream: StreamState, clusters: TypeState, resources: list[Resource]) -> None:
    """Mark the endpoints of clusters that are new or changed in this response to be sent again."""
    endpoints = stream.types.get(ENDPOINT)
    if endpoints is None:
        return
    for resource in resources:
        changed = not same_version(clusters.sent.get(resource.name), resource)
        if changed and resource.name in endpoints.subscription.names:
            endpoints.resend |= {resource.name}
            endpoints.dirty |= {resource.name}
