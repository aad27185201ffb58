"""One xDS stream, without I/O: request bytes in, events out; a snapshot in, response bytes out.

The session tracks what the client subscribed to, what it was sent and what it ACKed, and derives the next
response from that alone. Three properties hold for every interleaving of requests and snapshots:

* Make before break: a route table or virtual host is sent only after the client ACKed every cluster that it
  names, with the exceptions described in `ordering`. A cluster is removed only when no route table, virtual
  host or listener that the client has, or may have, names it.
* At most one response per type is in flight. A newer snapshot replaces an unsent one, and an unchanged
  resource is sent again only if the protocol or Envoy requires it.
* The content of a NACKed response is not sent again before the client ACKs another response of the type or
  subscribes to a name.

The work after a change grows with the change and not with the snapshot: for each type, only the names in
`TypeState.dirty` are reviewed. When a client has ACKed a whole type, `TypeState.sent` and `TypeState.acked`
are normally replaced by the mapping of the snapshot itself, so that all synced streams share one mapping.
`requests` applies requests to the state, `responses` composes responses from it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from xds_server.xds.session.events import (
    ClientResource,
    Event,
    Identified,
    Nacked,
    NodeInfo,
    ProtocolError,
    Resumed,
)
from xds_server.xds.session.requests import apply_answer, apply_subscription
from xds_server.xds.session.responses import draft, record_response
from xds_server.xds.session.state import NOTHING, StreamState, TypeState, same_version
from xds_server.xds.session.subscription import Subscription
from xds_server.xds.session.variant import ProtocolVariant, Request, serialize_without_nonce
from xds_server.xds.snapshot import (
    CLUSTER,
    ENDPOINT,
    LISTENER,
    ROUTE,
    TYPE_ORDER,
    VIRTUAL_HOST,
    WILDCARD_TYPES,
    Snapshot,
    changes,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Session"]

_MAX_TYPES: Final = 64
_KNOWN_TYPES: Final = frozenset(TYPE_ORDER)
# A client without a subscription to the runtime layer can be synced.
_OPTIONAL_TYPES: Final = _KNOWN_TYPES - {CLUSTER, ENDPOINT, LISTENER, ROUTE, VIRTUAL_HOST}


class Session:
    """The server side of one xDS stream; `single_type` is the type of a stream that is not aggregated."""

    __slots__ = ("_identifier", "_nonce_prefix", "_nonces", "_state", "_variant", "node", "single_type")

    def __init__(
        self,
        variant: ProtocolVariant,
        *,
        identifier: str,
        nonce_prefix: str,
        single_type: str | None = None,
    ) -> None:
        """`identifier` names this control plane in every response; `nonce_prefix` makes nonces unique."""
        self.node: NodeInfo | None = None
        self.single_type = single_type
        self._variant = variant
        self._identifier = identifier
        self._nonce_prefix = nonce_prefix
        self._nonces = 0
        self._state = StreamState(full_sets=variant.full_sets)

    # Requests

    def receive(self, raw: bytes) -> tuple[Event, ...]:
        """Apply one request, and return what happened.

        Raises:
            ProtocolError: The bytes are not a request, or violate a rule of the protocol.
        """
        request = self._variant.parse(raw)
        events: list[Event] = []
        if self.node is None:
            if request.node is None or not request.node.id:
                raise ProtocolError("the first request of a stream must carry node.id")
            self.node = request.node
            events.append(Identified(node=request.node))
        type_url = self._type_of(request)
        types = self._state.types
        state = types.get(type_url)
        if state is None:
            if len(types) >= _MAX_TYPES:
                raise ProtocolError(f"a stream may request at most {_MAX_TYPES} resource types")
            state = types[type_url] = TypeState(
                subscription=Subscription(wildcard_type=type_url in WILDCARD_TYPES)
            )
        events.extend(apply_answer(self._state, type_url, state, request))
        apply_subscription(self._state, type_url, state, request)
        if state.requests == 0 and request.initial_versions:
            state.resumed = True
            events.append(Resumed(type_url=type_url, versions=request.initial_versions))
        state.requests += 1
        return tuple(events)

    def _type_of(self, request: Request) -> str:
        if self.single_type is None:
            if not request.type_url:
                raise ProtocolError("a request on an aggregated stream must carry type_url")
            return request.type_url
        if request.type_url not in {"", self.single_type}:
            raise ProtocolError(f"this service serves {self.single_type}, not {request.type_url[:200]}")
        return self.single_type

    # The snapshot

    @property
    def snapshot(self) -> Snapshot | None:
        """The snapshot this client should have; None if there is none to send."""
        return self._state.snapshot

    def offer(self, snapshot: Snapshot) -> None:
        """Set the snapshot this client should have; it replaces one that was not sent yet."""
        if snapshot is self._state.snapshot:
            return
        for type_url, names in changes(self._state.snapshot, snapshot).items():
            state = self._state.types.get(type_url)
            if state is not None:
                state.dirty |= names
        self._state.snapshot = snapshot

    def clear_snapshot(self) -> None:
        """Send no response until another snapshot is offered."""
        self._state.snapshot = None

    def expect_types(self, types: tuple[str, ...]) -> None:
        """Set the types that this client subscribes to after clusters (`StreamState.expected_types`)."""
        self._state.expected_types = types

    # Responses

    def next_response(self) -> bytes | None:
        """Return the next response to write, or None if there is nothing to send now."""
        snapshot, types = self._state.snapshot, self._state.types
        if snapshot is None:
            return None
        for type_url in TYPE_ORDER:
            state = types.get(type_url)
            if state is not None and state.can_respond:
                response = self._respond(type_url, state, snapshot)
                if response is not None:
                    return response
        return None if types.keys() <= _KNOWN_TYPES else self._respond_to_unknown(snapshot)

    def _respond_to_unknown(self, snapshot: Snapshot) -> bytes | None:
        for type_url, state in self._state.types.items():
            if type_url not in _KNOWN_TYPES and state.can_respond:
                response = self._respond(type_url, state, snapshot)
                if response is not None:
                    return response
        return None

    def _respond(self, type_url: str, state: TypeState, snapshot: Snapshot) -> bytes | None:
        found = draft(self._state, type_url, state, snapshot)
        if found is None:
            return None
        self._nonces += 1
        nonce = f"{self._nonce_prefix}{self._nonces}"
        record_response(self._state, type_url, state, found, nonce)
        # Everything but the nonce is the same for all clients in the same situation, and serialized once.
        shared = serialize_without_nonce(
            self._variant,
            type_url,
            self._identifier,
            snapshot.version,
            tuple(found.resources),
            () if self._variant.full_sets else tuple(found.removed),
        )
        return self._variant.with_nonce(shared, nonce)

    @property
    def has_work(self) -> bool:
        """Whether `next_response` must be called; it may still return None."""
        if self._state.snapshot is None:
            return False
        return any(state.can_respond for state in self._state.types.values())

    # Status

    @property
    def aggregated_delta(self) -> bool:
        """Whether this is an aggregated delta stream: all types, each resource sent individually."""
        return self.single_type is None and not self._variant.full_sets

    @property
    def synced(self) -> bool:
        """Whether the client ACKed the offered snapshot and has no other resources of a wildcard type."""
        types = TYPE_ORDER if self.single_type is None else (self.single_type,)
        return self._state.snapshot is not None and all(self.type_synced(type_url) for type_url in types)

    def type_synced(self, type_url: str) -> bool:
        """Return whether the client ACKed all resources of a type in the offered snapshot."""
        stream = self._state
        snapshot = stream.snapshot
        if snapshot is None:
            return False
        state = stream.types.get(type_url)
        if state is None:
            return type_url not in snapshot.resources or type_url in _OPTIONAL_TYPES
        return state.in_flight is None and _has_all(type_url, state, snapshot)

    @property
    def nacks(self) -> tuple[Nacked, ...]:
        """The last NACK of each type that no ACK has followed."""
        return tuple(state.nack for state in self._state.types.values() if state.nack is not None)

    def inventory(self) -> Iterator[ClientResource]:
        """Yield every resource that the client subscribed to or has, with its status."""
        snapshot = self._state.snapshot
        for type_url, state in self._state.types.items():
            yield from state.inventory(type_url, NOTHING if snapshot is None else snapshot.of(type_url))


def _has_all(type_url: str, state: TypeState, snapshot: Snapshot) -> bool:
    """Return whether the client ACKed all resources of a type in a snapshot.

    If it was sent exactly these, replace `sent` and `acked` by the snapshot's mapping, to save memory.
    """
    wanted = snapshot.of(type_url)
    if any(name in wanted for name in state.dirty):
        return False
    if state.acked is wanted:
        return True
    exact = len(state.acked) == len(wanted)
    if not exact and type_url in WILDCARD_TYPES:
        return False
    if not all(same_version(state.acked.get(name), resource) for name, resource in wanted.items()):
        return False
    if exact and state.sent.keys() == wanted.keys():
        state.acked = state.sent = wanted
    return True
