"""All connected clients, the worlds they should have, and how far each has got.

Streams come and go, worlds are published, responses leave through a bounded set of workers. A stream waits
in the queue at most once: when its turn comes it is told of the newest world, so a slow client costs one
slot and skips what it missed. A client that does not take a response in time is disconnected; it will come
back and be told everything.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import grpc
import structlog

from xds_server import ir
from xds_server.ads.group import Group
from xds_server.ads.histogram import Histogram
from xds_server.protocol import Accepted, Event, Identified, NodeInfo, Rejected, Stale
from xds_server.snapshot import Snapshot, short_name
from xds_server.translate import reduced, served_as, too_old
from xds_server.view import Convergence, ProxyStatus, ProxyView

if TYPE_CHECKING:
    from collections.abc import Callable

    from xds_server.ads.stream import Stream

__all__ = ["Hub", "proxies_of"]

_WORKERS: Final = 64
_TICK_SECONDS: Final = 0.25
_QUEUE_BOUNDS: Final = (0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0)
_CONVERGENCE_BOUNDS: Final = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 120.0)
_NOBODY: Final = Convergence(connected=0, acked=0, nacked=0, version="", detail="")
_MOST_WARNED: Final = 10_000
_DEFAULT_ENTRY: Final = ir.Address(host="0.0.0.0", port=10_000)

log = structlog.get_logger()


@dataclass(slots=True, kw_only=True)
class Counters:
    """Totals since the start, for metrics; times in seconds."""

    pushes: Counter[str] = field(default_factory=Counter)
    accepted: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    stale: int = 0
    bytes_sent: int = 0
    slow_closed: int = 0
    turned_away: int = 0
    identity_refused: int = 0
    versions_stopped: int = 0
    queue_seconds: Histogram = field(default_factory=lambda: Histogram(_QUEUE_BOUNDS))
    convergence_seconds: Histogram = field(default_factory=lambda: Histogram(_CONVERGENCE_BOUNDS))


class Hub:
    """The meeting place of streams and worlds. Not thread-safe: everything runs on one event loop."""

    def __init__(
        self,
        compile_world: Callable[[ir.Proxies], Snapshot],
        *,
        clock: Callable[[], float] = time.time,
        write_seconds: float = 10.0,
    ) -> None:
        """`compile_world` gives the newest world of a class of proxies; each publish calls it again.

        A client that does not take a response within `write_seconds` is disconnected.
        """
        self.counters = Counters()
        self.on_change: Callable[[str], None] = lambda _group: None
        self._compile = compile_world
        self._clock = clock
        self._write_seconds = write_seconds
        self._streams: set[Stream] = set()
        self._groups: dict[str, Group] = {}
        self._too_old: set[str] = set()
        self._queue: asyncio.Queue[Stream] = asyncio.Queue()

    async def run(self) -> None:
        """Push until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(_WORKERS):
                tasks.create_task(self._push_forever())
            tasks.create_task(self._tick_forever())

    # Streams

    def connect(self, stream: Stream) -> None:
        """Take a new stream in; it is served once it has said who it is."""
        self._streams.add(stream)

    def disconnect(self, stream: Stream) -> None:
        """Forget a stream."""
        self._streams.discard(stream)
        if stream.proxies is None:
            return
        group = self._groups[stream.proxies.group]
        self._enqueue_all(group.leave(stream, self._clock()))
        if group.empty:
            del self._groups[group.name]
        log.debug("proxy_disconnected", **_who(stream))
        self.on_change(group.name)

    def receive(self, stream: Stream, raw: bytes) -> None:
        """Take a request of a stream in.

        A protocol error, and a node that its certificate denies, are the caller's to turn into a status.
        """
        stream.last_seen = self._clock()
        for event in stream.session.receive(raw):
            self._handle(stream, event)
        self._enqueue(stream)
        if stream.proxies is not None:
            self._note(self._groups[stream.proxies.group], stream)

    def publish(self, group: str) -> None:
        """Offer the newest world to the clients of a group, probes first."""
        found = self._groups.get(group)
        if found is None:
            return
        now = self._clock()
        for proxies in list(found.classes):
            self._enqueue_all(found.publish(proxies, self._compile(proxies), now))

    def close_all(self) -> None:
        """End every stream; clients keep what they have and look for another server."""
        for stream in list(self._streams):
            stream.writer.cancel()

    # What is known

    @property
    def connected(self) -> int:
        """How many streams are open."""
        return len(self._streams)

    def convergence(self, group: str) -> Convergence:
        """Return how many clients of a group hold the newest world; the newest stream of a node counts."""
        found = self._groups.get(group)
        return _NOBODY if found is None else found.convergence()

    def proxies(self) -> tuple[ProxyView, ...]:
        """Return every connected client, by group and id."""
        views = [self._view(stream) for stream in self._streams if stream.proxies is not None]
        return tuple(sorted(views, key=lambda view: (view.group, view.id, view.connected_since)))

    def streams(self) -> tuple[Stream, ...]:
        """Return every stream that has said who it is."""
        return tuple(stream for stream in self._streams if stream.proxies is not None)

    def standing(self, stream: Stream) -> ProxyStatus:
        """Return how a client stands."""
        return self._view(stream).status

    # Inside

    def _handle(self, stream: Stream, event: Event) -> None:
        match event:
            case Identified(node=node):
                if stream.vet is not None:
                    stream.vet(node)
                stream.proxies, stream.mode = proxies_of(node), dict(node.metadata).get("mode", "gateway")
                group = self._groups.setdefault(stream.proxies.group, Group(stream.proxies.group))
                group.join(stream, stream.proxies, self._compile(stream.proxies))
                log.debug("proxy_connected", **_who(stream), envoy=node.version)
                self._note_version(stream, node)
                self.on_change(group.name)
            case Accepted(type_url=type_url):
                self.counters.accepted[short_name(type_url)] += 1
            case Rejected() as rejection:
                self._refused(stream, rejection)
            case Stale():
                self.counters.stale += 1

    def _note_version(self, stream: Stream, node: NodeInfo) -> None:
        if not too_old(node.version) or node.id in self._too_old:
            return
        if len(self._too_old) >= _MOST_WARNED:
            self._too_old.clear()  # Ids are the peers' choice; forgetting costs a second warning.
        self._too_old.add(node.id)
        log.warning(
            "envoy_too_old", **_who(stream), envoy=node.version, served_as=f"1.{served_as(node.version)}"
        )

    def _refused(self, stream: Stream, rejection: Rejected) -> None:
        self.counters.rejected[short_name(rejection.type_url)] += 1
        if stream.proxies is None:
            return
        group = self._groups[stream.proxies.group]
        probes = group.refuse(stream, rejection)
        self.counters.versions_stopped += bool(probes)
        log.error(
            "config_rejected",
            **_who(stream),
            type=short_name(rejection.type_url),
            names=rejection.names,
            reason=rejection.message,
            consequence=(
                "nobody else is told of this version; all keep the last good one, new proxies get it too"
                if probes
                else "the proxy keeps what it accepted last; started anew it would lack this"
            ),
        )
        self._enqueue_all(probes)
        self.on_change(group.name)

    def _note(self, group: Group, stream: Stream) -> None:
        before = group.progress
        self._enqueue_all(group.note(stream))
        if group.progress != before:
            if group.settled and group.published_at:
                self.counters.convergence_seconds.observe(self._clock() - group.published_at)
                group.published_at = 0.0
            self.on_change(group.name)

    def _enqueue_all(self, streams: list[Stream]) -> None:
        for stream in streams:
            self._enqueue(stream)

    def _enqueue(self, stream: Stream) -> None:
        if stream.queued:
            stream.dirty = True
        elif stream.session.has_work:
            stream.queued = True
            stream.queued_at = self._clock()
            self._queue.put_nowait(stream)

    async def _push_forever(self) -> None:
        while True:
            stream = await self._queue.get()
            stream.dirty = False
            self.counters.queue_seconds.observe(self._clock() - stream.queued_at)
            await self._push(stream)
            stream.queued = False
            if stream.dirty and stream in self._streams:
                self._enqueue(stream)

    async def _push(self, stream: Stream) -> None:
        while stream in self._streams and (message := stream.session.next_response()) is not None:
            self.counters.pushes["all"] += 1
            self.counters.bytes_sent += len(message)
            try:
                async with asyncio.timeout(self._write_seconds):
                    await stream.writer.write(message)
            except TimeoutError:
                self.counters.slow_closed += 1
                log.warning("slow_client_closed", **_who(stream), after_seconds=self._write_seconds)
                stream.writer.cancel()
                return
            except (grpc.RpcError, grpc.aio.UsageError, grpc.aio.InternalError):
                # The stream ended under our hands; its reader notices by itself.
                return

    async def _tick_forever(self) -> None:
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            now = self._clock()
            for group in self._groups.values():
                if group.deadline is not None and group.deadline <= now:
                    self._enqueue_all(group.tick(now))

    def _view(self, stream: Stream) -> ProxyView:
        session, node = stream.session, stream.session.node
        group = None if stream.proxies is None else self._groups.get(stream.proxies.group)
        status, detail = (ProxyStatus.STALE, "") if group is None else group.standing(stream)
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
            reduced=() if node is None else reduced(node.version),
        )


def proxies_of(node: NodeInfo) -> ir.Proxies:
    """Return the class of proxies a node belongs to; its bootstrap says where its entry listener is."""
    metadata = dict(node.metadata)
    host, _, port = metadata.get("entry", "").rpartition(":")
    entry = ir.Address(host=host.strip("[]"), port=int(port)) if port.isdecimal() and host else _DEFAULT_ENTRY
    return ir.Proxies(group=node.group, entry=entry, envoy=served_as(node.version))


def _who(stream: Stream) -> dict[str, str]:
    group = "" if stream.proxies is None else stream.proxies.group
    return {"node": stream.node_id, "group": group, "peer": stream.peer}
