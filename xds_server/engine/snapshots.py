"""What each class of proxies would be told of the routes that run, as a snapshot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from xds_server.compiler import compile_resources
from xds_server.plan import RouteTraffic
from xds_server.xds.snapshot import Snapshot, build

if TYPE_CHECKING:
    from collections.abc import Iterable

    from xds_server import ir
    from xds_server.engine.live import LiveRoute
    from xds_server.translate import Scripts

__all__ = ["SnapshotCompiler"]

_MOST_CLASSES: Final = 1_024


class SnapshotCompiler:
    """Compiles worlds, and remembers the newest of each class: what did not change is not made again."""

    def __init__(self, scripts: Scripts, collector: ir.Address | None) -> None:
        """`collector` is where proxies send captured legs."""
        self._scripts = scripts
        self._collector = collector
        self._newest: dict[ir.NodeClass, Snapshot] = {}

    def tried(self, proxies: ir.NodeClass, routes: Iterable[LiveRoute], *, reads_usage: bool) -> Snapshot:
        """Return the world of a class of proxies with these routes, without remembering it.

        Raises:
            WorldError: It would break a rule that protects users.
        """
        traffic = [RouteTraffic.from_state(live.route, live.state) for live in routes]
        found = compile_resources(
            proxies, traffic, self._scripts, collector=self._collector, reads_usage=reads_usage
        )
        return build(found, self._newest.get(proxies))

    def newest(self, proxies: ir.NodeClass, routes: Iterable[LiveRoute], *, reads_usage: bool) -> Snapshot:
        """Return the world of a class of proxies with the routes that run.

        Raises:
            WorldError: It would break a rule that protects users.
        """
        world = self.tried(proxies, routes, reads_usage=reads_usage)
        if len(self._newest) >= _MOST_CLASSES and proxies not in self._newest:
            self._newest.clear()  # Only a memory of what could be shared; clients choose their own class.
        self._newest[proxies] = world
        return world
