"""What is known of each class of proxies, whichever acceptor found it out (pure).

An acceptor comes and goes, and knows only its own proxies. What one of them found out of a version has to
outlive it: a refused version is nobody's good one, however new the process that hands it out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from xds_server import ir
    from xds_server.xds.session import Nack
    from xds_server.xds.snapshot import Snapshot

__all__ = ["VersionRecord", "VersionRegistry"]

_MOST_REMEMBERED: Final = 1_024


@dataclass(slots=True)
class VersionRecord:
    """The newest world of a class, how it fared, and the last one before that nobody refused."""

    newest: Snapshot
    good: Snapshot | None = None
    released: bool = False
    refusal: Nack | None = None

    @property
    def fallback(self) -> Snapshot | None:
        """What a proxy that comes now is given before the newest; None where the newest is as good."""
        return None if self.released and self.refusal is None else self.good

    def publish(self, world: Snapshot) -> bool:
        """Take a newer world, and return whether it is another one."""
        if world.version == self.newest.version:
            return False
        if self.released and self.refusal is None:
            self.good = self.newest
        known_good = self.good is not None and world.version == self.good.version
        self.newest, self.released, self.refusal = world, known_good, None
        return True

    def release(self, version: str) -> None:
        """Hear that a version went out to all proxies of an acceptor."""
        self.released |= version == self.newest.version

    def refuse(self, version: str, refusal: Nack) -> bool:
        """Hear that a probe refused a version, and return whether that is news."""
        if version != self.newest.version or self.refusal is not None:
            return False
        self.refusal = refusal
        return True


@dataclass(slots=True)
class VersionRegistry:
    """All classes somebody belongs to, and those where there is something to fall back to."""

    classes: dict[ir.NodeClass, VersionRecord] = field(default_factory=dict)
    _idle: dict[ir.NodeClass, None] = field(default_factory=dict)

    def publish(self, proxies: ir.NodeClass, world: Snapshot) -> bool:
        """Take a newer world of a class, and return whether it is another one."""
        known = self.classes.get(proxies)
        if known is None:
            self.classes[proxies] = VersionRecord(world)
            return True
        return known.publish(world)

    def want(self, proxies: ir.NodeClass) -> None:
        """Hear that somebody belongs to a class."""
        self._idle.pop(proxies, None)

    def leave(self, proxies: ir.NodeClass) -> None:
        """Hear that nobody belongs to a class; what to fall back to is kept for a bounded number of them."""
        known = self.classes.get(proxies)
        if known is None:
            return
        if known.fallback is None:
            del self.classes[proxies]
            return
        self._idle[proxies] = None
        if len(self._idle) > _MOST_REMEMBERED:
            oldest = next(iter(self._idle))
            del self._idle[oldest], self.classes[oldest]
