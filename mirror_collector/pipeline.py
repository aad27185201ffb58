"""The pipeline: takes legs from the queue, pairs them, stores the compared pairs and counts every leg.

One task runs the pipeline. While a batch is written, legs accumulate in the queue, which is bounded. The
endpoints that fill the queue never wait for the disk.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from mirror_collector.compare import LegCounts
from mirror_collector.exchange import Pair, Pairing, PairingLimits, UnpairedReason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from structlog.typing import FilteringBoundLogger

    from mirror_collector.compare import ComparedPair
    from mirror_collector.exchange import PairingResult
    from mirror_collector.receive import LegQueue
    from mirror_collector.store import Store

__all__ = ["Pipeline"]

_MAX_LEGS: Final = 500
_MAX_BYTES: Final = 32 << 20
_MAX_WAIT: Final = 1.0
_DROPS_LOG_INTERVAL: Final = 10.0


class Pipeline:
    """Processes legs until the queue is closed and empty."""

    def __init__(
        self,
        *,
        queue: LegQueue,
        store: Store,
        limits: PairingLimits,
        clock: Callable[[], float],
        log: FilteringBoundLogger,
        consumers: Sequence[Callable[[ComparedPair], None]] = (),
    ) -> None:
        """Create the pipeline; it calls each of `consumers` with every new pair, and they must not block."""
        self._consumers = tuple(consumers)
        self._queue = queue
        self._store = store
        self._pairing = Pairing(limits)
        self._clock = clock
        self._log = log
        self._failing = False
        self._unlogged_drops: Counter[str] = Counter()
        self._drops_logged_at = float("-inf")

    @property
    def waiting_legs(self) -> int:
        """Number of legs that wait for their counterpart."""
        return len(self._pairing)

    @property
    def waiting_bytes(self) -> int:
        """Size of the waiting legs in bytes, as charged to the pairing limit."""
        return self._pairing.waiting_bytes

    async def run(self) -> None:
        """Process legs until the queue is closed and empty, then count waiting legs as unpaired."""
        while not self._queue.drained:
            legs = await self._queue.get_batch(max_legs=_MAX_LEGS, max_bytes=_MAX_BYTES, wait=self._wait())
            now = self._clock()
            counts = LegCounts(legs=self._queue.drain_received())
            results: list[PairingResult] = []
            for leg in legs:
                results += self._pairing.add(leg, now)
            results += self._pairing.expire(now)
            await self._store_batch(results, counts, now)
            await self._store.write_exposures(self._queue.drain_exposures(), now)
        await self._store.write_exposures(self._queue.drain_exposures(), self._clock())
        await self._store_batch(self._pairing.drain(UnpairedReason.SHUTDOWN), LegCounts(), self._clock())

    def _wait(self) -> float:
        """Seconds to wait for the next leg: until the next pairing deadline, but at most `_MAX_WAIT`."""
        deadline = self._pairing.deadline
        if deadline is None:
            return _MAX_WAIT
        return min(max(deadline - self._clock(), 0.001), _MAX_WAIT)

    async def _store_batch(self, results: Iterable[PairingResult], counts: LegCounts, now: float) -> None:
        pairs: list[Pair] = []
        for result in results:
            if isinstance(result, Pair):
                pairs.append(result)
            else:
                counts.unpaired[result.leg.route, result.reason] += 1
        counts.drops.update(self._queue.drain_drops())
        self._unlogged_drops.update(counts.drops)
        for compared in await self._store.write(pairs, counts, now):
            for consume in self._consumers:
                consume(compared)
        self._log_problems(now)

    def _log_problems(self, now: float) -> None:
        """Log when the store starts to fail or recovers; log drops at most once per interval."""
        failure = self._store.failure
        if failure is not None and not self._failing:
            self._log.error("store_failing", error=str(failure))
        elif failure is None and self._failing:
            self._log.info("store_recovered")
        self._failing = failure is not None
        if self._unlogged_drops and now - self._drops_logged_at >= _DROPS_LOG_INTERVAL:
            self._log.warning("legs_dropped", **self._unlogged_drops)
            self._unlogged_drops.clear()
            self._drops_logged_at = now
