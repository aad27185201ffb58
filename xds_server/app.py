"""The composition root of the control plane: builds everything once, runs it, ends it in reverse.

Order matters at the start: the store is loaded before the discovery port opens, so no proxy is ever told of
an empty or older world.
"""

from __future__ import annotations

import asyncio
import json
import signal
import ssl
import sys
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import structlog
from aiohttp import web

from xds_server import __version__
from xds_server.compiler import UnsafeConfigError
from xds_server.engine import Caller, Engine, SpecRefusedError, no_summary
from xds_server.health import HealthChecks
from xds_server.notifications.delivery import Outbox
from xds_server.notifications.messages import Notifications
from xds_server.sources import CollectorSource, EvidenceSource, Prometheus, SpecFolder, load_scripts
from xds_server.store import AccessStore, SqliteStore, StoreError
from xds_server.traces import Sender, Tracer
from xds_server.web import Access, Authenticator, Provider, Site, build, first_token, listen, registry
from xds_server.xds.server import Hub, ListenerConfig
from xds_server.xds.workers import WorkerPool

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from prometheus_client import CollectorRegistry

    from xds_server import ir

__all__ = ["Config", "run"]

_GRACE_SECONDS: Final = 2.0
_FIRST: Final = """\
First run: nobody has a token yet. This one is an admin's. It is shown once, and ends after a day or as soon
as another admin's token is made with it:

    {text}

    shiftplane login                                          # asks for it
    shiftplane token create NAME --role admin                 # then one to keep
"""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What an operator decides. `door` is the discovery port; `collector_http` is a base URL.

    Without `health_checks` candidates are given users unseen, as where the control plane reaches no backend.
    With `token_statistics` proxies read from answers how many tokens they took. `alarm_secret` is the file of
    what senders of alarms share. `prometheus` is the base URL of what answers the queries of policies, and
    with `counts_from_prometheus` tells what proxies counted as well.
    """

    door: ListenerConfig
    http_host: str
    http_port: int
    store: Path
    specs: Path | None = None
    collector_grpc: ir.Address | None = None
    collector_http: str | None = None
    collector_token: Path | None = None
    """A file with the token the collector lets this in by."""
    evidence: tuple[ir.Address, ...] = ()
    """Where collectors stream their evidence; by default where proxies send legs."""
    acceptors: int = 1
    health_checks: bool = True
    token_statistics: bool = True
    alarm_secret: Path | None = None
    prometheus: str | None = None
    counts_from_prometheus: bool = False
    notifications: Notifications | None = None
    """Who is told of what happens to routes."""
    otlp: str | None = None
    """The base URL of an OpenTelemetry collector that takes spans."""
    log_level: str = "info"
    is_open: bool = False
    """Whether nobody has to log in; for loopback alone."""
    access: Access = field(default_factory=Access)
    """Who may log in, tokens aside."""
    collector_pages: str | None = None
    """Where people reach the collector's pages, if that is not `collector_http`."""
    public_url: str = ""
    """Where people reach the pages, if that is not where this listens."""
    http_tls: tuple[Path, Path] | None = None
    """Certificate chain and key of the HTTP port."""
    show: Callable[[str], None] = lambda _text: None
    """Shows somebody at the terminal what no log may hold."""


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
    except BaseExceptionGroup as group:
        # No except* here: early releases of Python 3.11 put what is raised in it into a group again.
        if group.split(OSError)[1] is not None:
            raise
        raise _first(group) from group
    finally:
        await asyncio.to_thread(store.close)


async def _serve(config: Config, store: SqliteStore, stopping: asyncio.Event) -> None:
    config.door.certificates()  # Wrong files are said at once, also where other processes will read them.
    token = "" if config.collector_token is None else config.collector_token.read_text().strip()
    collector = None if config.collector_http is None else CollectorSource(config.collector_http, token)
    engine = Engine(
        store,
        load_scripts(),
        collector=config.collector_grpc,
        summary=no_summary if collector is None else collector.summary,
        checks_health=config.health_checks,
    )
    engine.reads_usage = config.token_statistics
    health = HealthChecks(engine.note_health)
    engine.on_watched = health.watch
    hub = (
        Hub(engine.compile, on_change=engine.group_changed, on_counts=engine.count)
        if config.acceptors == 1
        else _fleet(config, engine)
    )
    engine.attach(hub)
    await engine.load()
    outbox = await _outbox(config, store, engine)
    spans = None if config.otlp is None else _traced(config.otlp, engine, hub)
    jobs = [hub.run, engine.run, health.run, outbox.run, *([] if spans is None else [spans.run])]
    if collector is not None:
        engine.on_exposures(collector.exposed)
        jobs.append(collector.run)
    jobs += _evidence(config, engine)
    if config.specs is not None:
        folder = SpecFolder(config.specs, lambda text, file: _apply(engine, text, file))
        await folder.scan()
        jobs.append(folder.run)
    server = config.door.server(hub) if isinstance(hub, Hub) else None
    site = await _site(config, store, engine, registry(engine, hub, outbox, spans))
    runner = web.AppRunner(build(site), access_log=None, shutdown_timeout=_GRACE_SECONDS)
    await runner.setup()
    http: asyncio.Server | None = None
    try:
        xds = config.door.address if server is None else await server.start(config.door.address)
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(job()) for job in jobs]
            if isinstance(hub, WorkerPool):
                await hub.ready()
            # Who asks whether this is ready is answered once proxies can come in.
            tls = None if config.http_tls is None else _http_tls(*config.http_tls)
            http = await listen(runner, config.http_host, config.http_port, tls)
            log.info(
                "listening",
                version=__version__,
                xds=xds,
                xds_security=config.door.security,
                http=http.sockets[0].getsockname()[1],
                http_security="tls" if tls is not None else "plaintext",
                login="nobody has to log in" if config.is_open else "tokens",
                acceptors=config.acceptors,
            )
            await stopping.wait()
            log.info("stopping")
            for task in running:
                task.cancel()
    finally:
        if server is not None:
            await server.stop(_GRACE_SECONDS)
        if http is not None:
            http.close()
        await runner.cleanup()


def _evidence(config: Config, engine: Engine) -> list[Callable[[], Coroutine[Any, Any, None]]]:
    """Connect the engine with what others count, and return what listens to them."""
    jobs: list[Callable[[], Coroutine[Any, Any, None]]] = []
    watched = config.evidence or (() if config.collector_grpc is None else (config.collector_grpc,))
    if watched:
        evidence = EvidenceSource([_target(address) for address in watched])
        engine.on_evidence(evidence.counts)
        jobs.append(evidence.run)
    if config.prometheus is not None:
        from_there = engine.count_all if config.counts_from_prometheus else None
        prometheus = Prometheus(config.prometheus, engine.queries, on_counts=from_there)
        engine.on_answers(prometheus.answers)
        jobs.append(prometheus.run)
    return jobs


async def _site(config: Config, store: SqliteStore, engine: Engine, series: CollectorRegistry) -> Site:
    """Return what the HTTP server is made of; where nobody could come in, a first token is made and shown."""
    access, allowed = AccessStore(store.file), config.access
    gate = Authenticator(
        access, engine, is_open=config.is_open, public_url=config.public_url, limits=allowed.limits
    )
    provider = None if allowed.oidc is None else Provider(allowed.oidc, gate)
    if not config.is_open and provider is None:
        text = await asyncio.to_thread(first_token, access, time.time())
        if text is not None:
            config.show(_FIRST.format(text=text))
    pairs = config.collector_pages or config.collector_http
    return Site(
        engine=engine,
        registry=series,
        gate=gate,
        alarm_secret=None if config.alarm_secret is None else config.alarm_secret.read_bytes().strip(),
        provider=provider,
        pairs_url="" if pairs is None else f"{pairs.rstrip('/')}/pairs",
    )


async def _outbox(config: Config, store: SqliteStore, engine: Engine) -> Outbox:
    """Return what tells others; it knows who was told of what before anything more can happen."""
    told = config.notifications or Notifications(targets=())
    outbox = Outbox(store, replace(told, public_url=told.public_url or config.public_url or None))
    await outbox.begin()
    engine.on_event = outbox.wake
    return outbox


def _traced(url: str, engine: Engine, hub: Hub | WorkerPool) -> Sender:
    """Have spans made of what the engine does, and of how long proxies take to follow."""
    sender = Sender(url)
    tracer = Tracer(sender.take, hub.convergence)
    engine.span, engine.on_published = tracer.span, tracer.published
    engine.on_group_changed = tracer.look
    return sender


def _first(group: BaseExceptionGroup[BaseException]) -> OSError:
    """Return one of the errors of a group: what failed first is what there is to say."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error if isinstance(error, OSError) else OSError(str(error))


def _http_tls(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return context


def _fleet(config: Config, engine: Engine) -> WorkerPool:
    own = {"door": config.door.to_json(), "log_level": config.log_level}
    command = [sys.executable, "-m", "xds_server.xds.workers.worker", json.dumps(own)]
    return WorkerPool(
        engine.compile, command, config.acceptors, on_change=engine.group_changed, on_counts=engine.count
    )


async def _apply(engine: Engine, text: str, file: str) -> None:
    try:
        applied = await engine.apply(
            text, file=file, by=Caller(actor="spec-folder", via="spec folder", source=file)
        )
    except (StoreError, UnsafeConfigError):
        # What runs goes on as it is; the next change of the file, or the next start, is another try.
        log.exception("spec_not_applied", file=file)
    except SpecRefusedError as error:
        # A refused file leaves what runs as it was; the next change of the file is another try.
        for problem in error.problems:
            log.error("spec_refused", file=file, problem=str(problem))  # noqa: TRY400 - an input, not a bug
    else:
        for item in applied.routes:
            log.info("spec_applied", file=file, route=item.name, action=item.action)


def _target(address: ir.Address) -> str:
    """Return an address as gRPC wants it."""
    return f"[{address.host}]:{address.port}" if ":" in address.host else f"{address.host}:{address.port}"
