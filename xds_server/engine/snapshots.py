"""Snapshots of the live routes, one per node class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from xds_server import ir
from xds_server.compiler import compile_resources
from xds_server.plan import RouteTraffic
from xds_server.xds.snapshot import Snapshot, build

if TYPE_CHECKING:
    from collections.abc import Iterable

    from xds_server.engine.routes import LiveRoute, RouteTable
    from xds_server.translate import Scripts

__all__ = ["SnapshotCompiler"]

_MAX_CLASSES: Final = 1_024
_ANY_ENTRY: Final = ir.Address(host="0.0.0.0", port=10_000)


class SnapshotCompiler:
    """Builds snapshots from the route table; the next snapshot reuses the objects of unchanged resources."""

    def __init__(
        self,
        table: RouteTable,
        scripts: Scripts,
        *,
        collector: ir.Address | None,
        token_statistics: bool = True,
    ) -> None:
        """`collector` is where proxies send captured legs.

        With `token_statistics`, proxies parse the token usage that answers report.
        """
        self._table = table
        self._scripts = scripts
        self._collector = collector
        self._token_statistics = token_statistics
        self._newest: dict[ir.NodeClass, Snapshot] = {}

    def newest(self, node_class: ir.NodeClass) -> Snapshot:
        """Return the snapshot of the live routes for a node class.

        Raises:
            UnsafeConfigError: The snapshot would break a rule that protects users.
            DanglingReferenceError: The snapshot refers to a resource that it does not contain.
        """
        snapshot = self._build(node_class, self._table)
        if len(self._newest) >= _MAX_CLASSES and node_class not in self._newest:
            # Clients choose their class, so the cache is bounded; it only saves work.
            self._newest.clear()
        self._newest[node_class] = snapshot
        return snapshot

    def check(self, group: str, routes: Iterable[LiveRoute]) -> None:
        """Build the snapshot of a group with these routes, and discard it.

        Raises:
            UnsafeConfigError: The snapshot would break a rule that protects users.
            DanglingReferenceError: The snapshot refers to a resource that it does not contain.
        """
        self._build(ir.NodeClass(group=group, entry=_ANY_ENTRY, virtual_hosts_apart=True), routes)

    def _build(self, node_class: ir.NodeClass, routes: Iterable[LiveRoute]) -> Snapshot:
        traffic = [RouteTraffic.from_state(live.route, live.state) for live in routes]
        resources = compile_resources(
            node_class,
            traffic,
            self._scripts,
            collector=self._collector,
            reads_usage=self._token_statistics,
        )
        return build(resources, self._newest.get(node_class))
