"""A world that cannot be built: said and counted, and no reason to stop serving the others."""

from __future__ import annotations

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


class BuildFailure(str):
    """Why there is no world for a class of proxies, in a sentence."""

    __slots__ = ()


class SnapshotBuilder:
    """Asks for worlds, and takes it as an answer that there is none."""

    def __init__(self, world_of: Callable[[ir.NodeClass], Snapshot | None], counters: Counters) -> None:
        self.world_of = world_of
        self._counters = counters

    def __call__(self, proxies: ir.NodeClass) -> Snapshot | BuildFailure | None:
        """Return the newest world of a class; None where it is not known yet."""
        try:
            return self.world_of(proxies)
        except (UnsafeConfigError, DanglingReferenceError) as error:
            self._counters.worlds_failed += 1
            where = f"{proxies.entry.host}:{proxies.entry.port}"
            log.exception(
                "world_not_built",
                group=proxies.group,
                entry=where,
                envoy=f"1.{proxies.envoy}",
                consequence="these proxies keep the world before; those that come now wait for one",
            )
            return BuildFailure(f"no world can be built for {where} with Envoy 1.{proxies.envoy}: {error}")
