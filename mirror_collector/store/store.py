"""The asynchronous interface of the store: a writer thread, a reader thread, and failure handling."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from mirror_collector.compare import CollectorTotals, LegCounts
from mirror_collector.exchange import UnpairedReason
from mirror_collector.store.connection import StoreError
from mirror_collector.store.reader import (
    Page,
    PairQuery,
    StoredEvidenceBlock,
    StoredExperiment,
    StoredFeedback,
    StoredPair,
    StoreReader,
)
from mirror_collector.store.writer import StoreLimits, StoreWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mirror_collector.compare import ComparedPair
    from mirror_collector.compare.embedding import EmbeddingSimilarity
    from mirror_collector.exchange import Conversion, ExposureCounts, Feedback, Pair
    from mirror_collector.store.encryption import MessageCipher
    from mirror_collector.store.location import Location
    from mirror_collector.store.privacy import PrivacyPolicy

__all__ = ["Store"]

_T = TypeVar("_T")


class Store:
    """An open store; `open` creates it.

    If a batch of pairs cannot be written, the pairs are lost and counted as ``store_failed``. Counts are
    kept in memory and written with the next batch that succeeds.
    """

    def __init__(
        self,
        writer: StoreWriter,
        reader: StoreReader,
        write_thread: ThreadPoolExecutor,
        read_thread: ThreadPoolExecutor,
    ) -> None:
        self._writer = writer
        self._reader = reader
        self._write_thread = write_thread
        self._read_thread = read_thread
        self._stored_totals = writer.totals
        self._unwritten = LegCounts()
        self._failure: StoreError | None = None
        self._size = 0
        self.store_id = writer.store_id
        self.evidence_seq = writer.evidence_seq

    @classmethod
    async def open(
        cls,
        location: Location,
        limits: StoreLimits,
        privacy: PrivacyPolicy | None = None,
        cipher: MessageCipher | None = None,
        embedding: EmbeddingSimilarity | None = None,
    ) -> Store:
        """Open the store, or create it; raises StoreError."""
        write_thread = ThreadPoolExecutor(1, "store-write")
        read_thread = ThreadPoolExecutor(1, "store-read")
        try:
            writer = await _run_in(
                write_thread, lambda: StoreWriter(location, limits, privacy, cipher, embedding)
            )
            reader = await _run_in(read_thread, lambda: StoreReader(location, cipher))
        except BaseException:
            write_thread.shutdown(wait=False)
            read_thread.shutdown(wait=False)
            raise
        return cls(writer, reader, write_thread, read_thread)

    @property
    def totals(self) -> CollectorTotals:
        """The current totals, including counts that are not written yet."""
        if not self._unwritten:
            return self._stored_totals
        totals = self._stored_totals.fork()
        totals.add_counts(self._unwritten)
        return totals

    @property
    def failure(self) -> StoreError | None:
        """The error of the last failed write; None once a later write of pairs or counts succeeded."""
        return self._failure

    @property
    def size(self) -> int:
        """Used size in bytes after the last write or deletion."""
        return self._size

    async def write(self, pairs: Sequence[Pair], counts: LegCounts, now: float) -> list[ComparedPair]:
        """Store pairs and counts; on failure, count the pairs as lost and set `failure`.

        Calls must not overlap.

        Returns:
            The pairs that were not stored before, with their comparisons.
        """
        self._unwritten.merge(counts)
        if not pairs and not self._unwritten:
            return []
        unwritten = self._unwritten
        try:
            totals, stored = await _run_in(
                self._write_thread, lambda: self._writer.write(pairs, unwritten, now)
            )
        except StoreError as error:
            self._failure = error
            for pair in pairs:
                unwritten.unpaired[pair.primary.route, UnpairedReason.STORE_FAILED] += len(pair.legs)
                unwritten.drops[UnpairedReason.STORE_FAILED.value] += len(pair.legs)
            return []
        self._failure = None
        self._stored_totals, self._unwritten = totals, LegCounts()
        self.evidence_seq = self._writer.evidence_seq
        await self._check_size(now)
        return stored

    async def write_exposures(self, exposures: ExposureCounts, now: float) -> None:
        """Store exposures of A/B tests; on failure, count them as lost and set `failure`."""
        if not exposures:
            return
        try:
            await _run_in(self._write_thread, lambda: self._writer.write_exposures(exposures, now))
        except StoreError as error:
            self._failure = error
            self._unwritten.drops[UnpairedReason.STORE_FAILED.value] += exposures.requests.total()

    async def write_outcomes(
        self, conversions: Sequence[Conversion], feedback: Sequence[Feedback], now: float
    ) -> int:
        """Store conversions and feedback; return the number of repeated feedback items; raises StoreError."""
        return await _run_in(
            self._write_thread, lambda: self._writer.write_outcomes(conversions, feedback, now)
        )

    async def write_judgement(
        self, pair_id: int, prompt: str, model: str, judgement: str, now: float
    ) -> None:
        """Store the judgement of a pair; raises StoreError."""
        await _run_in(
            self._write_thread,
            lambda: self._writer.write_judgement(pair_id, prompt, model, judgement, now),
        )

    async def forget(self, *, request_id: str = "", unit: str = "") -> dict[str, int]:
        """Delete all data of a request, or of a user or session; raises StoreError.

        Returns:
            Number of deleted rows by table.
        """
        return await _run_in(
            self._write_thread, lambda: self._writer.forget(request_id=request_id, unit=unit)
        )

    async def feedback(self, route: str | None) -> list[StoredFeedback]:
        """Return feedback by variant, of one route or all; raises StoreError."""
        return await _run_in(self._read_thread, lambda: self._reader.feedback(route))

    async def evidence(self, after: int) -> list[StoredEvidenceBlock]:
        """Return evidence blocks with a sequence number above `after`; raises StoreError."""
        return await _run_in(self._read_thread, lambda: self._reader.evidence(after))

    async def exposures(self, route: str | None, experiment: str | None) -> list[StoredExperiment]:
        """Return results of A/B tests; None selects all routes or all experiments; raises StoreError."""
        return await _run_in(self._read_thread, lambda: self._reader.exposures(route, experiment))

    async def _check_size(self, now: float) -> None:
        try:
            self._size = await _run_in(self._write_thread, lambda: self._writer.size)
            if await _run_in(self._write_thread, lambda: self._writer.oversize):
                await self.delete_expired(now)
        except StoreError as error:
            self._failure = error

    async def delete_expired(self, now: float) -> int:
        """Delete expired rows in small batches; return the number of deleted rows; raises StoreError."""
        deleted = 0
        while batch := await _run_in(self._write_thread, lambda: self._writer.delete_expired(now)):
            deleted += batch
        self._size = await _run_in(self._write_thread, lambda: self._writer.size)
        return deleted

    async def page(self, query: PairQuery) -> Page:
        """Return a page of pairs; raises StoreError."""
        return await _run_in(self._read_thread, lambda: self._reader.page(query))

    async def pair(self, pair_id: int) -> StoredPair | None:
        """Return one pair with its bodies, or None if it does not exist; raises StoreError."""
        return await _run_in(self._read_thread, lambda: self._reader.pair(pair_id))

    async def close(self) -> None:
        """Finish running operations and close the store."""
        await _run_in(self._read_thread, self._reader.close)
        await _run_in(self._write_thread, self._writer.close)
        self._read_thread.shutdown()
        self._write_thread.shutdown()


async def _run_in(executor: ThreadPoolExecutor, call: Callable[[], _T]) -> _T:
    return await asyncio.get_running_loop().run_in_executor(executor, call)
