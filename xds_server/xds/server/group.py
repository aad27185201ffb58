"""The clients of one group: which snapshot each node class is offered, and which clients are synced.

The counts are updated when a stream changes, and are not computed when they are read, so that ten thousand
ACKs cost ten thousand small steps.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Final

from xds_server.view import Convergence, ProxyStatus
from xds_server.xds.server.node_class_state import NodeClassState, PriorState
from xds_server.xds.session import Nack, Nacked, Offer
from xds_server.xds.snapshot import Snapshot, short_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from xds_server import ir
    from xds_server.xds.server.stream import Stream

__all__ = ["Group"]

_MAX_NAMES_SHOWN: Final = 5
_MAX_UNUSED_CLASSES: Final = 64


@dataclass(slots=True)
class Group:
    """All streams of one group; of several streams with the same `Stream.key` only the newest is counted.

    Methods that offer another snapshot to streams return these streams, so that the caller sends it to them.
    `join` returns nothing: it offers a snapshot only to the stream that it adds.
    """

    name: str
    published_at: float = 0.0
    classes: dict[ir.NodeClass, NodeClassState] = field(default_factory=dict)
    _nodes: dict[tuple[str, str | None], list[Stream]] = field(default_factory=dict)
    _synced: dict[Stream, None] = field(default_factory=dict)
    _waiting: dict[Stream, None] = field(default_factory=dict)
    _nacking: dict[Stream, None] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        """Whether the group has no streams and no state to keep."""
        return not self.classes

    @property
    def deadline(self) -> float | None:
        """When the next probe timeout expires, in monotonic time; None if no version is being probed."""
        deadlines = (state.rollout.deadline for state in self._active())
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    @property
    def active_classes(self) -> list[ir.NodeClass]:
        """The node classes that have streams."""
        return [node_class for node_class, state in self.classes.items() if state.streams]

    def has_streams(self, node_class: ir.NodeClass) -> bool:
        """Return whether a node class has streams."""
        state = self.classes.get(node_class)
        return state is not None and bool(state.streams)

    @property
    def released_versions(self) -> dict[ir.NodeClass, str]:
        """The newest version of each node class that has streams and has released it to all of them."""
        return {
            node_class: state.last_good.version
            for node_class, state in self.classes.items()
            if state.streams and state.released
        }

    @property
    def all_synced(self) -> bool:
        """Whether every client has the newest snapshot."""
        return not self._waiting and not self._nacking

    @property
    def progress(self) -> tuple[int, int, int]:
        """A value that changes when observers need an update.

        It changes when the number of NACKing clients does, at each percent of synced clients, and when all
        clients are synced.
        """
        percent = max(1, len(self._nodes) // 100)
        return len(self._nacking), len(self._synced) // percent, int(self.all_synced)

    # Streams

    def join(
        self,
        stream: Stream,
        node_class: ir.NodeClass,
        snapshot: Snapshot,
        now: float,
        prior: PriorState | None = None,
    ) -> None:
        """Add a stream, and offer it `snapshot`; until `snapshot` is released, the last good one instead.

        The first stream of a node class adopts the `prior` state of other processes, or without one the state
        that this process kept.
        """
        state = self.classes.setdefault(node_class, NodeClassState())
        if not state.streams and prior is not None:
            state.restore(prior, snapshot, now)
        elif not state.rollout.target:
            state.rollout.publish(snapshot.version_without_runtime, (), now)
        elif not state.streams and snapshot.version_without_runtime != state.rollout.target:
            # No client of this class has ACKed this snapshot: the new client is offered the last good one
            # first.
            state.restore(PriorState(state.last_good, None), snapshot, now)
        state.keep(snapshot)
        state.streams[stream] = None
        stream.session.offer(state.snapshot_for_new_client(snapshot))
        of_node = self._nodes.setdefault(stream.key, [])
        if of_node:
            self._unclassify(of_node[-1])
        of_node.append(stream)
        self.update(stream)

    def leave(self, stream: Stream, now: float) -> list[Stream]:
        """Remove a stream; if it was the last one of its node class, `_retire` the class."""
        self._unclassify(stream)
        of_node = self._nodes[stream.key]
        of_node.remove(stream)
        if not of_node:
            del self._nodes[stream.key]
        offered: list[Stream] = []
        for node_class, state in list(self.classes.items()):
            if stream in state.streams:
                del state.streams[stream]
                offer = state.rollout.record_disconnect(stream, state.probe_candidates(), now)
                offered = self._offer(state, offer)
                if not state.streams:
                    self._retire(node_class, state)
        if of_node:
            self.update(of_node[-1])  # The next older stream of the same node is counted again.
        return offered

    def forget(self, node_class: ir.NodeClass) -> None:
        """Drop the state of a node class without streams."""
        state = self.classes.get(node_class)
        if state is not None and not state.streams:
            del self.classes[node_class]

    # Versions

    def publish(
        self, node_class: ir.NodeClass, snapshot: Snapshot, now: float, prior: PriorState | None = None
    ) -> list[Stream]:
        """Start the rollout of the newest snapshot of a node class.

        `prior` is what other processes found out about the node class.
        """
        state = self.classes[node_class]
        if state.build_error:
            state.build_error = ""
            self._classify_all(state)
        nack = None if prior is None else prior.nack
        if state.newest.version == snapshot.version:
            return [] if nack is None else self.stop(node_class, snapshot.version, nack)
        self.published_at = now
        if prior is not None and nack is not None:
            offer: Offer[Stream] | None = state.restore(prior, snapshot, now)
        else:
            offer = state.rollout.publish(snapshot.version_without_runtime, state.probe_candidates(), now)
            state.keep(snapshot)
        offered = dict.fromkeys([*self._offer(state, offer), *self._offer_runtime(state)])
        self._classify_all(state)
        return list(offered)

    def record_build_failure(self, node_class: ir.NodeClass, message: str) -> None:
        """Record that the newest snapshot of a node class could not be built: its clients are not synced."""
        state = self.classes[node_class]
        state.build_error = message
        self._classify_all(state)

    def newest_snapshot(self, node_class: ir.NodeClass) -> Snapshot | None:
        """Return the newest snapshot of a node class; None if there never was one."""
        state = self.classes.get(node_class)
        return None if state is None else state.snapshots.get(state.rollout.target)

    def update(self, stream: Stream) -> list[Stream]:
        """Check whether a client is synced now, and release a version that all its probes ACKed."""
        state = self._state_of(stream)
        if state is None or stream not in state.streams:
            return []
        offer, session = None, stream.session
        if session.snapshot is not None and session.synced and stream.aggregated:
            offer = state.rollout.record_ack(stream, session.snapshot.version_without_runtime)
        offered = self._offer(state, offer)
        self._classify(stream, state)
        return offered

    def record_nack(self, stream: Stream, nacked: Nacked) -> list[Stream]:
        """Record a NACK of a client; that of a probe stops the version."""
        state, snapshot = self._state_of(stream), stream.session.snapshot
        if state is None or snapshot is None:
            return []
        names = ", ".join(nacked.names[:_MAX_NAMES_SHOWN])
        nack = Nack(stream.node_id, f"{short_name(nacked.type_url)} {names}: {nacked.message}")
        offered = self._offer(
            state, state.rollout.record_nack(stream, snapshot.version_without_runtime, nack)
        )
        self._classify(stream, state)
        return offered

    def stop(self, node_class: ir.NodeClass, version: str, nack: Nack) -> list[Stream]:
        """Stop a version that a probe of another process NACKed."""
        state = self.classes.get(node_class)
        if state is None or state.newest.version != version:
            return []
        offered = self._offer(state, state.rollout.stop(state.rollout.target, nack))
        self._classify_all(state)
        return offered

    def tick(self, now: float) -> list[Stream]:
        """Release a version whose probe timeout expired, or send it to new probes (`ProbeRollout.tick`)."""
        return [
            stream
            for state in self._active()
            for stream in self._offer(state, state.rollout.tick(state.probe_candidates(), now))
        ]

    # Status

    def convergence(self) -> Convergence:
        """Return how many nodes have the newest snapshot, and why the others do not.

        A node that opens one stream for each type is counted once for each of them.
        """
        active = self._active()
        stopped = [state for state in active if state.rollout.nack is not None]
        details = [state.build_error for state in active if state.build_error]
        details.extend(state.describe_nack() for state in stopped)
        details.extend(
            f"{stream.node_id} NACKed {short_name(nacked.type_url)}: {nacked.message}"
            for stream in islice(self._nacking, _MAX_NAMES_SHOWN)
            for nacked in stream.session.nacks
        )
        if self._waiting and not stopped:
            names = ", ".join(sorted(stream.node_id for stream in islice(self._waiting, _MAX_NAMES_SHOWN)))
            more = len(self._waiting) - _MAX_NAMES_SHOWN
            noun = "proxy" if len(self._waiting) == 1 else "proxies"
            details.append(f"waiting for {noun} {names}" + (f" and {more} more" if more > 0 else ""))
        return Convergence(
            connected=len(self._nodes),
            acked=len(self._synced),
            nacked=len(self._nacking) + sum(not self._nacking for _ in stopped),
            version=" ".join(sorted({state.newest.version for state in active})),
            detail="; ".join(details),
        )

    def nack_of(self, node_class: ir.NodeClass) -> tuple[str, Nack] | None:
        """Return the newest version of a node class and the NACK that stopped it; None without a NACK."""
        state = self.classes.get(node_class)
        if state is None or state.rollout.nack is None:
            return None
        return state.newest.version, state.rollout.nack

    def status_of(self, stream: Stream) -> tuple[ProxyStatus, str]:
        """Return the status of a client, and the reason for it.

        The reason is empty unless a NACK, missing ACKs of all probes, or a failed build is the cause. It is
        empty for a client that just has not ACKed the newest snapshot yet.
        """
        nacks = stream.session.nacks
        if nacks:
            reasons = (f"{short_name(n.type_url)} {', '.join(n.names)}: {n.message}" for n in nacks)
            return ProxyStatus.NACKED, "; ".join(reasons)
        state = self._state_of(stream)
        nack = None if state is None else state.rollout.nack
        if state is not None and nack is not None:
            if nack.node == stream.node_id:
                return ProxyStatus.NACKED, nack.message
            good = state.last_good.version
            reason = f"kept on version {good}: the newest version was stopped by {nack.cause}"
            return ProxyStatus.STALE, reason
        if state is not None and state.build_error:
            return ProxyStatus.STALE, state.build_error
        synced = state is not None and state.has_newest(stream)
        return (ProxyStatus.SYNCED if synced else ProxyStatus.STALE), ""

    # Internals

    def _active(self) -> list[NodeClassState]:
        return [state for state in self.classes.values() if state.streams]

    def _state_of(self, stream: Stream) -> NodeClassState | None:
        return None if stream.node_class is None else self.classes.get(stream.node_class)

    def _retire(self, node_class: ir.NodeClass, state: NodeClassState) -> None:
        """Drop a node class after its last stream closed; keep it if its newest version was not released.

        A client that connects later then receives the last good snapshot and not a version that was NACKed.
        Clients choose their node class, so the number of classes kept is bounded.
        """
        del self.classes[node_class]
        state.build_error = ""
        if not state.released:
            self.classes[node_class] = state  # At the end: the oldest unused classes are dropped first.
            unused = [other for other, its in self.classes.items() if not its.streams]
            for other in unused[:-_MAX_UNUSED_CLASSES]:
                del self.classes[other]

    def _offer(self, state: NodeClassState, offer: Offer[Stream] | None) -> list[Stream]:
        if offer is None:
            return []
        snapshot = state.snapshots[offer.version]
        streams: Iterable[Stream] = state.streams if offer.clients is None else offer.clients
        offered = [s for s in streams if s in state.streams and s.session.snapshot is not snapshot]
        for stream in offered:
            stream.session.offer(snapshot)
            self._classify(stream, state)
        return offered

    def _offer_runtime(self, state: NodeClassState) -> list[Stream]:
        """Offer every stream its current snapshot with the newest runtime layer, without probes."""
        offered = []
        for stream in state.streams:
            current = stream.session.snapshot
            fresh = None if current is None else state.snapshots.get(current.version_without_runtime)
            if fresh is not None and fresh is not current:
                stream.session.offer(fresh)
                offered.append(stream)
        return offered

    def _classify_all(self, state: NodeClassState) -> None:
        for stream in state.streams:
            self._classify(stream, state)

    def _classify(self, stream: Stream, state: NodeClassState) -> None:
        """Count a stream as synced, waiting or nacking, if it is the newest one with its `Stream.key`."""
        if self._nodes.get(stream.key, [None])[-1] is not stream:
            return
        if stream.session.nacks:
            place = self._nacking
        else:
            place = self._synced if state.has_newest(stream) else self._waiting
        if stream not in place:
            self._unclassify(stream)
            place[stream] = None

    def _unclassify(self, stream: Stream) -> None:
        self._synced.pop(stream, None)
        self._waiting.pop(stream, None)
        self._nacking.pop(stream, None)
