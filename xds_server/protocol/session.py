"""One discovery stream, without I/O: request bytes in, events out; a world in, response bytes out.

The session knows what this client asked for, was told and has accepted, and derives from that alone what to
say next. Three promises hold whatever the interleaving:

* Make before break: a route is not sent before every cluster it names was accepted on this stream, and a
  cluster is not taken away while a route or listener the client holds may still name it.
* One response per type is outstanding; a newer world replaces what waits, and nothing is sent twice.
* A rejected response is not repeated; what the client accepted last stays the truth about it.

Aggregated streams only; what the bytes travel on is somebody else's business.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from xds_server.protocol.events import Accepted, Event, Identified, NodeInfo, ProtocolError, Rejected, Stale
from xds_server.protocol.flavour import Flavour, Request, Response
from xds_server.protocol.subscription import Subscription
from xds_server.snapshot import (
    CLUSTER,
    ENDPOINT,
    LISTENER,
    ROUTE,
    TYPE_ORDER,
    WILDCARD_TYPES,
    Entry,
    Snapshot,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Session"]

_MOST_TYPES: Final = 64
_MOST_WORDS: Final = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Flight:
    """A response that was handed out and not yet answered."""

    nonce: str
    entries: tuple[Entry, ...]
    removed: tuple[str, ...]


@dataclass(slots=True, kw_only=True)
class _Type:
    """One resource type of one stream.

    `told` is what the client was last told of each name (None: that there is no such resource),
    `accepted` what it took. `again` are names to repeat though they did not change; `owed` says that the
    client waits for an answer even if there is nothing to say. `refused` is what the last refused response
    said: the same is not said again, anything else is.
    """

    subscription: Subscription
    told: dict[str, Entry | None] = field(default_factory=dict)
    accepted: dict[str, Entry] = field(default_factory=dict)
    again: set[str] = field(default_factory=set)
    owed: bool = False
    requests: int = 0
    last_nonce: str = ""
    flight: _Flight | None = None
    refused: frozenset[tuple[str, str]] = frozenset()
    rejection: Rejected | None = None


class Session:
    """The server's side of one aggregated discovery stream."""

    def __init__(self, flavour: Flavour, *, identifier: str, nonce_prefix: str) -> None:
        """`identifier` names this control plane in every response; `nonce_prefix` makes nonces unique."""
        self.node: NodeInfo | None = None
        self.snapshot: Snapshot | None = None
        self._flavour = flavour
        self._identifier = identifier
        self._nonce_prefix = nonce_prefix
        self._nonces = 0
        self._types: dict[str, _Type] = {}

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
        if not request.type_url:
            raise ProtocolError("a request on an aggregated stream must carry type_url")
        state = self._types.get(request.type_url)
        if state is None:
            if len(self._types) >= _MOST_TYPES:
                raise ProtocolError(f"more than {_MOST_TYPES} resource types on one stream")
            state = self._types[request.type_url] = _Type(
                subscription=Subscription(wildcard_type=request.type_url in WILDCARD_TYPES)
            )
        events.extend(self._answered(state, request))
        self._subscribe(state, request)
        state.requests += 1
        return tuple(events)

    def offer(self, snapshot: Snapshot) -> None:
        """Set the world this client should have; replaces one that was not sent yet."""
        self.snapshot = snapshot

    # What goes out

    def next_response(self) -> bytes | None:
        """Return the next response to write, or None while there is nothing to say."""
        if self.snapshot is None:
            return None
        for type_url in (*TYPE_ORDER, *(other for other in self._types if other not in TYPE_ORDER)):
            state = self._types.get(type_url)
            if state is None or state.flight is not None:
                continue
            response = self._compose(type_url, state, self.snapshot)
            if response is not None:
                return response
        return None

    @property
    def synced(self) -> bool:
        """Whether the client has accepted the offered world, all of it and nothing else."""
        if self.snapshot is None:
            return False
        for type_url in TYPE_ORDER:
            world = self.snapshot.of(type_url)
            state = self._types.get(type_url)
            if state is None:
                if world:
                    return False
                continue
            if state.flight is not None:
                return False
            accepted = state.accepted
            if any(name not in accepted or accepted[name].version != e.version for name, e in world.items()):
                return False
            if type_url in WILDCARD_TYPES and len(accepted) != len(world):
                return False
        return True

    @property
    def rejections(self) -> tuple[Rejected, ...]:
        """What the client refused and has not since accepted a successor of."""
        return tuple(s.rejection for s in self._types.values() if s.rejection is not None)

    # How requests change the state

    def _answered(self, state: _Type, request: Request) -> Iterator[Event]:
        flight = state.flight
        if not request.nonce or (flight is None and not state.last_nonce):
            return  # The first request of this type here, or one that changes only names.
        if flight is None or request.nonce != flight.nonce:
            if request.nonce != state.last_nonce:
                yield Stale(type_url=request.type_url)
            return
        state.flight = None
        if request.error is not None:
            names = (*(entry.name for entry in flight.entries), *flight.removed)
            state.rejection = Rejected(
                type_url=request.type_url, names=names, message=request.error[:_MOST_WORDS]
            )
            state.refused = _content(flight.entries, flight.removed)
            # Envoy may have applied a part of what it refused as a whole: all of it is said anew, next time.
            state.again.update(names)
            yield state.rejection
            return
        state.rejection, state.refused = None, frozenset()
        if self._flavour.full_sets and request.type_url in WILDCARD_TYPES:
            state.accepted.clear()
        state.accepted.update((entry.name, entry) for entry in flight.entries)
        for name in flight.removed:
            state.accepted.pop(name, None)
        yield Accepted(type_url=request.type_url)

    def _subscribe(self, state: _Type, request: Request) -> None:
        first = state.requests == 0
        if self._flavour.full_sets:
            change = state.subscription.replace(request.subscribe)
        else:
            change = state.subscription.update(request.subscribe, request.unsubscribe, first=first)
        for name in change.added:
            state.told.pop(name, None)
        if first:
            self._remember(state, request)
            state.owed = state.subscription.wildcard
        for name in change.removed:
            if state.subscription.wildcard:
                state.again.add(name)  # Whether it still exists is now ours to say.
            else:
                state.told.pop(name, None)
                state.accepted.pop(name, None)

    def _remember(self, state: _Type, request: Request) -> None:
        """Take over what a reconnecting delta client says it holds."""
        for name, version in request.holds.items():
            held = Entry(name=name, version=version, body=b"", delta=b"", clusters=None)
            state.accepted[name] = held
            if name not in request.subscribe:
                # Named resources are answered whatever the client holds: it may still be waiting for them.
                state.told[name] = held

    # What to say

    def _compose(self, type_url: str, state: _Type, snapshot: Snapshot) -> bytes | None:
        world = snapshot.of(type_url)
        wanted = self._wanted(type_url, state, world)
        changed = [
            entry
            for name, entry in wanted.items()
            if (name in state.again or not _same(state.told.get(name), entry))
            and self._ready(type_url, state, entry)
        ]
        removed = list(self._removed(type_url, state, wanted, world))
        if not changed and not removed and not state.owed:
            return None
        if self._flavour.full_sets and type_url in WILDCARD_TYPES:
            # A full set: what is not in it is deleted, so unchanged entries stay in it.
            entries = self._full_set(type_url, state, wanted)
        else:
            entries = changed
        if state.refused and _content(entries, removed) == state.refused:
            return None
        return self._dispatch(type_url, state, entries, removed)

    def _full_set(self, type_url: str, state: _Type, wanted: dict[str, Entry]) -> list[Entry]:
        entries = []
        for name, entry in wanted.items():
            if self._ready(type_url, state, entry):
                entries.append(entry)
            elif name in state.accepted:
                entries.append(state.accepted[name])
        return entries

    def _wanted(self, type_url: str, state: _Type, world: Iterable[str]) -> dict[str, Entry]:
        """Return what the client should hold: what it follows of the world, and what may not go yet."""
        snapshot = self.snapshot
        if snapshot is None:
            return {}
        entries = snapshot.of(type_url)
        wanted = {name: entries[name] for name in world if state.subscription.follows(name)}
        wanted |= {
            name: entry
            for name, entry in state.told.items()
            if entry is not None and name not in entries and self._still_needed(type_url, name)
        }
        return wanted

    def _removed(
        self, type_url: str, state: _Type, wanted: dict[str, Entry], world: Iterable[str]
    ) -> Iterator[str]:
        known = set(world)
        if self._flavour.full_sets:
            if type_url in WILDCARD_TYPES:
                yield from (n for n, entry in state.told.items() if entry is not None and n not in wanted)
            return
        for name, entry in state.told.items():
            if entry is not None and name not in wanted and name not in known:
                yield name
        for name in sorted(state.subscription.names | state.again):
            if name not in known and name not in wanted and name not in state.told:
                yield name

    def _ready(self, type_url: str, state: _Type, entry: Entry) -> bool:
        """Return whether all clusters a route names were accepted on this stream and are not just leaving."""
        if type_url != ROUTE or _same(state.accepted.get(entry.name), entry):
            return True
        clusters = self._types.get(CLUSTER)
        if clusters is None or entry.clusters is None:
            return True
        return all(
            name in clusters.accepted and clusters.told.get(name) is not None for name in entry.clusters
        )

    def _still_needed(self, type_url: str, name: str) -> bool:
        """Return whether something the client holds would break without this resource."""
        if type_url == CLUSTER:
            return self._still_named(name)
        clusters = self._types.get(CLUSTER)
        return type_url == ENDPOINT and clusters is not None and name in clusters.accepted

    def _still_named(self, cluster: str) -> bool:
        """Return whether a route or listener the client holds, or is being sent, names this cluster."""
        for type_url in (LISTENER, ROUTE):
            state = self._types.get(type_url)
            if state is None:
                continue
            in_flight = () if state.flight is None else state.flight.entries
            for entry in (*state.accepted.values(), *in_flight):
                if entry.clusters is None or cluster in entry.clusters:
                    return True
        return False

    def _dispatch(self, type_url: str, state: _Type, entries: list[Entry], removed: list[str]) -> bytes:
        self._nonces += 1
        nonce = f"{self._nonce_prefix}{self._nonces}"
        # Cluster updates make Envoy wait for endpoints again, which it does not ask for again.
        if type_url == CLUSTER:
            self._repeat_endpoints(state, entries)
        if self._flavour.full_sets and type_url in WILDCARD_TYPES:
            state.told.clear()
        state.told.update((entry.name, entry) for entry in entries)
        for name in removed:
            if name in state.subscription.names:
                state.told[name] = None
            else:
                state.told.pop(name, None)
        state.again.clear()
        state.owed = False
        state.last_nonce = nonce
        state.flight = _Flight(nonce=nonce, entries=tuple(entries), removed=tuple(removed))
        return self._flavour.serialize(
            Response(
                type_url=type_url,
                nonce=nonce,
                identifier=self._identifier,
                version="" if self.snapshot is None else self.snapshot.version,
                entries=state.flight.entries,
                removed=() if self._flavour.full_sets else state.flight.removed,
            )
        )

    def _repeat_endpoints(self, clusters: _Type, entries: list[Entry]) -> None:
        endpoints = self._types.get(ENDPOINT)
        if endpoints is None:
            return
        for entry in entries:
            if entry.name in endpoints.subscription.names and not _same(clusters.told.get(entry.name), entry):
                endpoints.again.add(entry.name)


def _content(entries: Iterable[Entry], removed: Iterable[str]) -> frozenset[tuple[str, str]]:
    return frozenset((*((entry.name, entry.version) for entry in entries), *((name, "") for name in removed)))


def _same(one: Entry | None, other: Entry) -> bool:
    return one is not None and one.version == other.version
