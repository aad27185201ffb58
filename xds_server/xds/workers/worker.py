"""An acceptor process: discovery streams and nothing else, fed by the control plane that started it.

It knows no specs, no rollouts and no store. Several of them share one port; the kernel spreads connections.
It ends when the control plane's end of the feed closes, for it must not go on with what it heard last.
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

from xds_server.analysis.counts import Counts, Leg, added
from xds_server.logs import configure_logs
from xds_server.loop import loop_factory
from xds_server.view import to_json
from xds_server.xds.server import CertificatesError, Hub, ListenerConfig
from xds_server.xds.server.group import PriorState
from xds_server.xds.wire import feed_pb2 as wire
from xds_server.xds.workers.messages import (
    class_of,
    counted,
    proxies_class,
    read_frame,
    refusal,
    refusal_of,
    send,
    world_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from xds_server import ir
    from xds_server.xds.session import Nack
    from xds_server.xds.snapshot import Snapshot

__all__ = ["Worker"]

_SAY_SECONDS: Final = 0.01
_REPORT_SECONDS: Final = 1.0
_GRACE_SECONDS: Final = 1.0
_MOST_LEGS: Final = 10_000

log = structlog.get_logger()


@dataclass(slots=True)
class _Class:
    """A class of proxies that somebody here belongs to.

    `base` is the world that came last, which the next is told as a change of; `good` came before `newest` to
    fall back to; `released` is the version that was last said to have gone out to all.
    """

    base: Snapshot | None = None
    newest: Snapshot | None = None
    good: Snapshot | None = None
    released: str = ""


@dataclass(slots=True)
class Worker:
    """The acceptor's end of a feed, and the hub it supplies."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    hub: Hub = field(init=False)
    classes: dict[ir.NodeClass, _Class] = field(default_factory=dict)
    moved: set[str] = field(default_factory=set)
    counts: dict[tuple[str, Leg], Counts] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.hub = Hub(
            self._known_or_asked,
            on_change=self.moved.add,
            on_counts=self._counted,
            on_nack=self._refused,
            on_unused=self._forget,
        )

    async def listen(self) -> None:
        """Take worlds and refusals until the feed ends."""
        while (raw := await read_frame(self.reader)) is not None:
            message = wire.ToAcceptor.FromString(raw)
            if message.WhichOneof("what") == "world":
                self._take(message.world)
            elif message.WhichOneof("what") == "refused":
                said = message.refused
                self.hub.stop(class_of(said.proxies), said.version, refusal_of(said))

    def listening(self) -> None:
        """Say that proxies are let in."""
        send(self.writer, wire.FromAcceptor(listening=wire.Listening(pid=os.getpid())))

    async def say(self) -> None:
        """Tell how far groups have got, soon after they moved, until cancelled."""
        while True:
            while self.moved:
                group = self.moved.pop()
                found = self.hub.convergence(group)
                standing = wire.Standing(
                    group=group,
                    connected=found.connected,
                    acked=found.acked,
                    nacked=found.nacked,
                    versions=found.version.split(),
                    detail=found.detail,
                )
                send(self.writer, wire.FromAcceptor(standing=standing))
                self._say_released(group)
            await self.writer.drain()
            await asyncio.sleep(_SAY_SECONDS)

    async def report(self) -> None:
        """Tell people's and metrics' numbers now and then, until cancelled."""
        said: list[dict[str, Any]] | None = None
        while True:
            proxies = [to_json(view) for view in self.hub.proxies()]
            found = {
                "counters": self.hub.counters.to_json(),
                "connected": self.hub.connected,
                "proxies": None if proxies == said else proxies,
            }
            said = proxies
            self.moved |= self.hub.groups  # What moved too little to be said at once is said now.
            send(self.writer, wire.FromAcceptor(report=json.dumps(found).encode()))
            if self.counts:
                told, self.counts = self.counts, {}
                send(self.writer, wire.FromAcceptor(counted=counted(told)))
            await self.writer.drain()
            await asyncio.sleep(_REPORT_SECONDS)

    # Inside

    def _counted(self, group: str, legs: Mapping[Leg, Counts]) -> None:
        """Add up what proxies counted until the next report; a proxy that invents legs is not heard of."""
        for leg, counts in legs.items():
            known = self.counts.get((group, leg))
            if known is not None:
                self.counts[group, leg] = added(known, counts)
            elif len(self.counts) < _MOST_LEGS:
                self.counts[group, leg] = counts

    def _known_or_asked(self, proxies: ir.NodeClass) -> Snapshot | None:
        own = self.classes.get(proxies)
        if own is None:
            own = self.classes[proxies] = _Class()
            send(self.writer, wire.FromAcceptor(need=proxies_class(proxies)))
        return own.newest

    def _forget(self, proxies: ir.NodeClass) -> None:
        """Hear that nobody here belongs to a class: whatever is to be remembered of it, the feed does."""
        self.hub.forget(proxies)
        del self.classes[proxies]
        send(self.writer, wire.FromAcceptor(forget=proxies_class(proxies)))

    def _take(self, message: wire.World) -> None:
        proxies = class_of(message.proxies)
        own = self.classes.get(proxies)
        base = None if own is None else own.base
        if own is None or (message.base and (base is None or base.version != message.base)):
            return  # It was on its way when the class was forgotten; one that is wanted again comes whole.
        own.base = world = world_of(message, base if message.base else None)
        if message.good:
            own.good = world
            return
        refused = refusal_of(message.refused) if message.HasField("refused") else None
        held = None if own.good is None else PriorState(own.good, refused)
        own.newest, own.good = world, None
        self.hub.supply(proxies, world, held)

    def _refused(self, proxies: ir.NodeClass, version: str, found: Nack) -> None:
        send(self.writer, wire.FromAcceptor(refused=refusal(proxies, version, found)))

    def _say_released(self, group: str) -> None:
        for proxies, version in self.hub.released(group).items():
            own = self.classes[proxies]
            if own.released != version:
                own.released = version
                released = wire.Released(proxies=proxies_class(proxies), version=version)
                send(self.writer, wire.FromAcceptor(released=released))


async def _run(config: dict[str, Any], path: str) -> None:
    loop = asyncio.get_running_loop()
    acceptor = Worker(*await asyncio.open_unix_connection(path))
    door = ListenerConfig.of_json(config["listener"])
    server = door.server(acceptor.hub, shared=True)
    await server.start(door.address)
    acceptor.listening()
    jobs = [acceptor.listen(), acceptor.say(), acceptor.report(), acceptor.hub.run()]
    tasks = [asyncio.ensure_future(job) for job in jobs]
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, tasks[0].cancel)
    try:
        # The feed's end is this process's end; a job that fails ends it as well.
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            if not task.cancelled() and (error := task.exception()) is not None:
                log.error("acceptor_failed", exc_info=error)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.stop(_GRACE_SECONDS)


def main() -> None:
    """Run one acceptor: `python -m xds_server.xds.workers.worker CONFIG-AS-JSON SOCKET`."""
    config = json.loads(sys.argv[1])
    configure_logs(config["log_level"])
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(_run(config, sys.argv[2]))
    except (OSError, CertificatesError) as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
