"""What the workers found out about the versions of each node class (pure).

A worker tracks only its own proxies, and may end at any time. The record of a NACK must outlive the worker
that reported it: a worker that starts later must not send the NACKed version to its proxies.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from xds_server import ir
    from xds_server.xds.session import Nack
    from xds_server.xds.snapshot import Snapshot

__all__ = ["VersionRecord", "VersionRegistry"]

_MAX_UNUSED_CLASSES: Final = 1_024


@dataclass(slots=True)
class VersionRecord:
    """The newest snapshot of a node class, its rollout state, and the last good snapshot before it."""

    newest: Snapshot
    last_good: Snapshot | None = None
    released: bool = False
    nack: Nack | None = None

    @property
    def fallback(self) -> Snapshot | None:
        """The last good snapshot if new proxies receive it instead of the newest one; otherwise None."""
        return None if self.released and self.nack is None else self.last_good

    def publish(self, snapshot: Snapshot) -> bool:
        """Set the newest snapshot, and return whether its version is a different one."""
        if snapshot.version == self.newest.version:
            return False
        if self.released and self.nack is None:
            self.last_good = self.newest
        known_good = self.last_good is not None and snapshot.version == self.last_good.version
        self.newest, self.released, self.nack = snapshot, known_good, None
        return True

    def record_release(self, version: str) -> None:
        """Record that a worker released a version to all its proxies."""
        self.released |= version == self.newest.version

    def record_nack(self, version: str, nack: Nack) -> bool:
        """Record that a probe NACKed a version; return whether it is the first NACK of the newest one."""
        if version != self.newest.version or self.nack is not None:
            return False
        self.nack = nack
        return True


@dataclass(slots=True)
class VersionRegistry:
    """The version records of node classes: those that a worker uses, and unused ones with a fallback."""

    classes: dict[ir.NodeClass, VersionRecord] = field(default_factory=dict)
    _unused: dict[ir.NodeClass, None] = field(default_factory=dict)

    def publish(self, node_class: ir.NodeClass, snapshot: Snapshot) -> bool:
        """Set the newest snapshot of a node class, and return whether its version is a different one."""
        record = self.classes.get(node_class)
        if record is None:
            self.classes[node_class] = VersionRecord(snapshot)
            return True
        return record.publish(snapshot)

    def mark_used(self, node_class: ir.NodeClass) -> None:
        """Record that a worker has proxies of a node class."""
        self._unused.pop(node_class, None)

    def mark_unused(self, node_class: ir.NodeClass) -> None:
        """Record that no worker has proxies of a node class.

        The record of the node class is kept if it has a fallback. Clients choose their node class, so at most
        1,024 such records are kept.
        """
        record = self.classes.get(node_class)
        if record is None:
            return
        if record.fallback is None:
            del self.classes[node_class]
            return
        self._unused[node_class] = None
        if len(self._unused) > _MAX_UNUSED_CLASSES:
            oldest = next(iter(self._unused))
            del self._unused[oldest], self.classes[oldest]
