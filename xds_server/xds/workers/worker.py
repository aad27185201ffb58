"""A worker process: serves xDS streams with the snapshots of the control plane that started it.

It does not load specs, rollouts or the store. Several workers listen on one port, and the kernel distributes
connections among them. A worker exits when the control plane closes the connection, because it must not serve
outdated snapshots.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import structlog

from xds_server.analysis.counts import Counts, Leg, add_counts
from xds_server.logs import configure_logs
from xds_server.loop import loop_factory
from xds_server.view import to_json
from xds_server.xds.server import CertificatesError, Hub, ListenerConfig
from xds_server.xds.server.node_class_state import PriorState
from xds_server.xds.wire import worker_pb2 as wire
from xds_server.xds.workers.messages import (
    apply_snapshot,
    counts_to_wire,
    nack_from_wire,
    nack_to_wire,
    node_class_from_wire,
    node_class_to_wire,
    read_frame,
    send,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from xds_server import ir
    from xds_server.xds.session import Nack
    from xds_server.xds.snapshot import Snapshot

__all__ = ["Worker"]

_STATUS_SECONDS: Final = 0.01
_REPORT_SECONDS: Final = 1.0
_GRACE_SECONDS: Final = 1.0
_MAX_LEGS: Final = 10_000

log = structlog.get_logger()


@dataclass(slots=True)
class _Subscription:
    """A node class that this worker has proxies of.

    `base` is the snapshot received last, to which the next update is a difference. `fallback` is the last
    good snapshot if the control plane sent one ahead of the newest; None after the newest arrived.
    `reported_release` is the version last reported as released.
    """

    base: Snapshot | None = None
    newest: Snapshot | None = None
    fallback: Snapshot | None = None
    reported_release: str = ""


@dataclass(slots=True)
class Worker:
    """The worker's end of its connection to the control plane, and the hub that serves its proxies."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    hub: Hub = field(init=False)
    subscriptions: dict[ir.NodeClass, _Subscription] = field(default_factory=dict)
    changed_groups: set[str] = field(default_factory=set)
    counts: dict[tuple[str, Leg], Counts] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Create the hub."""
        self.hub = Hub(
            self._snapshot_for,
            on_change=self.changed_groups.add,
            on_counts=self._add_counts,
            on_nack=self._report_nack,
            on_unused=self._unsubscribe,
        )

    async def receive(self) -> None:
        """Apply snapshots and NACKs of the control plane until the connection closes."""
        while (raw := await read_frame(self.reader)) is not None:
            message = wire.ToWorker.FromString(raw)
            if message.WhichOneof("content") == "snapshot":
                self._apply(message.snapshot)
            elif message.WhichOneof("content") == "nack":
                nack = message.nack
                node_class = node_class_from_wire(nack.node_class)
                self.hub.stop_version(node_class, nack.version, nack_from_wire(nack))

    def report_listening(self) -> None:
        """Report that this worker accepts proxies."""
        send(self.writer, wire.FromWorker(listening=wire.Listening(pid=os.getpid())))

    async def report_status(self) -> None:
        """Send the status of each group within 10 ms after it changed, until canceled."""
        while True:
            while self.changed_groups:
                group = self.changed_groups.pop()
                found = self.hub.convergence(group)
                status = wire.GroupStatus(
                    group=group,
                    connected=found.connected,
                    acked=found.acked,
                    nacked=found.nacked,
                    versions=found.version.split(),
                    detail=found.detail,
                )
                send(self.writer, wire.FromWorker(status=status))
                self._report_releases(group)
            await self.writer.drain()
            await asyncio.sleep(_STATUS_SECONDS)

    async def report(self) -> None:
        """Send proxies, counters and counts every second, until canceled."""
        reported: list[dict[str, Any]] | None = None
        while True:
            proxies = [to_json(view) for view in self.hub.proxies()]
            found = {
                "counters": self.hub.counters.to_json(),
                "connected": self.hub.connected,
                "proxies": None if proxies == reported else proxies,
                "statistics": [
                    [*key, None if defect is None else defect.value]
                    for key, defect in self.hub.statistics_defects().items()
                ],
            }
            reported = proxies
            self.changed_groups |= self.hub.groups  # Covers changes below the threshold of Group.progress.
            send(self.writer, wire.FromWorker(report=json.dumps(found).encode()))
            if self.counts:
                counts, self.counts = self.counts, {}
                send(self.writer, wire.FromWorker(counts=counts_to_wire(counts)))
            await self.writer.drain()
            await asyncio.sleep(_REPORT_SECONDS)

    # Callbacks of the hub

    def _snapshot_for(self, node_class: ir.NodeClass) -> Snapshot | None:
        """Return the newest snapshot received for a node class; subscribe if it is the first request."""
        own = self.subscriptions.get(node_class)
        if own is None:
            own = self.subscriptions[node_class] = _Subscription()
            send(self.writer, wire.FromWorker(subscribe=node_class_to_wire(node_class)))
        return own.newest

    def _unsubscribe(self, node_class: ir.NodeClass) -> None:
        """Drop a node class after its last proxy disconnected; the control plane keeps its rollout state."""
        self.hub.forget(node_class)
        del self.subscriptions[node_class]
        send(self.writer, wire.FromWorker(unsubscribe=node_class_to_wire(node_class)))

    def _report_nack(self, node_class: ir.NodeClass, version: str, nack: Nack) -> None:
        send(self.writer, wire.FromWorker(nack=nack_to_wire(node_class, version, nack)))

    def _add_counts(self, group: str, legs: Mapping[Leg, Counts]) -> None:
        """Add up the counts of proxies until the next report; new legs above the limit are dropped."""
        for leg, counts in legs.items():
            known = self.counts.get((group, leg))
            if known is not None:
                self.counts[group, leg] = add_counts(known, counts)
            elif len(self.counts) < _MAX_LEGS:
                self.counts[group, leg] = counts

    # Messages

    def _apply(self, message: wire.SnapshotUpdate) -> None:
        """Apply a snapshot update and offer the result to the proxies of its node class."""
        node_class = node_class_from_wire(message.node_class)
        own = self.subscriptions.get(node_class)
        base = None if own is None else own.base
        if own is None or (message.base_version and (base is None or base.version != message.base_version)):
            # The control plane sent this update before it received `unsubscribe`. After another `subscribe`,
            # it sends a complete snapshot.
            return
        own.base = snapshot = apply_snapshot(message, base if message.base_version else None)
        if message.fallback:
            own.fallback = snapshot
            return
        nack = nack_from_wire(message.nack) if message.HasField("nack") else None
        prior = None if own.fallback is None else PriorState(own.fallback, nack)
        own.newest, own.fallback = snapshot, None
        self.hub.set_snapshot(node_class, snapshot, prior)

    def _report_releases(self, group: str) -> None:
        for node_class, version in self.hub.released_versions(group).items():
            own = self.subscriptions[node_class]
            if own.reported_release != version:
                own.reported_release = version
                released = wire.VersionReleased(node_class=node_class_to_wire(node_class), version=version)
                send(self.writer, wire.FromWorker(released=released))


async def _run(config: dict[str, Any], path: str) -> None:
    loop = asyncio.get_running_loop()
    worker = Worker(*await asyncio.open_unix_connection(path))
    listener = ListenerConfig.of_json(config["listener"])
    server = listener.server(worker.hub, shared=True)
    await server.start(listener.address)
    worker.report_listening()
    jobs = [worker.receive(), worker.report_status(), worker.report(), worker.hub.run()]
    tasks = [asyncio.ensure_future(job) for job in jobs]
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, tasks[0].cancel)
    try:
        # The process exits when the connection closes, and when a job fails.
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            if not task.cancelled() and (error := task.exception()) is not None:
                log.error("worker_failed", exc_info=error)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.stop(_GRACE_SECONDS)


def main() -> None:
    """Run one worker: `python -m xds_server.xds.workers.worker CONFIG-AS-JSON SOCKET`."""
    config = json.loads(sys.argv[1])
    configure_logs(config["log_level"])
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(_run(config, sys.argv[2]))
    except (OSError, CertificatesError) as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
