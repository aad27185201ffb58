"""The composition root of the control plane: constructs every part once, runs their tasks, stops in reverse.

`_serve` reads as the table of contents of the program. The store is loaded before the discovery port opens,
so no proxy ever receives an empty or older configuration.
"""

from __future__ import annotations

import asyncio
import json
import signal
import ssl
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog
from aiohttp import web

from xds_server import __version__
from xds_server.clock import Clock, SystemClock
from xds_server.compiler import UnsafeConfigError
from xds_server.engine import (
    Caller,
    Engine,
    ReconcileInbox,
    SpecRefusedError,
    build_engine,
    log_checkpoint,
)
from xds_server.health import HealthChecks
from xds_server.notifications.delivery import Outbox
from xds_server.notifications.messages import Notifications
from xds_server.observers import Observers
from xds_server.sources import (
    CollectorEvidence,
    CollectorSource,
    EvidenceSource,
    Prometheus,
    QueryResults,
    SpecFolder,
    load_scripts,
)
from xds_server.store import AccessStore, SqliteStore, StoreError
from xds_server.traces import SpanExporter, Tracer
from xds_server.web import (
    Access,
    Authenticator,
    OidcProvider,
    Site,
    build,
    create_first_run_token,
    listen,
    registry,
)
from xds_server.xds.server import Hub, ListenerConfig
from xds_server.xds.workers import WorkerPool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from pathlib import Path
    from typing import Any

    from prometheus_client import CollectorRegistry

    from xds_server import ir

__all__ = ["Config", "run"]

_GRACE_SECONDS: Final = 2.0
_FIRST_RUN: Final = """\
First run: no valid token exists, so this token with the role admin was created. The token is shown only
once, expires after a day, and is deleted when another admin token for all routes is created:

    {text}

    shiftplane login                                          # prompts for the token
    shiftplane token create NAME --role admin                 # creates an admin token for 90 days
"""

log = structlog.get_logger()

Job = tuple[str, "Callable[[], Coroutine[Any, Any, None]]"]
"""The name of a task, and the coroutine function it runs until it is canceled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What the operator configures."""

    listener: ListenerConfig
    """Address, TLS and node authorization of the discovery port."""
    http_host: str
    http_port: int
    store: Path
    specs: Path | None = None
    """A folder of spec files that are applied at the start and on every change."""
    collector_grpc: ir.Address | None = None
    """Where proxies send captured legs."""
    collector_http: str | None = None
    """The base URL of the collector's HTTP API."""
    collector_token: str = field(default="", repr=False)
    """The token for the collector's HTTP API; empty if the collector requires none."""
    evidence: tuple[ir.Address, ...] = ()
    """The collectors that stream evidence; by default `collector_grpc`."""
    workers: int = 1
    """The number of processes that serve discovery streams; 1 serves them in this process."""
    health_checks: bool = True
    """Whether backends are health-checked; if not, candidates receive users unchecked. Turn this off where
    this process reaches no backend."""
    token_statistics: bool = True
    """Whether proxies read token usage, errors and end marks from answers."""
    alarm_secret: Path | None = None
    """The file of the secret that senders of alarms share."""
    prometheus: str | None = None
    """The base URL of a Prometheus that answers the queries of analysis policies."""
    counts_from_prometheus: bool = False
    """Whether proxies' counters are read from that Prometheus, too."""
    notifications: Notifications | None = None
    """The targets of notifications."""
    otlp: str | None = None
    """The base URL of an OpenTelemetry collector that receives spans."""
    log_level: str = "info"
    is_open: bool = False
    """Whether requests need no token; for loopback only."""
    access: Access = field(default_factory=Access)
    """Login through an identity provider, and the lifetime of sessions."""
    collector_pages: str | None = None
    """The URL under which users open the collector's pages; by default `collector_http`."""
    public_url: str = ""
    """The URL under which users open the pages; empty for the address of the HTTP port."""
    http_tls: tuple[Path, Path] | None = None
    """Certificate chain and private key of the HTTP port."""
    show: Callable[[str], None] = lambda _text: None
    """Prints to the operator's terminal what must not be logged, such as the first token."""


async def run(config: Config) -> None:
    """Run the control plane until SIGTERM or SIGINT.

    Raises:
        OSError: An address cannot be bound.
        StoreError: The store cannot be used.
        CertificatesError: The certificates of the discovery port cannot be used.
    """
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    store = SqliteStore(config.store, on_audited=log_checkpoint)
    try:
        await _serve(config, store, stopping)
    except BaseExceptionGroup as group:
        # No except* here: early releases of Python 3.11 wrap what is raised in it into a group again.
        if group.split(OSError)[1] is not None:
            raise
        raise _first_error(group) from group
    finally:
        await asyncio.to_thread(store.close)


async def _serve(config: Config, store: SqliteStore, stopping: asyncio.Event) -> None:
    config.listener.certificates()  # Fails here rather than in a worker process.
    clock, inbox, results = SystemClock(), ReconcileInbox(), QueryResults()

    # What the engine reads and reports to
    summaries, streams = _summaries(config), _streams(config)
    health = HealthChecks(inbox.health_reported)
    outbox = await _outbox(config, store)
    spans = None if config.otlp is None else SpanExporter(config.otlp)
    tracer = None if spans is None else Tracer(spans.add)

    engine, publisher = build_engine(
        store,
        load_scripts(),
        _make_publisher(config, clock),
        collector=config.collector_grpc,
        token_statistics=config.token_statistics,
        evidence=CollectorEvidence(summaries, streams),
        metrics=results,
        health=health if config.health_checks else None,
        inbox=inbox,
        observer=Observers(outbox, tracer),
        clock=clock,
    )
    await engine.committer.load()

    # What feeds the engine
    prometheus = _prometheus(config, engine, results)
    folder = None if config.specs is None else SpecFolder(config.specs, partial(_apply, engine))
    if folder is not None:
        await folder.scan()

    site = await _site(config, store, engine, registry(engine, publisher, outbox, spans), clock)
    jobs: list[Job] = [
        ("publisher", publisher.run),
        ("reconciler", engine.reconciler.run),
        ("health checks", health.run),
        ("notifications", outbox.run),
    ]
    optional = (
        ("spans", spans),
        ("collector summaries", summaries),
        ("collector evidence", streams),
        ("prometheus", prometheus),
        ("spec folder", folder),
    )
    jobs += [(name, part.run) for name, part in optional if part is not None]

    async with _discovery(config, publisher) as xds_port, asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(job(), name=name) for name, job in jobs]
        if isinstance(publisher, WorkerPool):
            await publisher.ready()
        # Readiness is answered only once proxies can connect.
        async with _http(config, site) as http_port:
            _log_listening(config, xds_port, http_port)
            await stopping.wait()
            log.info("stopping")
            for task in running:
                task.cancel()


def _make_publisher(config: Config, clock: Clock) -> Callable[..., Hub | WorkerPool]:
    """Return the constructor of the hub of this process, or of a pool of worker processes."""
    if config.workers == 1:
        return partial(Hub, clock=clock)
    worker = {"listener": config.listener.to_json(), "log_level": config.log_level}
    command = [sys.executable, "-m", "xds_server.xds.workers.worker", json.dumps(worker)]
    return partial(WorkerPool, command=command, number=config.workers)


def _summaries(config: Config) -> CollectorSource | None:
    if config.collector_http is None:
        return None
    return CollectorSource(config.collector_http, config.collector_token)


def _streams(config: Config) -> EvidenceSource | None:
    collectors = config.evidence or (() if config.collector_grpc is None else (config.collector_grpc,))
    return EvidenceSource([_target(address) for address in collectors]) if collectors else None


def _prometheus(config: Config, engine: Engine, results: QueryResults) -> Prometheus | None:
    if config.prometheus is None:
        return None
    on_counts = engine.analysis.count_from_prometheus if config.counts_from_prometheus else None
    return Prometheus(config.prometheus, engine.analysis.queries, results, on_counts=on_counts)


async def _outbox(config: Config, store: SqliteStore) -> Outbox:
    """Return the notifications' outbox; it loads its cursors before any event can happen."""
    configured = config.notifications or Notifications(targets=())
    public_url = configured.public_url or config.public_url or None
    outbox = Outbox(store, replace(configured, public_url=public_url))
    await outbox.load_cursors()
    return outbox


async def _site(
    config: Config, store: SqliteStore, engine: Engine, series: CollectorRegistry, clock: Clock
) -> Site:
    """Return the parts of the HTTP server; where no user could log in, create a first token and show it."""
    access = AccessStore(store.file)
    authenticator = Authenticator(
        access, engine, is_open=config.is_open, public_url=config.public_url, limits=config.access.limits
    )
    oidc = config.access.oidc
    provider = None if oidc is None else OidcProvider(oidc, authenticator)
    if not config.is_open and provider is None:
        text = await asyncio.to_thread(create_first_run_token, access, clock.now())
        if text is not None:
            config.show(_FIRST_RUN.format(text=text))
    pairs = config.collector_pages or config.collector_http
    return Site(
        engine=engine,
        registry=series,
        authenticator=authenticator,
        alarm_secret=None if config.alarm_secret is None else config.alarm_secret.read_bytes().strip(),
        oidc_provider=provider,
        pairs_url="" if pairs is None else f"{pairs.rstrip('/')}/pairs",
    )


@asynccontextmanager
async def _discovery(config: Config, publisher: Hub | WorkerPool) -> AsyncIterator[int | str]:
    """Serve discovery streams, unless workers do; yield the port, or the address that the workers serve."""
    if isinstance(publisher, WorkerPool):
        yield config.listener.address
        return
    server = config.listener.server(publisher)
    port = await server.start(config.listener.address)
    try:
        yield port
    finally:
        await server.stop(_GRACE_SECONDS)


@asynccontextmanager
async def _http(config: Config, site: Site) -> AsyncIterator[int]:
    """Serve API and pages; yield the port."""
    runner = web.AppRunner(build(site), access_log=None, shutdown_timeout=_GRACE_SECONDS)
    await runner.setup()
    try:
        tls = None if config.http_tls is None else _http_tls(*config.http_tls)
        server = await listen(runner, config.http_host, config.http_port, tls)
        try:
            yield int(server.sockets[0].getsockname()[1])
        finally:
            server.close()
    finally:
        await runner.cleanup()


def _log_listening(config: Config, xds: int | str, http: int) -> None:
    login = "tokens" if config.access.oidc is None else "tokens or OIDC"
    log.info(
        "listening",
        version=__version__,
        xds=xds,
        xds_security=config.listener.security,
        http=http,
        http_security="plaintext" if config.http_tls is None else "tls",
        login="not required" if config.is_open else login,
        workers=config.workers,
    )


async def _apply(engine: Engine, text: str, file: str) -> None:
    """Apply a file of the spec folder; one that is refused leaves the live routes as they are."""
    caller = Caller(actor="spec-folder", via="spec folder", source=file)
    try:
        applied = await engine.routes.apply(text, file=file, by=caller)
    except (StoreError, UnsafeConfigError):
        # The next change of the file, or the next start, is another attempt.
        log.exception("spec_not_applied", file=file)
    except SpecRefusedError as error:
        for problem in error.problems:
            log.error("spec_refused", file=file, problem=str(problem))  # noqa: TRY400 - an input, not a bug
    else:
        for item in applied.routes:
            log.info("spec_applied", file=file, route=item.name, action=item.action)


def _first_error(group: BaseExceptionGroup[BaseException]) -> OSError:
    """Return the first error of a group as an OSError; the other errors are its consequences."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error if isinstance(error, OSError) else OSError(str(error))


def _http_tls(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate, key)
    except OSError as error:  # What ssl raises is an OSError.
        message = f"cannot load the TLS certificate of the HTTP port from {certificate}, {key}: {error}"
        raise OSError(message) from error
    return context


def _target(address: ir.Address) -> str:
    """Return an address in gRPC's notation."""
    return f"[{address.host}]:{address.port}" if ":" in address.host else f"{address.host}:{address.port}"
