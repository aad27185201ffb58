"""The clients of one group of proxies: which world each class of them is offered, and how far each has got.

Every number here is kept as streams change and none is counted when it is asked for, so that ten thousand
acknowledgements cost ten thousand small steps.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain, islice
from typing import TYPE_CHECKING, Final

from xds_server.view import Convergence, ProxyStatus
from xds_server.xds.session import Nack, Nacked, Offer, ProbeRollout, Stage
from xds_server.xds.snapshot import RUNTIME, Snapshot, short_name, with_runtime

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from xds_server import ir
    from xds_server.xds.server.stream import Stream

__all__ = ["Group", "PriorState"]

_NAMED: Final = 5
_MOST_REMEMBERED: Final = 64


@dataclass(frozen=True, slots=True)
class PriorState:
    """What other processes found out of a class: what to fall back to, and who refused the newest world."""

    good: Snapshot
    refusal: Nack | None


@dataclass(slots=True)
class _Class:
    """The proxies of a group that are told the same.

    Rings and `worlds` go by the cores of worlds. All that is kept here has the newest runtime layer: a kill
    has to be everywhere at once, whatever becomes of the routes it was published with.
    """

    ring: ProbeRollout[Stream] = field(default_factory=ProbeRollout)
    worlds: dict[str, Snapshot] = field(default_factory=dict)
    streams: dict[Stream, None] = field(default_factory=dict)
    unbuilt: str = ""

    def keep(self, *worlds: Snapshot) -> None:
        newest = worlds[-1]
        wanted = {self.ring.good, self.ring.target, newest.core}
        known = {**self.worlds, **{world.core: world for world in worlds}}
        self.worlds = {core: with_runtime(known[core], newest) for core in known if core in wanted}

    def recall(self, held: PriorState, world: Snapshot, now: float) -> Offer[Stream]:
        offer = self.ring.recall(held.good.core, world.core, held.refusal, now)
        self.keep(held.good, world)
        return offer


@dataclass(slots=True)
class Group:
    """All streams of one group; of two streams of one node the newer counts."""

    name: str
    published_at: float = 0.0
    classes: dict[ir.NodeClass, _Class] = field(default_factory=dict)
    _nodes: dict[tuple[str, str | None], list[Stream]] = field(default_factory=dict)
    _synced: dict[Stream, None] = field(default_factory=dict)
    _waiting: dict[Stream, None] = field(default_factory=dict)
    _refusing: dict[Stream, None] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        """Whether nobody is connected and nothing is remembered."""
        return not self.classes

    @property
    def deadline(self) -> float | None:
        """When silent probes are passed over; None while nothing is probed."""
        return min((d for own in self._live() if (d := own.ring.deadline) is not None), default=None)

    @property
    def live(self) -> list[ir.NodeClass]:
        """The classes somebody belongs to."""
        return [proxies for proxies, own in self.classes.items() if own.streams]

    def has(self, proxies: ir.NodeClass) -> bool:
        """Return whether somebody belongs to a class."""
        own = self.classes.get(proxies)
        return own is not None and bool(own.streams)

    @property
    def released(self) -> dict[ir.NodeClass, str]:
        """The version of each class that went out to all, where that is the newest."""
        return {
            proxies: own.worlds[own.ring.good].version
            for proxies, own in self.classes.items()
            if own.streams and own.ring.stage is Stage.RELEASED
        }

    @property
    def settled(self) -> bool:
        """Whether everybody holds the newest world."""
        return not self._waiting and not self._refusing

    @property
    def progress(self) -> tuple[int, int, int]:
        """What an onlooker wants to hear of: refusals, the end, and each hundredth on the way to it."""
        step = max(1, len(self._nodes) // 100)
        return len(self._refusing), len(self._synced) // step, int(self.settled)

    # What happens; each returns the streams that have something new to be told

    def join(
        self,
        stream: Stream,
        proxies: ir.NodeClass,
        world: Snapshot,
        now: float,
        held: PriorState | None = None,
    ) -> None:
        """Take a client in. `world` is the newest one of its class; the ring may hold it back.

        What was `held` elsewhere counts for the first of its class; without that, what is remembered here.
        """
        own = self.classes.setdefault(proxies, _Class())
        if not own.streams and held is not None:
            own.recall(held, world, now)
        elif not own.ring.target:
            own.ring.publish(world.core, (), now)
        elif not own.streams and world.core != own.ring.target:
            # Nobody here has seen what came after the refused version: the good one goes before it.
            own.recall(PriorState(own.worlds[own.ring.good], None), world, now)
        own.keep(world)
        own.streams[stream] = None
        stream.session.offer(own.worlds.get(own.ring.for_newcomers, world))
        of_node = self._nodes.setdefault(stream.key, [])
        if of_node:
            self._forget(of_node[-1])
        of_node.append(stream)
        self.note(stream)

    def leave(self, stream: Stream, now: float) -> list[Stream]:
        """Let a client go."""
        self._forget(stream)
        of_node = self._nodes[stream.key]
        of_node.remove(stream)
        if not of_node:
            del self._nodes[stream.key]
        told: list[Stream] = []
        for proxies, own in list(self.classes.items()):
            if stream in own.streams:
                del own.streams[stream]
                told = self._offer(own, own.ring.left(stream, _trusty(own), now))
                if not own.streams:
                    self._remember(proxies, own)
        if of_node:
            self.note(of_node[-1])  # An older stream of the same node is the one that counts again.
        return told

    def forget(self, proxies: ir.NodeClass) -> None:
        """Drop a class that nobody belongs to, and what is remembered of it."""
        own = self.classes.get(proxies)
        if own is not None and not own.streams:
            del self.classes[proxies]

    def publish(
        self, proxies: ir.NodeClass, world: Snapshot, now: float, held: PriorState | None = None
    ) -> list[Stream]:
        """Take the newest world of a class, and what was `held` of it elsewhere."""
        own = self.classes[proxies]
        if own.unbuilt:
            own.unbuilt = ""
            for stream in own.streams:
                self._sort(stream, own)
        refusal = None if held is None else held.refusal
        if own.worlds[own.ring.target].version == world.version:
            return [] if refusal is None else self.stop(proxies, world.version, refusal)
        self.published_at = now
        if held is not None and refusal is not None:
            offer: Offer[Stream] | None = own.recall(held, world, now)
        else:
            offer = own.ring.publish(world.core, _trusty(own), now)
            own.keep(world)
        told = dict.fromkeys([*self._offer(own, offer), *self._retold(own)])
        for stream in own.streams:
            self._sort(stream, own)
        return list(told)

    def fail(self, proxies: ir.NodeClass, words: str) -> None:
        """Hear that the newest world of a class could not be built: nobody holds what there is not."""
        own = self.classes[proxies]
        own.unbuilt = words
        for stream in own.streams:
            self._sort(stream, own)

    def newest(self, proxies: ir.NodeClass) -> Snapshot | None:
        """Return the newest world there was of a class."""
        own = self.classes.get(proxies)
        return None if own is None else own.worlds.get(own.ring.target)

    def note(self, stream: Stream) -> list[Stream]:
        """Look at how far a client has got."""
        own = None if stream.proxies is None else self.classes.get(stream.proxies)
        if own is None or stream not in own.streams:
            return []
        offer = None
        session = stream.session
        if session.snapshot is not None and session.synced and stream.whole:
            offer = own.ring.accepted(stream, session.snapshot.core)
        told = self._offer(own, offer)
        self._sort(stream, own)
        return told

    def refuse(self, stream: Stream, rejection: Nacked) -> list[Stream]:
        """Hear that a client refused something."""
        own = None if stream.proxies is None else self.classes.get(stream.proxies)
        if own is None or stream.session.snapshot is None:
            return []
        words = f"{short_name(rejection.type_url)} {', '.join(rejection.names[:_NAMED])}: {rejection.message}"
        refusal = Nack(stream.node_id, words)
        offer = own.ring.refused(stream, stream.session.snapshot.core, refusal)
        told = self._offer(own, offer)
        self._sort(stream, own)
        return told

    def stop(self, proxies: ir.NodeClass, version: str, refusal: Nack) -> list[Stream]:
        """Hear that another process's probe refused a version."""
        own = self.classes.get(proxies)
        if own is None:
            return []
        target = own.ring.target
        if own.worlds[target].version != version:
            return []
        told = self._offer(own, own.ring.stop(target, refusal))
        for stream in own.streams:
            self._sort(stream, own)
        return told

    def tick(self, now: float) -> list[Stream]:
        """Pass over probes that say nothing."""
        return [s for own in self._live() for s in self._offer(own, own.ring.tick(_trusty(own), now))]

    # What is known

    def convergence(self) -> Convergence:
        """Return how many nodes hold the newest world, and who does not."""
        live = self._live()
        refused = [own for own in live if own.ring.refusal is not None]
        details = [own.unbuilt for own in live if own.unbuilt]
        details.extend(_stopped(own) for own in refused)
        details.extend(
            f"{stream.node_id} refused {short_name(rejection.type_url)}: {rejection.message}"
            for stream in islice(self._refusing, _NAMED)
            for rejection in stream.session.rejections
        )
        if self._waiting and not refused:
            names = ", ".join(sorted(stream.node_id for stream in islice(self._waiting, _NAMED)))
            more = len(self._waiting) - _NAMED
            details.append(f"waiting for {names}" + (f" and {more} more" if more > 0 else ""))
        return Convergence(
            connected=len(self._nodes),
            acked=len(self._synced),
            nacked=len(self._refusing) + sum(not self._refusing for _ in refused),
            version=" ".join(sorted({own.worlds[own.ring.target].version for own in live})),
            detail="; ".join(details),
        )

    def refusal_of(self, proxies: ir.NodeClass) -> tuple[str, Nack] | None:
        """Return the newest version of a class and who refused it; None while nobody did."""
        own = self.classes.get(proxies)
        if own is None or own.ring.refusal is None:
            return None
        return own.worlds[own.ring.target].version, own.ring.refusal

    def standing(self, stream: Stream) -> tuple[ProxyStatus, str]:
        """Return how a client stands, and why."""
        session = stream.session
        if session.rejections:
            said = (f"{short_name(r.type_url)} {', '.join(r.names)}: {r.message}" for r in session.rejections)
            return ProxyStatus.NACKED, "; ".join(said)
        own = None if stream.proxies is None else self.classes.get(stream.proxies)
        if own is not None and own.ring.refusal is not None:
            if own.ring.refusal.node == stream.node_id:
                return ProxyStatus.NACKED, own.ring.refusal.words
            good = own.worlds[own.ring.good].version
            return ProxyStatus.STALE, f"kept on version {good}: {own.ring.refusal.node} refused the next"
        if own is not None and own.unbuilt:
            return ProxyStatus.STALE, own.unbuilt
        holds = own is not None and _holds_target(stream, own)
        return (ProxyStatus.SYNCED if holds else ProxyStatus.STALE), ""

    # Inside

    def _live(self) -> list[_Class]:
        return [own for own in self.classes.values() if own.streams]

    def _remember(self, proxies: ir.NodeClass, own: _Class) -> None:
        """Keep of a class nobody belongs to what to fall back to, unless that is the newest world itself."""
        del self.classes[proxies]
        own.unbuilt = ""
        if own.ring.stage is not Stage.RELEASED:
            self.classes[proxies] = own  # As the newest of those remembered: clients choose their class.
            empty = [other for other, its in self.classes.items() if not its.streams]
            for other in empty[:-_MOST_REMEMBERED]:
                del self.classes[other]

    def _offer(self, own: _Class, offer: Offer[Stream] | None) -> list[Stream]:
        if offer is None:
            return []
        world = own.worlds[offer.version]
        streams: Iterable[Stream] = own.streams if offer.clients is None else offer.clients
        told = [s for s in streams if s in own.streams and s.session.snapshot is not world]
        for stream in told:
            stream.session.offer(world)
            self._sort(stream, own)
        return told

    def _retold(self, own: _Class) -> list[Stream]:
        """Offer everybody the world they have with the newest runtime layer; nobody is asked first."""
        told = []
        for stream in own.streams:
            held = stream.session.snapshot
            fresh = None if held is None else own.worlds.get(held.core)
            if fresh is not None and fresh is not held:
                stream.session.offer(fresh)
                told.append(stream)
        return told

    def _sort(self, stream: Stream, own: _Class) -> None:
        if self._nodes.get(stream.key, [None])[-1] is not stream:
            return
        if stream.session.rejections:
            place = self._refusing
        else:
            place = self._synced if _holds_target(stream, own) else self._waiting
        if stream not in place:
            self._forget(stream)
            place[stream] = None

    def _forget(self, stream: Stream) -> None:
        self._synced.pop(stream, None)
        self._waiting.pop(stream, None)
        self._refusing.pop(stream, None)


def _trusty(own: _Class) -> Iterator[Stream]:
    """Yield the streams worth asking first: those that hold all they were given.

    One that refuses whatever it is given, or says nothing, would otherwise speak for all the others. A stream
    of one type knows only a part of a version, and is not asked at all.
    """
    sound = (s for s in own.streams if s.whole and not s.session.rejections and s.session.synced)
    first = next(sound, None)
    return (s for s in own.streams if s.whole) if first is None else chain((first,), sound)


def _holds_target(stream: Stream, own: _Class) -> bool:
    snapshot = stream.session.snapshot
    if snapshot is None or own.unbuilt or snapshot.version != own.worlds[own.ring.target].version:
        return False
    return stream.session.synced


def _stopped(own: _Class) -> str:
    refusal = own.ring.refusal
    if refusal is None or own.ring.stage is not Stage.REFUSED:
        return ""
    target, good = own.worlds[own.ring.target], own.worlds[own.ring.good]
    held = sum(s.session.holds(RUNTIME) for s in own.streams)
    return (
        f"{refusal.node} refused {refusal.words}; nobody else was told of version {target.version}: "
        f"all keep {good.version}, and a proxy that starts now is given {good.version} too; "
        f"{held} of {len(own.streams)} hold the newest runtime layer, kills included"
    )
