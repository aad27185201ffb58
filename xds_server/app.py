"""The composition root of the control plane: builds everything once, runs it, ends it in reverse.

Order matters at the start: the store is loaded before the discovery port opens, so no proxy is ever told of
an empty or older world.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog
from aiohttp import web

from xds_server.ads import Certificates, Guard, Hub, Server, TlsFiles
from xds_server.engine import Engine, SpecRefusedError, no_summary
from xds_server.sources import CollectorSource, SpecFolder, load_scripts
from xds_server.store import SqliteStore
from xds_server.web import build, registry

if TYPE_CHECKING:
    from pathlib import Path

    from xds_server import ir
    from xds_server.protocol import IdentityRule

__all__ = ["Config", "configure_logs", "run"]

_GRACE_SECONDS: Final = 2.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What an operator decides. Addresses are `host:port`; `collector_http` is a base URL.

    Without `xds_tls` the discovery port speaks plaintext. `xds_identity` counts where clients show
    certificates.
    """

    xds: str
    http_host: str
    http_port: int
    store: Path
    specs: Path | None = None
    collector_grpc: ir.Address | None = None
    collector_http: str | None = None
    identifier: str = "shiftplane"
    xds_tls: TlsFiles | None = None
    xds_identity: tuple[IdentityRule, ...] = ()


async def run(config: Config) -> None:
    """Run the control plane until SIGTERM or SIGINT.

    Raises:
        OSError: An address cannot be had.
        StoreError: The store cannot be used.
        CertificatesError: The certificates of the discovery port cannot be used.
    """
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    store = SqliteStore(config.store)
    try:
        await _serve(config, store, stopping)
    finally:
        await asyncio.to_thread(store.close)


async def _serve(config: Config, store: SqliteStore, stopping: asyncio.Event) -> None:
    certificates = None if config.xds_tls is None else Certificates(config.xds_tls)
    mutual = certificates is not None and certificates.mutual
    collector = None if config.collector_http is None else CollectorSource(config.collector_http)
    engine = Engine(
        store,
        load_scripts(),
        collector=config.collector_grpc,
        summary=no_summary if collector is None else collector.summary,
    )
    hub = Hub(engine.compile)
    engine.attach(hub)
    await engine.load()
    jobs = [hub.run, engine.run]
    if collector is not None:
        jobs.append(collector.run)
    if config.specs is not None:
        folder = SpecFolder(config.specs, lambda text, file: _apply(engine, text, file))
        await folder.scan()
        jobs.append(folder.run)
    server = Server(
        hub,
        identifier=config.identifier,
        certificates=certificates,
        guard=Guard(config.xds_identity if mutual else ()),
    )
    runner = web.AppRunner(
        build(engine, registry(engine, hub)), access_log=None, shutdown_timeout=_GRACE_SECONDS
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, config.http_host, config.http_port)
        await site.start()
        xds_port = await server.start(config.xds)
        security = "mtls" if mutual else "plaintext" if certificates is None else "tls"
        log.info("listening", xds=xds_port, xds_security=security, http=runner.addresses[0][1])
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(job()) for job in jobs]
            await stopping.wait()
            log.info("stopping")
            for task in running:
                task.cancel()
    finally:
        await server.stop(_GRACE_SECONDS)
        await runner.cleanup()


async def _apply(engine: Engine, text: str, file: str) -> None:
    try:
        applied = await engine.apply(text, file=file, actor="spec-folder")
    except SpecRefusedError as error:
        # A refused file leaves what runs as it was; the next change of the file is another try.
        for problem in error.problems:
            log.error("spec_refused", file=file, problem=str(problem))  # noqa: TRY400 - an input, not a bug
    else:
        for item in applied.routes:
            log.info("spec_applied", file=file, route=item.name, action=item.action)


def configure_logs(level: str) -> None:
    """Log events with their fields: coloured lines in a terminal, JSON elsewhere."""
    terminal = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
