"""The OpenTelemetry sink: pairs as spans over OTLP/HTTP in JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mirror_collector.consumers.sinks.batch_sender import BatchSender, Target
from mirror_collector.consumers.sinks.spans import export_batch, spans_of

if TYPE_CHECKING:
    from collections import Counter

    from mirror_collector.compare import Comparison, Replies
    from mirror_collector.consumers.sinks.batch_sender import DeliveryPolicy
    from mirror_collector.exchange import Pair

__all__ = ["OtlpSink"]


class OtlpSink:
    """Sends the spans of each pair to an OTLP/HTTP endpoint."""

    def __init__(
        self, url: str, headers: dict[str, str], *, bodies: bool, policy: DeliveryPolicy | None = None
    ) -> None:
        """Use `url` as the endpoint; a URL without a path gets the standard path ``/v1/traces``."""
        self.name = "otlp"
        self.bodies = bodies
        target = url if urlsplit(url).path.strip("/") else f"{url.rstrip('/')}/v1/traces"
        self._spans = BatchSender(Target(url=target, headers=headers, body=export_batch), policy)

    def enqueue(self, pair: Pair, replies: Replies, comparison: Comparison) -> None:
        """Queue the spans of a pair."""
        self._spans.enqueue(spans_of(pair, replies, comparison, bodies=self.bodies))

    async def run(self) -> None:
        """Deliver queued spans until canceled, or until the sink is closed and its queue is empty."""
        await self._spans.run()

    def close(self) -> None:
        """Accept no more pairs."""
        self._spans.close()

    @property
    def sent(self) -> int:
        """Number of delivered pairs."""
        return self._spans.sent

    @property
    def dropped(self) -> Counter[str]:
        """Number of lost pairs by reason."""
        return self._spans.dropped
