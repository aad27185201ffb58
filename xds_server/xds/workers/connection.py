"""The control plane's connection to one worker: its node classes, its last report, and pending updates.

A pending update is only the name of a node class. It becomes a message after the worker has read the previous
ones. However slowly a worker reads, the memory for its updates is bounded, and it receives only the newest
snapshot of each node class.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from xds_server.xds.server.counters import Counters
from xds_server.xds.wire import worker_pb2 as wire
from xds_server.xds.workers.messages import nack_to_wire, send, snapshot_to_wire

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xds_server import ir
    from xds_server.view import ProxyView
    from xds_server.view.uncounted import StatisticsDefect
    from xds_server.xds.snapshot import Snapshot
    from xds_server.xds.workers.versions import VersionRecord, VersionRegistry

__all__ = ["WorkerConnection"]


@dataclass(slots=True)
class _Sent:
    """The snapshot of a node class that was sent last.

    `nack_known` is whether the worker received the NACK of this snapshot, or reported it itself.
    """

    snapshot: Snapshot
    nack_known: bool


@dataclass(slots=True, eq=False)
class WorkerConnection:
    """A connected worker.

    `subscriptions` are the node classes it requested, with what was sent last; None if nothing was sent yet.
    `pid` is 0 until the worker accepts proxies. `unresponsive` is set by the supervisor.
    """

    writer: asyncio.StreamWriter
    subscriptions: dict[ir.NodeClass, _Sent | None] = field(default_factory=dict)
    statuses: dict[str, wire.GroupStatus] = field(default_factory=dict)
    proxies: tuple[ProxyView, ...] = ()
    statistics: dict[tuple[str, str], StatisticsDefect | None] = field(default_factory=dict)
    counters: Counters = field(default_factory=Counters)
    connected: int = 0
    pid: int = 0
    received: bool = False
    unresponsive: bool = False
    _pending: dict[ir.NodeClass, None] = field(default_factory=dict)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)

    def take_received(self) -> bool:
        """Return whether a message was received since the previous call."""
        received, self.received = self.received, False
        return received

    def subscribe(self, node_class: ir.NodeClass) -> None:
        """Add a node class; its first snapshot is sent as a whole."""
        self.subscriptions[node_class] = None
        self.queue_update(node_class)

    def unsubscribe(self, node_class: ir.NodeClass) -> None:
        """Remove a node class, after its last proxy disconnected from the worker."""
        self.subscriptions.pop(node_class, None)
        self._pending.pop(node_class, None)

    def queue_update(self, node_class: ir.NodeClass) -> None:
        """Queue an update of a node class, if the worker is subscribed to it."""
        if node_class in self.subscriptions:
            self._pending[node_class] = None
            self._wake.set()

    def mark_nack_known(self, node_class: ir.NodeClass) -> None:
        """Record that the worker itself reported the NACK of the newest snapshot of a node class."""
        sent = self.subscriptions.get(node_class)
        if sent is not None:
            sent.nack_known = True

    async def send_updates(self, registry: VersionRegistry) -> None:
        """Send pending updates, as fast as the worker reads, until canceled or disconnected."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._pending:
                node_class = next(iter(self._pending))
                del self._pending[node_class]
                record = registry.classes.get(node_class)
                for message in () if record is None else self._messages(node_class, record):
                    send(self.writer, message)
                    try:
                        await self.writer.drain()
                    except ConnectionError:
                        return  # The task that reads from this connection handles the disconnect.

    def _messages(self, node_class: ir.NodeClass, record: VersionRecord) -> Iterator[wire.ToWorker]:
        """Yield the messages that bring a worker up to date with a record; none if it has received all."""
        sent, newest, nack = self.subscriptions[node_class], record.newest, record.nack
        if sent is not None and sent.snapshot.version == newest.version:
            if nack is not None and not sent.nack_known:
                sent.nack_known = True
                yield wire.ToWorker(nack=nack_to_wire(node_class, newest.version, nack))
            return
        base = None if sent is None else sent.snapshot
        self.subscriptions[node_class] = _Sent(newest, nack is not None)
        fallback = record.fallback
        if fallback is not None and (sent is None or nack is not None):
            yield wire.ToWorker(snapshot=snapshot_to_wire(node_class, base, fallback, fallback=True))
            base = fallback
        message = snapshot_to_wire(node_class, base, newest)
        if nack is not None:
            message.nack.CopyFrom(nack_to_wire(node_class, newest.version, nack))
        yield wire.ToWorker(snapshot=message)
