"""The store as the event loop sees it: writing and reading on two threads, failures counted and survived."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from mirror_collector.compare import Counts, Ledger
from mirror_collector.exchange import UnpairedReason
from mirror_collector.store.connection import StoreError
from mirror_collector.store.reader import (
    Page,
    PairQuery,
    Reader,
    StoredBlock,
    StoredExperiment,
    StoredFeedback,
    StoredPair,
)
from mirror_collector.store.writer import Database, StoreLimits

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mirror_collector.compare import ComparedPair
    from mirror_collector.compare.embedding import Embedder
    from mirror_collector.exchange import Exposures, Feedback, Outcome, Pair
    from mirror_collector.store.encryption import Vault
    from mirror_collector.store.location import Location
    from mirror_collector.store.privacy import Privacy

__all__ = ["Store"]

_T = TypeVar("_T")


class Store:
    """An open store; made by `open`.

    A batch the disk refuses is lost and counted as ``store_failed``; counts are never lost, they are written
    with the next batch that succeeds.
    """

    def __init__(
        self, database: Database, reader: Reader, writing: ThreadPoolExecutor, reading: ThreadPoolExecutor
    ) -> None:
        self._database = database
        self._reader = reader
        self._writing = writing
        self._reading = reading
        self._stored = database.ledger
        self._unwritten = Counts()
        self._failure: StoreError | None = None
        self._size = 0
        self.name = database.name
        self.seq = database.seq

    @classmethod
    async def open(
        cls,
        location: Location,
        limits: StoreLimits,
        privacy: Privacy | None = None,
        vault: Vault | None = None,
        embedder: Embedder | None = None,
    ) -> Store:
        """Open or create it; raises StoreError."""
        writing = ThreadPoolExecutor(1, "store-write")
        reading = ThreadPoolExecutor(1, "store-read")
        try:
            database = await _run(writing, lambda: Database(location, limits, privacy, vault, embedder))
            reader = await _run(reading, lambda: Reader(location, vault))
        except BaseException:
            writing.shutdown(wait=False)
            reading.shutdown(wait=False)
            raise
        return cls(database, reader, writing, reading)

    @property
    def ledger(self) -> Ledger:
        """All sums, those not yet on disk included."""
        if not self._unwritten:
            return self._stored
        ledger = self._stored.fork()
        ledger.add_counts(self._unwritten)
        return ledger

    @property
    def failure(self) -> StoreError | None:
        """Why the last write failed; None where it did not."""
        return self._failure

    @property
    def size(self) -> int:
        """Bytes in use after the last write or tidying."""
        return self._size

    async def write(self, pairs: Sequence[Pair], counts: Counts, now: float) -> list[ComparedPair]:
        """Store pairs and counts; on failure the pairs are counted as lost and `failure` is set.

        One call at a time.

        Returns:
            The pairs that are new, as they were measured.
        """
        self._unwritten.merge(counts)
        if not pairs and not self._unwritten:
            return []
        unwritten = self._unwritten
        try:
            ledger, stored = await _run(self._writing, lambda: self._database.write(pairs, unwritten, now))
        except StoreError as error:
            self._failure = error
            for pair in pairs:
                unwritten.unpaired[pair.primary.route, UnpairedReason.STORE_FAILED] += len(pair.legs)
                unwritten.drops[UnpairedReason.STORE_FAILED.value] += len(pair.legs)
            return []
        self._failure = None
        self._stored, self._unwritten = ledger, Counts()
        self.seq = self._database.seq
        await self._check_size(now)
        return stored

    async def write_exposures(self, exposures: Exposures, now: float) -> None:
        """Store who was exposed to what; on failure they are counted as lost and `failure` is set."""
        if not exposures:
            return
        try:
            await _run(self._writing, lambda: self._database.write_exposures(exposures, now))
        except StoreError as error:
            self._failure = error
            self._unwritten.drops[UnpairedReason.STORE_FAILED.value] += exposures.requests.total()

    async def write_outcomes(
        self, outcomes: Sequence[Outcome], feedback: Sequence[Feedback], now: float
    ) -> int:
        """Store who did what is counted and what was said; returns repetitions, raises StoreError."""
        return await _run(self._writing, lambda: self._database.write_outcomes(outcomes, feedback, now))

    async def write_judgement(
        self, pair_id: int, prompt: str, model: str, judgement: str, now: float
    ) -> None:
        """Keep what a judge said; raises StoreError."""
        await _run(
            self._writing, lambda: self._database.write_judgement(pair_id, prompt, model, judgement, now)
        )

    async def forget(self, *, request_id: str = "", unit: str = "") -> dict[str, int]:
        """Delete everything of a request, a user or a session; raises StoreError."""
        return await _run(self._writing, lambda: self._database.forget(request_id=request_id, unit=unit))

    async def feedback(self, route: str | None) -> list[StoredFeedback]:
        """Return what was said of answers; raises StoreError."""
        return await _run(self._reading, lambda: self._reader.feedback(route))

    async def evidence(self, after: int) -> list[StoredBlock]:
        """Return blocks of evidence written after `after`; raises StoreError."""
        return await _run(self._reading, lambda: self._reader.evidence(after))

    async def exposures(self, route: str | None, experiment: str | None) -> list[StoredExperiment]:
        """Return what is known of A/B tests; raises StoreError."""
        return await _run(self._reading, lambda: self._reader.exposures(route, experiment))

    async def _check_size(self, now: float) -> None:
        try:
            self._size = await _run(self._writing, lambda: self._database.size)
            if await _run(self._writing, lambda: self._database.oversize):
                await self.tidy(now)
        except StoreError as error:
            self._failure = error

    async def tidy(self, now: float) -> int:
        """Delete what is too old or too much, step by step; returns pairs deleted, raises StoreError."""
        deleted = 0
        while step := await _run(self._writing, lambda: self._database.tidy(now)):
            deleted += step
        self._size = await _run(self._writing, lambda: self._database.size)
        return deleted

    async def page(self, query: PairQuery) -> Page:
        """List pairs; raises StoreError."""
        return await _run(self._reading, lambda: self._reader.page(query))

    async def pair(self, pair_id: int) -> StoredPair | None:
        """One pair with its bodies, or None; raises StoreError."""
        return await _run(self._reading, lambda: self._reader.pair(pair_id))

    async def close(self) -> None:
        """Finish what was begun and close the file."""
        await _run(self._reading, self._reader.close)
        await _run(self._writing, self._database.close)
        self._reading.shutdown()
        self._writing.shutdown()


async def _run(executor: ThreadPoolExecutor, call: Callable[[], _T]) -> _T:
    return await asyncio.get_running_loop().run_in_executor(executor, call)
