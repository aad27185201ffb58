"""The control plane's side of several worker processes, with the same interface as one hub.

Workers serve the streams, and roll out versions to probes among their own proxies. The pool adds up their
counts and sends them snapshots. It sends what one worker found out about a version to the other workers, and
to workers that start later. A worker that exits is restarted. A worker that loses the control plane exits, so
that no proxy stays connected to a process without updates.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import structlog

from xds_server.view import Convergence, ProxyStatus, ProxyView
from xds_server.view.uncounted import StatisticsDefect
from xds_server.xds.server.counters import Counters
from xds_server.xds.server.snapshot_build import BuildFailure, SnapshotBuilder
from xds_server.xds.wire import worker_pb2 as wire
from xds_server.xds.workers.connection import WorkerConnection
from xds_server.xds.workers.messages import (
    counts_from_wire,
    nack_from_wire,
    node_class_from_wire,
    read_frame,
)
from xds_server.xds.workers.supervisor import WorkerSupervisor, WorkerTimeouts
from xds_server.xds.workers.versions import VersionRegistry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from xds_server import ir
    from xds_server.analysis.counts import Counts, Leg
    from xds_server.xds.snapshot import Snapshot

__all__ = ["WorkerPool"]

_MAX_NODE_CLASSES: Final = 4_096

log = structlog.get_logger()


class WorkerPool:
    """Runs the workers and aggregates their reports; runs on the control plane's event loop."""

    def __init__(
        self,
        snapshot_for: Callable[[ir.NodeClass], Snapshot],
        command: Sequence[str],
        number: int,
        *,
        on_change: Callable[[str], None] = lambda _group: None,
        on_counts: Callable[[str, Mapping[Leg, Counts]], None] = lambda _group, _legs: None,
        timeouts: WorkerTimeouts | None = None,
    ) -> None:
        """`command` starts a worker; the path of the worker protocol's socket is appended to it.

        `on_change` receives the name of a group whose convergence changed, `on_counts` a group and the counts
        that its proxies reported.
        """
        self._on_change = on_change
        self._on_counts = on_counts
        self._own_counters = Counters()
        self._builder = SnapshotBuilder(snapshot_for, self._own_counters)
        self._command = tuple(command)
        self._number = number
        self._timeouts = WorkerTimeouts() if timeouts is None else timeouts
        self._connections: set[WorkerConnection] = set()
        self._registry = VersionRegistry()
        self._build_errors: dict[ir.NodeClass, str] = {}
        self._ended_counters = Counters()
        self._listening = asyncio.Event()

    async def run(self) -> None:
        """Keep the workers running until canceled.

        Raises:
            OSError: The socket of the worker protocol could not be created.
            ExceptionGroup: A worker could not be started; the group contains the OSError.
        """
        with tempfile.TemporaryDirectory(prefix="shiftplane-") as folder:
            path = Path(folder) / "worker.sock"
            async with await asyncio.start_unix_server(self._serve, path), asyncio.TaskGroup() as tasks:
                supervisor = WorkerSupervisor(
                    command=(*self._command, str(path)),
                    timeouts=self._timeouts,
                    connection_of=self._connection_of,
                    started=self._listening.is_set,
                )
                for _ in range(self._number):
                    tasks.create_task(supervisor.run())

    async def ready(self) -> None:
        """Wait until all workers have started to listen on the xDS port."""
        await self._listening.wait()

    # The interface of a hub

    def publish(self, group: str) -> None:
        """Build the newest snapshots of a group and send them to the workers that serve it."""
        for node_class in self._subscribed(group):
            self._build(node_class)

    def convergence(self, group: str) -> Convergence:
        """Return the sum of the workers' convergence.

        If the status of a worker is about older versions, its proxies count as connected, but as neither
        ACKed nor NACKed.
        """
        connected = acked = nacked = 0
        expected: set[str] = set()
        subscribed = self._subscribed(group)
        details = [error for node_class, error in self._build_errors.items() if node_class in subscribed]
        for connection in self._connections:
            own = subscribed & connection.subscriptions.keys()
            newest = {
                record.newest.version
                for node_class in own
                if (record := self._registry.classes.get(node_class)) is not None
            }
            expected |= newest
            status = connection.statuses.get(group)
            if status is None:
                continue
            connected += status.connected
            if connection.unresponsive:
                details.append(f"the worker that serves {status.connected} of the proxies does not respond")
            # If a snapshot could not be built, no proxy of its node class has the newest one.
            if newest >= set(status.versions) and not self._build_errors.keys() & own:
                acked += status.acked
                nacked += status.nacked
                if status.detail:
                    details.append(status.detail)
        return Convergence(
            connected=connected,
            acked=acked,
            nacked=nacked,
            version=" ".join(sorted(expected)),
            detail="; ".join(dict.fromkeys(details)),
        )

    def proxies(self) -> tuple[ProxyView, ...]:
        """Return every connected client, from the reports that workers send every second."""
        views = [view for connection in self._connections for view in connection.proxies]
        return tuple(sorted(views, key=lambda view: (view.group, view.id, view.connected_since)))

    def statistics_defects(self) -> dict[tuple[str, str], StatisticsDefect | None]:
        """Return the statistics defect of each client that sends statistics, by group and node id.

        The value is None for a client without a defect. A client may send its statistics to another worker
        than the one that serves its xDS stream. For a moment after a reconnect, two workers may have a
        statistics stream of the same client: a defect that either of them found is returned.
        """
        found: dict[tuple[str, str], StatisticsDefect | None] = {}
        for connection in self._connections:
            for key, defect in connection.statistics.items():
                found[key] = found.get(key) or defect
        return found

    @property
    def counters(self) -> Counters:
        """The sum of the counters of all workers, including those that have exited."""
        total = Counters()
        total.add(self._own_counters)
        total.add(self._ended_counters)
        for connection in self._connections:
            total.add(connection.counters)
        return total

    @property
    def connected(self) -> int:
        """The number of open streams."""
        return sum(connection.connected for connection in self._connections)

    @property
    def serving(self) -> int:
        """The number of workers that accept proxies and respond."""
        return sum(c.pid != 0 and not c.unresponsive for c in self._connections)

    # Connections

    def _connection_of(self, pid: int) -> WorkerConnection | None:
        return next((connection for connection in self._connections if connection.pid == pid), None)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve the connection of one worker until it closes."""
        connection = WorkerConnection(writer)
        self._connections.add(connection)
        try:
            async with asyncio.TaskGroup() as tasks:
                sending = tasks.create_task(connection.send_updates(self._registry))
                while (raw := await read_frame(reader)) is not None:
                    self._handle(connection, wire.FromWorker.FromString(raw))
                sending.cancel()
        finally:
            self._connections.discard(connection)
            self._ended_counters.add(connection.counters)
            self._release_unused(connection.subscriptions)
            with contextlib.suppress(ConnectionError):
                writer.close()
            for group in connection.statuses:
                self._on_change(group)

    def _handle(self, connection: WorkerConnection, message: wire.FromWorker) -> None:
        connection.received = True
        match message.WhichOneof("content"):
            case "listening":
                connection.pid = message.listening.pid
                if self.serving >= self._number:
                    self._listening.set()
            case "subscribe":
                self._subscribe(connection, node_class_from_wire(message.subscribe))
            case "unsubscribe":
                node_class = node_class_from_wire(message.unsubscribe)
                connection.unsubscribe(node_class)
                self._release_unused([node_class])
            case "nack":
                self._handle_nack(connection, message.nack)
            case "released":
                self._handle_released(message.released)
            case "status":
                self._handle_status(connection, message.status)
            case "counts":
                self._handle_counts(message.counts)
            case "report":
                _apply_report(connection, json.loads(message.report))
            case _:
                pass

    def _subscribe(self, connection: WorkerConnection, node_class: ir.NodeClass) -> None:
        if len(connection.subscriptions) >= _MAX_NODE_CLASSES:
            # Clients choose their node class: new ones must not take resources from existing ones.
            log.warning("node_class_limit_reached", group=node_class.group, most=_MAX_NODE_CLASSES)
            return
        self._registry.mark_used(node_class)
        connection.subscribe(node_class)
        self._build(node_class)

    def _handle_nack(self, connection: WorkerConnection, message: wire.VersionNack) -> None:
        """Record that a probe of one worker NACKed a version, and send the NACK to the other workers."""
        node_class = node_class_from_wire(message.node_class)
        record = self._registry.classes.get(node_class)
        if record is not None and record.record_nack(message.version, nack_from_wire(message)):
            connection.mark_nack_known(node_class)
            self._queue_update(node_class)

    def _handle_released(self, message: wire.VersionReleased) -> None:
        record = self._registry.classes.get(node_class_from_wire(message.node_class))
        if record is not None:
            record.record_release(message.version)

    def _handle_status(self, connection: WorkerConnection, status: wire.GroupStatus) -> None:
        if status.connected:
            connection.statuses[status.group] = status
        else:
            connection.statuses.pop(status.group, None)
        self._on_change(status.group)

    def _handle_counts(self, message: wire.CountsReport) -> None:
        for group, leg, counts in counts_from_wire(message):
            self._on_counts(group, {leg: counts})

    # Node classes

    def _subscribed(self, group: str) -> set[ir.NodeClass]:
        """Return the node classes of a group that a worker is subscribed to."""
        return {
            node_class
            for connection in self._connections
            for node_class in connection.subscriptions
            if node_class.group == group
        }

    def _build(self, node_class: ir.NodeClass) -> None:
        """Build the newest snapshot of a node class, and send a new version to the subscribed workers."""
        built = self._builder.build(node_class)
        if isinstance(built, BuildFailure):
            self._build_errors[node_class] = built.message
        elif built is not None:
            self._build_errors.pop(node_class, None)
            if self._registry.publish(node_class, built):
                self._queue_update(node_class)

    def _queue_update(self, node_class: ir.NodeClass) -> None:
        for connection in self._connections:
            connection.queue_update(node_class)

    def _release_unused(self, classes: Iterable[ir.NodeClass]) -> None:
        """Drop the state of node classes without a subscribed worker, except what `mark_unused` keeps."""
        for node_class in classes:
            if not any(node_class in connection.subscriptions for connection in self._connections):
                self._registry.mark_unused(node_class)
                self._build_errors.pop(node_class, None)


def _apply_report(connection: WorkerConnection, report: dict[str, Any]) -> None:
    """Store the counters and proxies in a worker's report; `proxies` is None if they did not change."""
    connection.counters = Counters.of_json(report["counters"])
    connection.connected = report["connected"]
    connection.statistics = {
        (group, node): None if defect is None else StatisticsDefect(defect)
        for group, node, defect in report["statistics"]
    }
    if report["proxies"] is not None:
        connection.proxies = tuple(_view(item) for item in report["proxies"])


def _view(values: dict[str, Any]) -> ProxyView:
    values["status"] = ProxyStatus(values["status"])
    values["reduced"] = tuple(values["reduced"])
    return ProxyView(**values)
