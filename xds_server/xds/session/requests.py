"""How a request changes the state of its type: an ACK, a NACK or a stale nonce, and the subscription."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from xds_server.xds.session.events import Acked, Event, Nacked, Stale
from xds_server.xds.session.state import NOTHING_NACKED, StreamState, TypeState, content
from xds_server.xds.snapshot import WILDCARD_TYPES, Resource

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xds_server.xds.session.variant import Request

__all__ = ["apply_answer", "apply_subscription"]

_MAX_MESSAGE_CHARACTERS: Final = 2_000


def apply_answer(stream: StreamState, type_url: str, state: TypeState, request: Request) -> Iterator[Event]:
    """Apply the ACK or NACK in a request and yield it as an event; yield `Stale` for an outdated nonce."""
    pending = state.in_flight
    if not request.nonce or (pending is None and not state.last_nonce):
        return  # The first request of this type on this stream, or one that only changes the subscription.
    if pending is None or request.nonce != pending.nonce:
        if request.nonce != state.last_nonce:
            yield Stale(type_url=type_url)
        return
    state.in_flight = None
    if request.error is not None:
        names = (*(resource.name for resource in pending.resources), *pending.removed)
        state.nack = Nacked(type_url=type_url, names=names, message=request.error[:_MAX_MESSAGE_CHARACTERS])
        state.nacked_content = content(pending.resources, pending.removed)
        # Envoy may have applied a part of the response it NACKed: the next response repeats all its names.
        state.resend |= frozenset(names)
        state.dirty |= frozenset(names)
        for name in pending.removed:
            state.forget_sent(name)  # The client may not have applied the removal.
        state.record_maybe_applied(pending.resources)
        yield state.nack
        return
    state.nack, state.nacked_content = None, NOTHING_NACKED
    if stream.full_sets and type_url in WILDCARD_TYPES:
        state.acked = {}
    # The client dropped resources that it unsubscribed from while the response was in flight.
    kept = [resource for resource in pending.resources if state.subscription.includes(resource.name)]
    state.record_acked(kept, pending.removed)
    yield Acked(type_url=type_url)


def apply_subscription(stream: StreamState, type_url: str, state: TypeState, request: Request) -> None:
    """Apply the names in a request to the subscription, and mark the names it affects as dirty."""
    first = state.requests == 0
    subscription = state.subscription
    was_wildcard = subscription.wildcard
    if stream.full_sets:
        change = subscription.replace(request.subscribe)
    else:
        change = subscription.update(request.subscribe, request.unsubscribe, first=first)
    for name in change.added:
        state.forget_sent(name)
    if change.added:
        state.dirty |= change.added
        # A client that subscribes to a name gets a response, even one with content that it NACKed before.
        state.nacked_content = NOTHING_NACKED
    if first:
        _adopt_initial_versions(type_url, state, request)
        state.reply_pending = subscription.wildcard
    if change.widened and stream.snapshot is not None:
        state.dirty |= stream.snapshot.of(type_url).keys() | state.sent.keys()
    gone = change.removed
    if was_wildcard and not subscription.wildcard:
        # A client that ends its wildcard drops what only the wildcard included.
        gone |= (state.sent.keys() | state.acked.keys()) - subscription.names
    for name in gone:
        if subscription.wildcard:
            # The wildcard still includes the name. The protocol requires a response with the resource, or its
            # removal, even if the same was sent before.
            state.resend |= {name}
            state.dirty |= {name}
            if state.sent.get(name) is None:
                state.forget_sent(name)
        else:
            state.forget_sent(name)
            state.record_acked((), (name,))
            state.dirty -= {name}
            state.resend -= {name}


def _adopt_initial_versions(type_url: str, state: TypeState, request: Request) -> None:
    """Record the resources that a reconnecting delta client reports in `initial_resource_versions`."""
    reported = [
        Resource(type_url=type_url, name=name, version=version, body=b"", refers_to=None)
        for name, version in request.initial_versions.items()
    ]
    state.record_acked(reported, ())
    state.dirty |= request.initial_versions.keys()
    for resource in reported:
        # A resource that is subscribed to by name is sent in any case: the client may be waiting for it.
        if resource.name not in request.subscribe:
            state.record_sent(resource.name, resource)
