"""Storage of judgements."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mirror_collector.store import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import FilteringBoundLogger

    from mirror_collector.consumers.judge.prompt import Judgement
    from mirror_collector.store import Store

__all__ = ["JudgementRecorder"]


class JudgementRecorder:
    """Writes each judgement to the store; a judgement the store rejects is logged and lost."""

    def __init__(self, store: Store, *, clock: Callable[[], float], log: FilteringBoundLogger) -> None:
        self._store = store
        self._clock = clock
        self._log = log

    async def __call__(self, pair_id: int, prompt: str, model: str, judgement: Judgement) -> None:
        """Store the judgement of a pair, with the version of the judge's prompt and its model."""
        try:
            await self._store.write_judgement(pair_id, prompt, model, judgement.value, self._clock())
        except StoreError as error:
            self._log.warning("judgement_dropped", pair=pair_id, error=str(error))
