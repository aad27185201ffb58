"""From the queue to the store: legs are paired, pairs compared and stored, everything counted.

One task runs it. While a batch is being written, legs gather in the queue, which is bounded; nothing upstream
of the queue ever waits for the disk.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from mirror_collector.compare import Counts
from mirror_collector.exchange import Pair, Pairing, PairingLimits, UnpairedReason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from structlog.typing import FilteringBoundLogger

    from mirror_collector.compare import ComparedPair
    from mirror_collector.exchange import Settled
    from mirror_collector.receive import Intake
    from mirror_collector.store import Store

__all__ = ["Pipeline"]

_MAX_LEGS: Final = 500
_MAX_BYTES: Final = 32 << 20
_LONGEST_WAIT: Final = 1.0
_DROPS_TOLD_EVERY: Final = 10.0


class Pipeline:
    """Takes from the intake until that is closed and empty."""

    def __init__(
        self,
        *,
        intake: Intake,
        store: Store,
        limits: PairingLimits,
        clock: Callable[[], float],
        log: FilteringBoundLogger,
        consumers: Sequence[Callable[[ComparedPair], None]] = (),
    ) -> None:
        """Put it together; each of `consumers` is given every new pair and must not wait."""
        self._consumers = tuple(consumers)
        self._intake = intake
        self._store = store
        self._pairing = Pairing(limits)
        self._clock = clock
        self._log = log
        self._failing = False
        self._untold: Counter[str] = Counter()
        self._told_at = float("-inf")

    @property
    def waiting_legs(self) -> int:
        """Legs that wait for their other half."""
        return len(self._pairing)

    @property
    def waiting_bytes(self) -> int:
        """Bytes those legs are accounted for."""
        return self._pairing.waiting_bytes

    async def run(self) -> None:
        """Work until the intake is closed and empty, then give up on what still waits."""
        while not self._intake.finished:
            legs = await self._intake.take(max_legs=_MAX_LEGS, max_bytes=_MAX_BYTES, wait=self._patience())
            now = self._clock()
            counts = Counts(legs=self._intake.take_taken())
            settled: list[Settled] = []
            for leg in legs:
                settled += self._pairing.add(leg, now)
            settled += self._pairing.expire(now)
            await self._store_batch(settled, counts, now)
            await self._store.write_exposures(self._intake.take_exposures(), now)
        await self._store.write_exposures(self._intake.take_exposures(), self._clock())
        await self._store_batch(self._pairing.drain(UnpairedReason.SHUTDOWN), Counts(), self._clock())

    def _patience(self) -> float:
        deadline = self._pairing.deadline
        if deadline is None:
            return _LONGEST_WAIT
        return min(max(deadline - self._clock(), 0.001), _LONGEST_WAIT)

    async def _store_batch(self, settled: Iterable[Settled], counts: Counts, now: float) -> None:
        pairs: list[Pair] = []
        for one in settled:
            if isinstance(one, Pair):
                pairs.append(one)
            else:
                counts.unpaired[one.leg.route, one.reason] += 1
        counts.drops.update(self._intake.take_drops())
        self._untold.update(counts.drops)
        stored = await self._store.write(pairs, counts, now)
        for compared in stored:
            for consume in self._consumers:
                consume(compared)
        self._tell(now)

    def _tell(self, now: float) -> None:
        """Log what an operator must know, without flooding the log while it lasts."""
        failure = self._store.failure
        if failure is not None and not self._failing:
            self._log.error("store_failing", error=str(failure))
        elif failure is None and self._failing:
            self._log.info("store_recovered")
        self._failing = failure is not None
        if self._untold and now - self._told_at >= _DROPS_TOLD_EVERY:
            self._log.warning("dropped", **self._untold)
            self._untold.clear()
            self._told_at = now
