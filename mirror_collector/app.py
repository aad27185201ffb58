"""The collector put together: builds every part, runs them, and takes them down in reverse.

On the way down the doors close first, what is in the queue is worked off, legs that still wait are counted as
unpaired, sinks send what they were handed, and the store is closed last.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from aiohttp import web
from prometheus_client import CollectorRegistry

from mirror_collector import __version__
from mirror_collector.compare.embedding import Embedder, load_embedder
from mirror_collector.exchange import PairingLimits
from mirror_collector.extras import Extras
from mirror_collector.pages import page_routes
from mirror_collector.pipeline import Pipeline
from mirror_collector.receive import AccessLogServer, Intake, IntakeLimits, exchange_routes, outcome_routes
from mirror_collector.receive.exchanges import MAX_REQUEST
from mirror_collector.serve import LedgerCollector, access, api_routes, evidence_handler
from mirror_collector.settings import Settings, SettingsError
from mirror_collector.store import Location, Store, StoreError, StoreLimits, Vault, shown
from mirror_collector.units import Address

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable
    from pathlib import Path

    from structlog.typing import FilteringBoundLogger

    from mirror_collector.compare import Ledger

__all__ = ["App", "Config", "Listening", "run"]

GRPC_ADDRESS: Final = Address(host="127.0.0.1", port=18002)
HTTP_ADDRESS: Final = Address(host="127.0.0.1", port=18003)

_TIDY_EVERY: Final = 60.0
_GRACE: Final = 0.5
"""Seconds the open streams of proxies may go on talking once the collector stops."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything that can be chosen."""

    store: Location
    grpc: Address = GRPC_ADDRESS
    http: Address = HTTP_ADDRESS
    pairing: PairingLimits = field(default_factory=PairingLimits)
    intake: IntakeLimits = field(default_factory=IntakeLimits)
    limits: StoreLimits = field(default_factory=StoreLimits)
    settings: Settings = field(default_factory=Settings)
    key_file: Path | None = None
    """Where the keys are that messages are sealed with; None leaves them open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """The addresses the doors are really at."""

    grpc: Address
    http: Address


async def run(
    config: Config,
    *,
    stop: asyncio.Event,
    log: FilteringBoundLogger,
    clock: Callable[[], float] = time.time,
    listening: asyncio.Future[Listening] | None = None,
) -> None:
    """Run the collector until `stop` is set.

    Args:
        config: what was chosen.
        stop: ends it.
        log: where events go.
        clock: seconds since the epoch.
        listening: is given the addresses once both doors are open.

    Raises:
        StoreError: the store cannot be opened.
        OSError: an address cannot be listened on.
    """
    vault = Vault() if config.key_file is None else Vault.from_file(config.key_file)
    embedder = _embedder() if config.settings.embedding.enabled else None
    store = await Store.open(config.store, config.limits, config.settings.kept(), vault, embedder)
    try:
        app = App(config, store, log=log, clock=clock)
        await app.run(stop, listening)
    finally:
        await store.close()


class App:
    """The parts around one open store."""

    def __init__(
        self, config: Config, store: Store, *, log: FilteringBoundLogger, clock: Callable[[], float]
    ) -> None:
        self._config = config
        self._store = store
        self._log = log
        self._clock = clock
        self._intake = Intake(config.intake, frozenset(store.ledger.routes))
        self._extras = Extras(config.settings, store, clock=clock, log=log)
        self._pipeline = Pipeline(
            intake=self._intake,
            store=store,
            limits=config.pairing,
            clock=clock,
            log=log,
            onward=(self._extras.take,),
        )
        self._grpc = AccessLogServer(self._intake, evidence_handler(store))
        self._runner = web.AppRunner(self._web(), access_log=None, shutdown_timeout=1.0)
        self._open = False

    async def run(self, stop: asyncio.Event, listening: asyncio.Future[Listening] | None = None) -> None:
        """Open the doors, work until `stop` is set, close the doors and finish what is inside."""
        try:
            bound = await self._listen()
            if listening is not None:
                listening.set_result(bound)
            self._log.info(
                "listening",
                version=__version__,
                grpc=str(bound.grpc),
                http=str(bound.http),
                store=shown(self._config.store),
            )
            async with asyncio.TaskGroup() as tasks:
                working = tasks.create_task(self._pipeline.run())
                tidying = tasks.create_task(self._tidy())
                extras = tasks.create_task(self._extras.run())
                try:
                    await stop.wait()
                    self._log.info("stopping")
                finally:
                    await self._close_doors()
                    self._intake.close()
                    tidying.cancel()
                    # Not before: what is worked off now is handed on too.
                    working.add_done_callback(lambda _: extras.cancel())
        finally:
            await self._close_doors()
        self._log.info("stopped")

    @property
    def queued_legs(self) -> int:
        """Legs in the queue behind the doors."""
        return len(self._intake)

    @property
    def queued_bytes(self) -> int:
        """Bytes they are accounted for."""
        return self._intake.queued_bytes

    @property
    def waiting_legs(self) -> int:
        """Legs that wait for their other half."""
        return self._pipeline.waiting_legs

    @property
    def waiting_bytes(self) -> int:
        """Bytes they are accounted for."""
        return self._pipeline.waiting_bytes

    @property
    def store_bytes(self) -> int:
        """Bytes of the store in use."""
        return self._store.size

    @property
    def store_writable(self) -> bool:
        """Whether the last write succeeded."""
        return self._store.failure is None

    def handed_on(self) -> dict[str, Counter[str]]:
        """What became of what was handed to sinks and to the judge."""
        return self._extras.counts()

    def ledger(self) -> Ledger:
        """All sums of this moment, drops the pipeline has not fetched yet included."""
        ledger = self._store.ledger
        if self._intake.drops:
            ledger = ledger.fork()
            ledger.add_drops(self._intake.drops)
        return ledger

    def _unready(self) -> str | None:
        if not self._open:
            return "the doors are not open"
        failure = self._store.failure
        return None if failure is None else str(failure)

    def _web(self) -> web.Application:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(LedgerCollector(self.ledger, self))
        app = web.Application(client_max_size=MAX_REQUEST, middlewares=[access(self._config.settings.access)])
        app.add_routes(exchange_routes(self._intake))
        app.add_routes(outcome_routes(self._store, self._clock))
        app.add_routes(page_routes(self._store, self.ledger))
        app.add_routes(api_routes(self._store, registry, ledger=self.ledger, unready=self._unready))
        return app

    async def _listen(self) -> Listening:
        wanted = self._config
        port = await self._grpc.start(str(wanted.grpc))
        await self._runner.setup()
        await web.TCPSite(self._runner, wanted.http.host, wanted.http.port).start()
        self._open = True
        return Listening(
            grpc=Address(host=wanted.grpc.host, port=port),
            http=Address(host=wanted.http.host, port=self._runner.addresses[0][1]),
        )

    async def _close_doors(self) -> None:
        self._open = False
        await self._grpc.stop(_GRACE)
        await self._runner.cleanup()

    async def _tidy(self) -> None:
        while True:
            try:
                deleted = await self._store.tidy(self._clock())
            except StoreError as error:
                self._log.warning("tidy_failed", error=str(error))
            else:
                if deleted:
                    self._log.info("tidied", pairs=deleted)
            await asyncio.sleep(_TIDY_EVERY)


def _embedder() -> Embedder:
    found = load_embedder()
    if found is None:
        raise SettingsError("embedding needs the extra: pip install 'shiftplane[embedding]'")
    return found
