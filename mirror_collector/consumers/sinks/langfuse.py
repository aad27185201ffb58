"""The Langfuse sink: pairs as traces over Langfuse's OTLP endpoint, and comparisons as scores."""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING

from mirror_collector.consumers.sinks.batch_sender import BatchSender, DeliveryPolicy, Target
from mirror_collector.consumers.sinks.spans import export_batch, scores_of, spans_of

if TYPE_CHECKING:
    from collections import Counter

    from mirror_collector.compare import Comparison, Replies
    from mirror_collector.consumers.secret import Secret
    from mirror_collector.exchange import Pair

__all__ = ["LangfuseSink"]


class LangfuseSink:
    """Sends one trace per pair to a Langfuse server, and one score per measure of its comparison."""

    def __init__(
        self,
        url: str,
        public_key: str,
        secret_key: Secret,
        *,
        bodies: bool,
        policy: DeliveryPolicy | None = None,
    ) -> None:
        """Use the Langfuse server at `url` with this pair of API keys."""
        self.name = "langfuse"
        self.bodies = bodies
        token = base64.b64encode(f"{public_key}:{secret_key.value}".encode()).decode()
        headers = {"authorization": f"Basic {token}"}
        base = url.rstrip("/")
        self._spans = BatchSender(
            Target(url=f"{base}/api/public/otel/v1/traces", headers=headers, body=export_batch), policy
        )
        given = policy or DeliveryPolicy()
        # The scores endpoint takes one score per request.
        unbatched = DeliveryPolicy(
            batch_size=1,
            linger=0.0,
            max_attempts=given.max_attempts,
            initial_backoff=given.initial_backoff,
            queue_size=given.queue_size,
        )
        self._scores = BatchSender(
            Target(url=f"{base}/api/public/scores", headers=headers, body=lambda items: items[0]), unbatched
        )

    def enqueue(self, pair: Pair, replies: Replies, comparison: Comparison) -> None:
        """Queue the spans and the scores of a pair."""
        self._spans.enqueue(spans_of(pair, replies, comparison, bodies=self.bodies))
        for score in scores_of(pair, comparison):
            self._scores.enqueue(score)

    async def run(self) -> None:
        """Deliver queued items until canceled, or until the sink is closed and its queues are empty."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._spans.run())
            tasks.create_task(self._scores.run())

    def close(self) -> None:
        """Accept no more pairs."""
        self._spans.close()
        self._scores.close()

    @property
    def sent(self) -> int:
        """Number of delivered traces and scores."""
        return self._spans.sent + self._scores.sent

    @property
    def dropped(self) -> Counter[str]:
        """Number of lost traces and scores by reason."""
        return self._spans.dropped + self._scores.dropped
