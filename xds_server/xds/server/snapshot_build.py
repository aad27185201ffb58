"""Build snapshots; a failure is logged and counted, and does not affect other node classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from xds_server.ir import UnsafeConfigError
from xds_server.xds.snapshot import DanglingReferenceError

if TYPE_CHECKING:
    from collections.abc import Callable

    from xds_server import ir
    from xds_server.xds.server.counters import Counters
    from xds_server.xds.snapshot import Snapshot

__all__ = ["BuildFailure", "SnapshotBuilder"]

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class BuildFailure:
    """Why the snapshot of a node class could not be built."""

    message: str


class SnapshotBuilder:
    """Calls `snapshot_for`, and turns its build errors into values."""

    def __init__(self, snapshot_for: Callable[[ir.NodeClass], Snapshot | None], counters: Counters) -> None:
        self.snapshot_for = snapshot_for
        self._counters = counters

    def build(self, node_class: ir.NodeClass) -> Snapshot | BuildFailure | None:
        """Return the newest snapshot of a node class, or why its build failed; None if not known yet."""
        try:
            return self.snapshot_for(node_class)
        except (UnsafeConfigError, DanglingReferenceError) as error:
            self._counters.snapshot_builds_failed += 1
            entry = f"{node_class.entry.host}:{node_class.entry.port}"
            log.exception(
                "snapshot_build_failed",
                group=node_class.group,
                entry=entry,
                envoy=f"1.{node_class.envoy}",
                consequence=(
                    "connected proxies keep the previous snapshot; new proxies receive it too, "
                    "or wait if there is none"
                ),
            )
            return BuildFailure(
                f"cannot build the snapshot of proxies with the entry address {entry} and "
                f"Envoy 1.{node_class.envoy}: {error}"
            )
