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
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import grpc
import structlog

from xds_server import ir
from xds_server.protocol import Accepted, Event, Identified, NodeInfo, Rejected, Stale
from xds_server.snapshot import TYPE_ORDER, Snapshot, short_name
from xds_server.view import Convergence, ProxyStatus, ProxyView

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from xds_server.ads.stream import Stream

__all__ = ["Hub", "proxies_of"]

_WORKERS: Final = 64
_WRITE_SECONDS: Final = 10.0
_DEFAULT_ENTRY: Final = ir.Address(host="0.0.0.0", port=10_000)

log = structlog.get_logger()


@dataclass(slots=True, kw_only=True)
class Counters:
    """Totals since the start, for metrics."""

    pushes: Counter[str]
    accepted: Counter[str]
    rejected: Counter[str]
    stale: int = 0
    bytes_sent: int = 0
    slow_closed: int = 0


class Hub:
    """The meeting place of streams and worlds. Not thread-safe: everything runs on one event loop."""

    def __init__(
        self, compile_world: Callable[[ir.Proxies], Snapshot], *, clock: Callable[[], float] = time.time
    ) -> None:
        """`compile_world` gives the newest world of a class of proxies; each publish calls it again."""
        self.counters = Counters(pushes=Counter(), accepted=Counter(), rejected=Counter())
        self.on_change: Callable[[str], None] = lambda _group: None
        self._compile = compile_world
        self._clock = clock
        self._streams: set[Stream] = set()
        self._queue: asyncio.Queue[Stream] = asyncio.Queue()

    async def run(self) -> None:
        """Push until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(_WORKERS):
                tasks.create_task(self._push_forever())

    # Streams

    def connect(self, stream: Stream) -> None:
        """Take a new stream in; it is served once it has said who it is."""
        self._streams.add(stream)

    def disconnect(self, stream: Stream) -> None:
        """Forget a stream."""
        self._streams.discard(stream)
        if stream.proxies is not None:
            log.info("proxy_disconnected", **_who(stream))
            self.on_change(stream.proxies.group)

    def receive(self, stream: Stream, raw: bytes) -> None:
        """Take a request of a stream in; a protocol error is the caller's to turn into a status."""
        stream.last_seen = self._clock()
        for event in stream.session.receive(raw):
            self._handle(stream, event)
        self._enqueue(stream)
        self._note_sync(stream)

    def publish(self, group: str) -> None:
        """Offer the newest world to every client of a group."""
        worlds: dict[ir.Proxies, Snapshot] = {}
        for stream in self._of(group):
            if stream.proxies is None:
                continue
            world = worlds.get(stream.proxies)
            if world is None:
                world = worlds[stream.proxies] = self._compile(stream.proxies)
            stream.session.offer(world)
            stream.was_synced = stream.session.synced
            self._enqueue(stream)

    def close_all(self) -> None:
        """End every stream; clients keep what they have and look for another server."""
        for stream in list(self._streams):
            stream.writer.cancel()

    # What is known

    def convergence(self, group: str) -> Convergence:
        """Return how many clients of a group hold the newest world; the newest stream of a node counts."""
        streams = list(self._newest(group))
        rejected = [stream for stream in streams if stream.session.rejections]
        waiting = [stream for stream in streams if not stream.session.synced and stream not in rejected]
        details = [
            f"{_node_id(stream)} refused {short_name(rejection.type_url)}: {rejection.message}"
            for stream in rejected
            for rejection in stream.session.rejections
        ]
        if waiting:
            details.append("waiting for " + ", ".join(sorted(_node_id(stream) for stream in waiting)[:5]))
        versions = sorted({s.session.snapshot.version for s in streams if s.session.snapshot is not None})
        return Convergence(
            connected=len(streams),
            acked=sum(stream.session.synced for stream in streams),
            nacked=len(rejected),
            version=" ".join(versions),
            detail="; ".join(details),
        )

    def proxies(self) -> tuple[ProxyView, ...]:
        """Return every connected client, by group and id."""
        views = [_view(stream) for stream in self._streams if stream.proxies is not None]
        return tuple(sorted(views, key=lambda view: (view.group, view.id, view.connected_since)))

    # Inside

    def _handle(self, stream: Stream, event: Event) -> None:
        match event:
            case Identified(node=node):
                stream.proxies, stream.mode = proxies_of(node), dict(node.metadata).get("mode", "gateway")
                stream.session.offer(self._compile(stream.proxies))
                log.info("proxy_connected", **_who(stream), envoy=node.version)
                self.on_change(stream.proxies.group)
            case Accepted(type_url=type_url):
                self.counters.accepted[short_name(type_url)] += 1
            case Rejected(type_url=type_url, names=names, message=message):
                self.counters.rejected[short_name(type_url)] += 1
                log.error(
                    "config_rejected",
                    **_who(stream),
                    type=short_name(type_url),
                    names=names,
                    reason=message,
                    consequence="the proxy keeps what it accepted last; started anew it would lack this",
                )
                self._changed(stream)
            case Stale():
                self.counters.stale += 1

    def _note_sync(self, stream: Stream) -> None:
        synced = stream.session.synced
        if synced != stream.was_synced:
            stream.was_synced = synced
            self._changed(stream)

    def _changed(self, stream: Stream) -> None:
        if stream.proxies is not None:
            self.on_change(stream.proxies.group)

    def _of(self, group: str) -> list[Stream]:
        return [s for s in self._streams if s.proxies is not None and s.proxies.group == group]

    def _newest(self, group: str) -> Iterator[Stream]:
        # A node that reconnects may have its old stream still dying beside the new one.
        newest: dict[str, Stream] = {}
        for stream in self._of(group):
            other = newest.get(_node_id(stream))
            if other is None or other.connected_since < stream.connected_since:
                newest[_node_id(stream)] = stream
        return iter(newest.values())

    def _enqueue(self, stream: Stream) -> None:
        if stream.queued:
            stream.dirty = True
        else:
            stream.queued = True
            self._queue.put_nowait(stream)

    async def _push_forever(self) -> None:
        while True:
            stream = await self._queue.get()
            stream.dirty = False
            await self._push(stream)
            stream.queued = False
            if stream.dirty and stream in self._streams:
                self._enqueue(stream)

    async def _push(self, stream: Stream) -> None:
        while stream in self._streams and (message := stream.session.next_response()) is not None:
            self.counters.pushes["all"] += 1
            self.counters.bytes_sent += len(message)
            try:
                async with asyncio.timeout(_WRITE_SECONDS):
                    await stream.writer.write(message)
            except TimeoutError:
                self.counters.slow_closed += 1
                log.warning("slow_client_closed", **_who(stream), after_seconds=_WRITE_SECONDS)
                stream.writer.cancel()
                return
            except (grpc.RpcError, grpc.aio.UsageError, grpc.aio.InternalError):
                # The stream ended under our hands; its reader notices by itself.
                return


def proxies_of(node: NodeInfo) -> ir.Proxies:
    """Return the class of proxies a node belongs to; its bootstrap says where its entry listener is."""
    metadata = dict(node.metadata)
    host, _, port = metadata.get("entry", "").rpartition(":")
    entry = ir.Address(host=host.strip("[]"), port=int(port)) if port.isdecimal() and host else _DEFAULT_ENTRY
    return ir.Proxies(group=node.group, entry=entry)


def _node_id(stream: Stream) -> str:
    return "" if stream.session.node is None else stream.session.node.id


def _who(stream: Stream) -> dict[str, str]:
    group = "" if stream.proxies is None else stream.proxies.group
    return {"node": _node_id(stream), "group": group, "peer": stream.peer}


def _view(stream: Stream) -> ProxyView:
    session, node = stream.session, stream.session.node
    if session.rejections:
        status = ProxyStatus.NACKED
    else:
        status = ProxyStatus.SYNCED if session.synced else ProxyStatus.STALE
    return ProxyView(
        id=_node_id(stream),
        group="" if node is None else node.group,
        mode=stream.mode,
        status=status,
        version="" if session.snapshot is None else session.snapshot.version,
        envoy_version="" if node is None else node.version,
        address=stream.peer,
        connected_since=stream.connected_since,
        last_seen=stream.last_seen,
        detail="; ".join(
            f"{short_name(r.type_url)} {', '.join(r.names)}: {r.message}"
            for r in sorted(session.rejections, key=lambda r: TYPE_ORDER.index(r.type_url))
        ),
    )
