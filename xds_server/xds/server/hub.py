"""All connected clients, the snapshots they should have, and which of them are synced.

The path of a version: `publish` builds the newest snapshot of each node class, `Group` and its `ProbeRollout`
decide which streams are offered it first, and `PushQueue` writes the responses. `receive` passes requests to
the stream's session; ACKs and NACKs are counted in `_handle` and `_handle_nack`.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import structlog

from xds_server.clock import SystemClock
from xds_server.ir.names import has_inline_virtual_hosts
from xds_server.ir.versions import is_envoy, missing_features, served_as, too_old
from xds_server.view import Convergence, ProxyStatus, ProxyView
from xds_server.xds.server.counters import Counters
from xds_server.xds.server.group import Group
from xds_server.xds.server.node_class import node_class_of
from xds_server.xds.server.push_queue import PushQueue
from xds_server.xds.server.snapshot_build import BuildFailure, SnapshotBuilder
from xds_server.xds.server.statistics_clients import StatisticsClients
from xds_server.xds.session import Acked, Event, Identified, Nack, Nacked, NodeInfo, Resumed, Stale
from xds_server.xds.snapshot import LISTENER, ROUTE, TYPE_ORDER, VIRTUAL_HOST, Snapshot, short_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from xds_server import ir
    from xds_server.analysis.counts import Counts, Leg
    from xds_server.clock import Clock
    from xds_server.view.uncounted import StatisticsDefect
    from xds_server.xds.server.node_class_state import PriorState
    from xds_server.xds.server.stream import Stream

__all__ = ["Hub"]

_MAX_DRAIN_PAUSE: Final = 0.05  # seconds between two streams, so that draining a few streams is quick
_TICK_SECONDS: Final = 0.25
_NOT_CONNECTED: Final = Convergence(connected=0, acked=0, nacked=0, version="", detail="")
_MAX_WARNED_NODES: Final = 10_000

log = structlog.get_logger()


def _ignore(*_: object) -> None:
    """Stand in for a callback that was not passed."""


class Hub:
    """Offers snapshots to streams. Not thread-safe: everything runs on one event loop."""

    def __init__(  # noqa: PLR0913 - one argument for each receiver of notifications
        self,
        snapshot_for: Callable[[ir.NodeClass], Snapshot | None],
        *,
        on_change: Callable[[str], None] = _ignore,
        on_counts: Callable[[str, Mapping[Leg, Counts]], None] = _ignore,
        on_nack: Callable[[ir.NodeClass, str, Nack], None] = _ignore,
        on_unused: Callable[[ir.NodeClass], None] = _ignore,
        clock: Clock | None = None,
        write_seconds: float = 10.0,
    ) -> None:
        """`snapshot_for` returns the newest snapshot of a node class; each publish calls it again.

        It returns None if the snapshot is not known yet: clients wait until `set_snapshot`. If it raises a
        build error, clients keep the previous snapshot. A client that does not read a response within
        `write_seconds` is disconnected. Users see the wall time of `clock`; durations use its monotonic time.

        `on_change` receives the name of a group whose convergence changed; `on_counts` a group and the counts
        that one of its proxies reported; `on_nack` the node class, version and reason of a version that a
        probe NACKed; `on_unused` a node class whose last client disconnected. None of them may block or
        raise.
        """
        self.counters = Counters()
        self.statistics = StatisticsClients()
        self.on_counts = on_counts
        self._on_change = on_change
        self._on_nack = on_nack
        self._on_unused = on_unused
        self._builder = SnapshotBuilder(snapshot_for, self.counters)
        self._clock = SystemClock() if clock is None else clock
        self._streams: set[Stream] = set()
        self._groups: dict[str, Group] = {}
        self._awaiting_snapshot: dict[ir.NodeClass, list[Stream]] = {}
        self._warned_nodes: set[str] = set()
        self._queue = PushQueue(
            lambda stream: stream.session.next_response() if stream in self._streams else None,
            on_idle=self._update_if_joined,
            counters=self.counters,
            clock=self._clock.monotonic,
            write_seconds=write_seconds,
        )

    async def run(self) -> None:
        """Push snapshots until canceled."""
        try:
            self._queue.start()
            while True:
                await asyncio.sleep(_TICK_SECONDS)
                self._tick()
        finally:
            self._queue.stop()

    # Streams

    def connect(self, stream: Stream) -> None:
        """Add a new stream; it is served after its first request, which contains its node."""
        self._streams.add(stream)

    def disconnect(self, stream: Stream) -> None:
        """Remove a stream."""
        self._streams.discard(stream)
        if stream.node_class is not None:
            self._leave(stream, stream.node_class)
            log.debug("proxy_disconnected", **stream.log_fields)

    def receive(self, stream: Stream, raw: bytes) -> None:
        """Process a request of a stream.

        Raises:
            ProtocolError: The request violates the protocol.
            NodeDeniedError: The client's certificate does not match its node.
        """
        stream.last_seen = self._clock.now()
        for event in stream.session.receive(raw):
            self._handle(stream, event)
        self._queue.add(stream)
        self._update_if_joined(stream)

    async def drain(self, seconds: float) -> None:
        """End every stream within `seconds`; clients keep their configuration and reconnect elsewhere."""
        streams = list(self._streams)
        pause = seconds / max(1, len(streams))
        for stream in streams:
            stream.writer.cancel()
            await asyncio.sleep(min(pause, _MAX_DRAIN_PAUSE))

    # Snapshots

    def publish(self, group: str) -> None:
        """Build the newest snapshots of a group and offer them to its clients, probes first."""
        found = self._groups.get(group)
        classes = dict.fromkeys(() if found is None else found.active_classes)
        classes |= dict.fromkeys(waiting for waiting in self._awaiting_snapshot if waiting.group == group)
        for node_class in classes:
            built = self._builder.build(node_class)
            if isinstance(built, Snapshot):
                self.set_snapshot(node_class, built)
            elif isinstance(built, BuildFailure) and found is not None and node_class in found.classes:
                found.record_build_failure(node_class, built.message)

    def set_snapshot(
        self, node_class: ir.NodeClass, snapshot: Snapshot, prior: PriorState | None = None
    ) -> None:
        """Offer the newest snapshot of a node class; `prior` is what other processes found out about it."""
        for stream in self._awaiting_snapshot.pop(node_class, ()):
            self._join(stream, node_class, snapshot, prior)
            self._queue.add(stream)
        group = self._groups.get(node_class.group)
        if group is not None and group.has_streams(node_class):
            self._push(group.publish(node_class, snapshot, self._clock.monotonic(), prior))

    def stop_version(self, node_class: ir.NodeClass, version: str, nack: Nack) -> None:
        """Stop a version that a probe of another process NACKed."""
        group = self._groups.get(node_class.group)
        if group is not None:
            self._push(group.stop(node_class, version, nack))
            self._on_change(group.name)

    def forget(self, node_class: ir.NodeClass) -> None:
        """Drop the state of a node class without streams, because another process keeps it."""
        group = self._groups.get(node_class.group)
        if group is not None:
            group.forget(node_class)

    # Status

    @property
    def groups(self) -> frozenset[str]:
        """The names of the groups with clients that have a snapshot, or with state kept for later clients."""
        return frozenset(self._groups)

    @property
    def serving(self) -> int:
        """The number of processes that accept streams: this one."""
        return 1

    @property
    def connected(self) -> int:
        """The number of open streams."""
        return len(self._streams)

    def released_versions(self, group: str) -> Mapping[ir.NodeClass, str]:
        """Return the newest version of each node class of a group.

        Node classes without streams, or that have not released it to all of them, are left out.
        """
        found = self._groups.get(group)
        return {} if found is None else found.released_versions

    def convergence(self, group: str) -> Convergence:
        """Return how many nodes of a group have the newest snapshot; only a node's newest stream counts."""
        found = self._groups.get(group)
        return _NOT_CONNECTED if found is None else found.convergence()

    def proxies(self) -> tuple[ProxyView, ...]:
        """Return every connected client, sorted by group and id."""
        views = [self._view(stream) for stream in self.streams()]
        return tuple(sorted(views, key=lambda view: (view.group, view.id, view.connected_since)))

    def statistics_defects(self) -> dict[tuple[str, str], StatisticsDefect | None]:
        """Return the defect, or None, of each client that sends statistics, by group and node id."""
        return self.statistics.defects(self._clock.monotonic())

    def streams(self) -> tuple[Stream, ...]:
        """Return every stream whose node is known."""
        return tuple(stream for stream in self._streams if stream.node_class is not None)

    def is_open(self, stream: Stream) -> bool:
        """Return whether a stream is still open."""
        return stream in self._streams

    # Events of sessions

    def _handle(self, stream: Stream, event: Event) -> None:
        match event:
            case Identified(node=node):
                self._identify(stream, node)
            case Resumed(type_url=type_url, versions=versions):
                if type_url == ROUTE and has_inline_virtual_hosts(versions):
                    self._serve_whole_tables(stream)
            case Acked(type_url=type_url):
                self.counters.acks[_label(type_url)] += 1
            case Nacked() as nacked:
                self._handle_nack(stream, nacked)
            case Stale():
                self.counters.stale_nonces += 1

    def _identify(self, stream: Stream, node: NodeInfo) -> None:
        if stream.authorize is not None:
            stream.authorize(node)
        stream.node_class = node_class_of(node, aggregated_delta=stream.session.aggregated_delta)
        stream.mode = dict(node.metadata).get("mode", "gateway")
        log.debug("proxy_connected", **stream.log_fields, envoy=node.version)
        self._warn_if_unsupported(stream, node)
        self._serve(stream, stream.node_class)

    def _serve_whole_tables(self, stream: Stream) -> None:
        """Move a client to the node class whose route tables contain the virtual hosts.

        The client has such a table from an earlier stream; sending it individual virtual hosts instead would
        interrupt its users. The node classes differ in routes only, and this stream was sent no route yet.
        """
        node_class = stream.node_class
        if node_class is None or not node_class.virtual_hosts_apart:
            return
        self._leave(stream, node_class)
        stream.session.clear_snapshot()
        stream.joined, stream.node_class = False, replace(node_class, virtual_hosts_apart=False)
        self._serve(stream, stream.node_class)

    def _serve(self, stream: Stream, node_class: ir.NodeClass) -> None:
        """Offer a client its first snapshot; if there is none, it waits for `set_snapshot`."""
        node = stream.session.node
        if node is not None and stream.session.aggregated_delta and is_envoy(node.version):
            hosts = (VIRTUAL_HOST,) if node_class.virtual_hosts_apart else ()
            stream.session.expect_types((LISTENER, ROUTE, *hosts))
        built = self._builder.build(node_class)
        group = self._groups.get(node_class.group)
        previous = None if group is None else group.newest_snapshot(node_class)
        if isinstance(built, BuildFailure) and group is not None and previous is not None:
            self._join(stream, node_class, previous)
            group.record_build_failure(node_class, built.message)
        elif isinstance(built, Snapshot):
            self._join(stream, node_class, built)
        else:
            self._awaiting_snapshot.setdefault(node_class, []).append(stream)

    def _warn_if_unsupported(self, stream: Stream, node: NodeInfo) -> None:
        if not too_old(node.version) or node.id in self._warned_nodes:
            return
        if len(self._warned_nodes) >= _MAX_WARNED_NODES:
            self._warned_nodes.clear()  # Clients choose their ids; clearing costs a repeated warning.
        self._warned_nodes.add(node.id)
        served = f"1.{served_as(node.version)}"
        log.warning("unsupported_envoy_connected", **stream.log_fields, envoy=node.version, served_as=served)

    def _handle_nack(self, stream: Stream, nacked: Nacked) -> None:
        """Count and log a NACK; a NACK of a probe stops the version."""
        self.counters.nacks[_label(nacked.type_url)] += 1
        if stream.node_class is None or not stream.joined:
            return
        group = self._groups[stream.node_class.group]
        snapshot = stream.session.snapshot
        probes = group.record_nack(stream, nacked)
        self.counters.versions_stopped += bool(probes)
        log.error(
            "response_nacked",
            **stream.log_fields,
            version="" if snapshot is None else snapshot.version,
            type=short_name(nacked.type_url),
            names=nacked.names,
            reason=nacked.message,
            consequence=(
                "this version is not sent to other proxies; they and new proxies get the last good version"
                if probes
                else "the proxy keeps its last ACKed configuration; unless this version is stopped, "
                "the proxy would lack the resources in `names` after a restart"
            ),
        )
        self._push(probes)
        self._on_change(group.name)
        found = group.nack_of(stream.node_class)
        if probes and found is not None:
            self._on_nack(stream.node_class, *found)

    # Groups

    def _join(
        self,
        stream: Stream,
        node_class: ir.NodeClass,
        snapshot: Snapshot,
        prior: PriorState | None = None,
    ) -> None:
        group = self._groups.setdefault(node_class.group, Group(node_class.group))
        stream.joined = True
        group.join(stream, node_class, snapshot, self._clock.monotonic(), prior)
        self._on_change(group.name)

    def _leave(self, stream: Stream, node_class: ir.NodeClass) -> None:
        """Remove a stream from its group, or from the streams that wait for a first snapshot.

        Call `on_unused` if it was the last stream of the node class.
        """
        if not stream.joined:
            waiting = self._awaiting_snapshot[node_class]
            waiting.remove(stream)
            if not waiting:
                del self._awaiting_snapshot[node_class]
                self._on_unused(node_class)
            return
        group = self._groups[node_class.group]
        self._push(group.leave(stream, self._clock.monotonic()))
        if not group.has_streams(node_class):
            self._on_unused(node_class)
        if group.empty:
            del self._groups[group.name]
        self._on_change(group.name)

    def _update_if_joined(self, stream: Stream) -> None:
        """Update the progress of a stream's group, after a request or when nothing is left to send."""
        if not stream.joined or stream.node_class is None or stream not in self._streams:
            return
        group = self._groups[stream.node_class.group]
        before = group.progress
        self._push(group.update(stream))
        if group.progress != before:
            if group.all_synced and group.published_at:
                self.counters.convergence_seconds.observe(self._clock.monotonic() - group.published_at)
                group.published_at = 0.0
            self._on_change(group.name)

    def _push(self, streams: Iterable[Stream]) -> None:
        for stream in streams:
            self._queue.add(stream)

    def _tick(self) -> None:
        self._queue.check_slow_writes(asyncio.get_running_loop().time())
        now = self._clock.monotonic()
        for group in self._groups.values():
            if group.deadline is not None and group.deadline <= now:
                self._push(group.tick(now))

    def _view(self, stream: Stream) -> ProxyView:
        session, node = stream.session, stream.session.node
        group = None if stream.node_class is None else self._groups.get(stream.node_class.group)
        status, detail = (ProxyStatus.STALE, "") if group is None else group.status_of(stream)
        return ProxyView(
            id=stream.node_id,
            group="" if node is None else node.group,
            mode=stream.mode,
            status=status,
            version="" if session.snapshot is None else session.snapshot.version,
            envoy_version="" if node is None else node.version,
            address=stream.peer,
            connected_since=stream.connected_since,
            last_seen=stream.last_seen,
            detail=detail,
            reduced=() if node is None else missing_features(node.version),
        )


def _label(type_url: str) -> str:
    """Return the metric label of a type; all unknown types share one, because clients choose their names."""
    return short_name(type_url) if type_url in TYPE_ORDER else "other"
