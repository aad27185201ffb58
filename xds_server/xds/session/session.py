"""One discovery stream, without I/O: request bytes in, events out; a world in, response bytes out.

The session knows what this client asked for, was told and has accepted, and derives from that alone what to
say next. Three promises hold whatever the interleaving:

* Make before break: a route table or virtual host is not sent before every cluster it names was accepted on
  this stream, and a cluster is not taken away while one of them, or a listener, may still name it.
* One response per type is outstanding; a newer world replaces what waits, and nothing is sent twice.
* A rejected response is not repeated; what the client accepted last stays the truth about it.

What is to be looked at grows with a change and not with the world: each type keeps a list of the names whose
standing may have changed, and once a client holds everything its state is the world's own tables.

What the bytes travel on is somebody else's business.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from xds_server.xds.session.events import (
    Acked,
    ClientResource,
    Event,
    Identified,
    Nacked,
    NodeInfo,
    ProtocolError,
    Resumed,
    Stale,
)
from xds_server.xds.session.subscription import Subscription
from xds_server.xds.session.type_state import (
    NO_NAMES,
    NOTHING,
    NOTHING_REFUSED,
    PendingResponse,
    TypeState,
    content,
    same,
)
from xds_server.xds.session.variant import ProtocolVariant, Request, head
from xds_server.xds.snapshot import (
    CLUSTER,
    ENDPOINT,
    LISTENER,
    ROUTE,
    TYPE_ORDER,
    VIRTUAL_HOST,
    WILDCARD_TYPES,
    Entry,
    Snapshot,
    changes,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Session"]

_MOST_TYPES: Final = 64
_MOST_WORDS: Final = 2_000


@dataclass(frozen=True, slots=True)
class _Say:
    """What a response of one type would hold."""

    changed: list[Entry]
    removed: list[str]
    blocked: set[str]


class Session:
    """The server's side of one discovery stream; `only` is the type of a stream that is not aggregated."""

    __slots__ = (
        "_flavour",
        "_identifier",
        "_nonce_prefix",
        "_nonces",
        "_types",
        "asks_for",
        "node",
        "only",
        "snapshot",
    )

    def __init__(
        self, flavour: ProtocolVariant, *, identifier: str, nonce_prefix: str, only: str | None = None
    ) -> None:
        """`identifier` names this control plane in every response; `nonce_prefix` makes nonces unique."""
        self.node: NodeInfo | None = None
        self.snapshot: Snapshot | None = None
        self._flavour = flavour
        self._identifier = identifier
        self._nonce_prefix = nonce_prefix
        self.only = only
        self.asks_for: tuple[str, ...] = ()
        """What this client is known to ask for after clusters, each if it holds any of the one before; for
        the shell to say."""
        self._nonces = 0
        self._types: dict[str, TypeState] = {}

    # What comes in

    def receive(self, raw: bytes) -> tuple[Event, ...]:
        """Take one request.

        Raises:
            ProtocolError: The bytes are no request, or break a rule that leaves no way to go on.
        """
        request = self._flavour.parse(raw)
        events: list[Event] = []
        if self.node is None:
            if request.node is None or not request.node.id:
                raise ProtocolError("the first request of a stream must carry node.id")
            self.node = request.node
            events.append(Identified(node=request.node))
        type_url = self._type_of(request)
        state = self._types.get(type_url)
        if state is None:
            if len(self._types) >= _MOST_TYPES:
                raise ProtocolError(f"more than {_MOST_TYPES} resource types on one stream")
            state = self._types[type_url] = TypeState(
                subscription=Subscription(wildcard_type=type_url in WILDCARD_TYPES)
            )
        events.extend(self._answered(type_url, state, request))
        self._subscribe(type_url, state, request)
        if state.requests == 0 and request.holds:
            state.returned = True
            events.append(Resumed(type_url=type_url, holds=request.holds))
        state.requests += 1
        return tuple(events)

    def offer(self, snapshot: Snapshot) -> None:
        """Set the world this client should have; replaces one that was not sent yet."""
        if snapshot is self.snapshot:
            return
        for type_url, names in changes(self.snapshot, snapshot).items():
            state = self._types.get(type_url)
            if state is not None:
                state.look |= names
        self.snapshot = snapshot

    def withhold(self) -> None:
        """Say nothing more until another world is offered."""
        self.snapshot = None

    @property
    def incremental(self) -> bool:
        """Whether all types share this stream, and each resource travels by itself."""
        return self.only is None and not self._flavour.full_sets

    def _type_of(self, request: Request) -> str:
        if self.only is None:
            if not request.type_url:
                raise ProtocolError("a request on an aggregated stream must carry type_url")
            return request.type_url
        if request.type_url not in {"", self.only}:
            raise ProtocolError(f"this service serves {self.only}, not {request.type_url[:200]}")
        return self.only

    # What goes out

    def next_response(self) -> bytes | None:
        """Return the next response to write, or None while there is nothing to say."""
        if self.snapshot is None:
            return None
        for type_url in TYPE_ORDER:
            state = self._types.get(type_url)
            if state is not None and (state.look or state.owed) and state.flight is None:
                response = self._compose(type_url, state, self.snapshot)
                if response is not None:
                    return response
        return None if self._types.keys() <= _KNOWN else self._answer_unknown(self.snapshot)

    def _answer_unknown(self, snapshot: Snapshot) -> bytes | None:
        for type_url, state in self._types.items():
            if type_url not in _KNOWN and (state.look or state.owed) and state.flight is None:
                response = self._compose(type_url, state, snapshot)
                if response is not None:
                    return response
        return None

    @property
    def has_work(self) -> bool:
        """Whether `next_response` is worth asking; it may still have nothing to say."""
        if self.snapshot is None:
            return False
        return any((s.look or s.owed) and s.flight is None for s in self._types.values())

    @property
    def synced(self) -> bool:
        """Whether the client has accepted the offered world, all of it and nothing else."""
        types = TYPE_ORDER if self.only is None else (self.only,)
        return self.snapshot is not None and all(self.holds(type_url) for type_url in types)

    def holds(self, type_url: str) -> bool:
        """Return whether the client has accepted what the offered world has of a type."""
        snapshot = self.snapshot
        if snapshot is None:
            return False
        state = self._types.get(type_url)
        if state is None:
            return type_url not in snapshot.entries or type_url in _OPTIONAL
        return state.flight is None and self._holds(type_url, state, snapshot)

    @property
    def rejections(self) -> tuple[Nacked, ...]:
        """What the client refused and has not since accepted a successor of."""
        return tuple(s.rejection for s in self._types.values() if s.rejection is not None)

    def inventory(self) -> Iterator[ClientResource]:
        """Yield every resource the client follows or holds, and how it stands."""
        for type_url, state in self._types.items():
            yield from state.inventory(
                type_url, NOTHING if self.snapshot is None else self.snapshot.of(type_url)
            )

    # How requests change the state

    def _answered(self, type_url: str, state: TypeState, request: Request) -> Iterator[Event]:
        flight = state.flight
        if not request.nonce or (flight is None and not state.last_nonce):
            return  # The first request of this type here, or one that changes only names.
        if flight is None or request.nonce != flight.nonce:
            if request.nonce != state.last_nonce:
                yield Stale(type_url=type_url)
            return
        state.flight = None
        if request.error is not None:
            names = (*(entry.name for entry in flight.entries), *flight.removed)
            state.rejection = Nacked(type_url=type_url, names=names, message=request.error[:_MOST_WORDS])
            state.refused = content(flight.entries, flight.removed)
            # Envoy may have applied a part of what it refused as a whole: all of it is said anew, next time.
            state.again |= frozenset(names)
            state.look |= frozenset(names)
            for name in flight.removed:
                state.untell(name)  # Else what came with the removal would be repeated without it.
            state.doubt(flight.entries)
            yield state.rejection
            return
        state.rejection, state.refused = None, NOTHING_REFUSED
        if self._flavour.full_sets and type_url in WILDCARD_TYPES:
            state.accepted = {}
        # What was unsubscribed meanwhile was not kept.
        state.accept([e for e in flight.entries if state.subscription.follows(e.name)], flight.removed)
        yield Acked(type_url=type_url)

    def _subscribe(self, type_url: str, state: TypeState, request: Request) -> None:
        first = state.requests == 0
        subscription = state.subscription
        wildcard = subscription.wildcard
        if self._flavour.full_sets:
            change = subscription.replace(request.subscribe)
        else:
            change = subscription.update(request.subscribe, request.unsubscribe, first=first)
        for name in change.added:
            state.untell(name)
        if change.added:
            state.look |= change.added
            state.refused = NOTHING_REFUSED  # Who asks for a name is answered, even with what was refused.
        if first:
            self._remember(state, request)
            state.owed = subscription.wildcard
        if change.widened and self.snapshot is not None:
            state.look |= self.snapshot.of(type_url).keys() | state.told.keys()
        gone = change.removed
        if wildcard and not subscription.wildcard:
            # Who leaves a wildcard forgets what only that brought, and is told of it again if it returns.
            gone |= (state.told.keys() | state.accepted.keys()) - subscription.names
        for name in gone:
            if subscription.wildcard:
                state.again |= {name}  # Whether it still exists is now ours to say, even if it was said.
                state.look |= {name}
                if state.told.get(name) is None:
                    state.untell(name)
            else:
                state.untell(name)
                state.accept((), (name,))
                state.look -= {name}
                state.again -= {name}

    def _remember(self, state: TypeState, request: Request) -> None:
        """Take over what a reconnecting delta client says it holds."""
        held = [
            Entry(name=name, version=version, body=b"", delta=b"", clusters=None)
            for name, version in request.holds.items()
        ]
        state.accept(held, ())
        state.look |= request.holds.keys()
        for entry in held:
            if entry.name not in request.subscribe:
                # Named resources are answered whatever the client holds: it may still be waiting for them.
                state.tell(entry.name, entry)

    # What to say

    def _compose(self, type_url: str, state: TypeState, snapshot: Snapshot) -> bytes | None:
        say = self._review(type_url, state, snapshot)
        if type_url == VIRTUAL_HOST and say.blocked and not state.accepted:
            # A proxy takes requests after the first answer: one with a part of the hosts would turn users of
            # the others away. Until then their names stay in `look`.
            return None
        state.look = frozenset(say.blocked) if say.blocked else NO_NAMES
        if not say.changed and not say.removed and not state.owed:
            return None
        if self._flavour.full_sets and type_url in WILDCARD_TYPES:
            # A full set: what is not in it is deleted, so unchanged entries stay in it.
            entries = self._full_set(type_url, state, snapshot, say)
        else:
            entries = say.changed
        if state.refused and content(entries, say.removed) == state.refused:
            state.look |= {entry.name for entry in say.changed} | set(say.removed)
            return None
        return self._dispatch(type_url, state, entries, say)

    def _review(self, type_url: str, state: TypeState, snapshot: Snapshot) -> _Say:
        """Sort the names to look at into what can be said now and what must wait."""
        say = _Say([], [], set())
        world, told, names = snapshot.of(type_url), state.told, state.subscription.names
        wildcard, full_sets = state.subscription.wildcard, self._flavour.full_sets
        for name in state.look:
            entry, known = world.get(name), told.get(name)
            if entry is not None:
                if not (wildcard or name in names) or (name not in state.again and same(known, entry)):
                    state.recognise(entry)
                    continue
                if self._ready(type_url, state, entry):
                    say.changed.append(entry)
                else:
                    say.blocked.add(name)
            elif known is not None:
                if self._still_needed(type_url, name):
                    if name in state.again:
                        say.changed.append(known)
                    say.blocked.add(name)
                elif not full_sets or type_url in WILDCARD_TYPES:
                    say.removed.append(name)
            elif not full_sets and (name in state.again or (name in names and name not in told)):
                say.removed.append(name)
        say.changed.sort(key=_name)
        say.removed.sort()
        return say

    def _full_set(self, type_url: str, state: TypeState, snapshot: Snapshot, say: _Say) -> list[Entry]:
        entries, world = [], snapshot.of(type_url)
        for name, entry in world.items():
            if not state.subscription.follows(name):
                continue
            if name not in say.blocked:
                entries.append(entry)
            elif name in state.accepted:
                entries.append(state.accepted[name])
        kept = (state.told.get(name) for name in say.blocked if name not in world)
        entries.extend(entry for entry in kept if entry is not None)
        return entries

    def _ready(self, type_url: str, state: TypeState, entry: Entry) -> bool:
        """Return whether all clusters that routes name were accepted on this stream and are not just leaving.

        Who follows clusters by name asks for one only after a route has named it, and is not kept waiting.
        """
        if type_url not in _ROUTING or same(state.accepted.get(entry.name), entry):
            return True
        clusters = self._types.get(CLUSTER)
        if clusters is None and (self.asks_for or type_url == VIRTUAL_HOST):
            return False  # It follows all clusters, and will ask for them.
        if clusters is None or entry.clusters is None:
            return type_url != VIRTUAL_HOST
        if self.snapshot is not None and clusters.accepted is clusters.told is self.snapshot.of(CLUSTER):
            return True  # A world names no cluster it does not hold.
        return all(
            (name in clusters.accepted and clusters.told.get(name) is not None)
            or not clusters.subscription.follows(name)
            for name in entry.clusters
        )

    def _still_needed(self, type_url: str, name: str) -> bool:
        """Return whether something the client holds would break without this resource."""
        if type_url == CLUSTER:
            return self._still_named(name) or self._still_asked_for(name)
        clusters = self._types.get(CLUSTER)
        return type_url == ENDPOINT and clusters is not None and name in clusters.accepted

    def _still_asked_for(self, cluster: str) -> bool:
        """Return whether a client that follows clusters by name still asks for one its routes have left.

        Such a client accepts routes before it has put them to use, and stops asking once it has. It would
        fail calls if the cluster went before.
        """
        state = self._types.get(CLUSTER)
        if state is None or not self._flavour.full_sets or ROUTE not in self._types:
            return False
        return not state.subscription.wildcard and cluster in state.subscription.names

    def _still_named(self, cluster: str) -> bool:
        """Return whether anything the client holds, or is being sent, names this cluster."""
        if self._has_more_to_say():
            return True
        for type_url in (LISTENER, *_ROUTING):
            state = self._types.get(type_url)
            if state is None:
                continue
            in_flight = () if state.flight is None else state.flight.entries
            for entry in (*state.accepted.values(), *in_flight, *state.doubtful):
                if entry.clusters is None or cluster in entry.clusters:
                    return True
        return False

    def _has_more_to_say(self) -> bool:
        """Return whether a client that came back is yet to say which listeners and routes it holds.

        It asks for clusters first: one that is gone from the world may be in use until all has been said.
        """
        clusters = self._types.get(CLUSTER)
        if clusters is None or not clusters.returned:
            return False
        for type_url in self.asks_for:
            state = self._types.get(type_url)
            if state is None:
                return True
            if not state.accepted:
                return False  # It holds nothing that would make it ask for the next.
        return False

    def _dispatch(self, type_url: str, state: TypeState, entries: list[Entry], say: _Say) -> bytes:
        self._nonces += 1
        nonce = f"{self._nonce_prefix}{self._nonces}"
        # Cluster updates make Envoy wait for endpoints again, which it does not ask for again.
        if type_url == CLUSTER:
            self._repeat_endpoints(state, entries)
        full = self._flavour.full_sets and type_url in WILDCARD_TYPES
        if full:
            state.told = {}
        for entry in entries:
            state.tell(entry.name, entry)
        for name in say.removed:
            if name in state.subscription.names:
                state.tell(name, None)
            else:
                state.untell(name)
        if state.again:
            state.again &= say.blocked.difference(entry.name for entry in entries)
        state.owed = False
        state.last_nonce = nonce
        state.flight = PendingResponse(nonce=nonce, entries=tuple(entries), removed=tuple(say.removed))
        removed = () if self._flavour.full_sets else state.flight.removed
        version = "" if self.snapshot is None else self.snapshot.version
        # All but the nonce is the same for every client in the same situation, and made once.
        shared = head(self._flavour, type_url, self._identifier, version, state.flight.entries, removed)
        return self._flavour.with_nonce(shared, nonce)

    def _repeat_endpoints(self, clusters: TypeState, entries: list[Entry]) -> None:
        endpoints = self._types.get(ENDPOINT)
        if endpoints is None:
            return
        for entry in entries:
            if entry.name in endpoints.subscription.names and not same(clusters.told.get(entry.name), entry):
                endpoints.again |= {entry.name}
                endpoints.look |= {entry.name}

    def _holds(self, type_url: str, state: TypeState, snapshot: Snapshot) -> bool:
        """Return whether the client accepted all of a type, and share the world's own table if so."""
        world = snapshot.of(type_url)
        if any(name in world for name in state.look):
            return False
        if state.accepted is world:
            return True
        exact = len(state.accepted) == len(world)
        if not exact and type_url in WILDCARD_TYPES:
            return False
        if not all(same(state.accepted.get(name), entry) for name, entry in world.items()):
            return False
        if exact and state.told.keys() == world.keys():
            state.accepted = state.told = world
        return True


_KNOWN: Final = frozenset(TYPE_ORDER)
# A proxy that follows no runtime layer is served without one.
_OPTIONAL: Final = _KNOWN - {CLUSTER, ENDPOINT, LISTENER, ROUTE, VIRTUAL_HOST}
_ROUTING: Final = (ROUTE, VIRTUAL_HOST)


def _name(entry: Entry) -> str:
    return entry.name
