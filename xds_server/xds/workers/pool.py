"""The control plane's side of several acceptor processes: the same face as one hub.

Acceptors hold the streams and decide who is probed among their own; here their numbers are added up, worlds
are handed out, and what one of them found out of a version is told to the others, those included that start
later. An acceptor that ends is started again; one that loses the control plane ends by itself, so that nobody
is ever served by a process that hears no news.
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
from xds_server.xds.server.counters import Counters
from xds_server.xds.server.snapshot_build import BuildFailure, SnapshotBuilder
from xds_server.xds.wire import feed_pb2 as wire
from xds_server.xds.workers.connection import WorkerConnection
from xds_server.xds.workers.messages import class_of, counted_of, read_frame, refusal_of
from xds_server.xds.workers.supervisor import WorkerSupervisor, WorkerTimeouts
from xds_server.xds.workers.versions import VersionRegistry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from xds_server import ir
    from xds_server.analysis.counts import Counts, Leg
    from xds_server.xds.snapshot import Snapshot

__all__ = ["WorkerPool"]

_MOST_CLASSES: Final = 4_096

log = structlog.get_logger()


class WorkerPool:
    """Acceptors and what they know; runs on the control plane's event loop."""

    def __init__(
        self,
        world_of: Callable[[ir.NodeClass], Snapshot],
        command: Sequence[str],
        number: int,
        *,
        on_change: Callable[[str], None] = lambda _group: None,
        on_counts: Callable[[str, Mapping[Leg, Counts]], None] = lambda _group, _legs: None,
        timeouts: WorkerTimeouts | None = None,
    ) -> None:
        """`command` starts a worker; the path of the worker protocol's socket is appended to it.

        `on_change` receives the name of a group whose convergence changed, `on_counts` what proxies counted.
        """
        self._on_change = on_change
        self._on_counts = on_counts
        self._own = Counters()
        self._world_of = SnapshotBuilder(world_of, self._own)
        self._command = tuple(command)
        self._number = number
        self._timeouts = WorkerTimeouts() if timeouts is None else timeouts
        self._links: set[WorkerConnection] = set()
        self._ledger = VersionRegistry()
        self._unbuilt: dict[ir.NodeClass, str] = {}
        self._ended = Counters()
        self._listening = asyncio.Event()

    async def run(self) -> None:
        """Keep acceptors running until cancelled.

        Raises:
            OSError: One of them could not even begin.
        """
        with tempfile.TemporaryDirectory(prefix="shiftplane-") as folder:
            path = Path(folder) / "feed.sock"
            async with await asyncio.start_unix_server(self._serve, path), asyncio.TaskGroup() as tasks:
                keeper = WorkerSupervisor(
                    command=(*self._command, str(path)),
                    patience=self._timeouts,
                    link_of=self._link_of,
                    started=self._listening.is_set,
                )
                for _ in range(self._number):
                    tasks.create_task(keeper.run())

    async def ready(self) -> None:
        """Wait until every acceptor lets proxies in for the first time."""
        await self._listening.wait()

    # The face of a hub

    def publish(self, group: str) -> None:
        """Hand the newest worlds of a group to every acceptor that serves it."""
        for proxies in {own for link in self._links for own in link.told if own.group == group}:
            self._build(proxies)

    def convergence(self, group: str) -> Convergence:
        """Add up what acceptors say; what is said of an older world than the newest counts as waiting."""
        connected = acked = nacked = 0
        expected: set[str] = set()
        wanted = {own for link in self._links for own in link.told if own.group == group}
        details = [words for proxies, words in self._unbuilt.items() if proxies in wanted]
        for link in self._links:
            own = {
                known.version for proxies in link.told if (known := self._newest(proxies, group)) is not None
            }
            expected |= own
            said = link.standings.get(group)
            if said is None:
                continue
            connected += said.connected
            if link.silent:
                details.append(f"the acceptor of {said.connected} proxies says nothing")
            # Where a world could not be built, nobody holds the newest.
            if own >= set(said.versions) and not self._unbuilt.keys() & link.told.keys() & wanted:
                acked += said.acked
                nacked += said.nacked
                if said.detail:
                    details.append(said.detail)
        return Convergence(
            connected=connected,
            acked=acked,
            nacked=nacked,
            version=" ".join(sorted(expected)),
            detail="; ".join(dict.fromkeys(details)),
        )

    def proxies(self) -> tuple[ProxyView, ...]:
        """Return every connected client, as of a second ago at most."""
        views = [view for link in self._links for view in link.proxies]
        return tuple(sorted(views, key=lambda view: (view.group, view.id, view.connected_since)))

    @property
    def counters(self) -> Counters:
        """The totals of all acceptors, those that ended included."""
        total = Counters()
        total.add(self._own)
        total.add(self._ended)
        for link in self._links:
            total.add(link.counters)
        return total

    @property
    def connected(self) -> int:
        """How many streams are open."""
        return sum(link.connected for link in self._links)

    @property
    def serving(self) -> int:
        """How many acceptors let proxies in and say so."""
        return sum(link.pid != 0 and not link.silent for link in self._links)

    # Inside

    def _link_of(self, pid: int) -> WorkerConnection | None:
        return next((link for link in self._links if link.pid == pid), None)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = WorkerConnection(writer)
        self._links.add(link)
        try:
            async with asyncio.TaskGroup() as tasks:
                telling = tasks.create_task(link.tell(self._ledger))
                while (raw := await read_frame(reader)) is not None:
                    self._hear(link, wire.FromAcceptor.FromString(raw))
                telling.cancel()
        finally:
            self._links.discard(link)
            self._ended.add(link.counters)
            self._leave(link.told)
            with contextlib.suppress(ConnectionError):
                writer.close()
            for group in link.standings:
                self._on_change(group)

    def _hear(self, link: WorkerConnection, message: wire.FromAcceptor) -> None:
        link.heard = True
        match message.WhichOneof("what"):
            case "listening":
                link.pid = message.listening.pid
                if self.serving >= self._number:
                    self._listening.set()
            case "need":
                self._need(link, class_of(message.need))
            case "forget":
                proxies = class_of(message.forget)
                link.forget(proxies)
                self._leave([proxies])
            case "refused":
                self._refused(link, message.refused)
            case "released":
                self._released(message.released)
            case "standing":
                self._take_standing(link, message.standing)
            case "counted":
                self._take_counts(message.counted)
            case "report":
                self._take_report(link, json.loads(message.report))
            case _:
                pass

    def _need(self, link: WorkerConnection, proxies: ir.NodeClass) -> None:
        if len(link.told) >= _MOST_CLASSES:
            # Clients choose their class: inventing more must not take news from those there are.
            log.warning("too_many_classes", group=proxies.group, most=_MOST_CLASSES)
            return
        self._ledger.want(proxies)
        link.want(proxies)
        self._build(proxies)

    def _build(self, proxies: ir.NodeClass) -> None:
        """Have the newest world of a class built, and tell of it whoever wants it."""
        world = self._world_of(proxies)
        if isinstance(world, BuildFailure):
            self._unbuilt[proxies] = world
        elif world is not None:
            self._unbuilt.pop(proxies, None)
            if self._ledger.publish(proxies, world):
                self._owe(proxies)

    def _refused(self, link: WorkerConnection, message: wire.Refusal) -> None:
        proxies = class_of(message.proxies)
        known = self._ledger.classes.get(proxies)
        if known is not None and known.refuse(message.version, refusal_of(message)):
            link.has_refused(proxies)
            self._owe(proxies)

    def _released(self, message: wire.Released) -> None:
        known = self._ledger.classes.get(class_of(message.proxies))
        if known is not None:
            known.release(message.version)

    def _take_counts(self, message: wire.CountedLegs) -> None:
        for group, leg, counts in counted_of(message):
            self._on_counts(group, {leg: counts})

    def _owe(self, proxies: ir.NodeClass) -> None:
        for link in self._links:
            link.owe(proxies)

    def _newest(self, proxies: ir.NodeClass, group: str) -> Snapshot | None:
        known = self._ledger.classes.get(proxies) if proxies.group == group else None
        return None if known is None else known.newest

    def _leave(self, classes: Iterable[ir.NodeClass]) -> None:
        """Let go of those classes that no acceptor has anybody of."""
        for proxies in classes:
            if not any(proxies in link.told for link in self._links):
                self._ledger.leave(proxies)
                self._unbuilt.pop(proxies, None)

    def _take_standing(self, link: WorkerConnection, standing: wire.Standing) -> None:
        if standing.connected:
            link.standings[standing.group] = standing
        else:
            link.standings.pop(standing.group, None)
        self._on_change(standing.group)

    def _take_report(self, link: WorkerConnection, report: dict[str, Any]) -> None:
        link.counters = Counters.of_json(report["counters"])
        link.connected = report["connected"]
        if report["proxies"] is not None:
            link.proxies = tuple(_view(item) for item in report["proxies"])


def _view(values: dict[str, Any]) -> ProxyView:
    values["status"] = ProxyStatus(values["status"])
    values["reduced"] = tuple(values["reduced"])
    return ProxyView(**values)
