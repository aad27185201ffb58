"""The control plane's side of several acceptor processes: the same face as one hub.

Acceptors hold the streams and decide who is probed among their own; here their numbers are added up, worlds
are handed out, and a refusal heard by one is told to the others. An acceptor that ends is started again; one
that loses the control plane ends by itself, so that nobody is ever served by a process that hears no news.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import structlog

from xds_server.ads.counters import Counters
from xds_server.ads.feed import class_of, read_frame, send, world_message
from xds_server.view import Convergence, ProxyStatus, ProxyView
from xds_server.wire import feed_pb2 as wire

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from xds_server import ir
    from xds_server.snapshot import Snapshot

__all__ = ["Fleet"]

_MOST_CLASSES: Final = 4_096
_RESTART_SECONDS: Final = 1.0

log = structlog.get_logger()


@dataclass(slots=True, eq=False)
class _Link:
    """One connected acceptor: what it was sent, and what it said last."""

    writer: asyncio.StreamWriter
    sent: dict[ir.Proxies, Snapshot] = field(default_factory=dict)
    standings: dict[str, wire.Standing] = field(default_factory=dict)
    proxies: tuple[ProxyView, ...] = ()
    counters: Counters = field(default_factory=Counters)
    connected: int = 0


class Fleet:
    """Acceptors and what they know; runs on the control plane's event loop."""

    def __init__(
        self, world_of: Callable[[ir.Proxies], Snapshot], command: Sequence[str], number: int
    ) -> None:
        """`command` starts an acceptor; the path of the feed's socket is added to it."""
        self.on_change: Callable[[str], None] = lambda _group: None
        self._world_of = world_of
        self._command = tuple(command)
        self._number = number
        self._links: set[_Link] = set()
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
                for _ in range(self._number):
                    tasks.create_task(self._keep(path))

    async def ready(self) -> None:
        """Wait until every acceptor has reported for the first time."""
        await self._listening.wait()

    # The face of a hub

    def publish(self, group: str) -> None:
        """Hand the newest worlds of a group to every acceptor that serves it."""
        worlds: dict[ir.Proxies, Snapshot] = {}
        for link in self._links:
            for proxies in [own for own in link.sent if own.group == group]:
                if proxies not in worlds:
                    worlds[proxies] = self._world_of(proxies)
                self._send_world(link, proxies, worlds[proxies])

    def convergence(self, group: str) -> Convergence:
        """Add up what acceptors say; what is said of an older world than the newest counts as waiting."""
        connected = acked = nacked = 0
        details, expected = [], set()
        for link in self._links:
            own = {world.version for proxies, world in link.sent.items() if proxies.group == group}
            expected |= own
            said = link.standings.get(group)
            if said is None:
                continue
            connected += said.connected
            if own >= set(said.versions):
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
        total.add(self._ended)
        for link in self._links:
            total.add(link.counters)
        return total

    @property
    def connected(self) -> int:
        """How many streams are open."""
        return sum(link.connected for link in self._links)

    # Inside

    async def _keep(self, path: Path) -> None:
        while True:
            process = await asyncio.create_subprocess_exec(*self._command, str(path))
            try:
                code = await process.wait()
                if not self._listening.is_set():
                    # Starting it again would fail again: whoever starts this is told instead.
                    raise OSError("an acceptor ended before it could listen; its words are above")
                log.error(
                    "acceptor_ended", code=code, consequence="its proxies look for another; started again"
                )
                await asyncio.sleep(_RESTART_SECONDS)
            finally:
                if process.returncode is None:
                    process.terminate()
                    await process.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link(writer)
        self._links.add(link)
        try:
            while (raw := await read_frame(reader)) is not None:
                self._hear(link, wire.FromAcceptor.FromString(raw))
        finally:
            self._links.discard(link)
            self._ended.add(link.counters)
            with contextlib.suppress(ConnectionError):
                writer.close()
            for group in link.standings:
                self.on_change(group)

    def _hear(self, link: _Link, message: wire.FromAcceptor) -> None:
        match message.WhichOneof("what"):
            case "need":
                proxies = class_of(message.need)
                if len(link.sent) >= _MOST_CLASSES:
                    # Clients choose their class: inventing more must not take news from those there are.
                    log.warning("too_many_classes", group=proxies.group, most=_MOST_CLASSES)
                    return
                self._send_world(link, proxies, self._world_of(proxies))
            case "refused":
                for other in self._links - {link}:
                    send(other.writer, wire.ToAcceptor(refused=message.refused))
            case "standing":
                link.standings[message.standing.group] = message.standing
                self.on_change(message.standing.group)
            case "report":
                self._take_report(link, json.loads(message.report))
            case _:
                pass

    def _take_report(self, link: _Link, report: dict[str, Any]) -> None:
        link.counters = Counters.of_json(report["counters"])
        link.connected = report["connected"]
        if report["proxies"] is not None:
            link.proxies = tuple(_view(item) for item in report["proxies"])
        if len(self._links) >= self._number:
            self._listening.set()

    def _send_world(self, link: _Link, proxies: ir.Proxies, world: Snapshot) -> None:
        former = link.sent.get(proxies)
        if former is not None and former.version == world.version:
            return
        send(link.writer, wire.ToAcceptor(world=world_message(proxies, former, world)))
        link.sent[proxies] = world


def _view(values: dict[str, Any]) -> ProxyView:
    values["status"] = ProxyStatus(values["status"])
    values["reduced"] = tuple(values["reduced"])
    return ProxyView(**values)
