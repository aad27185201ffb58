"""One acceptor as the control plane sees it: what it was told, what it is owed, and what it said last.

News wait as names of classes and become bytes only when the acceptor has taken those before: however long it
takes, what waits for it is no more than a list, and it hears of the newest world of each class once.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from xds_server.xds.server.counters import Counters
from xds_server.xds.wire import feed_pb2 as wire
from xds_server.xds.workers.messages import refusal, send, world_message

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xds_server import ir
    from xds_server.view import ProxyView
    from xds_server.xds.snapshot import Snapshot
    from xds_server.xds.workers.versions import VersionRecord, VersionRegistry

__all__ = ["WorkerConnection"]


@dataclass(slots=True)
class _Told:
    """The world of a class an acceptor was sent last, and whether it heard that it was refused."""

    world: Snapshot
    refused: bool


@dataclass(slots=True, eq=False)
class WorkerConnection:
    """A connected acceptor. `told` holds the classes it asked for, None for what it waits for.

    `pid` is 0 until it lets proxies in; `heard` says that it spoke since somebody looked last, `silent` that
    it has not for long.
    """

    writer: asyncio.StreamWriter
    told: dict[ir.NodeClass, _Told | None] = field(default_factory=dict)
    standings: dict[str, wire.Standing] = field(default_factory=dict)
    proxies: tuple[ProxyView, ...] = ()
    counters: Counters = field(default_factory=Counters)
    connected: int = 0
    pid: int = 0
    heard: bool = False
    silent: bool = False
    _due: dict[ir.NodeClass, None] = field(default_factory=dict)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)

    def take_heard(self) -> bool:
        """Return whether it spoke since this was asked last."""
        heard, self.heard = self.heard, False
        return heard

    def owe(self, proxies: ir.NodeClass) -> None:
        """Tell it of a class when it has taken what it was told before."""
        if proxies in self.told:
            self._due[proxies] = None
            self._wake.set()

    def want(self, proxies: ir.NodeClass) -> None:
        """Hear that it asks for a class: it knows nothing of it."""
        self.told[proxies] = None
        self.owe(proxies)

    def forget(self, proxies: ir.NodeClass) -> None:
        """Hear that nobody there belongs to a class any more."""
        self.told.pop(proxies, None)
        self._due.pop(proxies, None)

    def has_refused(self, proxies: ir.NodeClass) -> None:
        """Note that it refused the newest world of a class itself, and need not be told."""
        told = self.told.get(proxies)
        if told is not None:
            told.refused = True

    async def tell(self, ledger: VersionRegistry) -> None:
        """Send what it is owed, as fast as it takes it, until cancelled or cut off."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._due:
                proxies = next(iter(self._due))
                del self._due[proxies]
                known = ledger.classes.get(proxies)
                for message in () if known is None else self._news(proxies, known):
                    send(self.writer, message)
                    try:
                        await self.writer.drain()
                    except ConnectionError:
                        return  # Whoever reads from it notices as well.

    def _news(self, proxies: ir.NodeClass, known: VersionRecord) -> Iterator[wire.ToAcceptor]:
        told, newest, refused = self.told[proxies], known.newest, known.refusal
        if told is not None and told.world.version == newest.version:
            if refused is not None and not told.refused:
                told.refused = True
                yield wire.ToAcceptor(refused=refusal(proxies, newest.version, refused))
            return
        former = None if told is None else told.world
        self.told[proxies] = _Told(newest, refused is not None)
        fallback = known.fallback
        if fallback is not None and (told is None or refused is not None):
            yield wire.ToAcceptor(world=world_message(proxies, former, fallback, good=True))
            former = fallback
        message = world_message(proxies, former, newest)
        if refused is not None:
            message.refused.CopyFrom(refusal(proxies, newest.version, refused))
        yield wire.ToAcceptor(world=message)
