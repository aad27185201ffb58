"""All connected clients, the worlds they should have, and how far each has got.

Streams come and go, worlds are published, responses leave as a bounded number of writes. A stream waits
in the queue at most once: when its turn comes it is told of the newest world, so a slow client costs one
slot and skips what it missed. A client that does not take a response in time is disconnected; it will come
back and be told everything.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import structlog

from xds_server import ir
from xds_server.ir.names import has_inline_virtual_hosts
from xds_server.ir.versions import discovers_virtual_hosts, is_envoy, missing_features, served_as, too_old
from xds_server.view import Convergence, ProxyStatus, ProxyView
from xds_server.xds.server.counters import Counters
from xds_server.xds.server.group import Group, PriorState
from xds_server.xds.server.snapshot_build import BuildFailure, SnapshotBuilder
from xds_server.xds.session import Acked, Event, Identified, Nack, Nacked, NodeInfo, Resumed, Stale
from xds_server.xds.snapshot import LISTENER, ROUTE, TYPE_ORDER, VIRTUAL_HOST, Snapshot, short_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from xds_server.analysis.counts import Counts, Leg
    from xds_server.xds.server.stream import Stream

__all__ = ["Hub", "proxies_of"]

_MOST_WRITES: Final = 64
_DRAIN_PAUSE: Final = 0.05  # so that few streams do not keep a server from ending
_TICK_SECONDS: Final = 0.25
_NOBODY: Final = Convergence(connected=0, acked=0, nacked=0, version="", detail="")
_MOST_WARNED: Final = 10_000
_PORT_DIGITS: Final = 5
_LAST_PORT: Final = 65_535
_DEFAULT_ENTRY: Final = ir.Address(host="0.0.0.0", port=10_000)

log = structlog.get_logger()


def _ignore(*_: object) -> None:
    """Stand in for a callback that is not given."""


class Hub:
    """The meeting place of streams and worlds. Not thread-safe: everything runs on one event loop."""

    def __init__(  # noqa: PLR0913 - one argument for each party it reports to
        self,
        world_of: Callable[[ir.NodeClass], Snapshot | None],
        *,
        on_change: Callable[[str], None] = _ignore,
        on_counts: Callable[[str, Mapping[Leg, Counts]], None] = _ignore,
        on_nack: Callable[[ir.NodeClass, str, Nack], None] = _ignore,
        on_unused: Callable[[ir.NodeClass], None] = _ignore,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
        write_seconds: float = 10.0,
    ) -> None:
        """`world_of` gives the newest world of a class of proxies; each publish calls it again.

        None means that it is not known yet: clients wait until it is supplied. One that cannot be built is as
        if it were the one before. A client that does not take a response within `write_seconds` is
        disconnected. `clock` is what people see; what is measured and waited for goes by `steady`.

        `on_change` receives the name of a group whose convergence changed; `on_counts` what a proxy counted;
        `on_nack` the node class, version and reason of a version that a probe NACKed; `on_unused` a
        node class whose last client disconnected. None of them may block or raise.
        """
        self.counters = Counters()
        self.on_counts = on_counts
        self._on_change = on_change
        self._on_nack = on_nack
        self._on_unused = on_unused
        self._world_of = SnapshotBuilder(world_of, self.counters)
        self._parked: dict[ir.NodeClass, list[Stream]] = {}
        self._clock = clock
        self._steady = steady
        self._write_seconds = write_seconds
        self._streams: set[Stream] = set()
        self._groups: dict[str, Group] = {}
        self._too_old: set[str] = set()
        self._running = False
        self._waiting: deque[Stream] = deque()
        self._writes: dict[asyncio.Task[None], tuple[Stream, float]] = {}
        self._slow: dict[asyncio.Task[None], tuple[Stream, float]] = {}

    async def run(self) -> None:
        """Push until cancelled."""
        self._running = True
        try:
            self._pump()
            await self._tick_forever()
        finally:
            self._running = False
            for write in (*self._writes, *self._slow):
                write.cancel()

    # Streams

    def connect(self, stream: Stream) -> None:
        """Take a new stream in; it is served once it has said who it is."""
        self._streams.add(stream)

    def disconnect(self, stream: Stream) -> None:
        """Forget a stream."""
        self._streams.discard(stream)
        if stream.proxies is not None:
            self._leave(stream, stream.proxies)
            log.debug("proxy_disconnected", **stream.who)

    def receive(self, stream: Stream, raw: bytes) -> None:
        """Take a request of a stream in.

        A protocol error, and a node that its certificate denies, are the caller's to turn into a status.
        """
        stream.last_seen = self._clock()
        for event in stream.session.receive(raw):
            self._handle(stream, event)
        self._enqueue(stream)
        if stream.joined and stream.proxies is not None:
            self._note(self._groups[stream.proxies.group], stream)

    def publish(self, group: str) -> None:
        """Offer the newest world to the clients of a group, probes first."""
        found = self._groups.get(group)
        classes = dict.fromkeys(() if found is None else found.live)
        classes |= dict.fromkeys(proxies for proxies in self._parked if proxies.group == group)
        for proxies in classes:
            world = self._world_of(proxies)
            if isinstance(world, Snapshot):
                self.supply(proxies, world)
            elif isinstance(world, BuildFailure) and found is not None and proxies in found.classes:
                found.fail(proxies, world)

    def supply(self, proxies: ir.NodeClass, world: Snapshot, held: PriorState | None = None) -> None:
        """Take the newest world of a class, and what was `held` of it elsewhere; serve who waited."""
        for stream in self._parked.pop(proxies, ()):
            self._join(stream, proxies, world, held)
            self._enqueue(stream)
        group = self._groups.get(proxies.group)
        if group is not None and group.has(proxies):
            self._enqueue_all(group.publish(proxies, world, self._steady(), held))

    def forget(self, proxies: ir.NodeClass) -> None:
        """Drop what is remembered of a class that nobody belongs to: somebody else remembers it."""
        group = self._groups.get(proxies.group)
        if group is not None:
            group.forget(proxies)

    def stop(self, proxies: ir.NodeClass, version: str, refusal: Nack) -> None:
        """Hear that a version was refused where other clients of its class are connected."""
        group = self._groups.get(proxies.group)
        if group is not None:
            self._enqueue_all(group.stop(proxies, version, refusal))
            self._on_change(group.name)

    async def drain(self, seconds: float) -> None:
        """End every stream within `seconds`; clients keep what they have and look for another server."""
        streams = list(self._streams)
        pause = seconds / max(1, len(streams))
        for stream in streams:
            stream.writer.cancel()
            await asyncio.sleep(min(pause, _DRAIN_PAUSE))

    # What is known

    @property
    def groups(self) -> frozenset[str]:
        """The names of the groups that have clients."""
        return frozenset(self._groups)

    @property
    def serving(self) -> int:
        """How many processes let proxies in: this one."""
        return 1

    @property
    def connected(self) -> int:
        """How many streams are open."""
        return len(self._streams)

    def released(self, group: str) -> Mapping[ir.NodeClass, str]:
        """Return the version of each class of a group that went out to all, where that is the newest."""
        found = self._groups.get(group)
        return {} if found is None else found.released

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

    def has(self, stream: Stream) -> bool:
        """Return whether a stream is still open."""
        return stream in self._streams

    # Inside

    def _handle(self, stream: Stream, event: Event) -> None:
        match event:
            case Identified(node=node):
                if stream.vet is not None:
                    stream.vet(node)
                stream.proxies = proxies_of(node, incremental=stream.session.incremental)
                stream.mode = dict(node.metadata).get("mode", "gateway")
                log.debug("proxy_connected", **stream.who, envoy=node.version)
                self._note_version(stream, node)
                self._welcome(stream, stream.proxies)
            case Resumed(type_url=type_url, holds=holds):
                proxies = stream.proxies
                if type_url == ROUTE and proxies is not None and proxies.virtual_hosts_apart:
                    self._keep_whole(stream, proxies, holds)
            case Acked(type_url=type_url):
                self.counters.accepted[_label(type_url)] += 1
            case Nacked() as rejection:
                self._refused(stream, rejection)
            case Stale():
                self.counters.stale += 1

    def _keep_whole(self, stream: Stream, proxies: ir.NodeClass, holds: Mapping[str, str]) -> None:
        """Leave a proxy with whole tables if that is what it has: no way to the other form spares its users.

        What it is told in the two forms differs in its routes alone, and it was told none of them yet.
        """
        if has_inline_virtual_hosts(holds):
            self._leave(stream, proxies)
            stream.session.withhold()
            stream.joined, stream.proxies = False, replace(proxies, virtual_hosts_apart=False)
            self._welcome(stream, stream.proxies)

    def _welcome(self, stream: Stream, proxies: ir.NodeClass) -> None:
        """Give a client its world; without one it waits."""
        node = stream.session.node
        if node is not None and stream.session.incremental and is_envoy(node.version):
            hosts = (VIRTUAL_HOST,) if proxies.virtual_hosts_apart else ()
            stream.session.asks_for = (LISTENER, ROUTE, *hosts)
        world = self._world_of(proxies)
        group = self._groups.get(proxies.group)
        if (
            isinstance(world, BuildFailure)
            and group is not None
            and (last := group.newest(proxies)) is not None
        ):
            self._join(stream, proxies, last)
            group.fail(proxies, world)
        elif isinstance(world, Snapshot):
            self._join(stream, proxies, world)
        else:
            self._parked.setdefault(proxies, []).append(stream)

    def _note_version(self, stream: Stream, node: NodeInfo) -> None:
        if not too_old(node.version) or node.id in self._too_old:
            return
        if len(self._too_old) >= _MOST_WARNED:
            self._too_old.clear()  # Ids are the peers' choice; forgetting costs a second warning.
        self._too_old.add(node.id)
        log.warning(
            "envoy_too_old", **stream.who, envoy=node.version, served_as=f"1.{served_as(node.version)}"
        )

    def _refused(self, stream: Stream, rejection: Nacked) -> None:
        self.counters.rejected[_label(rejection.type_url)] += 1
        if stream.proxies is None or not stream.joined:
            return
        group = self._groups[stream.proxies.group]
        refused = stream.session.snapshot
        probes = group.refuse(stream, rejection)
        self.counters.versions_stopped += bool(probes)
        log.error(
            "config_rejected",
            **stream.who,
            version="" if refused is None else refused.version,
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
        self._on_change(group.name)
        refusal = group.refusal_of(stream.proxies)
        if probes and refusal is not None:
            self._on_nack(stream.proxies, *refusal)

    def _leave(self, stream: Stream, proxies: ir.NodeClass) -> None:
        if not stream.joined:
            waiting = self._parked[proxies]
            waiting.remove(stream)
            if not waiting:
                del self._parked[proxies]
                self._on_unused(proxies)
            return
        group = self._groups[proxies.group]
        self._enqueue_all(group.leave(stream, self._steady()))
        if not group.has(proxies):
            self._on_unused(proxies)
        if group.empty:
            del self._groups[group.name]
        self._on_change(group.name)

    def _join(
        self, stream: Stream, proxies: ir.NodeClass, world: Snapshot, held: PriorState | None = None
    ) -> None:
        group = self._groups.setdefault(proxies.group, Group(proxies.group))
        stream.joined = True
        group.join(stream, proxies, world, self._steady(), held)
        self._on_change(group.name)

    def _note(self, group: Group, stream: Stream) -> None:
        before = group.progress
        self._enqueue_all(group.note(stream))
        if group.progress != before:
            if group.settled and group.published_at:
                self.counters.convergence_seconds.observe(self._steady() - group.published_at)
                group.published_at = 0.0
            self._on_change(group.name)

    def _enqueue_all(self, streams: list[Stream]) -> None:
        for stream in streams:
            self._enqueue(stream)

    def _enqueue(self, stream: Stream) -> None:
        if not stream.queued and stream.session.has_work:
            stream.queued = True
            stream.queued_at = self._steady()
            self._waiting.append(stream)
            self._pump()

    def _pump(self) -> None:
        """Start writes while there is room; each that ends makes room for the next."""
        while self._waiting and self._running and len(self._writes) < _MOST_WRITES:
            stream = self._waiting.popleft()
            self.counters.queue_seconds.observe(self._steady() - stream.queued_at)
            self._push(stream)

    def _push(self, stream: Stream) -> None:
        """Begin to write what a stream should hear next, if there is anything."""
        message = stream.session.next_response() if stream in self._streams else None
        if message is None:
            stream.queued = False
            if stream.joined and stream.proxies is not None and stream in self._streams:
                # To find that there is nothing to say may be the last there was to do.
                self._note(self._groups[stream.proxies.group], stream)
            return
        self.counters.pushes += 1
        self.counters.bytes_sent += len(message)
        # A task of its own, which nobody waits for: a client that does not read takes no room for long.
        loop = asyncio.get_running_loop()
        write = loop.create_task(stream.writer.write(message))
        self._writes[write] = stream, loop.time()
        write.add_done_callback(self._written)

    def _written(self, write: asyncio.Task[None]) -> None:
        found = self._writes.pop(write, None) or self._slow.pop(write, None)
        stream = None if found is None else found[0]
        failed = write.cancelled() or write.exception() is not None
        if stream is not None:
            # A failed write means that the stream has ended; its reader notices by itself.
            if failed:
                stream.queued = False
            else:
                self._push(stream)
        self._pump()

    def _give_up(self, now: float) -> None:
        # However many clients do not read, they take no room from those that do.
        for write in [w for w, (_, since) in self._writes.items() if now - since > _TICK_SECONDS]:
            self._slow[write] = self._writes.pop(write)
        late = [(w, s) for w, (s, since) in self._slow.items() if now - since > self._write_seconds]
        for write, stream in late:
            del self._slow[write]
            stream.queued = False
            self.counters.slow_closed += 1
            log.warning("slow_client_closed", **stream.who, after_seconds=self._write_seconds)
            stream.writer.cancel()
        self._pump()

    async def _tick_forever(self) -> None:
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            self._give_up(asyncio.get_running_loop().time())
            now = self._steady()
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
            reduced=() if node is None else missing_features(node.version),
        )


def proxies_of(node: NodeInfo, *, incremental: bool = False) -> ir.NodeClass:
    """Return the class of proxies a node belongs to; its bootstrap says where its entry listener is.

    On an `incremental` stream, an Envoy that can is told its virtual hosts one by one.
    """
    metadata = dict(node.metadata)
    host, _, port = metadata.get("entry", "").rpartition(":")
    # A client may claim anything: converting thousands of digits raises.
    valid = host and port.isdecimal() and len(port) <= _PORT_DIGITS and 0 < int(port) <= _LAST_PORT
    entry = ir.Address(host=host.strip("[]"), port=int(port)) if valid else _DEFAULT_ENTRY
    return ir.NodeClass(
        group=node.group,
        entry=entry,
        envoy=served_as(node.version),
        virtual_hosts_apart=incremental and discovers_virtual_hosts(node.version),
    )


def _label(type_url: str) -> str:
    """Return what counts of a type go by; what nobody serves is one, whatever clients call it."""
    return short_name(type_url) if type_url in TYPE_ORDER else "other"
