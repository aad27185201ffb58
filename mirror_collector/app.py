"""The composition root of the collector: builds, runs and stops all its parts.

Shutdown: the servers close first, then queued legs are paired and stored, legs that still wait for their
counterpart are counted as unpaired, sinks deliver what they have queued, and the store closes last.
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from aiohttp import web
from prometheus_client import CollectorRegistry

from mirror_collector import __version__
from mirror_collector.compare.embedding import EmbeddingSimilarity, load_embedding_similarity
from mirror_collector.consumers import PairForwarder
from mirror_collector.consumers.judge import Budget, Judge, JudgeConfig, JudgementRecorder, JudgePrompt
from mirror_collector.consumers.judge.prompt import DEFAULT_PROMPT
from mirror_collector.consumers.secret import Secret
from mirror_collector.consumers.sinks import LangfuseSink, OtlpSink
from mirror_collector.exchange import PairingLimits
from mirror_collector.grpc_server import GrpcServer
from mirror_collector.pipeline import Pipeline
from mirror_collector.receive import (
    LegQueue,
    LegQueueLimits,
    access_log_handler,
    exchange_routes,
    outcome_routes,
)
from mirror_collector.receive.exchanges import MAX_REQUEST
from mirror_collector.serve import MetricsCollector, api_routes, auth_middleware, evidence_handler
from mirror_collector.serve.auth import AccessRole
from mirror_collector.serve.pages import page_routes
from mirror_collector.settings import OtlpSettings, Settings, SettingsError, read_text
from mirror_collector.store import Location, MessageCipher, Store, StoreError, StoreLimits, redact_password
from mirror_collector.units import Address

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable
    from pathlib import Path

    from structlog.typing import FilteringBoundLogger

    from mirror_collector.compare import CollectorTotals
    from mirror_collector.consumers.sinks import Sink
    from mirror_collector.settings import JudgeSettings, LangfuseSettings

__all__ = ["App", "BoundAddresses", "Config", "run"]

GRPC_ADDRESS: Final = Address(host="127.0.0.1", port=18002)
HTTP_ADDRESS: Final = Address(host="127.0.0.1", port=18003)

_RETENTION_INTERVAL: Final = 60.0
"""Seconds between two deletions of expired rows."""

_GRACE: Final = 0.5
"""Seconds for which open gRPC streams are kept after the collector received a stop signal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The complete configuration of a collector."""

    store: Location
    grpc: Address = GRPC_ADDRESS
    http: Address = HTTP_ADDRESS
    pairing: PairingLimits = field(default_factory=PairingLimits)
    queue: LegQueueLimits = field(default_factory=LegQueueLimits)
    limits: StoreLimits = field(default_factory=StoreLimits)
    settings: Settings = field(default_factory=Settings)
    key_file: Path | None = None
    """Path to the encryption keys of stored messages; None stores them unencrypted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundAddresses:
    """The addresses the servers listen on; port 0 is replaced by the port the system chose."""

    grpc: Address
    http: Address


async def run(
    config: Config,
    *,
    stop: asyncio.Event,
    log: FilteringBoundLogger,
    clock: Callable[[], float] = time.time,
    listening: asyncio.Future[BoundAddresses] | None = None,
) -> None:
    """Run the collector until `stop` is set.

    Args:
        config: the configuration.
        stop: stops the collector when set.
        log: receives log events.
        clock: seconds since the epoch.
        listening: receives the addresses once both servers listen.

    Raises:
        StoreError: the key file cannot be used, or the store cannot be opened.
        SettingsError: a file the settings refer to cannot be read, or they need an extra that is not
            installed.
        OSError: a server cannot listen on its address.
    """
    cipher = MessageCipher() if config.key_file is None else MessageCipher.from_key_file(config.key_file)
    embedding = _embedding() if config.settings.embedding.enabled else None
    store = await Store.open(config.store, config.limits, config.settings.privacy_policy(), cipher, embedding)
    try:
        app = App(config, store, log=log, clock=clock)
        await app.run(stop, listening)
    finally:
        await store.close()


class App:
    """The parts of one collector around an open store."""

    def __init__(
        self, config: Config, store: Store, *, log: FilteringBoundLogger, clock: Callable[[], float]
    ) -> None:
        """Build all parts; raises SettingsError if a file the settings refer to cannot be read."""
        settings = config.settings
        self._config = config
        self._store = store
        self._log = log
        self._clock = clock
        self._queue = LegQueue(config.queue, frozenset(store.totals.routes))
        judge = None
        if settings.judge is not None:
            judge = _judge(settings.judge, JudgementRecorder(store, clock=clock, log=log), clock)
        self._forwarder = PairForwarder(
            [_sink(one) for one in settings.sinks], judge, settings.privacy_policy()
        )
        self._pipeline = Pipeline(
            queue=self._queue,
            store=store,
            limits=config.pairing,
            clock=clock,
            log=log,
            consumers=(self._forwarder.forward,),
        )
        self._grpc = GrpcServer(access_log_handler(self._queue), evidence_handler(store))
        self._runner = web.AppRunner(self._web(), access_log=None, shutdown_timeout=1.0)
        self._open = False

    async def run(self, stop: asyncio.Event, listening: asyncio.Future[BoundAddresses] | None = None) -> None:
        """Listen and process legs until `stop` is set, then close the servers and empty the queue."""
        try:
            bound = await self._listen()
            if listening is not None:
                listening.set_result(bound)
            self._log.info(
                "listening",
                version=__version__,
                grpc=str(bound.grpc),
                http=str(bound.http),
                store=redact_password(self._config.store),
            )
            async with asyncio.TaskGroup() as tasks:
                processing = tasks.create_task(self._pipeline.run())
                deleting = tasks.create_task(self._delete_expired())
                forwarding = tasks.create_task(self._forwarder.run())
                try:
                    await stop.wait()
                    self._log.info("stopping")
                finally:
                    await self._close_servers()
                    self._queue.close()
                    deleting.cancel()
                    # The pipeline still forwards the pairs it stores while it empties the queue.
                    processing.add_done_callback(lambda _: forwarding.cancel())
        finally:
            await self._close_servers()
        self._log.info("stopped")

    def totals(self) -> CollectorTotals:
        """Return the current totals, including drops the pipeline has not collected yet."""
        totals = self._store.totals
        if self._queue.drops:
            totals = totals.fork()
            totals.add_drops(self._queue.drops)
        return totals

    def _not_ready_reason(self) -> str | None:
        if not self._open:
            return "the collector is starting or stopping: its servers do not listen"
        failure = self._store.failure
        return None if failure is None else str(failure)

    def _web(self) -> web.Application:
        registry = CollectorRegistry(auto_describe=False)
        gauges = _ProcessGauges(self._queue, self._pipeline, self._store, self._forwarder)
        registry.register(MetricsCollector(self.totals, gauges))
        tokens = {
            token.sha256: AccessRole[token.role.upper()] for token in self._config.settings.access.tokens
        }
        app = web.Application(client_max_size=MAX_REQUEST, middlewares=[auth_middleware(tokens)])
        app.add_routes(exchange_routes(self._queue))
        app.add_routes(outcome_routes(self._store, self._clock))
        app.add_routes(page_routes(self._store, self.totals))
        app.add_routes(
            api_routes(self._store, registry, totals=self.totals, not_ready_reason=self._not_ready_reason)
        )
        return app

    async def _listen(self) -> BoundAddresses:
        config = self._config
        port = await self._grpc.start(str(config.grpc))
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, config.http.host, config.http.port).start()
        except OSError as error:
            # asyncio's text has the address as a Python tuple. Numbers of name resolution are negative.
            number = error.errno or 0
            reason = os.strerror(number) if number > 0 else error.strerror or str(error)
            raise OSError(f"cannot listen on {config.http} for HTTP: {reason}") from error
        self._open = True
        return BoundAddresses(
            grpc=Address(host=config.grpc.host, port=port),
            http=Address(host=config.http.host, port=self._runner.addresses[0][1]),
        )

    async def _close_servers(self) -> None:
        self._open = False
        await self._grpc.stop(_GRACE)
        await self._runner.cleanup()

    async def _delete_expired(self) -> None:
        while True:
            try:
                deleted = await self._store.delete_expired(self._clock())
            except StoreError as error:
                self._log.warning("retention_failed", error=str(error))
            else:
                if deleted:
                    self._log.info("expired_rows_deleted", rows=deleted)
            await asyncio.sleep(_RETENTION_INTERVAL)


class _ProcessGauges:
    """The current fill levels of a collector, read at each scrape."""

    def __init__(self, queue: LegQueue, pipeline: Pipeline, store: Store, forwarder: PairForwarder) -> None:
        self._queue = queue
        self._pipeline = pipeline
        self._store = store
        self._forwarder = forwarder

    @property
    def queued_legs(self) -> int:
        """Number of legs in the receive queue."""
        return len(self._queue)

    @property
    def queued_bytes(self) -> int:
        """Size of the queued legs in bytes, as charged to the queue limit."""
        return self._queue.queued_bytes

    @property
    def waiting_legs(self) -> int:
        """Number of legs that wait for their counterpart."""
        return self._pipeline.waiting_legs

    @property
    def waiting_bytes(self) -> int:
        """Size of the waiting legs in bytes, as charged to the pairing limit."""
        return self._pipeline.waiting_bytes

    @property
    def store_bytes(self) -> int:
        """Size of the store in bytes."""
        return self._store.size

    @property
    def store_writable(self) -> bool:
        """Whether the last write succeeded."""
        return self._store.failure is None

    def handed_on(self) -> dict[str, Counter[str]]:
        """Return the number of forwarded items by result, for each sink and the judge."""
        return self._forwarder.counts()


def _embedding() -> EmbeddingSimilarity:
    found = load_embedding_similarity()
    if found is None:
        raise SettingsError(
            "`embedding.enabled` requires an extra package; install it with:"
            " pip install 'shiftplane[embedding]'"
        )
    return found


def _sink(settings: OtlpSettings | LangfuseSettings) -> Sink:
    if isinstance(settings, OtlpSettings):
        return OtlpSink(settings.url, dict(settings.headers), bodies=settings.bodies)
    secret_key = Secret(read_text(settings.secret_key_file).strip())
    return LangfuseSink(settings.url, settings.public_key, secret_key, bodies=settings.bodies)


def _judge(settings: JudgeSettings, record: JudgementRecorder, clock: Callable[[], float]) -> Judge:
    prompt = (
        DEFAULT_PROMPT if settings.prompt_file is None else JudgePrompt(text=read_text(settings.prompt_file))
    )
    config = JudgeConfig(
        url=settings.url,
        model=settings.model,
        key=None if settings.api_key_file is None else Secret(read_text(settings.api_key_file).strip()),
        share=settings.sample / 100,
        prompt=prompt,
    )
    budget = Budget(
        per_minute=settings.per_minute,
        cost_per_day=settings.cost_per_day,
        input_per_million=settings.price.input_per_million,
        output_per_million=settings.price.output_per_million,
    )
    return Judge(config, budget, record, clock=clock)
