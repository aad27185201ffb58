"""The clients of one node class, the snapshots they may be offered, and the rollout of the newest one."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

from xds_server.xds.session import Nack, Offer, ProbeRollout, Stage
from xds_server.xds.snapshot import RUNTIME, Snapshot, with_runtime

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xds_server.xds.server.stream import Stream

__all__ = ["NodeClassState", "PriorState"]


@dataclass(frozen=True, slots=True)
class PriorState:
    """What other processes found out about a node class: the last good snapshot, and a NACK of the newest."""

    last_good: Snapshot
    nack: Nack | None


@dataclass(slots=True)
class NodeClassState:
    """The streams of one node class, and the snapshots that they are offered: last good and newest.

    `rollout` and `snapshots` identify a snapshot by its `version_without_runtime`. All `snapshots` contain
    the newest runtime layer: a kill switch must reach every proxy at once, even if the routes it was
    published with are NACKed. `build_error` is the reason why the newest snapshot could not be built; empty
    if it was built.
    """

    rollout: ProbeRollout[Stream] = field(default_factory=ProbeRollout)
    snapshots: dict[str, Snapshot] = field(default_factory=dict)
    streams: dict[Stream, None] = field(default_factory=dict)
    build_error: str = ""

    @property
    def newest(self) -> Snapshot:
        """The newest snapshot, which may not be released yet."""
        return self.snapshots[self.rollout.target]

    @property
    def last_good(self) -> Snapshot:
        """The newest snapshot that was released."""
        return self.snapshots[self.rollout.last_good]

    @property
    def released(self) -> bool:
        """Whether the newest snapshot was released to all streams."""
        return self.rollout.stage is Stage.RELEASED

    def snapshot_for_new_client(self, default: Snapshot) -> Snapshot:
        """Return the snapshot that a client receives when it connects; `default` if there is none yet."""
        return self.snapshots.get(self.rollout.version_for_new_clients, default)

    def keep(self, *snapshots: Snapshot) -> None:
        """Store snapshots and drop those no longer needed; all get the runtime layer of the last argument."""
        newest = snapshots[-1]
        needed = {self.rollout.last_good, self.rollout.target, newest.version_without_runtime}
        known = {**self.snapshots, **{s.version_without_runtime: s for s in snapshots}}
        self.snapshots = {
            version: with_runtime(snapshot, newest)
            for version, snapshot in known.items()
            if version in needed
        }

    def restore(self, prior: PriorState, newest: Snapshot, now: float) -> Offer[Stream]:
        """Adopt the state of other processes: streams are offered the last good snapshot first."""
        offer = self.rollout.restore(
            prior.last_good.version_without_runtime, newest.version_without_runtime, prior.nack, now
        )
        self.keep(prior.last_good, newest)
        return offer

    def has_newest(self, stream: Stream) -> bool:
        """Return whether a client ACKed all of the newest snapshot; false if that could not be built."""
        snapshot = stream.session.snapshot
        if snapshot is None or self.build_error or snapshot.version != self.newest.version:
            return False
        return stream.session.synced

    def probe_candidates(self) -> Iterator[Stream]:
        """Yield the streams to choose probes from: those whose client ACKed its offered snapshot.

        A client that NACKs every version, or does not answer, would otherwise decide for all the others. If
        no client is synced, all aggregated streams are candidates. A stream of a single type receives only a
        part of a version and is never a probe.
        """
        synced = (
            stream
            for stream in self.streams
            if stream.aggregated and not stream.session.nacks and stream.session.synced
        )
        first = next(synced, None)
        if first is None:
            return (stream for stream in self.streams if stream.aggregated)
        return chain((first,), synced)

    def describe_nack(self) -> str:
        """Return why the newest version was stopped, and what proxies have; empty if it was not stopped."""
        nack = self.rollout.nack
        if nack is None or self.rollout.stage is not Stage.NACKED:
            return ""
        newest, good = self.newest.version, self.last_good.version
        current = sum(stream.session.type_synced(RUNTIME) for stream in self.streams)
        return (
            f"version {newest} was stopped by {nack.cause}: {nack.message}; this version is not sent to "
            f"other proxies, which keep version {good}; a proxy that starts now receives version {good}; "
            "the newest runtime layer with its kill switches is synced on "
            f"{current} of {len(self.streams)} streams"
        )
