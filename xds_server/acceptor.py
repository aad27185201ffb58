"""An acceptor process: discovery streams and nothing else, fed by the control plane that started it.

It knows no specs, no rollouts and no store. Several of them share one port; the kernel spreads connections.
It ends when the control plane's end of the feed closes, for it must not go on with what it heard last.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import structlog

from xds_server.ads import CertificatesError, Door, Hub
from xds_server.ads.feed import class_of, proxies_class, read_frame, refusal, send, world_of
from xds_server.logs import configure_logs
from xds_server.loop import loop_factory
from xds_server.protocol import Refusal
from xds_server.view import to_json
from xds_server.wire import feed_pb2 as wire

if TYPE_CHECKING:
    from xds_server import ir
    from xds_server.snapshot import Snapshot

__all__ = ["Acceptor"]

_SAY_SECONDS: Final = 0.01
_REPORT_SECONDS: Final = 1.0
_GRACE_SECONDS: Final = 1.0

log = structlog.get_logger()


@dataclass(slots=True)
class Acceptor:
    """The acceptor's end of a feed, and the hub it supplies."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    worlds: dict[ir.Proxies, Snapshot]
    hub: Hub
    moved: set[str]

    @classmethod
    def on(cls, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Acceptor:
        """Build the two around one connection."""
        worlds: dict[ir.Proxies, Snapshot] = {}

        def known_or_asked(proxies: ir.Proxies) -> Snapshot | None:
            if proxies not in worlds:
                send(writer, wire.FromAcceptor(need=proxies_class(proxies)))
            return worlds.get(proxies)

        hub = Hub(known_or_asked)
        made = cls(reader, writer, worlds, hub, set())
        hub.on_change = made.moved.add
        hub.on_refused = lambda proxies, version, found: send(
            writer, wire.FromAcceptor(refused=refusal(proxies, version, found))
        )
        return made

    async def listen(self) -> None:
        """Take worlds and refusals until the feed ends."""
        while (raw := await read_frame(self.reader)) is not None:
            message = wire.ToAcceptor.FromString(raw)
            if message.WhichOneof("what") == "world":
                proxies = class_of(message.world.proxies)
                self.worlds[proxies] = world_of(message.world, self.worlds.get(proxies))
                self.hub.supply(proxies, self.worlds[proxies])
            elif message.WhichOneof("what") == "refused":
                said = message.refused
                self.hub.stop(class_of(said.proxies), said.version, Refusal(said.node, said.words))

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
            await asyncio.sleep(_REPORT_SECONDS)


async def _run(config: dict[str, Any], path: str) -> None:
    loop = asyncio.get_running_loop()
    acceptor = Acceptor.on(*await asyncio.open_unix_connection(path))
    door = Door.of_json(config["door"])
    server = door.server(acceptor.hub, shared=True)
    await server.start(door.address)
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
    """Run one acceptor: `python -m xds_server.acceptor CONFIG-AS-JSON SOCKET`."""
    config = json.loads(sys.argv[1])
    configure_logs(config["log_level"])
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(_run(config, sys.argv[2]))
    except (OSError, CertificatesError) as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
